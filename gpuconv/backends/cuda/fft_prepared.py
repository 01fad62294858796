"""What both ways to run overlap-save keep from call to call: weights, layouts and kernels."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import numpy as np

from ...core.array_types import Array
from ...core.problem import Problem
from . import fft_planning
from .device_weights import HostArray, Seen, uploads
from .fft_chunks import GroupT, PartLaunches
from .kernels import Kernel
from .launcher import Launcher, addresses_of, on_device
from .spec import Spec

# Memory layouts for which the parts of a problem's batch are kept.
LAYOUTS_MOST = 16
PlanT = TypeVar("PlanT")


class PreparedOverlapSave(Generic[PlanT, GroupT]):
    """A problem's kernels and the parts of its batch, as earlier calls prepared them."""

    def __init__(self, launcher: Launcher, problem: Problem, plan: PlanT, whole: bool) -> None:
        self.launcher, self.problem, self.plan, self.whole = launcher, problem, plan, whole
        self._seen = Seen()
        self._kernels: dict[int, dict[str, Kernel]] = {}  # by device
        # By the layout of image and result.
        self._parts: dict[Any, tuple[PartLaunches[GroupT], ...]] = {}

    def cut(
        self, x_shape: tuple[int, ...], x_strides: tuple[int, ...], out_strides: tuple[int, ...]
    ) -> tuple[PartLaunches[GroupT], ...]:
        """Cut a call into parts of its batch."""
        raise NotImplementedError

    def compile(self) -> dict[str, Kernel]:
        """Compile the kernels, and write those of their parameters that do not change."""
        raise NotImplementedError

    def queue(
        self, kernels: dict[str, Kernel], parts: tuple[PartLaunches[GroupT], ...], x: int,
        weights: int, out: int,
    ) -> None:  # fmt: skip
        """Queue the launches of a call, by the addresses of its arrays."""
        raise NotImplementedError

    def run(self, x: Array, weights: Array, out: Array) -> None:
        """Queue the launches that fill `out`."""
        launcher, device = self.launcher, self.launcher.device()
        if isinstance(weights, np.ndarray):
            host = self._seen.find(weights.tobytes(), lambda: HostArray(weights))
            weights = uploads(launcher, device).get(host)
        else:
            weights = on_device(launcher, weights)
        key = x.shape, x.strides, out.strides
        parts = self._parts.get(key)
        if parts is None:
            if len(self._parts) >= LAYOUTS_MOST:
                self._parts.clear()
            parts = self._parts[key] = self.cut(*key)
        kernels = self._kernels.get(device)
        if kernels is None:
            kernels = self._kernels[device] = self.compile()
        self.queue(kernels, parts, *addresses_of(x, weights, out))


def spec_of_step(name: str, problem: Problem) -> Spec:
    """Specialise one of the kernels around cuFFT's by the dtypes that matter to it."""
    acc = problem.acc_dtype
    reads = problem.x_dtype if name in ("fft_gather", "fft_store", "fft_redo") else acc
    writes = problem.out_dtype if name in ("fft_store", "fft_redo") else acc
    return Spec(name, reads, acc, writes, True, 0, fft_planning.BLOCK, fft_planning.ROWS)
