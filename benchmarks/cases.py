"""The cases: images, kernels, and target speeds."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

RANDOM, GAUSSIAN, BOX = "full rank", "Gaussian", "box"
# What targets compare with, besides names of contenders.
BEST, COPY, SGEMM, DIRECT = "best peer", "copy", "sgemm", "gpuconv direct"


@dataclass(frozen=True)
class Case:
    """X of `x_shape` and `dtype` filtered with K of `k_shape`, with a reflecting border."""

    suite: str
    x_shape: tuple[int, ...]
    k_shape: tuple[int, ...]
    dtype: str = "float32"
    weights: str = RANDOM
    method: str = "auto"
    peers: bool = True
    targets: tuple[tuple[str, float], ...] = ()  # of comparison, least ratio of speeds
    rounds: int = 7
    stride: int = 1

    @property
    def k(self) -> int:
        return max(self.k_shape[-2:])

    @property
    def sigma(self) -> float:
        return self.k / 6

    @property
    def out_dtype(self) -> str:
        """Dtype of K and of the result: sums of small integers with floats are float32."""
        return "float32" if self.dtype in ("float16", "uint8", "int16") else self.dtype

    @property
    def out_shape(self) -> tuple[int, ...]:
        lead = np.broadcast_shapes(self.x_shape[:-2], self.k_shape[:-2])
        return lead + tuple(-(-n // self.stride) for n in self.x_shape[-2:])  # mode "same"

    @property
    def pixels(self) -> int:
        return math.prod(self.out_shape)

    @property
    def taps(self) -> int:
        return self.pixels * math.prod(self.k_shape[-2:])

    @property
    def group(self) -> str:
        """Name shared by the cases of one curve over k."""
        shape = "x".join(map(str, self.x_shape))
        kinds = self.dtype if self.dtype == self.out_dtype else f"{self.dtype}->{self.out_dtype}"
        bank = f", {self.k_shape[0]} kernels" if len(self.k_shape) > 2 else ""
        method = "" if self.method == "auto" else f", method={self.method}"
        stride = "" if self.stride == 1 else f", stride {self.stride}"
        p, q = self.k_shape[-2:]
        thin = "" if p == q else ", row" if p == 1 else ", column"
        return f"{shape} {kinds}, {self.weights}{thin}{bank}{stride}{method}"

    @property
    def name(self) -> str:
        return f"{self.group}, {self.k_shape[-2]}x{self.k_shape[-1]}"

    def line(self) -> Any:
        """Return the Gaussian's factor, which sums to 1."""
        return gaussian_line(self.k, self.sigma, self.out_dtype)

    def arrays(self) -> tuple[Any, Any]:
        """Return X and K, the same in every run."""
        if self.weights == GAUSSIAN:
            k = np.outer(self.line(), self.line())
        elif self.weights == BOX:
            k = np.full(self.k_shape, 1 / math.prod(self.k_shape), self.out_dtype)
        else:
            k = _normal(np.random.default_rng(self.k), self.k_shape, self.out_dtype)
        return _image(self.x_shape, self.dtype), k


