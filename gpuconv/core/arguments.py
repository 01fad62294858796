"""Reading the keywords of a call: integers and pairs of them, padding, fill value, precision.

Each function returns the value in one form or raises an error that says what was passed and what is
allowed.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any, TypeGuard

import numpy as np

from . import dtypes
from .errors import format_value, unknown_name_error

__all__ = [
    "LARGEST",
    "MODES",
    "Pair",
    "Scalar",
    "broadcast",
    "broadcast_error",
    "check_dimensions",
    "check_kernel_fits",
    "check_precision",
    "integer",
    "pair",
    "read_fillvalue",
    "read_padding",
]

MODES = ("valid", "same", "full")
# The largest padding, stride, dilation and padded side: positions are computed in 64 bits.
LARGEST = 2**62 - 1
Pair = tuple[int, int]
Scalar = int | float | complex


def integer(value: object, name: str, least: int, most: int | None = LARGEST) -> int:
    """Read an integer between `least` and `most`; bools and floats are refused."""
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be an integer >= {least}, got {value!r}")
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name} must be an integer >= {least}, got {value!r}") from None
    if number < least:
        raise ValueError(f"{name} must be an integer >= {least}, got {format_value(number)}")
    if most is not None and number > most:
        limit = "2**62 - 1" if most == LARGEST else str(most)
        raise ValueError(
            f"{name} must be an integer of at most {limit}, got {format_value(number)}"
        )
    return number


def _is_sequence(value: object) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, (tuple, list)) or (isinstance(value, np.ndarray) and value.ndim > 0)


def pair(value: object, name: str, least: int) -> Pair:
    """Read ``int | (int, int)`` as (vertical, horizontal)."""
    if not _is_sequence(value):
        number = integer(value, name, least)
        return number, number
    if len(value) != 2:
        raise ValueError(f"{name} must be one integer or two (rows, columns), got {value!r}")
    return integer(value[0], name, least), integer(value[1], name, least)


def read_padding(mode: object, span: Pair, flipped: bool) -> tuple[Pair, Pair]:
    """Read a mode or explicit padding as ((top, bottom), (left, right))."""
    if isinstance(mode, str):
        if mode == "valid":
            return (0, 0), (0, 0)
        if mode == "same":
            # scipy.signal's placement: for an even kernel, correlation puts the extra row after
            # the image and convolution before it.
            (h, w), (more, less) = span, (0, 1) if flipped else (1, 0)
            return ((h - more) // 2, (h - less) // 2), ((w - more) // 2, (w - less) // 2)
        if mode == "full":
            return (span[0] - 1, span[0] - 1), (span[1] - 1, span[1] - 1)
        raise unknown_name_error("mode", mode, MODES)
    if not _is_sequence(mode):
        try:
            number = integer(mode, "padding", 0)
        except TypeError:
            raise TypeError(
                f"mode must be one of {', '.join(map(repr, MODES))} or padding as int, (ph, pw) or "
                f"((top, bottom), (left, right)), got {mode!r}"
            ) from None
        return (number, number), (number, number)
    if len(mode) != 2:
        raise ValueError(
            f"padding must be int, (ph, pw) or ((top, bottom), (left, right)), got {mode!r}"
        )
    return pair(mode[0], "padding", 0), pair(mode[1], "padding", 0)


def read_fillvalue(value: object, acc: str) -> Scalar:
    """Read the fill value as a Python number for sums in dtype `acc`.

    A value that would round to infinity becomes infinity here, so that no cast overflows later.
    """
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, (np.longdouble, np.clongdouble)):
        value = complex(value) if isinstance(value, np.clongdouble) else float(value)
    elif isinstance(value, np.generic):
        value = value.item()
    if not isinstance(value, (bool, int, float, complex)):
        raise TypeError(f"fillvalue must be a number, got {value!r}")
    if dtypes.is_integer(acc):
        info = np.iinfo(acc)
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        if not whole or not info.min <= value <= info.max:  # type: ignore[operator]
            raise ValueError(
                f"fillvalue {format_value(value)} does not fit integer sums of dtype {acc}"
            )
        return int(value)  # type: ignore[arg-type]
    if isinstance(value, complex) and not dtypes.is_complex(acc):
        raise ValueError(f"fillvalue {value!r} is complex, but the sums are {acc}")
    try:
        if dtypes.is_complex(acc):
            part = dtypes.part(acc)
            number = complex(value)
            return complex(_round_overflow(number.real, part), _round_overflow(number.imag, part))
        return _round_overflow(float(value), acc)  # type: ignore[arg-type]
    except OverflowError:
        raise ValueError(
            "fillvalue must be within the range of float64 (below 1.8e308 in magnitude), or "
            f"float('inf'), got {format_value(value)}"
        ) from None


def _round_overflow(value: float, dtype: str) -> float:
    """Replace a value beyond the range of float32 or float64 by infinity."""
    # One NaN object, so that equal problems compare equal (tuples compare by identity first).
    if math.isnan(value):
        return math.nan
    # From half a unit in the last place above the largest float32 on, rounding gives infinity.
    # In plain Python, because torch's compiler traces this.
    if dtype == "float32" and abs(value) >= float.fromhex("0x1.ffffffp+127"):
        return math.inf if value > 0 else -math.inf
    return value


def broadcast(first: tuple[int, ...], second: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape to which two shapes broadcast; ValueError if they don't.

    `np.broadcast_shapes` takes at most 32 dimensions, but arrays have up to 64.

    Examples
    --------
    >>> broadcast((3, 1), (4,))
    (3, 4)
    """
    n = max(len(first), len(second))
    first, second = ((1,) * (n - len(shape)) + shape for shape in (first, second))
    if any(a != b and 1 not in (a, b) for a, b in zip(first, second, strict=True)):
        raise ValueError(f"shapes {first} and {second} do not broadcast")
    return tuple(b if a == 1 else a for a, b in zip(first, second, strict=True))


