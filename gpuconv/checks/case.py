"""A call that is checked, and what a backend must be able to do for it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from ..core.boundary import BOUNDARIES
from ..core.options import Mode

__all__ = ["BYTES_SWAPPED", "Abilities", "Case"]

# A view that only arrays of the host can be.
BYTES_SWAPPED = "bytes swapped"
# What a case is described by beside its shapes and dtype, where it is not as usual.
_TOLD = (
    "method", "call", "mode", "boundary", "stride", "dilation", "groups", "precision", "pixels",
    "weights", "view", "x_on_host", "k_on_host",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A call whose result is compared with the reference's."""

    family: str
    dtype: str  # of X and K
    method: str = "direct"
    call: str = "corr2d"  # or "convolve2d", "gradients", "layer", "layer gradients"
    x_shape: tuple[int, ...] = (12, 21)
    k_shape: tuple[int, ...] = (3, 3)
    mode: Mode = "same"
    boundary: str = BOUNDARIES[0]
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    precision: str | None = None
    pixels: str = "random"  # or "not finite", "subnormal", "constant"
    weights: str = "random"  # or "equal", "rank 1", "rank 2", "symmetric", "antisymmetric"
    view: str = ""  # how X or the result lie in memory, see `samples.arrange`
    x_on_host: bool = False  # although the backend computes on a device
    k_on_host: bool = True  # as weights usually do; those of layers never do

    def __str__(self) -> str:
        """Say what the call is told, but for what is as usual."""
        told = [f"X {self.x_shape} and K {self.k_shape} of {self.dtype}"]
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "boundary" or (field.name in _TOLD and value != field.default):
                told.append(f"{field.name} {value}")
        return ", ".join(told)

    @property
    def keywords(self) -> dict[str, Any]:
        """What the call and the reference are told."""
        found = dict(mode=self.mode, stride=self.stride, dilation=self.dilation)
        # A fill value other than 0, which padding with zeros would not show.
        return found | dict(boundary=self.boundary, fillvalue=int(self.boundary == BOUNDARIES[0]))


@dataclass(frozen=True)
class Abilities:
    """What a backend can do that not every backend can."""

    methods: frozenset[str]
    device: bool  # arrays lie on a device of its own
    layers: bool  # it is the one that layers run on

    def takes(self, case: Case) -> bool:
        """Whether a case makes sense on the backend."""
        if "layer" in case.call:
            return self.layers
        if not self.device and (case.x_on_host or not case.k_on_host):
            return False
        if self.device and case.view == BYTES_SWAPPED:
            return False
        return case.method in self.methods
