"""What compiled code is told, as records with named fields.

Each algorithm has a NumPy record dtype. Python fills one in by name (`record`) and passes its
address; compiled code sees it by name, too, through a `intrinsics.reader` of the dtype:
``source = row_source(address)``, ``source.width``. LLVM makes a plain load at an offset of each.

An address keeps nothing alive: whoever makes a record holds the arrays that its fields lead to.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

LINE_BYTES = 64  # bytes of a cache line
# Bytes from an array object of NumPy to the address of its elements: it begins with what every
# Python object begins with (see `addresses`, which looks whether that is so).
OBJECT_HEAD = object.__basicsize__


def fields(*names: str) -> np.dtype[Any]:
    """Dtype of a record of 64-bit integers with these names."""
    return np.dtype([(name, np.int64) for name in names])


def record(dtype: np.dtype[Any], **values: Any) -> Any:
    """Array of one record whose fields have these values, and 0 where none is given."""
    made = np.zeros(1, dtype)
    for name, value in values.items():
        made[name] = value
    return made


def copy_record(params: Any) -> Any:
    """Copy an array of one record as bytes: NumPy copies it field by field, which takes longer."""
    return np.frombuffer(bytearray(params.tobytes()), params.dtype)


def structure(dtype: np.dtype[Any]) -> type[ctypes.Structure]:
    """Type that views a record of 64-bit integers at an address, to set its fields by name.

    That takes a tenth of what setting them by NumPy takes.
    """
    assert dtype.names is not None
    members = [(name, ctypes.c_int64) for name in dtype.names]
    return type("Params", (ctypes.Structure,), {"_fields_": members})


# Where rows of pixels come from, as `row_buffer` reads them.
ROW_SOURCE = np.dtype(
    [
        *fields(
            # Addresses of the tables that say which row and column of the image stands at each
            # padded one (-1: the fill value), the number of padded columns, and where the run of
            # the image's columns begins among them and how long it is.
            "rows", "columns", "column_count", "left", "width",
            # Bytes between the image's rows and columns.
            "row_stride", "column_stride",
            # Columns from one output to the next, which are as many phases, and how many of these
            # are read; rows that the row buffer holds, and bytes from a row's real parts to its
            # imaginary parts.
            "step", "phases", "slots", "imaginary",
            # Bytes of a part of a sum and of a pixel, how many parts they have, and whether both
            # are of one real dtype.
            "size", "pixel_size", "parts", "pixel_parts", "plain",
            # Jit functions that convert parts of pixels (0: they are copied), and groups of them:
            # the parts of complex pixels, or as many as the stride (0: none is needed).
            "convert", "convert_groups",
            # What stands for the imaginary parts of real pixels.
            "zero",
        ).descr,
        ("fill", np.uint8, 16),  # the fill value, in the dtype of sums
    ]
)  # fmt: skip
# Bytes from the record's beginning.
FILL = ROW_SOURCE.fields["fill"][1]  # type: ignore[index]
ZERO = ROW_SOURCE.fields["zero"][1]  # type: ignore[index]


# Direct and separable sums (`direct_driver`, `narrow_images`). A kernel has p by q weights or, if
# its `rank` is not 0, that many rows of q weights and, in another array, as many columns of p.
DIRECT_PARAMS = fields(
    # Byte offset of each image, and of each result; bytes between a result's rows and columns.
    "x_offsets", "out_offsets", "out_row_stride", "out_column_stride",
    # The number of each image's kernel, and the bytes of a weight, of a kernel's weights and of its
    # column weights.
    "kernel_index", "rank", "weight_bytes", "weights_bytes", "column_weights_bytes",
    "out_rows", "out_columns", "p", "q", "stride_y", "stride_x", "dilation_y", "dilation_x",
    # Columns from the first to the last that an output reads, and the byte offset of each column of
    # taps in a row of the row buffer.
    "span_x", "tap_offsets",
    # Tasks are images by bands of rows by strips of columns; this call runs those from `first` to
    # before `last`. `failed` counts tasks that had no memory, and only ever grows.
    "bands", "band", "strips", "strip", "first", "last", "failed",
    # Parts of a number that are summed at once (2 if it is complex, or a pixel and what it counts),
    # how many planes of them rows have, bytes of one, numbers in a vector, columns of a row in the
    # row buffer, output rows that are summed at once.
    "parts", "planes", "size", "lanes", "pitch", "block_rows",
    # Whether pixels are read, and sums written, where they are.
    "x_in_place", "out_in_place",
    # Of so many columns that are summed the first is written.
    "every",
    # The ROW_SOURCE of pixels, and the jit functions that read and write rows (0: none is needed).
    "row_source", "load", "store",
    # Micro-kernels: sums of a block of rows, and of one row, into memory or where results are; of
    # separable kernels the first two take the columns of taps, and the last two the rows.
    "sum_block", "sum_row", "sum_block_in_place", "sum_row_in_place",
    "sum_across", "sum_across_in_place",
    # Jit functions that sum a task, and some columns of one.
    "sum_task", "sum_columns",
    # Up to `edge_most` columns beside the border are summed by a jit function of their own, which
    # reads them transposed, adds up taps by a micro-kernel, in the order at an address (0: as they
    # come), and writes one of some sums of a column.
    "edge_most", "sum_edge_columns", "load_transposed", "sum_edge", "tap_order", "store_edge",
    # Narrow images: the jit function that sums whole rows, whether pixels are repeated beside them,
    # and the address of a row of the border's value.
    "sum_whole_rows", "repeats_pixels", "fill_row",
    # Means of the pixels that are there (otherwise 0): address of the MEANS, and the jit functions
    # that load rows of their counts, mark the missing pixels of loaded rows, and sum the weights
    # that are there of the outputs in a block of which little is there.
    "means", "load_counts", "mark_missing", "sum_remaining",
)  # fmt: skip
DIRECT_FAILED = DIRECT_PARAMS.fields["failed"][1]  # type: ignore[index]

# What means of the pixels that are there are made with: a number that is subtracted from pixels and
# added to means, the least sum of weights, and what stands where less is there, or nothing. If few
# pixels are missing or none, `weight_rows` is the address of a table: for each row of results the
# address of its sums of weights over an image of which none is. Otherwise it is 0, and the sums of
# weights are the second plane of sums. `counts` are 0 or the address of a mask of missing pixels or
# of their weights, and the ROW_SOURCE of these.
MEANS = np.dtype(
    [
        *((name, np.float64) for name in ("pivot", "least", "undefined")),
        *fields(
            "weight_rows", "counts", "counts_source",
            # If few are missing (see `missing_sums`): the kernel's sides, the address of its rows
            # from the last column of weights to the first, vectors in one and bytes of a vector,
            # bytes of a row of missing sums and of all memory for them, the ROW_SOURCE of pixels,
            # and whether their border is missing, which `weight_rows` knows of.
            "p", "q", "reversed_weights", "vectors", "vector_bytes",
            "missing_pitch", "missing_bytes", "source", "border_missing",
        ).descr,
    ]
)  # fmt: skip
# Where `counts` begin for who looks at some rows of an image, and bytes between rows and columns.
COUNTED_PIXELS = fields("counts", "row_stride", "column_stride")
# Which means are written: address of the MEANS, the first row and column of results, rows from one
# to the next, and the address of missing sums. `scarce` is set where little is there, and
# `remaining` says that the sums of weights that are there follow those of pixels.
MEANS_BLOCK = fields("means", "row", "column", "row_step", "missing_sums", "scarce", "remaining")

# What a task of direct or separable sums is told: addresses of the image, of its result, of its
# kernel's weights and column weights, the first row of outputs and the one after the last.
DIRECT_TASK = fields("x", "out", "weights", "column_weights", "first_row", "end_row")

# How some columns of a task are summed: the first and how many, how many of them are skipped before
# the first that is written, the first column of results and how many; how many columns are read (at
# least a vector), columns of a row in the row buffer and in `lines` and from one row to the next,
# bytes of a row in `sums`, and whether pixels are read and sums written where they are. Then
# addresses in the task's memory: the row buffer, a row of the border's value, sums that are to be
# converted, lines between the passes of separable sums, tables of the addresses of input rows and
# of lines, and missing sums (see `MEANS`).
DIRECT_COLUMNS = fields(
    "first", "count", "skipped", "first_out", "count_out", "read", "length", "pitch", "sums_pitch",
    "x_in_place", "out_in_place",
    "row_buffer", "fill_row", "sums", "lines", "row_table", "line_table", "missing_sums",
)  # fmt: skip


# Box sums (`box_driver`), of kernels whose weights are all equal.
BOX_PARAMS = fields(
    # As in DIRECT_PARAMS.
    "x_offsets", "out_offsets", "out_row_stride", "out_column_stride", "kernel_index",
    "out_rows", "out_columns", "p", "q", "stride_y", "stride_x", "dilation_y", "dilation_x",
    "bands", "band", "strips", "strip", "first", "last", "failed",
    "parts", "size", "lanes", "x_in_place", "load",
    # Bytes of a pixel; rows of windows that are summed down the image before they are summed across
    # it, a multiple of the lanes; whether they are, and the jit function that sums them along rows
    # (0: they are transposed).
    "pixel_size", "window_rows", "across", "sum_along",
    # The ROW_SOURCE of the image's columns without padding; address of the table of the padded
    # ones, and the position of the image's first column among them. A row of the border's value in
    # the image's dtype, and sums of p of them (real and imaginary part) in the dtype of sums.
    "row_source", "columns", "left", "fill_row", "fill_sums",
    # Jit functions: windows down the image where its pixels are read where they are, and all other
    # windows; transposition; writing results; writing those of a mask.
    "sum_in_place", "sum_windows", "transpose", "finish", "finish_masked",
    # Of floating-point sums: finds sums that are not finite, and multiplies rows by two to a power.
    "find_overflow", "shrink", "shrink_power",
    # The jit function that sums a task.
    "sum_task",
)  # fmt: skip
BOX_FAILED = BOX_PARAMS.fields["failed"][1]  # type: ignore[index]

# A task of box sums: addresses of the image, of its result and of its kernel's BOX_SCALE, the rows
# and columns of outputs, and the image's columns that they read. `mask` is the address of a byte
# for every output, 1 where its sum is not finite (0: none is); `shrunk` says that pixels are
# divided, and only those outputs written.
BOX_TASK = fields(
    "x", "out", "scale", "first_row", "end_row", "first_column", "end_column", "left", "width",
    "x_in_place", "mask", "shrunk",
)  # fmt: skip

# Memory of a task of box sums: bytes of a row of sums down the image and of sums across it, and the
# addresses of the row buffer, of sums down the image, of these transposed, of transposed sums
# across the image, of sums across it, and of tables of the addresses of rows, of columns, of a
# square's rows and of transposed sums; bytes from real to imaginary parts; the ROW_SOURCE with
# these.
BOX_MEMORY = fields(
    "pitch", "out_pitch", "row_buffer", "down", "columns", "across", "sums",
    "row_table", "column_table", "square_table", "out_table", "down_imaginary", "sums_imaginary",
    "row_source",
)  # fmt: skip

# What sums are multiplied by, or divided by where `divisor` is not 0: a weight of 1/n divides by n,
# so that the mean of equal pixels is their value. Sums of shrunk pixels are multiplied by `grow`.
# With `reciprocal` and `shift` bytes are divided (0: they are not; see `core.box.find_reciprocal`).
BOX_SCALE = np.dtype(
    [
        ("real", np.float64),
        ("imaginary", np.float64),
        ("whole", np.int64),
        ("divisor", np.float64),
        ("grow", np.float64),
        ("reciprocal", np.int64),
        ("shift", np.int64),
    ]
)

# How results of box sums are written: the BOX_SCALE, bytes from sums of real parts to those of
# imaginary parts, and the mask and bytes from one of its rows to the next.
BOX_FINISH = fields("scale", "imaginary", "mask", "mask_pitch")


def fill_bytes(value: Any, acc: str) -> Any:
    """Bytes of a border's value in the sums' dtype, as records hold them."""
    raw = np.zeros(16, np.uint8)
    value = np.dtype(acc).type(value)
    raw[: value.itemsize] = np.frombuffer(value.tobytes(), np.uint8)
    return raw


# A unit of the weight gradient's work: the outputs of an image from row `first` to before `last`.
UNIT = fields("image", "first", "last")

# A rectangle of taps whose dot products are summed together: the jit function that does it, and the
# rectangle's first row and column of taps.
TAP_GROUP = fields("add_dots", "row", "column")

# What a task of the weight gradient is told.
WEIGHT_GRADIENT_PARAMS = fields(
    # Sides of the weights, columns of outputs, bytes of a sum.
    "p", "q", "s", "size",
    # Stride and dilation that the tables of rows and columns are read with, the padding on the
    # left, the image's width, and the columns from the first to the last that an output reads.
    "stride_y", "stride_x", "dilation_y", "left", "width", "span_x",
    # Image: byte offset of each one, bytes between rows, the row of the image that stands at each
    # padded one (-1: the fill value).
    "x_offsets", "x_row_stride", "rows",
    # Whether strips of columns that read none of the border are summed where they are; all others
    # are read by a jit function from a ROW_SOURCE.
    "x_in_place", "read_x", "x_source",
    # Gradient of the outputs: byte offset of each one, bytes between rows, and the jit function
    # and ROW_SOURCE that convert rows (0: they are summed where they are).
    "dy_offsets", "dy_row_stride", "read_dy", "dy_source",
    # Outputs summed together: columns of a strip, rows. Elements of a row in the row buffer, and
    # how many rows it has room for.
    "strip", "rows_at_once", "pitch", "slots",
    # A task's memory: how many bytes, and where in it are a row of the fill value, converted rows
    # of dY, addresses of rows of pixels, and addresses of rows of dY. The row buffer comes first.
    "task_bytes", "fill_row", "dy_buffer", "x_rows", "dy_rows",
    # Taps: byte offset of each column of taps in a row, and an array of TAP_GROUP.
    "tap_offsets", "groups", "group_count",
    # The jit function of one task; how many tasks had no memory.
    "task", "failed",
)  # fmt: skip
FAILED = WEIGHT_GRADIENT_PARAMS.fields["failed"][1]  # type: ignore[index]


# Fourier transforms of tiles (`fft_driver`). Two tiles of real sums are the real and the imaginary
# part of one complex tile, and a tile of complex sums is one by itself: a *group* is the tiles (two
# or one) that are transformed at once. A workspace holds the planes of a group's real and imaginary
# parts, then the same transposed, then a vector's width of columns, then the outliers (pixels taken
# out of a tile): these fields are offsets in it, and all pitches and sizes of memory are bytes.
FFT_PARAMS = fields(
    # Addresses of the images and results, and of each image's offsets from them.
    "x", "x_offsets", "out", "out_offsets", "out_row_stride", "out_column_stride",
    # Whether sums may be written to the result as they are.
    "store_in_place",
    # The ROW_SOURCE of pixels, and the jit functions that read and write rows.
    "row_source", "load", "store",
    "out_rows", "out_columns", "p", "q", "stride_y", "stride_x", "dilation_y", "dilation_x",
    # Tiles: sides, pixels from one to the next, how many down and across, how many in a group.
    "side_y", "side_x", "step_y", "step_x", "tiles_y", "tiles_x", "group_size",
    "radices_y", "radices_x", "twiddles_y", "twiddles_x",
    # Workspace of a thread.
    "workspace_bytes", "pitch", "plane_bytes", "transposed", "transposed_pitch",
    "transposed_plane_bytes", "columns", "outliers", "outliers_most",
    # The kernel: its spectrum, its weights as they are, the absolute values of those that the
    # spectrum was made of, its KERNEL_MEASURES, and whether its weights nearly cancel.
    "spectrum", "weights", "magnitudes", "measures", "cancels",
    # Whether errors are estimated, and whether sums are rounded to whole numbers.
    "estimate_errors", "round_sums",
    # Addresses of the jit functions of these names; some are 0 until they are needed.
    "filter_group", "load_group", "transform_group", "store_group", "sample_abs_sums",
    "retry_tile", "add_outliers", "forward", "inverse", "transpose",
    # Tasks are groups: from the first to before the last, dealt out to the workers. `doubtful` is
    # 0, or in a second pass the address of the numbers of the groups that are done again.
    "first", "last", "workers", "doubtful",
    # A TILE_GROUP_STATE of each group.
    "states",
    # How often memory for a workspace could not be had; it only ever grows.
    "failed",
)  # fmt: skip
FftParams = structure(FFT_PARAMS)
FFT_FAILED = FFT_PARAMS.fields["failed"][1]  # type: ignore[index]

# Groups whose sums are taken directly: their numbers, the FFT_PARAMS of the call, the params of
# direct sums, the jit function that sums columns of a task, the weights in the order that it takes
# them in, rows of a task and tasks of a group, and the tasks of this call.
DIRECT_TILES_PARAMS = fields(
    "fft_params", "groups", "direct_params", "sum_columns", "weights", "band", "bands",
    "first", "last",
)  # fmt: skip
DirectTilesParams = structure(DIRECT_TILES_PARAMS)

# What is found out about a tile and a group of them. All but the exponents are of scaled pixels.
TILE_STATE = np.dtype(
    [
        ("squares", np.float64),  # sum of the squares of all pixels
        ("exponent", np.int64),  # of the power of two that the pixels were divided by
        ("abs_sum", np.float64),  # the largest sum of absolute values of an output is at least this
        ("largest_sum", np.float64),  # largest magnitude among the sums that are kept
    ]
)
TILE_GROUP_STATE = np.dtype(
    [
        ("tiles", TILE_STATE, (2,)),
        ("estimate", np.float64),  # of the error of the group's sums, in units of eps
        ("finite", np.int64),  # whether all pixels were, and then all sums
        ("outcome", np.int64),  # 0, or what is left to be done: see `fft_errors`
    ]
)
TILE_STATE_BYTES = TILE_STATE.itemsize  # from one tile to the next; they come first in a group's

# What the estimate of a tile's error takes of a kernel, all of scaled weights.
KERNEL_MEASURES = np.dtype(
    [
        ("noise", np.float64),  # what the norm of a tile's pixels is multiplied by
        ("peak", np.float64),  # the largest weight
        ("norm", np.float64),
        ("exponent", np.int64),  # of the power of two that the weights were divided by
        ("strongest", np.float64),  # the largest magnitude in the spectrum
    ]
)
