"""A call, validated: shapes, dtypes, padding, border, stride and dilation in one frozen value.

Nothing here touches an array's elements. What passes `make_problem` can be computed by every
backend; what cannot be computed is refused here, in one sentence.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from typing import Any

import numpy as np

from . import dtypes
from .boundary import AxisTable, axis_steps, axis_table, canonical
from .errors import shown, unknown_name

__all__ = [
    "LARGEST",
    "MODES",
    "Index",
    "Problem",
    "fill_of",
    "gathered",
    "integer",
    "laid_out",
    "make_problem",
    "padding_of",
    "pair",
    "part_of",
    "part_of_shape",
    "tables",
    "with_a_pixel",
]

MODES = ("valid", "same", "full")
# The largest padding, stride, dilation and padded side: positions are computed in 64 bits.
LARGEST = 2**62 - 1
Pair = tuple[int, int]
Index = tuple[int | slice, ...]  # a part of the batch: one entry for each of its dimensions
Scalar = int | float | complex


@dataclass(frozen=True, slots=True)
class Problem:
    """One validated correlation; equal problems have equal plans.

    ``Y[i, j] = sum_ab P[i*sy + a*dy, j*sx + b*dx] * K[a, b]`` where ``P`` is X in the accumulator
    dtype, padded by `pad` under `boundary`.
    """

    x_shape: tuple[int, ...]
    k_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    x_dtype: str
    k_dtype: str
    acc_dtype: str
    out_dtype: str
    pad: tuple[Pair, Pair]
    boundary: str
    fillvalue: Scalar
    stride: Pair
    dilation: Pair
    conjugate: bool
    precision: str | None  # "tf32": products of float32 may be rounded so
    # Computed once: problems are the keys of every cache on a call's way.
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        values = tuple(getattr(self, f.name) for f in fields(self) if f.compare)
        object.__setattr__(self, "_hash", hash(values))

    def __hash__(self) -> int:
        return self._hash

    @property
    def batch(self) -> tuple[int, ...]:
        """Leading dimensions of the output."""
        return self.out_shape[:-2]

    @property
    def n(self) -> int:
        """Number of output images."""
        return math.prod(self.out_shape[:-2])

    @property
    def h(self) -> int:
        """Rows of the image."""
        return self.x_shape[-2]

    @property
    def w(self) -> int:
        """Columns of the image."""
        return self.x_shape[-1]

    @property
    def p(self) -> int:
        """Rows of the kernel."""
        return self.k_shape[-2]

    @property
    def q(self) -> int:
        """Columns of the kernel."""
        return self.k_shape[-1]

    @property
    def r(self) -> int:
        """Rows of the output."""
        return self.out_shape[-2]

    @property
    def s(self) -> int:
        """Columns of the output."""
        return self.out_shape[-1]

    @property
    def span(self) -> Pair:
        """Rows and columns the dilated kernel covers."""
        return (
            (self.p - 1) * self.dilation[0] + 1,
            (self.q - 1) * self.dilation[1] + 1,
        )

    @property
    def unit(self) -> bool:
        """Whether stride and dilation are both 1."""
        return self.stride == (1, 1) and self.dilation == (1, 1)


def _axes(problem: Problem) -> Iterator[tuple[int, int, int, int, int, Pair]]:
    for axis in (-2, -1):
        yield (
            problem.x_shape[axis],
            problem.k_shape[axis],
            problem.out_shape[axis],
            problem.stride[axis],
            problem.dilation[axis],
            problem.pad[axis],
        )


@lru_cache(maxsize=256)
def tables(problem: Problem) -> tuple[AxisTable, AxisTable]:
    """Lay out rows and columns of the padded image, or what of them is read (see `axis_table`)."""
    rows, columns = (axis_table(*axis, problem.boundary) for axis in _axes(problem))
    return rows, columns


@lru_cache(maxsize=1024)
def laid_out(problem: Problem) -> Problem:
    """State the problem with the stride and dilation that its `tables` are read with."""
    rows, columns = (axis_steps(*axis) for axis in _axes(problem))
    steps = dict(stride=(rows[0], columns[0]), dilation=(rows[1], columns[1]))
    if steps == dict(stride=problem.stride, dilation=problem.dilation):
        return problem
    return replace(problem, **steps)  # type: ignore[arg-type]


def gathered(problem: Problem) -> tuple[bool, bool]:
    """Whether the tables of rows and columns hold only what is read."""
    rows, columns = (axis_steps(*axis)[2] for axis in _axes(problem))
    return rows, columns


def with_a_pixel(problem: Problem) -> Problem:
    """State the problem of an image without a pixel for one that has a row or column of them.

    It lies behind all that is read: every output is a sum over the constant border.
    """
    sides = problem.x_shape[-2:]
    down, across = (
        (sum(pad), 0) if n == 0 else pad for n, pad in zip(sides, problem.pad, strict=True)
    )
    lead = problem.x_shape[:-2]
    return replace(problem, x_shape=(*lead, *(max(n, 1) for n in sides)), pad=(down, across))


def part_of(array: Any, index: Index) -> Any:
    """Part of X or K that a part of the batch needs; what is broadcast stays so."""
    array = array[(None,) * (len(index) + 2 - array.ndim)]
    return array[
        tuple(
            (slice(None) if n == 1 else i) if isinstance(i, slice) else (0 if n == 1 else i)
            for n, i in zip(array.shape[:-2], index, strict=True)
        )
    ]


def part_of_shape(lead: tuple[int, ...], index: Index) -> tuple[int, ...]:
    """Leading dimensions of `part_of` an array with these leading dimensions."""
    lead = (1,) * (len(index) - len(lead)) + lead
    return tuple(
        min(n, i.stop - i.start) for n, i in zip(lead, index, strict=True) if isinstance(i, slice)
    )


def integer(value: object, what: str, least: int, most: int | None = LARGEST) -> int:
    """Read an integer from `least` to `most`; neither a bool nor a float passes for one."""
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{what} must be an integer >= {least}, got {value!r}")
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{what} must be an integer >= {least}, got {value!r}") from None
    if number < least:
        raise ValueError(f"{what} must be an integer >= {least}, got {shown(number)}")
    if most is not None and number > most:
        limit = "2**62 - 1" if most == LARGEST else str(most)
        raise ValueError(f"{what} must be an integer of at most {limit}, got {shown(number)}")
    return number


def _is_sequence(value: object) -> bool:
    return isinstance(value, (tuple, list)) or (isinstance(value, np.ndarray) and value.ndim > 0)


def pair(value: Any, what: str, least: int) -> Pair:
    """Read ``int | (int, int)`` as (vertical, horizontal)."""
    if not _is_sequence(value):
        number = integer(value, what, least)
        return number, number
    if len(value) != 2:
        raise ValueError(f"{what} must be one integer or two (rows, columns), got {value!r}")
    return integer(value[0], what, least), integer(value[1], what, least)


def padding_of(mode: Any, span: Pair, flipped: bool) -> tuple[Pair, Pair]:
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
        raise unknown_name("mode", mode, MODES)
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


def fill_of(value: Any, acc: str) -> Scalar:
    """Read the fill value as a Python number that the accumulator holds, as rounded.

    What it would round to infinity is infinity already, so that no cast overflows later.
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
            raise ValueError(f"fillvalue {shown(value)} does not fit integer sums of dtype {acc}")
        return int(value)  # type: ignore[arg-type]
    if isinstance(value, complex) and not dtypes.is_complex(acc):
        raise ValueError(f"fillvalue {value!r} is complex, but the sums are {acc}")
    try:
        if dtypes.is_complex(acc):
            part = "float32" if acc == "complex64" else "float64"
            number = complex(value)
            return complex(_within(number.real, part), _within(number.imag, part))
        return _within(float(value), acc)  # type: ignore[arg-type]
    except OverflowError:
        raise ValueError(
            "fillvalue must be within the range of float64 (below 1.8e308 in magnitude), or "
            f"float('inf'), got {shown(value)}"
        ) from None


