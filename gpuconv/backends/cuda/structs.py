"""The structs that Python fills in and CUDA kernels read, each described once by a NumPy dtype.

`struct_source` writes a dtype as a C++ struct. The source of a specialisation (see `spec`) has the
structs that its kernel needs before the kernel's own files, so both sides agree by construction.
Members are ordered by size, the largest first, so that there are no gaps. Lengths, positions and
strides are 64-bit, because images may be larger than 2 GiB; strides count bytes.
"""

from __future__ import annotations

import numpy as np

StructDtype = np.dtype[np.void]

# Leading dimensions of a batch that a struct has room for.
LEADS = 8

_C_TYPES = {
    "int64": "long long",
    "uint64": "unsigned long long",
    "int32": "int",
    "float32": "float",
    "float64": "double",
}


def _members(*groups: tuple[str, str] | tuple[str, str, int]) -> StructDtype:
    """Make an aligned struct dtype from groups (type, names, optional array length of each)."""
    fields: list[tuple[str, str] | tuple[str, str, tuple[int]]] = []
    for kind, names, *length in groups:
        for name in names.split():
            fields.append((name, kind, (length[0],)) if length else (name, kind))
    return np.dtype(fields, align=True)


def struct_source(name: str, dtype: StructDtype) -> str:
    """Write a struct dtype as C++, with the size that Python fills in asserted.

    Examples
    --------
    >>> print(struct_source("Pair", np.dtype([("at", "f4", (2,)), ("n", "i4")], align=True)))
    struct Pair {
      float at[2];
      int n;
    };
    static_assert(sizeof(Pair) == 12, "as its dtype in Python");
    """
    if not dtype.isalignedstruct:
        raise ValueError(f"the dtype of struct {name} must be made with align=True: {dtype}")
    lines = [f"struct {name} {{"]
    for member in dtype.names or ():
        kind, *length = dtype[member].subdtype or (dtype[member],)
        array = "".join(f"[{n}]" for n in (length[0] if length else ()))
        lines.append(f"  {_C_TYPES[kind.name]} {member}{array};")
    lines.append("};")
    lines.append(f'static_assert(sizeof({name}) == {dtype.itemsize}, "as its dtype in Python");')
    return "\n".join(lines)


# A problem, its tiles and its batch, for kernels that sum over windows of an image.
GEOMETRY = _members(
    ("i8", "h w r s"),  # rows and columns of an image, then of a result
    ("i8", "x_row x_column out_row out_column"),  # strides
    ("i8", "tiles_x tiles_y tiles"),  # tiles of an image across and down; of the whole batch
    # Lengths of the leading dimensions; their strides, where k_lead counts kernels.
    ("i8", "lead x_lead out_lead k_lead", LEADS),
    ("i8", "top left sy sx dy dx"),  # padding, stride and dilation, of any size
    ("f8", "least undefined"),  # the result where the weights of a mean add up to less
    ("i4", "boundary leads"),  # border rule; leading dimensions in use
    ("i4", "p q chunk_p chunk_q"),  # taps, and how many of them a shared tile serves at once
    ("i4", "rank weights"),  # terms of a separable kernel; weights of a kernel in all
    ("i4", "stage_bytes panel"),  # shared memory: bytes to stage results; elements of a panel
    ("i4", "shift unused"),  # columns loaded before the first that is needed (tensor.cu)
)

# The weight gradient: the images and tiles that a block sums, as first and last of each range.
TASK = _members(("i8", "first_image last_image first_tile last_tile"))
# Byte offsets of an image and of its outputs' gradient.
IMAGE_OFFSETS = _members(("i8", "x dy"))

# A convolution layer as a product of matrices.
LAYER = _members(
    ("i8", "h w r s images"),  # rows and columns of an image, then of a result; batch size
    ("i8", "x_image x_channel x_row x_column"),  # strides
    ("i8", "tiles_m tiles_n tasks"),  # tiles of the product; tasks that the batch is cut into
    ("i8", "top left sy sx dy dx"),  # padding, stride and dilation
    ("i4", "p q"),  # taps
    ("i4", "channels outputs groups unused"),  # channels and outputs of one group; groups
)

