"""The inner loop of direct correlation: sums of neighbouring outputs, held in registers (llvmlite).

A block of sums, `R` output rows by `C` vectors of columns, stays in registers while all taps are
added to it. An input row is read once for the (up to) `R` output rows that it belongs to, so each
vector loaded feeds `R` multiply-adds, and each weight `C`. Numba's loops cannot say that: they keep
sums in memory, and LLVM's vectoriser prefers 256-bit vectors where 512 are faster. Hence the vector
code is written out, instruction by instruction; LLVM assigns the registers.

Every sum takes its taps row by row, left to right, in one chain of multiply-adds, wherever the
output stands in a block: that makes crops bitwise equal.

A row or column of weights that is its own mirror image, or the negative of it, is summed in
`mirrored` order instead: two chains, from either end towards the middle, are added to each other,
and then the middle tap. The chains are rounded alike, so that a flipped image gives the same bits
flipped, and opposite weights cancel exactly, for one addition more and no other load. Adding
opposite pixels first would do so too, but overflows where the products do not.

To see the machine code, set NUMBA_DUMP_ASSEMBLY=1. It should hold one ``vfmadd231ps zmm`` for each
register of sums and tap, and no access to the stack between them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from ....core import dtypes
from .functions import compile_function, fence
from .mirrored_block import MirroredBlock, emit_mirrored
from .register_block import RegisterBlock, emit
from .vectors import lanes, vector_bytes

ROWS = 4
# Kernels up to these sizes are written out tap by tap; wider ones loop over their columns.
_UNROLLED = {(3, 3): 3, (5, 5): 2}
_WIDEST = 16


def _columns(rows: int, parts: int) -> int:
    """Vectors of a block: as many as leave the compiler registers for pixels and weights."""
    if rows == 1:
        return 8 // parts
    short = vector_bytes() == 32
    if parts == 2:
        return 1 if short else 2
    return 2 if short else 3


def _block(acc: str, made: _Code, columns: int, stream: bool = False) -> Any:
    rows, p, q, mirrored = made.rows, made.p, made.q, made.direction

    @intrinsic
    def block(typingctx, table, column, w, taps_down, taps, offsets, out, stride):
        def codegen(context, builder, signature, args):
            size = rows, columns, made.step, made.planes
            if mirrored:
                code = MirroredBlock(builder, acc, *size)
                emit_mirrored(code, args, mirrored == "down", p, q, stream)
            else:
                emit(RegisterBlock(builder, acc, *size), args, p, q, stream)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 8), codegen

    return block


# Bound to other values in every function compiled from `_sums`.
WIDE = ONE = LANES = COLUMNS = SIZE = STREAM = None


def _sums(table, n, w, p, q, offsets, out, stride):
    """Sums of `n` columns (at least one vector) of a block of output rows.

    `table` holds the addresses of the input rows (of complex numbers: of real and imaginary parts
    in turn), `w` the weights, `offsets` the bytes from an output's first pixel to that of each
    column of taps. Output rows are `stride` bytes apart; those of imaginary parts follow those of
    all real parts.
    """
    j = 0
    if STREAM:
        ahead = -out % (LANES * SIZE) // SIZE
        if ahead:
            ONE(table, 0, w, p, q, offsets, out, stride)
            j = ahead
    while j + LANES * COLUMNS <= n:
        WIDE(table, j * SIZE, w, p, q, offsets, out + j * SIZE, stride)
        j += LANES * COLUMNS
    while j < n:
        j = min(j, n - LANES)  # the last vector overlaps: the same sums once more
        ONE(table, j * SIZE, w, p, q, offsets, out + j * SIZE, stride)
        j += LANES
    if STREAM:
        fence()


@dataclass(frozen=True)
class _Code:
    """How the code of a micro-kernel is written out."""

    rows: int
    columns: int  # vectors of a row
    p: int | None  # rows and columns of taps that are written out one by one; None: in a loop
    q: int | None
    direction: str  # of mirrored weights: "down", "across" or none
    step: int  # pixels from one column of taps to the next, where these are written out
    planes: int  # of real pixels, summed by the same weights

    def name(self, acc: str) -> str:
        """Name of the compiled function."""
        name = f"sums_{acc}_{self.rows}x{self.columns}_p{self.p or 'any'}_q{self.q or 'any'}"
        name += f"_step{self.step}" if self.step > 1 else ""
        name += f"_planes{self.planes}" if self.planes > 1 else ""
        return f"{name}_{self.direction}" if self.direction else name


def _code(acc: str, rows: int, p: int, q: int, step: int, mirrored: bool, planes: int) -> _Code:
    parts = 2 if np.dtype(acc).kind == "c" else planes
    columns = _columns(rows, parts)
    fixed_q = q if step and q <= _WIDEST // parts else None
    step = step if fixed_q and q > 1 else 1
    fixed_p = p if p < rows else None
    if mirrored:
        # Written out, pixels that both chains read stay in registers, if fewer are summed at once.
        if q == 1 and rows > 1 and p <= _WIDEST // parts:
            fixed_p, columns = p, 1 if parts == 2 or vector_bytes() == 32 else 2
        direction = "down" if q == 1 else "across"
        return _Code(rows, columns, fixed_p, fixed_q, direction, step, planes)
    if fixed_q and rows > 1 and (p, q) in _UNROLLED and parts == 1:
        fixed_p, columns = p, min(columns, _UNROLLED[p, q])
    return _Code(rows, columns, fixed_p, fixed_q, "", step, planes)


@cache
def _compiled(acc: str, code: _Code, stream: bool) -> int:
    part = dtypes.part(acc)
    return compile_function(
        _sums,
        code.name(acc) + ("_stream" if stream else ""),
        WIDE=_block(acc, code, code.columns, stream),
        ONE=_block(acc, code, 1),
        LANES=lanes(part),
        COLUMNS=code.columns,
        SIZE=np.dtype(part).itemsize,
        STREAM=stream,
    )


def sums(
    acc: str, rows: int, p: int, q: int, step: int, stream: bool = False, mirrored: bool = False,
    planes: int = 1,
) -> int:  # fmt: skip
    """Address of the micro-kernel for p by q taps that sums `rows` output rows at once.

    Columns of taps are `step` pixels apart in memory, or, if that is 0, as the offsets say.
    `stream` writes past the caches, which wants output rows a multiple of a vector apart.
    `mirrored` takes each row of taps, or the column where q is 1, in mirrored order. With two
    `planes`, which lie as parts of complex numbers do, both are summed by the same real weights.
    """
    return _compiled(acc, _code(acc, rows, p, q, step, mirrored, planes), stream)
