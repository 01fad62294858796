"""Dtypes by name: which are accepted, how they promote, what sums are accumulated in, and the
conversion of finished sums.

bfloat16 is not a NumPy dtype. Inside the package a bfloat16 array is a uint16 array of the same
bits (its *storage dtype*), whether it came from ml_dtypes or torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from types import ModuleType
from typing import Any

import numpy as np

from .array_types import Array

__all__ = ["NAMES", "accumulator", "finish", "name_of", "promote", "storage", "widen"]


@dataclass(frozen=True)
class _Dtype:
    """A row of the table of dtypes."""

    kind: str  # "integer" (bool included), "float" or "complex"
    accumulator: str  # dtype of the sums of results in this one
    storage: str  # dtype of the arrays that hold it inside the package
    part: str  # dtype of real and imaginary parts
    tensor_cores: bool = False  # whether method "tensor" multiplies it exactly

    @classmethod
    def plain(cls, name: str, kind: str) -> _Dtype:
        """Row of a NumPy dtype that is real and accumulated as it is."""
        return cls(kind, name, name, name)


_INTEGERS = ("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64")
_TABLE = {
    **{name: _Dtype.plain(name, "integer") for name in _INTEGERS},
    "float16": _Dtype("float", "float32", "float16", "float16", tensor_cores=True),
    "bfloat16": _Dtype("float", "float32", "uint16", "bfloat16", tensor_cores=True),
    "float32": _Dtype.plain("float32", "float"),
    "float64": _Dtype.plain("float64", "float"),
    "complex64": _Dtype("complex", "complex64", "complex64", "float32"),
    "complex128": _Dtype("complex", "complex128", "complex128", "float64"),
}
NAMES = tuple(_TABLE)


def name_of(dtype: object, what: str = "array") -> str:
    """Return the name of a dtype in any spelling; TypeError if it is not supported."""
    text = _numpy_name(dtype) if isinstance(dtype, np.dtype) else str(dtype)
    if text.startswith("torch."):
        text = text[6:]
    if text not in _TABLE:
        try:
            text = np.dtype(dtype).name  # type: ignore[call-overload]
        except TypeError:
            text = str(dtype)
    if text not in _TABLE:
        raise TypeError(f"{what} has dtype {text}; supported dtypes: {', '.join(NAMES)}")
    return text


@lru_cache(maxsize=256)
def _numpy_name(dtype: np.dtype[Any]) -> str:
    """`str` of a dtype, cached: it takes as long as all else that is read from an array."""
    return str(dtype)


def is_integer(name: str) -> bool:
    """Whether the dtype is an integer or bool, so that its sums are exact."""
    return _TABLE[name].kind == "integer"


def is_complex(name: str) -> bool:
    """Whether the dtype has an imaginary part."""
    return _TABLE[name].kind == "complex"


def is_half(name: str) -> bool:
    """Whether sums of this dtype are accumulated in a wider one."""
    return _TABLE[name].accumulator != name


def is_for_tensor_cores(name: str) -> bool:
    """Whether method "tensor" takes pixels and weights of this dtype, unless asked for less."""
    return _TABLE[name].tensor_cores


def is_in_numpy(name: str) -> bool:
    """Whether NumPy has the dtype by itself."""
    return _TABLE[name].storage == name


def part(name: str) -> str:
    """Return the dtype of real and imaginary parts; that of a real dtype is itself."""
    return _TABLE[name].part


@cache
def float_limits(name: str) -> tuple[float, float]:
    """Return the machine epsilon of a dtype, and its smallest normal number."""
    info = np.finfo(name)
    return float(info.eps), float(info.tiny)


@cache
def largest(name: str) -> int:
    """Return the largest magnitude of a number of an integer dtype."""
    if name == "bool":
        return 1
    info = np.iinfo(name)
    return max(-int(info.min), int(info.max))


@cache
def storage(name: str) -> np.dtype[Any]:
    """Return the NumPy dtype of arrays of this dtype inside the package."""
    return np.dtype(_TABLE[name].storage)


@cache
def promote(a: str, b: str) -> str:
    """Return the dtype of a result without `dtype=`: `np.result_type`, extended to bfloat16.

    Two integers or bools promote to 64 bits, as in `np.sum`: uint64 if neither is signed, otherwise
    int64.
    """
    if is_integer(a) and is_integer(b):
        kinds = {a, b} - {"bool"}
        return "uint64" if kinds and all(n.startswith("u") for n in kinds) else "int64"
    if a == b:
        return a
    if "bfloat16" in (a, b):
        other = b if a == "bfloat16" else a
        if other in ("bool", "int8", "uint8"):
            return "bfloat16"
        # float16 has more mantissa bits and bfloat16 more exponent bits: float32 holds both. With
        # every other dtype bfloat16 promotes as float16 does.
        return "float32" if other == "float16" else np.result_type("float16", other).name
    return np.result_type(a, b).name


def accumulator(result: str) -> str:
    """Return the dtype in which sums are accumulated, given the dtype of the result."""
    return _TABLE[result].accumulator


def widen(array: Array, name: str, acc: str, xp: ModuleType = np) -> Array:
    """Convert a storage array to the accumulator dtype, copying only if it differs."""
    if name == "bfloat16":
        array = (array.astype(xp.uint32) << 16).view(xp.float32)
    return array.astype(acc, copy=False)


def all_finite(array: Array, name: str) -> bool:
    """Whether a storage array on the host holds neither NaN nor infinity."""
    return is_integer(name) or bool(np.isfinite(widen(array, name, accumulator(name))).all())


def _to_bfloat16_bits(values: Array, xp: ModuleType) -> Array:
    """Round any real dtype to bfloat16, to nearest even, with a single rounding."""
    if values.dtype != xp.float32:
        # Rounding to nearest float32 first would round twice. Instead round to odd: truncate
        # towards zero and set the last bit if anything was lost. The second rounding is then right.
        near = values.astype(xp.float32)
        # Integers beyond 2**53 must not be compared through float64.
        exact = values.astype(xp.longdouble) if xp is np else values.astype(xp.float64)
        bits = near.view(xp.uint32)
        over = xp.abs(near.astype(exact.dtype)) > xp.abs(exact)
        inexact = near.astype(exact.dtype) != exact
        bits = xp.where(over & ~xp.isnan(exact), bits - xp.uint32(1), bits)
        bits = xp.where(inexact & ~xp.isnan(exact), bits | xp.uint32(1), bits)
    else:
        bits = xp.ascontiguousarray(values).view(xp.uint32)
    nan = (bits & xp.uint32(0x7FFFFFFF)) > xp.uint32(0x7F800000)
    rounded = (bits + xp.uint32(0x7FFF) + ((bits >> 16) & xp.uint32(1))) >> 16
    return xp.where(nan, (bits >> 16) | xp.uint32(0x40), rounded).astype(xp.uint16)


def finish(acc: Array, out_name: str, xp: ModuleType = np) -> Array:
    """Convert finished sums to the dtype of the output.

    To nearest even; integer outputs saturate and take 0 for NaN. Returns a storage array.
    """
    if out_name == "bfloat16":
        with np.errstate(over="ignore"):
            return _to_bfloat16_bits(acc, xp)
    out = storage(out_name)
    if acc.dtype == out:
        return acc
    if out.kind not in "iu":
        with np.errstate(over="ignore"):
            return acc.astype(out)
    info = np.iinfo(out)
    if acc.dtype.kind in "iu":
        source = np.iinfo(acc.dtype)
        return xp.clip(acc, max(info.min, source.min), min(info.max, source.max)).astype(out)
    rounded = xp.rint(acc)
    # float(info.max) rounds up to a power of two for wide integers, so ">=" is the exact test.
    high = rounded >= acc.dtype.type(info.max)
    low = rounded <= acc.dtype.type(info.min)
    inside = xp.where(high | low | xp.isnan(rounded), 0, rounded).astype(out)
    return xp.where(high, out.type(info.max), xp.where(low, out.type(info.min), inside))


def holds(name: str, value: complex, acc: str) -> bool:
    """Whether a dtype holds `value` exactly, as sums in dtype `acc` see it; NaN counts as held."""
    wide = np.array([value], acc)
    if is_complex(acc) and not is_complex(name):
        if wide[0].imag != 0:
            return False
        wide = wide.real
    found = widen(finish(wide, name), name, wide.dtype.name)
    return bool(found[0] == wide[0] or (np.isnan(found[0]) and np.isnan(wide[0])))
