"""The hooks of the CUDA backend. Kernels are in `src`; `launcher` runs them.

Work is queued on the caller's current stream and nothing waits for it.
"""

from __future__ import annotations

import math
from types import ModuleType

import numpy as np

from ...core import arrays, dtypes
from ...core.array_types import Array
from ...core.layer import LayerGeometry
from ...core.problem import Problem
from ..base import Backend, Compute, Costs
from ..strips import StripLayout
from . import (
    box,
    box_planning,
    fft,
    fft_planning,
    layers,
    separable_passes,
    separable_planning,
    streaming,
    sums,
    sums_work,
    tensor,
    weight_gradient,
)  # fmt: skip
from .chips import HOPPER, Chip
from .launcher import DeviceLauncher, Launcher


class CudaBackend(Backend):
    """Correlations on an NVIDIA GPU.

    All that touches the device goes through `launcher`, which tests replace.
    """

    name = "cuda"
    methods = frozenset({"direct", "separable", "box", "fft", "tensor"})
    # Measured on an H100, 8192 x 8192 pixels. `fft` is seconds a byte of `fft_planning.work`.
    costs = Costs(
        call=1e-5, pixel=2.7e-12, tap=4.0e-14, tap_double=1.4e-13, row=0.0, separable=3.6e-14,
        fft_call=5e-5, fft=1 / 2.25e12,
    )  # fmt: skip
    dot_cost = 4.0
    on_device = True

    def __init__(self) -> None:
        self.launcher: Launcher = DeviceLauncher()

    # --- what there is ---------------------------------------------------------------------------

    def unavailable(self) -> str | None:
        """Return None where kernels can run, otherwise the reason and how to fix it."""
        return self.launcher.unavailable()

    def describe(self) -> dict[str, str]:
        """Versions and device, for `gpuconv.show_config`."""
        import cupy

        properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
        return {
            "cupy": cupy.__version__,
            "device": properties["name"].decode(),
            "compute capability": f"{properties['major']}.{properties['minor']}",
            "driver": str(cupy.cuda.runtime.driverGetVersion()),
        }

    def array_module(self) -> ModuleType:
        """Return CuPy."""
        import cupy

        module: ModuleType = cupy
        return module

    # --- what it takes, and at what cost ---------------------------------------------------------

    def takes(self, device: str) -> bool:
        """Whether it computes on arrays of a device: on all, those of the host in strips."""
        return True

    def refuse(self, problem: Problem, method: str) -> str | None:
        """Refuse chips without the tensor cores needed, and kernels too large for any FFT tile."""
        if method == "tensor":
            return self._tensor_refusal()
        return fft_planning.refusal(problem) if method == "fft" else None

    def _tensor_refusal(self) -> str | None:
        if self.launcher.unavailable() is not None:
            return None  # no device can be asked, and the call will say so
        found, least = self.launcher.chip().capability, tensor.CAPABILITY
        if found >= least:
            return None
        return (
            f"it needs a GPU of compute capability {least // 10}.{least % 10} or newer, this one "
            f"has {found // 10}.{found % 10}"
        )

    def direct_work(self, problem: Problem) -> float:
        """Multiply-adds of direct sums; other work counts as those that take as long."""
        return sums_work.direct_work(problem, self._chip())

    def separable_work(self, problem: Problem, rank: int) -> float:
        """Multiply-adds of separable sums; other work counts as those that take as long."""
        return sums_work.separable_work(problem, rank, self._chip())

    def _chip(self) -> Chip:
        """Return the device's limits, or those of an H100 if there is no device."""
        return HOPPER if self.launcher.unavailable() else self.launcher.chip()

    def fft_work(self, problem: Problem) -> float:
        """Bytes that the transforms move or could move in their time, as if in float32."""
        return fft_planning.work(problem, self._chip())

    def box_work(self, problem: Problem) -> float:
        """Bytes that box sums move, in units of `Costs.pixel`."""
        return box_planning.work(problem)

    def tensor_work(self, problem: Problem) -> tuple[int, tuple[int, int]]:
        """Multiply-adds of an output, the band's zeros included, and the sides of a tile."""
        size = dtypes.storage(problem.x_dtype).itemsize
        return tensor.work(problem.p, problem.q, size), tensor.TILINGS[size].tile

    # --- residency -------------------------------------------------------------------------------

    def strips(
        self, problem: Problem, x: Array, out: Array, method: str, max_device_bytes: int | None
    ) -> StripLayout | None:
        """Return None if X is on the device, otherwise how host arrays are cut."""
        if not isinstance(x, np.ndarray):
            return None
        chip = self.launcher.chip()
        return streaming.layout_of(
            self.launcher,
            problem,
            lambda part: workspace_bytes(part, method, chip),
            max_device_bytes,
        )

    def run_in_strips(
        self, problem: Problem, layout: StripLayout, x: Array, out: Array, compute: Compute
    ) -> None:
        """Call `compute` on device copies of parts of host arrays, strip by strip."""
        streaming.run_in_strips(
            self.launcher, problem, layout, arrays.to_native_order(x), out, compute
        )

    # --- methods ---------------------------------------------------------------------------------

    def direct(self, problem: Problem, x: Array, k: Array, out: Array) -> None:
        """Fill `out` by summing over all taps of `k`."""
        sums.direct(self.launcher, problem, x, k, out)

    def separable(self, problem: Problem, x: Array, u: Array, v: Array, out: Array) -> None:
        """Fill `out` by columns of taps `u` and then rows `v`."""
        if separable_planning.takes_two_passes(problem, u.shape[1]):
            problem, (v, u) = sums.in_exact_floats(problem, v, u)
            separable_passes.run(self.launcher, problem, x, u, v, out)
        else:
            sums.separable(self.launcher, problem, x, u, v, out)

    def fft(self, problem: Problem, x: Array, weights: Array, out: Array, whole: bool) -> None:
        """Fill `out` by Fourier transforms of tiles; `whole` sums are rounded to integers."""
        fft.run(self.launcher, problem, x, weights, out, whole)

    def box(self, problem: Problem, x: Array, k: Array, out: Array) -> None:
        """Fill `out` by kernels each of whose weights are all equal."""
        box.box(self.launcher, problem, x, k, out)

    def tensor(self, problem: Problem, x: Array, k: Array, out: Array) -> None:
        """Fill `out` by matrix products on the tensor cores."""
        sums.tensor(self.launcher, problem, x, k, out)

    # --- gradients and layers --------------------------------------------------------------------

    def weight_gradient(self, problem: Problem, x: Array, dy: Array, dy_dtype: str) -> Array:
        """Return the gradient with respect to K; host arrays are uploaded whole."""
        return weight_gradient.weight_gradient(self.launcher, problem, x, dy, dy_dtype)

    def layer_forward(
        self, x: Array, x_dtype: str, w: Array, w_dtype: str, layer: LayerGeometry,
        size: tuple[int, int], acc: str,
    ) -> Array:  # fmt: skip
        """Return the sums (N, O, r, s) of a convolution layer, in the accumulator dtype."""
        return layers.layer_forward(self.launcher, x, x_dtype, w, w_dtype, layer, size, acc)

    def layer_weight_gradient(
        self, x: Array, x_dtype: str, dy: Array, dy_dtype: str, layer: LayerGeometry,
        w_shape: tuple[int, ...], w_dtype: str, acc: str,
    ) -> Array:  # fmt: skip
        """Return the gradient of a layer's weights, summed in a fixed order."""
        return layers.layer_weight_gradient(
            self.launcher, x, x_dtype, dy, dy_dtype, layer, w_shape, w_dtype, acc
        )


def workspace_bytes(problem: Problem, method: str, chip: Chip = HOPPER) -> int:
    """Device memory that a method takes besides images and results, if K is on the host."""
    p, q = problem.p, problem.q
    if method == "box":
        return box_planning.workspace_bytes(problem) + math.prod(problem.k_shape[:-2]) * 32
    taps = min(p, q) * (p + q) if method == "separable" else p * q
    weights = math.prod(problem.k_shape[:-2]) * taps * dtypes.storage(problem.acc_dtype).itemsize
    if method == "separable" and separable_planning.takes_two_passes(problem, 1):
        weights += separable_planning.workspace_bytes(problem)
    return weights + (fft_planning.workspace_bytes(problem, chip) if method == "fft" else 0)