# A chunk of tiles that are transformed together. Tiles are made of the padded image or, along an
# axis whose windows are gathered, of these one after the other (see src/fft/fft_pixels.cuh).
OVERLAP = _members(
    ("i8", "h w r s"),  # rows and columns of an image, then of a result
    ("i8", "need_y need_x"),  # rows and columns of that as far as some window reaches
    ("i8", "x_row x_column out_row out_column"),  # strides
    ("i8", "tiles_x tiles"),  # tiles of an image: across, and in all
    ("i8", "images"),  # output images of one kernel
    ("i8", "kernel0 first count"),  # first kernel of the group; first tile of the chunk; tiles
    ("i8", "lead x_lead out_lead", LEADS),  # leading dimensions: lengths and strides
    ("i8", "top left"),  # padding
    ("i8", "sy sx dy dx"),  # stride and dilation in tiles
    # Those in the padded image, of any size, where windows are gathered; elsewhere 0.
    ("i8", "gathered_sy gathered_sx gathered_dy gathered_dx"),
    ("i4", "boundary leads"),  # border rule; leading dimensions in use
    ("i4", "p q ny nx"),  # taps; rows and columns of a tile
    ("i4", "kept_y kept_x"),  # outputs of a tile
    ("i4", "fan_out parts"),  # result tiles of a gathered one; blocks that sum a tile directly
    ("i4", "whole"),  # 1 where sums are integers: they are rounded, and no error is bounded
    ("i4", "kernels"),  # kernels there is room for; their sizes come before those of tiles
)

# The magnitude of a tile of pixels, or of a kernel. If its norm is below 2^-SAFE, or above 2^SAFE
# for a kernel and 4^SAFE for pixels (see fft_tiles.cuh), it is multiplied by 2^-exponent before it
# is transformed, lest products over- or underflow; `norm` and `most` are those of the multiple.
SIZE = _members(
    ("f8", "norm most"),  # root of the sum of squares; largest real or imaginary part
    ("u8", "peak"),  # bits of the square of the largest bin of the spectrum (kernels only)
    ("i4", "exponent done"),  # done: slabs of rows that have been measured
)

# The bits of the largest sums of a tile: of those it keeps, and of all.
LARGEST = _members(
    ("u8", "kept all"),
    ("i4", "done unused"),  # slabs of rows that have added theirs
)

# A chunk of images, or of the rows of outputs of one image, whose windows are summed together.
BOX = _members(
    ("f8", "shrink"),  # what pixels are multiplied by, so that no sum leaves the dtype's range
    ("i8", "w s"),  # columns of an image, and of a result
    ("i8", "x_row x_column out_row out_column"),  # strides
    ("i8", "pitch"),  # sums from one row of sums of windows of rows to the next
    ("i8", "first_image images first_row rows"),  # of the chunk
    ("i8", "groups"),  # of outputs of a phase down the chunk, at most
    ("i8", "lead x_lead out_lead k_lead", LEADS),  # leading dimensions: lengths and strides
    ("i4", "boundary leads"),  # border rule; leading dimensions in use
)
# One axis of box sums, see src/box/box.cuh.
BOX_AXIS = _members(
    ("i8", "pixels taps stride dilation before"),  # before: padding
    ("i8", "phases step"),  # step: from one output of a phase to the next
    ("i8", "advance"),  # positions from the window of one of them to that of the next
    ("i8", "group"),  # outputs that are summed together
    ("i8", "segments"),  # of a phase; 0 where windows are not summed from segments
    # The period of the border in positions (0: none); steps modulo the period.
    ("i8", "period forward backward"),
)
# What the sums of a kernel are multiplied by, or divided by where the divisor is not 0.
BOX_SCALE = _members(("f8", "real imaginary divisor"), ("u8", "whole"))
BY_NAME = {
    "Geometry": GEOMETRY,
    "Box": BOX,
    "BoxAxis": BOX_AXIS,
    "BoxScale": BOX_SCALE,
    "Task": TASK,
    "ImageOffsets": IMAGE_OFFSETS,
    "Layer": LAYER,
    "Overlap": OVERLAP,
    "Size": SIZE,
    "Largest": LARGEST,
}

_NORMS = {
    # `inverse` times the largest size is about 1, so that no square leaves the dtype's range.
    real: _members((real, "inverse squares most"))
    for real in ("f4", "f8")
}


def norm(acc_dtype: str) -> StructDtype:
    """Return the dtype of struct Norm: the magnitude of numbers read by a thread, block or slab."""
    return _NORMS["f4" if acc_dtype in ("float32", "complex64") else "f8"]
