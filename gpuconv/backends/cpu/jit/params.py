"""The parameters of compiled code: records with named fields.

Each algorithm has a NumPy record dtype. Python fills in a record by name (`record`) and passes its
address; compiled code reads it by name, too, through an `intrinsics.reader` of the dtype:
``source = row_source(address)``, ``source.width``. LLVM turns each field into a load at an offset.

An address keeps nothing alive: whoever makes a record holds the arrays that its fields point to.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from ....core.array_types import Array

LINE_BYTES = 64  # bytes of a cache line
# Bytes from an array object of NumPy to the pointer to its elements, which follows the header of
# all Python objects (`addresses` checks that this is so).
OBJECT_HEAD = object.__basicsize__


def fields(*names: str) -> np.dtype[Any]:
    """Return the dtype of a record of 64-bit integers with these names."""
    return np.dtype([(name, np.int64) for name in names])


def record(dtype: np.dtype[Any], **values: Any) -> Array:
    """Return an array of one record whose fields have these values; all others are 0."""
    made = np.zeros(1, dtype)
    for name, value in values.items():
        made[name] = value
    return made


def copy_record(params: Array) -> Array:
    """Copy an array of one record as bytes: NumPy copies it field by field, which takes longer."""
    return np.frombuffer(bytearray(params.tobytes()), params.dtype)


def structure(dtype: np.dtype[Any]) -> type[ctypes.Structure]:
    """Return a type that views a record of 64-bit integers at an address, to set fields by name.

    That takes a tenth of the time that NumPy takes to set them.
    """
    assert dtype.names is not None
    members = [(name, ctypes.c_int64) for name in dtype.names]
    return type("Params", (ctypes.Structure,), {"_fields_": members})


# Where `row_buffer` loads rows of pixels from, and how.
ROW_SOURCE = np.dtype(
    [
        *fields(
            # Addresses of the tables that give the image's row or column at each padded one (-1:
            # the fill value), the number of padded columns, and the position and length of the run
            # of the image's columns among them.
            "rows", "columns", "column_count", "left", "width",
            # Bytes between the image's rows and columns.
            "row_stride", "column_stride",
            # The column stride, which is the number of phases, and how many of these are read; rows
            # that the row buffer holds, and bytes from a row's real parts to its imaginary parts.
            "step", "phases", "slots", "imaginary",
            # Bytes of a part of a sum and of a pixel, how many parts they have, and whether both
            # are of one real dtype.
            "size", "pixel_size", "parts", "pixel_parts", "plain",
            # Jit functions that convert parts of pixels (0: they are copied), and groups of them:
            # both parts of complex pixels, or as many pixels as the stride (0: none is needed).
            "convert", "convert_groups",
            # Zero, for the imaginary parts of real pixels.
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
    # The index of each image's kernel, the rank, and the bytes of a weight, of a kernel's weights
    # and of its column weights.
    "kernel_index", "rank", "weight_bytes", "weights_bytes", "column_weights_bytes",
    "out_rows", "out_columns", "p", "q", "stride_y", "stride_x", "dilation_y", "dilation_x",
    # Columns that the window of an output spans, and the byte offset of each column of taps in a
    # row of the row buffer.
    "span_x", "tap_offsets",
    # Tasks are images by bands of rows by strips of columns; this call runs those from `first` to
    # before `last`. `failed` counts tasks that had no memory, and only ever grows.
    "bands", "band", "strips", "strip", "first", "last", "failed",
    # Parts of a number that are summed at once (2: real and imaginary part, or a pixel and its
    # count), planes of a row in the row buffer, bytes of a part, lanes of a vector, columns of a
    # row in the row buffer, output rows that are summed at once.
    "parts", "planes", "size", "lanes", "pitch", "block_rows",
    # Whether pixels are read, and sums written, in place.
    "x_in_place", "out_in_place",
    # Of this many columns that are summed, the first is written.
    "every",
    # The ROW_SOURCE of pixels, and the jit functions that read and write rows (0: none is needed).
    "row_source", "load", "store",
    # Micro-kernels: sums of a block of rows, and of one row, into memory or to the result in place.
    # For separable kernels the first two sum columns of taps, and the last two rows of taps.
    "sum_block", "sum_row", "sum_block_in_place", "sum_row_in_place",
    "sum_across", "sum_across_in_place",
    # Jit functions that sum a task, and some columns of one.
    "sum_task", "sum_columns",
    # Up to `edge_most` columns beside the border are summed by a jit function of their own: it
    # loads them transposed, sums by a micro-kernel, with taps in the order of a table (0: as they
    # come), and writes some of the sums of a column.
    "edge_most", "sum_edge_columns", "load_transposed", "sum_edge", "tap_order", "store_edge",
    # Narrow images: the jit function that sums whole rows, whether the border repeats pixels beside
    # them, and the address of a row of the fill value.
    "sum_whole_rows", "repeats_pixels", "fill_row",
    # Means over the pixels that are not missing (otherwise 0): address of the MEANS, and the jit
    # functions that load rows of counts, mark the missing pixels of loaded rows, and sum weights
    # anew for blocks of outputs with few pixels left.
    "means", "load_counts", "mark_missing", "sum_remaining",
)  # fmt: skip
DIRECT_FAILED = DIRECT_PARAMS.fields["failed"][1]  # type: ignore[index]

# Means over the pixels that are not missing: a `pivot` that is subtracted from pixels and added to
# means, the least sum of weights, and the result where the sum is 0 or below that. Of transforms:
# the sum of weights below which means would not be exact enough, and the error of sums of counts,
# in units of eps. If none or few
# pixels are missing, `weight_rows` is the address of a table: for each row of results, the address
# of its sums of weights over an image without missing pixels. Otherwise it is 0, and the sums of
# weights are the second plane of sums. `counts` is the address of a mask of missing pixels or of
# the pixels' weights (0: there is none), and `counts_source` their ROW_SOURCE.
MEANS = np.dtype(
    [
        *((n, np.float64) for n in ("pivot", "least", "undefined", "scarce", "counts_error")),
        *fields(
            "weight_rows", "counts", "counts_source",
            # If few are missing (see `missing_sums`): the kernel's sides, the address of its rows
            # with weights from last to first (see `aligned_weights`), vectors of such a row, bytes
            # of a row of missing sums and of all memory for them, the ROW_SOURCE of pixels, and
            # whether the border is missing, which `weight_rows` takes into account.
            "p", "q", "reversed_weights", "vectors",
            "missing_pitch", "missing_bytes", "source", "border_missing",
        ).descr,
    ]
)  # fmt: skip
# The counts of some rows of an image: their address, and the bytes between rows and columns.
COUNTED_PIXELS = fields("counts", "row_stride", "column_stride")
# The range of an image's pixels, found in `parts` of its rows: the jit function that does a part,
# address of the image, its rows and columns and the bytes between them, memory of the parts and the
# bytes of one, and addresses of three numbers and of the COUNTED_PIXELS (or 0) of each part.
RANGE_PARAMS = fields(
    "find", "parts", "image", "rows", "columns", "row_stride", "column_stride", "memory",
    "memory_bytes", "found", "counted",
)  # fmt: skip
# A block of means to be written: address of the MEANS, the first row and column of results, rows
# from one to the next, and the address of missing sums. `scarce` is set if an output has few pixels
# left, and `remaining` says that sums of the weights on these follow the sums of pixels.
MEANS_BLOCK = fields("means", "row", "column", "row_step", "missing_sums", "scarce", "remaining")

# A task of direct or separable sums: addresses of the image, of its result, of its kernel's weights
# and column weights, the first row of outputs and the one after the last.
DIRECT_TASK = fields("x", "out", "weights", "column_weights", "first_row", "end_row")

# How some columns of a task are summed: the first and how many, how many of them are skipped before
# the first that is written, the first column of results and how many; how many columns are summed
# (at least a vector), columns of a row in the row buffer and in `lines`, and their pitch, bytes of
# a row in `sums`, and whether pixels are read and sums written in place. Then addresses in the
# task's memory: the row buffer, a row of the fill value, sums that are to be converted, lines
# between the passes of separable sums, tables of the addresses of input rows and of lines, and
# missing sums (see `MEANS`).
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
    # Bytes of a pixel; windows that are summed down the image before they are summed across it, a
    # multiple of the lanes; whether there is anything to sum across, and the jit function that sums
    # windows along rows (0: they are transposed).
    "pixel_size", "window_rows", "across", "sum_along",
    # The ROW_SOURCE of the image's columns without padding; address of the table of the padded
    # columns, and the position of the image's first column among them. A row of the fill value in
    # the image's dtype, and sums of p fill values (real and imaginary part) in the dtype of sums.
    "row_source", "columns", "left", "fill_row", "fill_sums",
    # Jit functions: sums of windows down an image that is read in place, and of all other windows;
    # transposition; writing results; writing those of a mask.
    "sum_in_place", "sum_windows", "transpose", "finish", "finish_masked",
    # For floating-point sums: jit functions that find sums that are not finite, and that multiply
    # rows by two to a power; and the power.
    "find_overflow", "shrink", "shrink_power",
    # The jit function that sums a task.
    "sum_task",
)  # fmt: skip
BOX_FAILED = BOX_PARAMS.fields["failed"][1]  # type: ignore[index]

# A task of box sums: addresses of the image, of its result and of its kernel's BOX_SCALE, the rows
# and columns of outputs, and the image's columns that they read. `mask` is the address of a byte
# for every output, 1 where its sum is not finite (0: all are finite); `shrunk` says that pixels are
# divided, and only the outputs of the mask written.
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

# The weight that sums are multiplied by, or the `divisor` if that is not 0: sums by a weight of 1/n
# are divided by n, so that the mean of equal pixels is their value. Sums of shrunk pixels are
# multiplied by `grow`. `reciprocal` and `shift` divide sums in 16 bits that become bytes (0: these
# are divided in float32; see `core.box.find_reciprocal`).
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


def fill_bytes(value: complex, acc: str) -> Array:
    """Return the bytes of a fill value in the sums' dtype, as records hold them."""
    raw = np.zeros(16, np.uint8)
    value = np.dtype(acc).type(value)
    raw[: value.itemsize] = np.frombuffer(value.tobytes(), np.uint8)
    return raw


