"""A validated call: shapes, dtypes, padding, border, stride and dilation in one frozen value.

Nothing here touches an array's elements. Every problem that `make_problem` returns can be computed;
calls that cannot are refused here, with an error that says why.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache

from . import dtypes
from .arguments import (
    Pair,
    Scalar,
    broadcast,
    broadcast_error,
    check_dimensions,
    check_kernel_fits,
    check_precision,
    integer,
    pair,
    read_fillvalue,
    read_padding,
)
from .array_types import Array
from .boundary import AxisShape, AxisTable, build_axis_table, plan_axis_steps, read_boundary

__all__ = [
    "Index",
    "Pair",
    "Problem",
    "build_axis_tables",
    "integer",
    "make_problem",
    "pair",
    "restate_for_tables",
    "restate_with_pixels",
    "rows_and_columns",
    "slice_batch",
    "slice_batch_shape",
    "tables_are_gathered",
]

# Selects a part of the batch: an integer or a slice for each of its dimensions.
Index = tuple[int | slice, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """A validated correlation. Equal problems are computed in the same way.

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
    precision: str | None  # "tf32": products of float32 may be rounded to TF32
    # The pixels of this many images are interleaved in each row. Columns, and with them padding
    # and dilation, then count the pixels of all of them.
    channels: int = 1
    # The table of the rows that windows read is gathered (see `AxisTable`), whatever the padding.
    gather_rows: bool = False
    # Computed once, because a call looks its problem up in several caches.
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
        """Rows and columns that the dilated kernel covers."""
        return (
            (self.p - 1) * self.dilation[0] + 1,
            (self.q - 1) * self.dilation[1] + 1,
        )

    @property
    def unit(self) -> bool:
        """Whether stride and dilation are both 1."""
        return self.stride == (1, 1) and self.dilation == (1, 1)


def rows_and_columns(problem: Problem) -> Iterator[AxisShape]:
    """Yield the shapes of the two axes: rows, then columns."""
    for axis in (-2, -1):
        yield AxisShape(
            problem.x_shape[axis],
            problem.k_shape[axis],
            problem.out_shape[axis],
            problem.stride[axis],
            problem.dilation[axis],
            problem.pad[axis],
        )


@lru_cache(maxsize=256)
def build_axis_tables(problem: Problem) -> tuple[AxisTable, AxisTable]:
    """Build the tables of the pixels that the rows and columns of windows read."""
    rows, columns = rows_and_columns(problem)
    return (
        build_axis_table(*rows, problem.boundary, gather=problem.gather_rows),
        build_axis_table(*columns, problem.boundary, problem.channels),
    )


@lru_cache(maxsize=1024)
def restate_for_tables(problem: Problem) -> Problem:
    """Restate a problem with the stride and dilation that `build_axis_tables` gives its tables."""
    rows, columns = _plan_steps(problem)
    steps = dict(stride=(rows[0], columns[0]), dilation=(rows[1], columns[1]))
    if steps == dict(stride=problem.stride, dilation=problem.dilation):
        return problem
    return replace(problem, **steps)  # type: ignore[arg-type]


def tables_are_gathered(problem: Problem) -> tuple[bool, bool]:
    """Whether the tables of rows and of columns are gathered (see `AxisTable`)."""
    rows, columns = _plan_steps(problem)
    return rows[2], columns[2]


def _plan_steps(problem: Problem) -> tuple[tuple[int, int, bool], tuple[int, int, bool]]:
    """Return what `plan_axis_steps` does for rows and for columns."""
    rows, columns = rows_and_columns(problem)
    return plan_axis_steps(*rows, gather=problem.gather_rows), plan_axis_steps(*columns)