def gaussian_line(k: int, sigma: float, dtype: str) -> Any:
    """Return the factor of a Gaussian of k x k weights, which sums to 1."""
    g = np.exp(-0.5 * (np.arange(k) - k // 2) ** 2 / sigma**2)
    return (g / g.sum()).astype(dtype)


def _normal(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Any:
    values = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        return (values + 1j * rng.standard_normal(shape)).astype(dtype)
    return values.astype(dtype)


@lru_cache(maxsize=1)
def _image(shape: tuple[int, ...], dtype: str) -> Any:
    rng = np.random.default_rng(0)
    if dtype in ("uint8", "int16"):
        info = np.iinfo(dtype)
        return rng.integers(info.min, info.max, shape, dtype, endpoint=True)
    if np.dtype(dtype).kind == "c":
        return _normal(rng, shape, dtype)
    return rng.random(shape, dtype)


def clear() -> None:
    """Free the image that is cached for the next case."""
    _image.cache_clear()


def _filters() -> list[Case]:
    found = []
    for side, rounds in ((2048, 7), (8192, 5)):
        for k in (3, 5, 7, 11, 15, 31, 63, 127):
            targets = ((BEST, 2.0), (COPY, 0.9)) if k == 3 else ((BEST, 2.0),)
            found.append(Case("filters", (side, side), (k, k), targets=targets, rounds=rounds))
    return found + [
        Case("filters", (2048, 2048), (k, k), method="direct", peers=False, targets=((SGEMM, 0.6),))
        for k in (7, 9, 11, 13, 15)
    ]


def _dtypes() -> list[Case]:
    return [
        Case("dtypes", (2048, 2048), (k, k), dtype, targets=((BEST, 2.0),))
        for dtype in ("float64", "uint8", "int16")
        for k in (3, 5, 7, 11, 15, 31)
    ]


def _separable() -> list[Case]:
    targets = (("cv2.sepFilter2D", 1.5), (DIRECT, 5.0))
    return [
        Case("separable", (2048, 2048), (k, k), weights=GAUSSIAN, targets=targets)
        for k in (7, 15, 31, 63)
    ]


def _thin() -> list[Case]:
    return [
        Case("thin", (side, side), shape, targets=((BEST, 2.0),), rounds=5)
        for side in (512, 2048)
        for k in (3, 7, 15, 31, 63, 101, 255, 501)
        for shape in ((1, k), (k, 1))
    ]


def _boxes() -> list[Case]:
    return [
        Case("boxes", shape, (k, k), dtype, weights=BOX, targets=(("cv2.boxFilter", 1.5),))
        for shape in ((2048, 2048), (1080, 1920))
        for dtype in ("float32", "float64", "uint8")
        for k in (3, 7, 15, 31, 101, 301)
    ]


def _small() -> list[Case]:
    return [
        Case("small", (side, side), (k, k), targets=((BEST, 2.0 if side >= 256 else 1.0),))
        for side in (64, 256, 512)
        for k in (3, 5, 7, 11, 15)
    ]


def _batch() -> list[Case]:
    targets = ((BEST, 2.0),)
    found = [Case("batch", (256, 64, 64), (k, k), targets=targets) for k in (3, 5, 7)]
    return [*found, Case("batch", (1, 2048, 2048), (16, 5, 5), targets=targets)]


def _strides() -> list[Case]:
    return [
        Case("strides", (side, side), (k, k), dtype, stride=stride, targets=((BEST, 2.0),))
        for side in (256, 1024, 2048)
        for dtype in ("float32", "uint8")
        for stride in (2, 4)
        for k in (3, 5, 9)
    ]


def _complex() -> list[Case]:
    return [
        Case("complex", (side, side), (k, k), dtype, targets=((BEST, 2.0),), rounds=5)
        for dtype in ("complex64", "complex128")
        for side in (512, 2048)
        for k in (3, 5, 9, 15, 31, 63, 127)
    ]


def _choice() -> list[Case]:
    return [
        Case("choice", (side, side), (k, k), dtype, weights, rounds=5)
        for side in (64, 256, 1024, 2048)
        for dtype in ("float32", "float64", "uint8")
        for weights in (RANDOM, GAUSSIAN)
        for k in (3, 5, 7, 11, 15, 31, 63, 127)
        if k < side
    ]


_SUITES = {
    "filters": _filters,
    "dtypes": _dtypes,
    "separable": _separable,
    "thin": _thin,
    "boxes": _boxes,
    "small": _small,
    "batch": _batch,
    "strides": _strides,
    "complex": _complex,
    "choice": _choice,
}


def list_cases(suite: str) -> list[Case]:
    """Return the cases of a suite."""
    return _SUITES[suite]()


def quick_cases(suite: str) -> list[Case]:
    """Return the suite's first case, on an image small enough for a test."""
    case = list_cases(suite)[0]
    sides = tuple(min(n, 512) for n in case.x_shape[-2:])
    return [replace(case, x_shape=case.x_shape[:-2] + sides)]


def find_case(name: str) -> Case:
    """Return the case of that name, from the first suite that has it."""
    for suite in _SUITES:
        for case in list_cases(suite):
            if case.name == name:
                return case
    raise KeyError(f"no case is named {name!r}")