# A unit of the weight gradient's work: the outputs of an image from row `first` to before `last`.
UNIT = fields("image", "first", "last")

# A rectangle of taps whose dot products are summed together: the jit function that does it, and the
# rectangle's first row and column of taps.
TAP_GROUP = fields("add_dots", "row", "column")

# The weight gradient (`weight_gradient`).
WEIGHT_GRADIENT_PARAMS = fields(
    # Sides of the weights, columns of outputs, bytes of a sum.
    "p", "q", "s", "size",
    # Stride and dilation that the tables of rows and columns are read with, the padding on the
    # left, the image's width, and the columns that the window of an output spans.
    "stride_y", "stride_x", "dilation_y", "left", "width", "span_x",
    # Images: byte offset of each one, bytes between rows, table of the image's row at each padded
    # row (-1: the fill value).
    "x_offsets", "x_row_stride", "rows",
    # Whether strips of columns that read none of the border are read in place; all others are
    # loaded by a jit function from a ROW_SOURCE.
    "x_in_place", "read_x", "x_source",
    # Gradients of the outputs: byte offset of each one, bytes between rows, and the jit function
    # and ROW_SOURCE that convert rows (0: they are read in place).
    "dy_offsets", "dy_row_stride", "read_dy", "dy_source",
    # Outputs summed together: columns of a strip, rows. Elements of a row in the row buffer, and
    # the rows that it holds.
    "strip", "rows_at_once", "pitch", "slots",
    # A task's memory: its bytes, and the offsets of a row of the fill value, of converted rows of
    # dY, and of the addresses of rows of pixels and of dY. The row buffer comes first.
    "task_bytes", "fill_row", "dy_buffer", "x_rows", "dy_rows",
    # Taps: byte offset of each column of taps in a row, and an array of TAP_GROUP.
    "tap_offsets", "groups", "group_count",
    # The jit function of one task; how many tasks had no memory.
    "task", "failed",
)  # fmt: skip
FAILED = WEIGHT_GRADIENT_PARAMS.fields["failed"][1]  # type: ignore[index]


