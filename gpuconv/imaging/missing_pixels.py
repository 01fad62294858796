"""What counts as a missing pixel, and what becomes of windows in which too much is missing."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from types import ModuleType

import numpy as np

from ..core import arrays, dtypes
from ..core.array_types import Array, ArrayLike
from ..core.errors import format_value, unknown_name_error

__all__ = [
    "KernelSums",
    "MissingRules",
    "check_fits",
    "check_mask_dtype",
    "nan_error",
    "read_mask",
    "read_rules",
    "read_weights",
    "weights_error",
]

NAN_POLICIES = ("omit", "propagate", "raise")


@dataclass(frozen=True)
class MissingRules:
    """The keywords of `normalized_corr2d` that other correlations do not have, read and checked."""

    nan_policy: str
    min_weight: float
    undefined: complex | float
    normalize_kernel: bool
    preserve_nan: bool

    @cached_property
    def name(self) -> str:
        """Text that differs for any two rules that differ, even if in 0.0 and -0.0 alone."""
        return repr(self)


def read_rules(
    nan_policy: object, min_weight: float, undefined: object, normalize_kernel: object,
    preserve_nan: object,
) -> MissingRules:  # fmt: skip
    """Check the keywords about missing pixels."""
    given = type(nan_policy), type(min_weight), type(normalize_kernel), type(preserve_nan)
    if undefined is math.nan and given == (str, float, bool, bool):
        return _read_once(nan_policy, min_weight, undefined, normalize_kernel, preserve_nan)
    return _read(nan_policy, min_weight, undefined, normalize_kernel, preserve_nan)


def _read(
    nan_policy: object, min_weight: float, undefined: object, normalize_kernel: object,
    preserve_nan: object,
) -> MissingRules:  # fmt: skip
    if not isinstance(nan_policy, str) or nan_policy not in NAN_POLICIES:
        raise unknown_name_error("nan_policy", nan_policy, NAN_POLICIES)
    for value, name in ((normalize_kernel, "normalize_kernel"), (preserve_nan, "preserve_nan")):
        if not isinstance(value, (bool, np.bool_)):
            raise TypeError(f"{name} must be True or False, got {value!r}")
    try:
        share = float(min_weight)
    except (TypeError, ValueError):
        raise TypeError(f"min_weight must be a number from 0 to 1, got {min_weight!r}") from None
    if not 0 <= share <= 1:
        raise ValueError(f"min_weight must be a number from 0 to 1, got {format_value(min_weight)}")
    if isinstance(undefined, np.generic):
        undefined = undefined.item()
    if isinstance(undefined, bool) or not isinstance(undefined, (int, float, complex)):
        raise TypeError(f"undefined must be a number, got {undefined!r}")
    number = undefined if isinstance(undefined, complex) else float(undefined)
    if number != number and not isinstance(number, complex):
        number = math.nan  # the same object, so that calls are found again
    return MissingRules(nan_policy, share, number, bool(normalize_kernel), bool(preserve_nan))


_read_once = lru_cache(maxsize=64)(_read)  # because reading takes long compared with a small image


def check_fits(shape: tuple[int, ...], x_shape: tuple[int, ...], name: str) -> None:
    """Refuse a mask or weights whose shape is not X's and does not broadcast to it."""
    lead = x_shape[: len(x_shape) - 2]
    own = shape[:-2]
    fits = (
        len(shape) >= 2
        and shape[-2:] == x_shape[-2:]
        and len(own) <= len(lead)
        and all(n in (1, m) for n, m in zip(own[::-1], lead[::-1], strict=False))
    )
    if not fits:
        raise ValueError(
            f"{name} has shape {shape}, but X has shape {x_shape}; it must have as many rows and "
            "columns, and leading dimensions that broadcast to those of X"
        )


def check_mask_dtype(dtype: str) -> None:
    """Refuse a mask that is not boolean."""
    if dtype != "bool":
        raise TypeError(
            f"mask must be boolean (True where a pixel is missing), got dtype {dtype}; numbers "
            "that say how much each pixel counts are weights="
        )