def restate_with_pixels(problem: Problem) -> Problem:
    """Restate the problem of an image without pixels for one that has a row or column of them.

    The added pixels lie behind all windows: every output is still a sum over constant padding.
    """
    sides = problem.x_shape[-2:]
    down, across = (
        (sum(pad), 0) if n == 0 else pad for n, pad in zip(sides, problem.pad, strict=True)
    )
    lead = problem.x_shape[:-2]
    return replace(problem, x_shape=(*lead, *(max(n, 1) for n in sides)), pad=(down, across))


def restate_for_one_image(problem: Problem) -> Problem:
    """Restate the problem of a batch for one of its images and one kernel."""
    sides = {name: getattr(problem, name)[-2:] for name in ("x_shape", "k_shape", "out_shape")}
    return replace(problem, **sides)


def slice_batch(array: Array, index: Index) -> Array:
    """Slice X or K along its leading dimensions to a part of the batch; broadcast ones stay 1."""
    array = array[(None,) * (len(index) + 2 - array.ndim)]
    return array[
        tuple(
            (slice(None) if n == 1 else i) if isinstance(i, slice) else (0 if n == 1 else i)
            for n, i in zip(array.shape[:-2], index, strict=True)
        )
    ]


def slice_batch_shape(lead: tuple[int, ...], index: Index) -> tuple[int, ...]:
    """Return the leading dimensions of `slice_batch(array, index)`, given those of the array."""
    lead = (1,) * (len(index) - len(lead)) + lead
    return tuple(
        min(n, i.stop - i.start) for n, i in zip(lead, index, strict=True) if isinstance(i, slice)
    )


def _read_dtypes(x_dtype: str, k_dtype: str, dtype: object) -> tuple[str, str]:
    """Return the dtypes of sums and of the result; `dtype` is what was asked for, or None."""
    result = dtypes.promote(x_dtype, k_dtype)
    acc = dtypes.accumulator(result)
    out_dtype = result if dtype is None else dtypes.name_of(dtype, "dtype=")
    if out_dtype == "bool":
        raise TypeError("dtype=bool is not supported; compare the result instead: corr2d(...) != 0")
    if dtypes.is_complex(acc) and not dtypes.is_complex(out_dtype):
        raise TypeError(f"the result is {result}; dtype={out_dtype} would drop its imaginary part")
    return acc, out_dtype


def make_problem(
    x_shape: tuple[int, ...],
    k_shape: tuple[int, ...],
    x_dtype: str,
    k_dtype: str,
    *,
    mode: object = "valid",
    boundary: object = "constant",
    fillvalue: object = 0,
    stride: object = 1,
    dilation: object = 1,
    dtype: object = None,
    precision: str | None = None,
    conjugate: bool = False,
    flipped: bool = False,
) -> Problem:
    """Validate a call and return it as a problem.

    `flipped` says that the kernel is the flipped one of a convolution, which ``mode="same"`` places
    differently where its size is even.

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
    check_dimensions(x_shape, "X")
    check_dimensions(k_shape, "K")
    if 0 in k_shape[-2:]:
        raise ValueError(f"K must not have empty rows or columns, got shape {k_shape}")
    acc, out_dtype = _read_dtypes(x_dtype, k_dtype, dtype)
    check_precision(precision, x_dtype, k_dtype)

    border = read_boundary(boundary)
    strides, dilations = pair(stride, "stride", 1), pair(dilation, "dilation", 1)
    (h, w), (p, q) = x_shape[-2:], k_shape[-2:]
    pad = read_padding(mode, ((p - 1) * dilations[0] + 1, (q - 1) * dilations[1] + 1), flipped)
    rows, columns = check_kernel_fits(x_shape, k_shape, pad, dilations)
    try:
        batch = broadcast(x_shape[:-2], k_shape[:-2])
    except ValueError:
        raise broadcast_error(x_shape, k_shape) from None
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
        # Other borders do not read it, so that their problems are equal whatever was passed.
        fillvalue=read_fillvalue(fillvalue if border == "constant" else 0, acc),
        stride=strides,
        dilation=dilations,
        conjugate=conjugate and dtypes.is_complex(k_dtype),
        precision=precision,
    )