# Similarities to the windows of an image (`window_driver`), less a `centre`: address of the image
# and bytes of its rows, sides of a window, number of the method, how many templates, rows and
# columns of results; addresses of the correlations, which results overwrite, of each template's
# total, sum of squares and factor, of a mark for each window and of two extremes for each task.
# Then rows and columns of a task, how many tasks are side by side and how many there are, how many
# workers divide them, and the scratch memory of all with the bytes of one; and the jit function
# that does a task.
WINDOW_PARAMS = np.dtype(
    [
        ("centre", np.float64),
        *fields(
            "pixels", "row_bytes", "p", "q", "method", "templates", "rows", "columns", "cross",
            "of_templates", "marks", "extremes", "height", "width", "across", "tasks", "workers",
            "scratch", "scratch_bytes", "finish",
        ).descr,
    ]
)  # fmt: skip


# Fourier transforms of tiles (`fft_driver`). A workspace holds a tile, whose complex numbers have
# their real and imaginary parts in two planes, then the same transposed, then a vector's width of
# columns, then the outliers (pixels taken out of the tile). The fields of these names are offsets
# in it; all pitches and sizes are in bytes. In a tile of real numbers the planes are its left and
# right half (with a single row of taps, its upper and lower half): see `fft_tiles`.
FFT_PARAMS = fields(
    # Addresses of the images and results, and of each image's offsets from them.
    "x", "x_offsets", "out", "out_offsets", "out_row_stride", "out_column_stride",
    # Whether sums may be written to the result as they are.
    "store_in_place",
    # The ROW_SOURCE of pixels, and the jit functions that read and write rows.
    "row_source", "load", "store",
    "out_rows", "out_columns", "p", "q", "stride_y", "stride_x", "dilation_y", "dilation_x",
    # Tiles: sides, pixels from one to the next, how many down and across.
    "side_y", "side_x", "step_y", "step_x", "tiles_y", "tiles_x",
    "radices_y", "radices_x", "twiddles_y", "twiddles_x",
    # Tables for real numbers: in a transformed column the places, in bytes, of half of the
    # frequencies and then of their negatives (for 0, of half the length), and in a transformed row
    # the places of each frequency and its negative, in turn.
    "places_y", "pairs_x",
    # Workspace of a thread, and where those of all workers are; 0: each allocates its own.
    "workspace_bytes", "workspaces", "pitch", "plane_bytes", "transposed", "transposed_pitch",
    "transposed_plane_bytes", "columns", "outliers", "outliers_most",
    # The kernel: its spectrum, its weights as they are, the absolute values of the scaled weights
    # that were transformed, its KERNEL_MEASURES, and whether its weights nearly cancel.
    "spectrum", "weights", "magnitudes", "measures", "cancels",
    # Whether errors are estimated, and whether sums are rounded to whole numbers.
    "estimate_errors", "round_sums",
    # Jit functions; some are 0 until they are needed.
    "filter_tile", "read_part", "load_tile", "note_line_squares", "transform_tile",
    "transform_columns", "filter_rows", "restore_columns", "filter_columns", "store_tile",
    "sample_abs_sums", "retry_tile", "add_outliers",
    "forward", "inverse", "transpose", "separate", "combine",
    # Means over the pixels that are not missing (otherwise 0): address of the MEANS, and the jit
    # functions that load rows of counts, mark the missing pixels of a tile, and sum the weights on
    # all others. Then offsets in the workspace: of a byte for each pixel, 1 if it is there; of
    # missing sums; of a second tile, for counts; and of the sums of weights, with their pitch.
    "means", "load_counts", "mark_missing", "sum_weights",
    "present", "missing_sums", "counts_tile", "weight_sums", "weight_sums_pitch",
    # Tasks are tiles, from `first` to before `last`, divided among the workers. `doubtful` is 0, or
    # in a second pass the address of the numbers of the tiles that are retried.
    "first", "last", "workers", "doubtful",
    # A TILE_STATE of each tile.
    "states",
    # Of a tile that all threads work on together: the jit function that does one part of a step,
    # the numbers of the image and of the tile, the scratch memory for columns of all parts and the
    # bytes of one, and how many parts there are.
    "do_part", "part_image", "part_number", "scratch", "scratch_bytes", "parts",
    # Counts tiles that are not done after a pass, and workspaces that could not be allocated; the
    # latter only ever grows.
    "flagged", "failed",
)  # fmt: skip
FftParams = structure(FFT_PARAMS)
FFT_FLAGGED, FFT_FAILED = (FFT_PARAMS.fields[name][1] for name in ("flagged", "failed"))  # type: ignore[index]

