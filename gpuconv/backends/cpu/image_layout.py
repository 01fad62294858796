"""Where images and results are in memory, and how their rows are read and written.

The plans of all compiled drivers share this.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...core import dtypes
from ...core.array_types import Array
from ...core.layout import byte_offsets, kernel_index, lead_strides
from ...core.problem import Problem, build_axis_tables, restate_for_tables, tables_are_gathered
from .addresses import address
from .jit.params import ROW_SOURCE, fill_bytes, record

__all__ = [
    "ImageLayout",
    "describe_images",
    "find_store",
    "geometry_fields",
    "is_contiguous",
    "make_image_row_source",
    "make_row_source",
    "run_of_columns",
]

# More slots than there are rows, so that row y is loaded to slot y.
_EVERY_ROW = 1 << 62


@dataclass(frozen=True, eq=False)
class ImageLayout:
    """Where the images and results of a call are, and how their rows are read and written.

    Attributes
    ----------
    source : numpy.ndarray
        The ROW_SOURCE of the images.
    load, store : int
        Addresses of the jit functions that read rows of pixels and write rows of sums; 0: none.
    kernel_index, x_offsets, out_offsets : numpy.ndarray
        For each image of the batch: the index of its kernel, and the byte offsets of the image and
        of its result.
    in_place : bool
        Whether micro-kernels write sums to the result themselves.
    tables : tuple
        The index maps that the source points to.
    """

    source: Array
    load: int
    store: int
    kernel_index: Array
    x_offsets: Array
    out_offsets: Array
    in_place: bool
    tables: tuple[Array, ...]

    def fields(self) -> dict[str, int]:
        """Return the fields of DIRECT_PARAMS that describe this."""
        return dict(
            row_source=address(self.source),
            load=self.load,
            store=self.store,
            kernel_index=address(self.kernel_index),
            x_offsets=address(self.x_offsets),
            out_offsets=address(self.out_offsets),
            out_in_place=self.in_place,
        )


def geometry_fields(problem: Problem, out_strides: tuple[int, ...]) -> dict[str, int]:
    """Return the sizes, stride and dilation of a problem as fields of all drivers' params."""
    laid = restate_for_tables(problem)
    return dict(
        out_row_stride=out_strides[-2],
        out_column_stride=out_strides[-1],
        out_rows=problem.r,
        out_columns=problem.s,
        p=problem.p,
        q=problem.q,
        stride_y=laid.stride[0],
        stride_x=laid.stride[1],
        dilation_y=laid.dilation[0],
        dilation_x=laid.dilation[1],
    )


def make_row_source(
    pixel: str, acc: str, rows: Array, columns: Array, run: tuple[int, int],
    strides: tuple[int, ...], *, step: int = 1, phases: int = 1, slots: int = _EVERY_ROW,
    **fields: Any,
) -> Array:  # fmt: skip
    """Make a ROW_SOURCE of pixels of a dtype, which does not keep its two tables alive.

    Row y is loaded to slot ``y % slots`` of a row buffer, its columns in `step` phases, of which
    the first `phases` are loaded. `run` is the position and length of the run of the image's
    columns among `columns`; `fields` are further fields of the record.
    """
    from .jit import row_buffer

    return record(
        ROW_SOURCE,
        **row_buffer.pixel_fields(pixel, acc, strides[-1], step, phases),
        rows=address(rows),
        columns=address(columns),
        column_count=len(columns),
        left=run[0],
        width=run[1],
        row_stride=strides[-2],
        slots=slots,
        **fields,
    )


def make_image_row_source(
    problem: Problem, acc: str, x_strides: tuple[int, ...], *, step: int = 1,
    slots: int = _EVERY_ROW, imaginary: int = 0,
) -> tuple[Array, tuple[Array, Array]]:  # fmt: skip
    """Make the ROW_SOURCE of padded images; also return the two tables that it points to.

    `imaginary` is the distance of a row's imaginary parts from its real ones, in bytes.
    """
    rows, columns = (table.pixels for table in build_axis_tables(problem))
    source = make_row_source(
        problem.x_dtype, acc, rows, columns, run_of_columns(problem), x_strides, step=step,
        phases=min(step, restate_for_tables(problem).span[1]), slots=slots, imaginary=imaginary,
        fill=fill_bytes(problem.fillvalue, acc),
    )  # fmt: skip
    return source, (rows, columns)


def run_of_columns(problem: Problem) -> tuple[int, int]:
    """Return the position and length of the run of the image's columns; 0, 0 if they form none."""
    return (0, 0) if tables_are_gathered(problem)[1] else (problem.pad[1][0], problem.w)


def is_contiguous(problem: Problem, x_strides: tuple[int, ...]) -> bool:
    """Whether pixels of a row are next to each other in memory."""
    return x_strides[-1] == dtypes.storage(problem.x_dtype).itemsize


def describe_images(
    problem: Problem,
    acc: str,
    x_strides: tuple[int, ...],
    out_strides: tuple[int, ...],
    *,
    step: int,
    slots: int,
    divisor: int,
    in_place: bool,
    imaginary: int,
    loads: bool = True,
    stores: bool = True,
    every: int = 1,
) -> ImageLayout:
    """Describe images and results of these strides, for sums of a dtype times a divisor.

    `step`, `slots` and `imaginary` are those of `make_image_row_source`, `in_place` is that of
    `ImageLayout`. `loads` says whether any row is read into a row buffer, and `stores` whether any
    sums are written to the result from memory; of those, every `every`-th is.
    """
    from .jit import row_buffer

    source, tables = make_image_row_source(
        problem, acc, x_strides, step=step, slots=slots, imaginary=imaginary
    )
    batch = problem.batch
    return ImageLayout(
        source=source,
        load=row_buffer.load(step) if loads else 0,
        store=find_store(problem, acc, divisor, every) if stores else 0,
        kernel_index=kernel_index(problem),
        x_offsets=byte_offsets(batch, lead_strides(problem.x_shape, x_strides, batch)),
        out_offsets=byte_offsets(batch, out_strides[:-2]),
        in_place=in_place,
        tables=tables,
    )


def find_store(problem: Problem, acc: str, divisor: int, every: int = 1) -> int:
    """Return the address of the jit function that writes every `every`-th sum to the result.

    The sums are those of weights times the divisor.
    """
    from .jit import narrow_results, stored_rows

    if acc in ("uint16", "int16"):
        return narrow_results.store(acc, problem.out_dtype, divisor)
    return stored_rows.store(acc, problem.out_dtype, _exact(problem, acc), every)


def _exact(problem: Problem, acc: str) -> bool:
    """Whether sums are whole numbers that the output's dtype is sure to hold."""
    whole = dtypes.is_integer(problem.acc_dtype)
    return whole and acc != problem.acc_dtype and problem.out_dtype == problem.acc_dtype
