"""A specialisation: one CUDA kernel with everything that is fixed at compile time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ...core import dtypes
from ...core.boundary import BOUNDARIES
from . import structs, twiddles

# Whether taps are summed in mirrored order (see src/common/mirrored_sums.cuh): never, always, or
# where the CUDA kernel finds that the weights are mirrored.
NO, YES, LOOK = 0, 1, 2

# Pixels of single rows and columns of more taps are read just before they are needed (direct.cu).
LINE_AT_ONCE = 32
# Taps of a thread in weight_gradient.cu; tiles of a thread in fft_product.cu.
TAP_RUN = 8
PRODUCT_RUN = 8
# The side of the square of a matrix product that a thread computes, and its terms at a time.
LAYER_SIDE, LAYER_DEPTH = 4, 8

_C_NAMES = {
    "bool": "unsigned char",
    "uint8": "unsigned char",
    "uint16": "unsigned short",
    "uint32": "unsigned int",
    "uint64": "unsigned long long",
    "int8": "signed char",
    "int16": "short",
    "int32": "int",
    "int64": "long long",
    "float16": "Half",
    "bfloat16": "Bfloat",
    "float32": "float",
    "float64": "double",
    "complex64": "Complex<float>",
    "complex128": "Complex<double>",
}
# 64-bit integer sums have types of their own, see src/common/dtype_conversion.cuh.
_SUM_NAMES = {"int64": "Signed", "uint64": "Unsigned"}


@dataclass(frozen=True)
class KernelFile:
    """Where a kernel is in src/, and what its source needs before it."""

    folder: str
    headers: tuple[str, ...] = ()
    structs: tuple[str, ...] = ()
    constants: tuple[tuple[str, int], ...] = ()


_TILE = ("common/border.cuh", "common/tile.cuh")
_COPIES = ("common/async_copy.cuh", "common/realign.cuh")
_PANEL = (*_TILE, *_COPIES, "common/panel.cuh", "common/mirrored_sums.cuh")
_GATHERED = (*_TILE, "common/mirrored_sums.cuh")
_MEANS = "means/means.cuh"  # after the headers of panels
_LAYER = KernelFile(
    "layers", ("layers/layer.cuh",), ("Layer",), (("SIDE", LAYER_SIDE), ("DEPTH", LAYER_DEPTH))
)
_FFT_STRUCTS = ("Overlap", "Norm", "Size", "Largest")
_FFT = KernelFile("fft", ("fft/fft_tiles.cuh",), _FFT_STRUCTS)
_FFT_PIXELS = KernelFile(
    "fft", ("common/border.cuh", "fft/fft_tiles.cuh", "fft/fft_pixels.cuh"), _FFT_STRUCTS
)
_FFT_EXACTNESS = (*_FFT_PIXELS.headers, "fft/fft_exactness.cuh")
_FFT_BLOCK = ("fft/fft_butterflies.cuh", "fft/fft_block.cuh")

_BOX_STRUCTS = ("Box", "BoxAxis", "BoxScale")
_BOX = ("box/box.cuh",)
_BOX_DOWN = KernelFile("box", (*_BOX, "box/box_pixels.cuh"), _BOX_STRUCTS)

# A kernel has the name of its file.
KERNEL_FILES = {
    "direct": KernelFile("direct", _PANEL, ("Geometry",), (("LINE_AT_ONCE", LINE_AT_ONCE),)),
    "direct_strided": KernelFile("direct", _GATHERED, ("Geometry",)),
    "separable": KernelFile("separable", _PANEL, ("Geometry",)),
    "separable_strided": KernelFile("separable", _GATHERED, ("Geometry",)),
    "tensor": KernelFile("tensor", (*_TILE, *_COPIES, "tensor/mma.cuh"), ("Geometry",)),
    "weight_gradient": KernelFile(
        "weight_gradient", _TILE, ("Geometry", "Task", "ImageOffsets"), (("RUN", TAP_RUN),)
    ),
    "weight_gradient_sum": KernelFile("weight_gradient"),
    "layer_forward": _LAYER,
    "layer_weight_gradient": _LAYER,
    "box_down_segments": _BOX_DOWN,
    "box_down": _BOX_DOWN,
    "box_across_segments": KernelFile("box", (*_BOX, "box/box_squares.cuh"), _BOX_STRUCTS),
    "box_across": KernelFile(
        "box", (*_BOX, "box/box_squares.cuh", "box/box_result.cuh"), _BOX_STRUCTS
    ),
    "box_short": KernelFile("box", (*_BOX, "box/box_result.cuh"), _BOX_STRUCTS),
    "fft_gather": _FFT_PIXELS,
    "fft_product": KernelFile("fft", _FFT.headers, _FFT.structs, (("RUN", PRODUCT_RUN),)),
    "fft_redo": _FFT_PIXELS,
    "fft_spread": _FFT,
    "fft_store": KernelFile("fft", _FFT_EXACTNESS, _FFT_STRUCTS),
    "fft_block": KernelFile("fft", (*_FFT_EXACTNESS, *_FFT_BLOCK), _FFT_STRUCTS),
    "fft_block_spectrum": KernelFile("fft", (*_FFT.headers, *_FFT_BLOCK), _FFT_STRUCTS),
}

# Shared memory whose size is given at launch. The emulator defines its own.
_SHARED_MEMORY = """\
#ifndef SHARED_MEMORY
#define SHARED_MEMORY(T, name) \\
  extern __shared__ __align__(16) unsigned char name##_bytes[]; \\
  T* name = reinterpret_cast<T*>(name##_bytes)
#endif"""


@dataclass(frozen=True)
class Spec:
    """One compiled specialisation of a kernel."""

    kernel: str  # a file of that name in src/ holds the function of that name
    x_dtype: str
    acc_dtype: str
    out_dtype: str
    unit: bool  # stride and dilation are 1
    capacity: int  # weights that the parameter has room for, or 0 for weights behind a pointer
    block: tuple[int, int]  # threads across and down
    rows: int = 1  # outputs of a thread, one below the other
    # For panels, see src/common/panel.cuh and src/direct/direct.cu.
    columns: int = 1  # neighbouring outputs of a thread
    width: int = 0  # columns of a tile, where they are not block[0] * columns
    taps: tuple[int, int] = (0, 0)  # the kernel's size; (0, 0) for any
    tap_rows: int = 0  # rows of taps that are unrolled
    blocks_per_multiprocessor: int = 2  # that should fit at once, which bounds the registers
    shift: int = 0  # elements of a panel before the first pixel that is needed
    aligned: bool = False  # strides of rows and images are multiples of 16 bytes
    raw: bool = False  # panels hold pixels as they are stored
    out_wide: bool = False  # rows of results are aligned to 16 bytes
    mirror: tuple[int, int] = (NO, NO)  # of columns and rows of taps
    single: bool = False  # the rank is 1; compiled in where registers are scarce
    stride: tuple[int, int] = (1, 1)  # of outputs, and of taps, that panels are loaded for
    dilation: tuple[int, int] = (1, 1)
    means: bool = False  # over the pixels that are not missing, see src/means/means.cuh
    # For box sums, see src/box/box.cuh.
    window_sums: str = ""  # dtype of a window's sum
    side: int = 0  # positions of a segment; rows and columns of a square in shared memory
    shrunk: bool = False  # each sum is kept a second time, of pixels times a small power of two
    grouped: bool = False  # groups of `side` outputs a position apart
    # For transforms in shared memory, see src/fft/fft_block.cuh: rows and columns of a tile, and
    # the bytes that a block keeps besides it.
    sides: tuple[int, int] = (0, 0)
    state_bytes: int = 0

    def source(self) -> str:
        """Return the CUDA C++ of this specialisation: macros and structs, then the files."""
        file = KERNEL_FILES[self.kernel]
        headers = (*file.headers, _MEANS) if self.means else file.headers
        names = ("common/dtype_conversion.cuh", *headers, f"{file.folder}/{self.kernel}.cu")
        # No #line with paths: the text is CuPy's cache key, and must not depend on the folder.
        parts = [
            *(f"#define {name} {value}" for name, value in self._defines().items()),
            *(f"#define {name} {value}" for name, value in file.constants),
            _SHARED_MEMORY,
            *(structs.struct_source(*self._struct(name)) for name in file.structs),
            *(_read(name) for name in names),
        ]
        return "\n".join(parts).replace("#pragma once", "")

    def _struct(self, name: str) -> tuple[str, structs.StructDtype]:
        dtype = structs.norm(self.acc_dtype) if name == "Norm" else structs.BY_NAME[name]
        return name, dtype

    def _defines(self) -> dict[str, str | int]:
        return {
            "X_T": _C_NAMES[self.x_dtype],
            "OUT_T": _C_NAMES[self.out_dtype],
            "ACC": _sum_name(self.acc_dtype),
            "UNIT": int(self.unit),
            "BLOCK_X": self.block[0],
            "BLOCK_Y": self.block[1],
            "ROWS": self.rows,
            "BY_VALUE": int(self.capacity > 0),
            "WEIGHTS": self.capacity,
            "WIDTH": self.width or self.block[0] * self.columns,
            "COLUMNS": self.columns,
            "STRIDE_Y": self.stride[0],
            "STRIDE_X": self.stride[1],
            "DILATION_Y": self.dilation[0],
            "DILATION_X": self.dilation[1],
            "TAPS_Y": self.taps[0],
            "TAPS_X": self.taps[1],
            "TAP_ROWS": self.tap_rows,
            "BLOCKS": self.blocks_per_multiprocessor,
            "SHIFT": self.shift,
            "ALIGNED": int(self.aligned),
            "OUT_WIDE": int(self.out_wide),
            "MIRROR_Y": self.mirror[0],
            "MIRROR_X": self.mirror[1],
            "SINGLE": int(self.single),
            "RAW": int(self.raw),
            "MEANS": int(self.means),
            "WIDE": "Complex<double>" if dtypes.is_complex(self.acc_dtype) else "double",
            **{name.upper(): number for number, name in enumerate(BOUNDARIES)},
            "NO": NO,
            "YES": YES,
            "LOOK": LOOK,
            **(self._box_defines() if self.window_sums else {}),
            **(self._transform_defines() if self.state_bytes else {}),
        }

    def _box_defines(self) -> dict[str, str | int]:
        return {
            "SUM": _sum_name(self.window_sums),
            "SIDE": self.side,
            "SHRUNK": int(self.shrunk),
            "GROUPED": int(self.grouped),
        }

    def _transform_defines(self) -> dict[str, str | int]:
        (ny, nx), real = self.sides, dtypes.part(self.acc_dtype)
        return {
            "NY": ny,
            "NX": nx,
            "STATE_BYTES": self.state_bytes,
            "LIST_OF_TWIDDLES_Y": twiddles.factors_text(ny, real),
            "LIST_OF_TWIDDLES_X": twiddles.factors_text(nx, real),
        }


def _sum_name(dtype: str) -> str:
    return _SUM_NAMES.get(dtype, _C_NAMES[dtype])


@cache
def _read(name: str) -> str:
    return (Path(__file__).parent / "src" / name).read_text("utf-8")