# Tiles that are summed directly: the FFT_PARAMS of the call, the numbers of the tiles, the
# DIRECT_PARAMS, the jit function that sums columns of a task, the weights in the order that it
# takes them in, rows of a task and tasks of a tile, and the tasks of this call.
DIRECT_TILES_PARAMS = fields(
    "fft_params", "tiles", "direct_params", "sum_columns", "weights", "band", "bands",
    "first", "last",
)  # fmt: skip
DirectTilesParams = structure(DIRECT_TILES_PARAMS)

# What is known of a tile. All but the exponent and the outcome are of scaled pixels.
TILE_STATE = np.dtype(
    [
        ("squares", np.float64),  # sum of the squares of all pixels, or of its largest lines
        ("exponent", np.int64),  # of the power of two that the pixels were divided by
        ("abs_sum", np.float64),  # the largest sum of absolute values of an output is at least this
        ("largest_sum", np.float64),  # largest magnitude among the sums that are kept
        ("estimate", np.float64),  # of the error of the sums, in units of eps
        ("finite", np.int64),  # whether all pixels are, later whether all sums are
        ("outcome", np.int64),  # EXACT, DIRECT or DOUBTFUL: see `fft_errors`
    ]
)

# What the error estimate of a tile needs to know of a kernel, all of scaled weights.
KERNEL_MEASURES = np.dtype(
    [
        ("noise", np.float64),  # what the norm of a tile's pixels is multiplied by
        ("peak", np.float64),  # the largest weight
        ("norm", np.float64),
        ("exponent", np.int64),  # of the power of two that the weights were divided by
        ("strongest", np.float64),  # the largest magnitude in the spectrum
    ]
)
