"""The cases of the GPU by name, and the targets each is held to."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..cases import BEST, COPY, DIRECT, GAUSSIAN, Case

PEAK, SINGLE, LINK = "FMA peak", "gpuconv float32", "link"
DEVICE_US, HOST_US = "us on the device", "us of the host"
AT_MOST = (DEVICE_US, HOST_US)  # targets that are upper bounds
SIZES = (3, 5, 7, 9, 11, 15, 21, 31, 63, 127, 255)
SIDE = 8192
BOX = "all equal"  # weights


@dataclass(frozen=True)
class DeviceCase(Case):
    """A case on the GPU: float16 stays float16.

    `where`: "device" (arrays on the GPU, timed by events), "host" (ordinary host arrays streamed
    through it), "pinned" (page-locked ones), "queue" (what a call takes of the host's time).
    With `channels_last` the image is (rows, columns, channels).
    """

    where: str = "device"
    k_dtype: str = ""  # the image's, if it is empty
    channels_last: bool = False

    @property
    def out_dtype(self) -> str:
        return str(np.result_type(self.dtype, self.k_dtype or self.dtype))

    @property
    def planar(self) -> DeviceCase:
        """The same case with the rows and columns last."""
        if not self.channels_last:
            return self
        rows, columns, channels = self.x_shape
        return replace(self, x_shape=(channels, rows, columns), channels_last=False)

    def planes(self, array: Any) -> Any:
        """View an image or result of the case with its rows and columns last."""
        return array.transpose(2, 0, 1) if self.channels_last else array

    @property
    def group(self) -> str:
        places = {"device": "", "queue": ", the host's time", "host": ", from the host and back"}
        last = ", channels last" if self.channels_last else ""
        return (
            super().group
            + last
            + places.get(self.where, ", from pinned memory of the host and back")
        )

    @property
    def bytes(self) -> int:
        """Of the image, and of the result."""
        return self.pixels * np.dtype(self.dtype).itemsize

    def image(self, number: int) -> Any:
        """One of the input sets: random, and none like another."""
        rng = np.random.default_rng(number)
        if self.dtype == "uint8":
            return rng.integers(0, 256, self.x_shape, "uint8")
        if self.dtype == "complex64":
            parts = rng.random((*self.x_shape, 2), "float32")
            return parts.view("complex64")[..., 0]
        kind = "float64" if self.dtype == "float64" else "float32"
        return rng.random(self.x_shape, kind).astype(self.dtype, copy=False)

    def weights_array(self) -> Any:
        if self.weights == GAUSSIAN:
            line = self.line()
            return np.outer(line, line)
        if self.weights == BOX:
            return np.full(self.k_shape, 1 / math.prod(self.k_shape), self.k_dtype or self.dtype)
        rng = np.random.default_rng(self.k)
        values = rng.standard_normal(self.k_shape) / self.k
        if self.dtype == "complex64":
            values = values + 1j * rng.standard_normal(self.k_shape) / self.k
        return values.astype(self.k_dtype or self.dtype)


def _case(suite: str, shape: tuple[int, ...], k: int, *targets: Any, **fields: Any) -> DeviceCase:
    return DeviceCase(suite, shape, (k, k), targets=targets, **fields)


def _filters(dtype: str) -> list[DeviceCase]:
    found = []
    for k in SIZES:
        targets: list[tuple[str, float]] = [(BEST, 2.0)]
        if dtype == "float32" and k <= 7:
            targets.append((COPY, 0.9))
        if dtype == "float32" and 9 <= k <= 31:
            targets.append((PEAK, 0.65))
        if dtype == "float16" and 11 <= k <= 31:
            targets.append((SINGLE, 3.0))
        found.append(_case("cuda-speed", (SIDE, SIDE), k, *targets, dtype=dtype))
    return found


def cases() -> list[DeviceCase]:
    """All of them; the first are the last to be left out when time runs short."""
    best = (BEST, 2.0)
    gaussian: dict[str, Any] = {"weights": GAUSSIAN, "method": "separable"}
    return [
        _case("cuda-speed", (64, 64), 3, (HOST_US, 10.0), where="queue"),
        *(_case("cuda-speed", (512, 512), k, (DEVICE_US, 10.0), best) for k in (3, 5)),
        _case("cuda-speed", (1000, 128, 128), 5, best),
        _case("cuda-speed", (SIDE, SIDE), 5, (LINK, 0.85), where="host"),
        _case("cuda-speed", (SIDE, SIDE), 5, (LINK, 0.85), where="pinned"),
        *(_case("cuda-speed", (SIDE, SIDE), k, best, **gaussian) for k in (9, 15)),
        _case("cuda-speed", (SIDE, SIDE), 31, (COPY, 0.85), **gaussian),
        _case("cuda-speed", (SIDE, SIDE), 101, best, **gaussian),
        _case("cuda-speed", (SIDE, SIDE), 301, best, weights=BOX, method="box"),
        *_filters("float32"),
        _case("cuda-speed", (4096, 4096, 3), 5, best, channels_last=True),
        *_filters("float16"),
        *(
            _case("cuda-speed", (SIDE, SIDE), k, best, dtype="uint8", k_dtype="float32")
            for k in (3, 9)
        ),
        _case("cuda-speed", (SIDE, SIDE), 9, best, dtype="complex64"),
        *_filters("float64"),
    ]


def quick_cases(some: Callable[[], list[DeviceCase]] = cases) -> list[DeviceCase]:
    """The first case of each kind, small enough to be over in a moment."""
    found: dict[tuple[Any, ...], DeviceCase] = {}
    for case in some():
        # Stacks and channels stay few.
        shape = tuple(min(n, 8 if len(case.x_shape) - 2 > d else 512)
                      for d, n in enumerate(case.x_shape))  # fmt: skip
        if case.channels_last:
            shape = (512, 512, case.x_shape[-1])
        kind = case.where, case.dtype, case.weights, len(shape), case.channels_last
        found.setdefault(kind, replace(case, x_shape=shape))
    return list(found.values())


__all__ = [
    "AT_MOST", "BEST", "BOX", "COPY", "DEVICE_US", "DIRECT", "GAUSSIAN", "HOST_US", "LINK",
    "PEAK", "SINGLE", "DeviceCase", "cases", "quick_cases",
]  # fmt: skip