def nan_error() -> ValueError:
    """Make the error for NaN pixels with ``nan_policy="raise"``."""
    return ValueError(
        "X holds NaN pixels that are not masked, and nan_policy='raise' refuses them; "
        "'omit' takes them for missing"
    )


def weights_error() -> ValueError:
    """Make the error for weights of pixels that are no weights."""
    return ValueError("weights must be finite numbers >= 0 (0 where a pixel is missing)")


def read_mask(mask: ArrayLike, x: arrays.Operand) -> Array:
    """Read a mask as a bool array on the device of X, or None."""
    if mask is None:
        return None
    operand = arrays.read(mask, "mask")
    check_mask_dtype(operand.dtype)
    return _bring(operand, x, "mask")


def read_weights(weights: ArrayLike, x: arrays.Operand) -> arrays.Operand | None:
    """Read weights of pixels, on the device of X."""
    if weights is None:
        return None
    operand = arrays.read(weights, "weights")
    if dtypes.is_complex(operand.dtype):
        raise TypeError(f"weights must be real numbers, got dtype {operand.dtype}")
    operand.array = _bring(operand, x, "weights")
    return operand


def _bring(operand: arrays.Operand, x: arrays.Operand, name: str) -> Array:
    check_fits(tuple(operand.array.shape), tuple(x.array.shape), name)
    if operand.device == x.device:
        return operand.array
    if operand.device != arrays.HOST:
        raise ValueError(f"X is on {x.device} and {name} on {operand.device}; pass both on one")
    import cupy

    return cupy.asarray(operand.array)


@dataclass(frozen=True)
class KernelSums:
    """Kernels in the dtype that is summed in, and what their weights add up to.

    Attributes
    ----------
    k : array, shape (..., p, q)
        Kernels, conjugated where the correlation conjugates them.
    total, size : array, shape (..., 1, 1)
        Sums of the weights and of their absolute values.
    positive : bool
        Whether all weights are numbers >= 0.
    """

    k: Array
    total: Array
    size: Array
    positive: bool

    @classmethod
    def of(cls, k: Array, conjugate: bool) -> KernelSums:
        """Add up weights on the host; ValueError if they add up to nothing to divide by."""
        if k.dtype.kind in "iu":
            most = float(np.abs(k.astype(np.float64)).sum(axis=(-2, -1)).max(initial=0.0))
            if most >= float(np.iinfo(k.dtype).max):
                raise ValueError(
                    f"the weights of K come to {most:.3g}: their sum may not fit into 64 bits; "
                    "pass K.astype('float64')"
                )
        total = k.sum(axis=(-2, -1), keepdims=True)
        size = np.abs(k).sum(axis=(-2, -1), keepdims=True)
        _check_totals(total, size, k)
        positive = not np.iscomplexobj(k) and bool((k >= 0).all())
        if conjugate:
            total = total.conj()
        return cls(k, total, size, positive)

    def for_library(self, xp: ModuleType) -> KernelSums:
        """Return the same with sums that are arrays of `xp`, NumPy or CuPy."""
        if xp is np:
            return self
        return replace(self, total=xp.asarray(self.total), size=xp.asarray(self.size))


def _check_totals(total: Array, size: Array, k: Array) -> None:
    """Refuse kernels whose weights add up to zero, up to rounding."""
    if not np.isfinite(size).all():
        raise ValueError("K holds weights that are NaN or infinite: there is no mean with them")
    count = math.prod(k.shape[-2:])
    eps = 0.0 if k.dtype.kind in "iu" else float(np.finfo(k.dtype).eps)
    zero = np.abs(total) <= count * eps * size
    if zero.any():
        which = "K" if zero.size == 1 else f"{int(zero.sum())} of the {zero.size} kernels"
        raise ValueError(
            f"the weights of {which} add up to zero (as those of derivatives do): a normalised "
            "correlation divides by their sum; use corr2d, or a kernel whose weights do not cancel"
        )
