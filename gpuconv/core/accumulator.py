"""The dtype that sums are accumulated in, and the order in which taps are added."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from . import dtypes
from .array_types import Array
from .division import find_reciprocal
from .problem import Problem


def choose_exact_accumulator(problem: Problem, weights: Array, vertical: Array = None) -> str:
    """Return the dtype to accumulate in: for integers the fastest in which all sums are exact.

    Sums of products of whole numbers are exact in float32 up to 2**24 and in float64 up to 2**53,
    in any order. How large they can get follows from the dtypes and the weights alone. If
    `vertical` is given, `weights` are the horizontal factors of a separable kernel and `vertical`
    its vertical factors.
    """
    acc = problem.acc_dtype
    if not dtypes.is_integer(acc) or not weights.size:
        return acc
    largest = max(dtypes.largest(problem.x_dtype), abs(int(problem.fillvalue)))  # type: ignore[arg-type]
    weights = weights.reshape(-1, weights.shape[-2], problem.q)
    sizes = np.abs(weights.astype(np.float64)).sum(axis=-1)
    if vertical is not None:
        sizes = sizes * np.abs(vertical.astype(np.float64)).sum(axis=-1)
    total = float(sizes.sum(axis=-1).max()) * largest
    if total <= 2.0**24:
        return "float32"
    # `total` is itself a rounded float64 sum, hence half of 2**53.
    return "float64" if total <= 2.0**52 else acc


@dataclass(frozen=True)
class NarrowSums:
    """Integer dtype that holds all sums of weights times a divisor exactly."""

    dtype: str  # "uint16" or "int16"
    divisor: int


_BYTES = ("uint8", "int8")
# Weights may be multiples of one divided by a power of two or an odd number, up to these.
_POWER_MOST, _ODD_MOST = 256, 255


def choose_narrow_sums(problem: Problem, weights: Array) -> NarrowSums | None:
    """Return the 16-bit dtype in which sums of bytes that become bytes are exact, if there is one.

    There is for many small kernels: Sobel's, Laplace's, sharpening, binomial ones, means. Results
    are those of the problem's own accumulator: its sums of multiples of ``1 / 2**n`` are exact as
    well, and those of multiples of one divided by an odd number, which are never near the half of
    an odd number, are rounded to the same integers.

    Examples
    --------
    >>> from gpuconv.core.problem import make_problem
    >>> problem = make_problem((99, 99), (1, 3), "uint8", "float32", dtype="uint8")
    >>> choose_narrow_sums(problem, np.array([[0.25, 0.5, 0.25]], np.float32))
    NarrowSums(dtype='uint16', divisor=4)
    >>> choose_narrow_sums(problem, np.full((1, 3), 1 / 3, np.float32))
    NarrowSums(dtype='uint16', divisor=3)
    """
    if problem.x_dtype not in ("bool", *_BYTES) or problem.out_dtype not in _BYTES:
        return None
    fill = float(problem.fillvalue)  # type: ignore[arg-type]
    if not fill.is_integer() or not weights.size:
        return None
    largest = max(dtypes.largest(problem.x_dtype), abs(fill))
    signed = problem.x_dtype == "int8" or fill < 0
    wide = np.ascontiguousarray(weights, np.float64)
    signed = signed or bool((wide < 0).any())
    sums = _PossibleSums(largest, signed, wide.tobytes(), wide.shape)
    found = _find_power_of_two(sums)
    if found is None and weights.dtype.kind == "f" and not (signed and problem.out_dtype == "int8"):
        found = _find_odd_divisor(sums, weights.dtype.str)
    return found


@dataclass(frozen=True)
class _PossibleSums:
    """Sums of pixels up to the `largest` by float64 weights, (kernels, p, q) or (p, q)."""

    largest: float
    signed: bool
    weights: bytes
    shape: tuple[int, ...]

    @property
    def array(self) -> Array:
        """The weights as an array."""
        return np.frombuffer(self.weights).reshape(self.shape)

    @property
    def dtype(self) -> str:
        """Dtype of sums in 16 bits."""
        return "int16" if self.signed else "uint16"

    @property
    def most(self) -> int:
        """The largest number of that dtype."""
        return (1 << 15) - 1 if self.signed else (1 << 16) - 1


@lru_cache(maxsize=256)
def _find_power_of_two(sums: _PossibleSums) -> NarrowSums | None:
    """Find the least power of two that makes all weights integers, and their sums fit."""
    scaled, divisor = sums.array, 1
    with np.errstate(over="ignore", invalid="ignore"):
        total = float(np.abs(scaled).sum(axis=(-2, -1)).max())
        while divisor <= _POWER_MOST and sums.largest * total * divisor <= sums.most:
            if (np.rint(scaled) == scaled).all():
                return NarrowSums(sums.dtype, divisor)
            scaled, divisor = scaled * 2, divisor * 2
    return None


@lru_cache(maxsize=256)
def _find_odd_divisor(sums: _PossibleSums, dtype: str) -> NarrowSums | None:
    """Find an odd number for which all weights are the nearest of a dtype to a multiple of 1/n."""
    weights, (p, q) = sums.array, sums.shape[-2:]
    if not np.isfinite(weights).all():
        return None
    total = float(np.abs(weights).sum(axis=(-2, -1)).max())
    different = np.unique(weights)
    n = np.arange(3, _ODD_MOST + 1, 2)[:, None]
    near = ((np.rint(different * n) / n).astype(dtype) == different).all(axis=1)
    for divisor in n[near, 0].tolist():
        # The largest error of a sum of products in the accumulator, with a factor of two to spare,
        # against the least distance of a multiple of 1/n from the half of an odd number.
        error = 2 * (p * q + 1) * float(np.finfo(dtype).eps) * total * sums.largest
        most = round(sums.largest * total * divisor)
        fits = most + divisor // 2 <= sums.most and error < 0.5 / divisor
        if fits and find_reciprocal(divisor, most + divisor // 2) != (0, 0):
            return NarrowSums(sums.dtype, divisor)
    return None


def find_mirrored(weights: Array) -> Array:
    """Find the kernels, in an array (kernels, terms, taps), all of whose rows are mirrored.

    A mirrored row equals its own reverse, or the negative of that, exactly. In a complex row the
    real and the imaginary part must both be mirrored.

    Examples
    --------
    >>> import numpy as np
    >>> find_mirrored(np.array([[[1.0, 2, 1], [-1, 0, 1]], [[1, 2, 1], [1, 2, 3]]]))
    array([ True, False])
    """
    if weights.shape[-1] < 2:  # a single tap has only one order
        return np.zeros(len(weights), bool)
    if weights.dtype.kind == "c":
        return find_mirrored(weights.real) & find_mirrored(weights.imag)
    half = weights.shape[-1] // 2
    left, right = weights[..., : half + 1], weights[..., : -half - 2 : -1]
    same = (left == right).all(axis=-1) | (left == -right).all(axis=-1)
    return same.all(axis=-1)


def mirrored_order(taps: int) -> Array:
    """Return the order of a row's taps: first half forwards, second half backwards, middle tap.

    Examples
    --------
    >>> mirrored_order(5)
    array([0, 1, 4, 3, 2])
    """
    half, numbers = taps // 2, np.arange(taps)
    back = numbers[::-1][:half]
    return np.concatenate([numbers[:half], back, numbers[half : taps - half]])