def _within(value: float, dtype: str) -> float:
    # One NaN object, so that equal problems compare equal (tuples compare by identity first).
    if math.isnan(value):
        return math.nan
    # Half a unit beyond float32's largest number. In plain Python, for torch's compiler.
    if dtype == "float32" and abs(value) >= float.fromhex("0x1.ffffffp+127"):
        return math.inf if value > 0 else -math.inf
    return value


def no_broadcast(x_shape: tuple[int, ...], k_shape: tuple[int, ...]) -> ValueError:
    """Build the error for leading dimensions that do not go together."""
    return ValueError(
        f"the leading dimensions of X {x_shape} and K {k_shape} do not broadcast: "
        f"{x_shape[:-2]} against {k_shape[:-2]}"
    )


def _broadcast(x_shape: tuple[int, ...], k_shape: tuple[int, ...]) -> tuple[int, ...]:
    # Not by NumPy's `broadcast_shapes`, which takes 32 dimensions where arrays have up to 64.
    lead = max(len(x_shape), len(k_shape)) - 2
    x, k = ((1,) * (lead - len(shape) + 2) + shape[:-2] for shape in (x_shape, k_shape))
    if any(n != m and 1 not in (n, m) for n, m in zip(x, k, strict=True)):
        raise no_broadcast(x_shape, k_shape)
    return tuple(m if n == 1 else n for n, m in zip(x, k, strict=True))


def check_shape(shape: tuple[int, ...], name: str) -> None:
    """Refuse what has no rows and columns."""
    if len(shape) < 2:
        raise ValueError(
            f"{name} must have at least 2 dimensions (rows, columns), got {len(shape)}: "
            f"shape {shape}"
        )