def broadcast_error(x_shape: tuple[int, ...], k_shape: tuple[int, ...]) -> ValueError:
    """Build the error for leading dimensions that do not broadcast."""
    return ValueError(
        f"the leading dimensions of X {x_shape} and K {k_shape} do not broadcast: "
        f"{x_shape[:-2]} against {k_shape[:-2]}"
    )


def check_dimensions(shape: tuple[int, ...], name: str) -> None:
    """Refuse a shape of fewer than two dimensions."""
    if len(shape) < 2:
        raise ValueError(
            f"{name} must have at least 2 dimensions (rows, columns), got {len(shape)}: "
            f"shape {shape}"
        )


def check_kernel_fits(
    x_shape: tuple[int, ...], k_shape: tuple[int, ...], pad: tuple[Pair, Pair], dilation: Pair
) -> Pair:
    """Return the rows and columns by which a kernel can move over the padded image.

    Raises
    ------
    ValueError
        The kernel is larger than the padded image, or that has too many rows or columns.
    """
    (h, w), (p, q) = x_shape[-2:], k_shape[-2:]
    padded = h + sum(pad[0]), w + sum(pad[1])
    if padded[0] > LARGEST or padded[1] > LARGEST:
        raise ValueError(
            f"the padded image may have at most 2**62 - 1 rows and columns, got {padded} made from "
            f"X of shape {x_shape} and padding {pad}"
        )
    span = (p - 1) * dilation[0] + 1, (q - 1) * dilation[1] + 1
    rows, columns = padded[0] - span[0], padded[1] - span[1]
    # An axis without pixels that is padded to one less than the kernel has no outputs: no error.
    if (rows < 0 and (h or rows < -1)) or (columns < 0 and (w or columns < -1)):
        dilated = "" if dilation == (1, 1) else f" (dilated to {span})"
        raise ValueError(
            f"K of shape {k_shape}{dilated} is larger than the padded image {padded} made from X "
            f"of shape {x_shape}"
        )
    return rows, columns


def check_precision(precision: object, x_dtype: str, k_dtype: str) -> None:
    """Refuse an unknown precision, and one that does not go with the dtypes."""
    if precision is None:
        return
    if not isinstance(precision, str) or precision != "tf32":
        raise ValueError(
            "precision must be None (as exact as the dtypes are) or 'tf32', got "
            f"{format_value(precision)}"
        )
    if (x_dtype, k_dtype) != ("float32", "float32"):
        raise ValueError(f"precision='tf32' is for X and K of float32, got {x_dtype} and {k_dtype}")