def room(
    x_shape: tuple[int, ...], k_shape: tuple[int, ...], pad: tuple[Pair, Pair], dilation: Pair
) -> Pair:
    """Rows and columns by which a kernel can move; ValueError if it is larger than the image."""
    (h, w), (p, q) = x_shape[-2:], k_shape[-2:]
    padded = h + sum(pad[0]), w + sum(pad[1])
    if padded[0] > LARGEST or padded[1] > LARGEST:
        raise ValueError(
            f"the padded image may have at most 2**62 - 1 rows and columns, got {padded} made from "
            f"X of shape {x_shape} and padding {pad}"
        )
    span = (p - 1) * dilation[0] + 1, (q - 1) * dilation[1] + 1
    rows, columns = padded[0] - span[0], padded[1] - span[1]
    # An axis without a pixel has 0 outputs where it is padded for as many as pixels.
    if (rows < 0 and (h or rows < -1)) or (columns < 0 and (w or columns < -1)):
        dilated = "" if dilation == (1, 1) else f" (dilated to {span})"
        raise ValueError(
            f"K of shape {k_shape}{dilated} is larger than the padded image {padded} made from X "
            f"of shape {x_shape}"
        )
    return rows, columns


def make_problem(
    x_shape: tuple[int, ...],
    k_shape: tuple[int, ...],
    x_dtype: str,
    k_dtype: str,
    *,
    mode: Any = "valid",
    boundary: object = "constant",
    fillvalue: Any = 0,
    stride: Any = 1,
    dilation: Any = 1,
    dtype: object = None,
    precision: Any = None,
    conjugate: bool = False,
    flipped: bool = False,
) -> Problem:
    """Validate a call and describe it.

    `flipped` says that the kernel handed over is the flipped one of a convolution, which
    ``mode="same"`` places differently when its size is even.

    Raises
    ------
    ValueError
        Fewer than two dimensions, a kernel without a tap, an image without a pixel where the border
        repeats pixels, leading dimensions that do not broadcast,
        a kernel larger than the padded image, an unknown mode or border, a stride or dilation
        below 1, negative padding, any of these or a padded side above 2**62 - 1, a fill value that
        integer sums cannot hold, an unknown precision or one that does not go with the dtypes.
    TypeError
        A dtype that is not supported, a stride, dilation or padding that is not an integer, a
        complex result asked for in a real dtype.
    """
    check_shape(x_shape, "X")
    check_shape(k_shape, "K")
    if 0 in k_shape[-2:]:
        raise ValueError(f"K must not have empty rows or columns, got shape {k_shape}")
    result = dtypes.promote(x_dtype, k_dtype)
    acc = dtypes.accumulator(result)
    out_dtype = result if dtype is None else dtypes.name_of(dtype, "dtype=")
    if out_dtype == "bool":
        raise TypeError("dtype=bool is not supported; compare the result instead: corr2d(...) != 0")
    if dtypes.is_complex(acc) and not dtypes.is_complex(out_dtype):
        raise TypeError(f"the result is {result}; dtype={out_dtype} would drop its imaginary part")

    if precision is not None:
        if not isinstance(precision, str) or precision != "tf32":
            raise ValueError(
                "precision must be None (as exact as the dtypes are) or 'tf32', got "
                f"{shown(precision)}"
            )
        if (x_dtype, k_dtype) != ("float32", "float32"):
            raise ValueError(
                f"precision='tf32' is for X and K of float32, got {x_dtype} and {k_dtype}"
            )

    border = canonical(boundary)
    strides, dilations = pair(stride, "stride", 1), pair(dilation, "dilation", 1)
    (h, w), (p, q) = x_shape[-2:], k_shape[-2:]
    pad = padding_of(mode, ((p - 1) * dilations[0] + 1, (q - 1) * dilations[1] + 1), flipped)
    rows, columns = room(x_shape, k_shape, pad, dilations)
    batch = _broadcast(x_shape, k_shape)
    if 0 in (h, w) and rows >= 0 and columns >= 0 and border != "constant":
        raise ValueError(
            f"X of shape {x_shape} has no pixel for boundary={border!r} to repeat; only "
            "boundary='constant' has a value of its own"
        )
    return Problem(
        x_shape=x_shape,
        k_shape=k_shape,
        out_shape=(*batch, rows // strides[0] + 1, columns // strides[1] + 1),
        x_dtype=x_dtype,
        k_dtype=k_dtype,
        acc_dtype=acc,
        out_dtype=out_dtype,
        pad=pad,
        boundary=border,
        # Only a constant border reads it: one problem whatever was passed with the others.
        fillvalue=fill_of(fillvalue if border == "constant" else 0, acc),
        stride=strides,
        dilation=dilations,
        conjugate=conjugate and dtypes.is_complex(k_dtype),
        precision=precision,
    )
