"""The inner loop of direct correlation: sums of neighbouring outputs, held in registers (llvmlite).

A block of sums, `R` output rows by `C` vectors of columns, stays in registers while all taps are
added to it. An input row is read once for the (up to) `R` output rows that it belongs to, so each
vector loaded feeds `R` multiply-adds, and each weight `C`. Numba's loops cannot express that: they
keep sums in memory, and LLVM's vectoriser prefers 256-bit vectors where 512-bit ones are faster.
Hence the vector code is emitted instruction by instruction; LLVM assigns the registers.

Every sum adds its taps row by row, left to right, in one chain of multiply-adds, wherever the
output is in a block: that makes crops bitwise equal.

A row or column of weights that is its own mirror image, or the negative of it, is summed in
`mirrored` order instead: two chains, from either end towards the middle, are added to each other,
and then the middle tap. The chains are rounded alike, so that a flipped image gives the same bits
flipped, and opposite weights cancel exactly, for one more addition and no more loads. Adding
opposite pixels first would do so too, but may overflow where the products do not.

To see the machine code, set NUMBA_DUMP_ASSEMBLY=1 and NUMBA_CACHE_DIR to an empty folder. It should
hold one ``vfmadd231ps zmm`` for each register of sums and tap, and no access to the stack between
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from .....core import dtypes
from .....core.array_types import Array
from ..emitted_functions import compile_emitted
from ..vectors import LONG, lanes, vector_bytes
from .mirrored_block import MirroredBlock, emit_mirrored
from .register_block import GROUP, RegisterBlock, cuts_pixels, emit

ROWS = 4
# Kernels all of whose taps are unrolled, and the most vectors of a row of a block of theirs.
_UNROLLED = {(3, 3): 3, (5, 5): 2}
# Rows of taps up to this length are unrolled; longer ones are loops.
_WIDEST = 16


def _parts(acc: str, planes: int) -> int:
    """Return the number of sums of an output; each has input rows of its own in the table."""
    return 2 if np.dtype(acc).kind == "c" else planes


def _columns(rows: int, parts: int) -> int:
    """Return the vectors of a block: as many as leave registers for pixels and weights."""
    if rows == 1:
        return 8 // parts
    short = vector_bytes() == 32
    if parts == 2:
        return 1 if short else 2
    return 2 if short else 3


def _emit_block(
    builder: ir.IRBuilder, acc: str, made: _Code, columns: int, args: Sequence[ir.Value],
    stream: bool,
) -> None:  # fmt: skip
    """Emit the sums of a block of `columns` vectors.

    `args` are those of `_emit_sums`, with the bytes to the block's first column in place of `n`.
    """
    rows = 1 if made.separate_rows else made.rows
    size = rows, columns, made.step, made.planes, made.rows
    if made.direction:
        mirrored = MirroredBlock(builder, acc, *size, out=made.out, rest=made.taps_left)
        emit_mirrored(mirrored, args, made.direction == "down", made.p, made.q, stream)
    else:
        block = RegisterBlock(
            builder, acc, *size, order=made.order, out=made.out, rest=made.taps_left
        )
        emit(block, args, made.p, made.q, stream)


def _emit_sums(
    acc: str, made: _Code, stream: bool, b: ir.IRBuilder, args: Sequence[ir.Value]
) -> None:
    """Emit the sums of `n` columns (at least one vector) of a block of output rows.

    The arguments are a table of the addresses of the input rows (of complex numbers: of real and
    imaginary parts in turn), `n`, the address and the shape of the weights, `offsets`, the bytes
    from an output's first pixel to that of each column of taps, and the address of the first output
    row. Output rows are `stride` bytes apart; those of imaginary parts follow those of all real
    parts.
    """
    table, *others, out, stride = args
    if not made.separate_rows:
        _emit_columns(acc, made, stream, b, args)
    else:
        entry = 8 * _parts(acc, made.planes)
        with cgutils.for_range(b, ir.Constant(LONG, made.rows)) as loop:
            rows = b.add(table, b.mul(loop.index, ir.Constant(LONG, entry)))
            to = b.add(out, b.mul(loop.index, stride))
            _emit_columns(acc, made, stream, b, (rows, *others, to, stride))
    if stream:
        b.fence("seq_cst")


def _emit_columns(
    acc: str, made: _Code, stream: bool, b: ir.IRBuilder, args: Sequence[ir.Value]
) -> None:
    """Emit the sums of all columns: wide blocks of them, and then the rest."""
    table, n, *taps, offsets, out, stride = args
    part = dtypes.part(acc)
    vector, size = lanes(part), np.dtype(part).itemsize
    out_size = np.dtype(made.out[0] if made.out else part).itemsize

    def emit_at(column: ir.Value, columns: int, past_caches: bool) -> None:
        distance = b.mul(column, ir.Constant(LONG, size))
        place = b.add(out, b.mul(column, ir.Constant(LONG, out_size)))
        where = (table, distance, *taps, offsets, place, stride)
        _emit_block(b, acc, made, columns, where, past_caches)

    def emit_rest(columns: int, first: ir.Value) -> None:
        """Emit the columns from `first` on in blocks, the last of which may overlap others.

        It computes the same sums once more.
        """
        block = ir.Constant(LONG, vector * columns)
        count = b.udiv(b.add(b.sub(n, first), ir.Constant(LONG, vector * columns - 1)), block)
        with cgutils.for_range(b, count) as loop:
            column, last = b.add(first, b.mul(loop.index, block)), b.sub(n, block)
            emit_at(b.select(b.icmp_signed("<", column, last), column, last), columns, False)

    first = ir.Constant(LONG, 0)
    if stream:  # one vector up to the first whole cache line; from there on lines are written whole
        line = ir.Constant(LONG, vector * size - 1)
        first = b.udiv(b.and_(b.neg(out), line), ir.Constant(LONG, size))
        with b.if_then(b.icmp_signed(">", first, ir.Constant(LONG, 0))):
            emit_at(ir.Constant(LONG, 0), 1, False)
    if made.columns > 1 or stream:
        wide = ir.Constant(LONG, vector * made.columns)
        blocks = b.udiv(b.sub(n, first), wide)
        with cgutils.for_range(b, blocks) as loop:
            emit_at(b.add(first, b.mul(loop.index, wide)), made.columns, stream)
        first = b.add(first, b.mul(blocks, wide))
    if made.rest == 1:
        emit_rest(1, first)
    else:
        fit = b.icmp_signed(">=", n, ir.Constant(LONG, vector * made.rest))
        many = b.icmp_signed(">", b.sub(n, first), ir.Constant(LONG, vector))
        with b.if_else(b.and_(fit, many)) as (then, otherwise):
            with then:
                emit_rest(made.rest, first)
            with otherwise:
                emit_rest(1, first)


@dataclass(frozen=True)
class _Code:
    """How the code of a micro-kernel is emitted."""

    rows: int
    columns: int  # vectors of a row
    p: int | None  # rows and columns of taps that are unrolled; None: in a loop
    q: int | None
    direction: str  # of mirrored weights: "down", "across" or none
    step: int  # pixels from one column of taps to the next, if these are unrolled
    planes: int  # of real pixels, summed by the same weights
    order: tuple[int, ...] = ()  # of unrolled columns of taps; empty: left to right
    out: tuple[str, int] | None = None  # what sums are converted to, if they are (see `sums`)
    # Of adjacent columns of taps in a loop, or of half of mirrored ones, those left over by groups
    # (see `register_block`); None: they are not in groups.
    taps_left: int | None = None

    @property
    def separate_rows(self) -> bool:
        """Whether output rows are summed one by one, because they share no vectors of pixels."""
        return self.rows > 1 and (self.p == 1 or self.direction == "across")

    @property
    def rest(self) -> int:
        """Vectors of the blocks that sum the columns left over by the widest ones.

        Each multiply-add of a sum waits for the one before, so that a block of one vector takes as
        long as one of four, and of four rows as one of two.
        """
        one_row = self.rows == 1 or self.separate_rows
        if self.columns > 2 and (one_row or (self.p is None and not self.direction)):
            return (self.columns + 1) // 2
        return 1

    def name(self, acc: str) -> str:
        """Return the name of the compiled function."""
        name = f"sums_{acc}_{self.rows}x{self.columns}_p{self.p or 'any'}_q{self.q or 'any'}"
        name += f"_step{self.step}" if self.step > 1 else ""
        name += f"_planes{self.planes}" if self.planes > 1 else ""
        name += "" if self.taps_left is None else f"_groups{self.taps_left}"
        name += f"_order{'-'.join(map(str, self.order))}" if self.order else ""
        name += f"_{self.direction}" if self.direction else ""
        return f"{name}_to_{self.out[0]}_divisor{self.out[1]}" if self.out else name


def order_of_taps(q: int, stride: int, dilation: int) -> Array:
    """Return the order in which `q` columns of taps are summed: phase by phase of the stride."""
    reach = np.arange(q, dtype=np.int64) * dilation
    return np.lexsort((reach // stride, reach % stride))


def writes_out(acc: str, q: int, planes: int = 1) -> bool:
    """Whether `q` evenly spaced columns of taps are unrolled."""
    return q <= _WIDEST // _parts(acc, planes)


def _code(
    acc: str, rows: int, p: int, q: int, step: int, mirrored: bool, planes: int, stride: int = 1
) -> _Code:
    parts, part_size = _parts(acc, planes), np.dtype(dtypes.part(acc)).itemsize
    across = mirrored and q > 1
    fixed_q = q if step and writes_out(acc, q, planes) else None
    order = tuple(order_of_taps(q, stride, step).tolist()) if stride > 1 else ()
    order = () if order == tuple(range(q)) else order
    columns = _columns(rows, parts)
    if rows > 1 and (p == 1 or across):  # rows are summed one by one
        # Unrolled taps wait for pixels, which no further sums would change. Taps in a loop wait for
        # the sums that they are added to, so there should be many of these.
        columns = 4 if fixed_q else _columns(1, parts)
    grouped = fixed_q is None and step == stride == 1 and (rows == 1 or p == 1 or across)
    taps_left = (q // 2 if across else q) % GROUP if grouped and cuts_pixels(part_size) else None
    step = step if fixed_q and q > 1 else 1
    fixed_p = p if p < rows and (p == 1 or not across) else None
    if mirrored:
        # With unrolled taps and fewer sums, pixels that both chains read stay in registers.
        if not across and rows > 1 and p <= _WIDEST // parts:
            fixed_p, columns = p, 1 if parts == 2 or vector_bytes() == 32 else 2
        direction = "across" if across else "down"
        left = taps_left if across else None
        return _Code(rows, columns, fixed_p, fixed_q, direction, step, planes, taps_left=left)
    if fixed_q and rows > 1 and (p, q) in _UNROLLED and parts == 1:
        fixed_p, columns = p, min(columns, _UNROLLED[p, q])
    return _Code(rows, columns, fixed_p, fixed_q, "", step, planes, order, taps_left=taps_left)


@cache
def _compiled(acc: str, made: _Code, stream: bool) -> int:
    name = made.name(acc) + ("_stream" if stream else "")
    return compile_emitted(name, _emit_sums, acc, made, stream)


def sums(
    acc: str, rows: int, p: int, q: int, step: int, stream: bool = False, mirrored: bool = False,
    planes: int = 1, stride: int = 1, out: tuple[str, int] | None = None,
) -> int:  # fmt: skip
    """Return the address of the micro-kernel for p by q taps that sums `rows` output rows at once.

    Columns of taps are `step` pixels apart in memory, or, if that is 0, where the offsets say.
    `stream` writes past the caches, which needs output rows a multiple of a vector apart.
    `mirrored` sums each row of taps, or the column where q is 1, in mirrored order. Two `planes`,
    laid out like the parts of complex numbers, are both summed by the same real weights. Unrolled
    taps, if not mirrored, may be summed in the order for a `stride`. With `out`, a dtype and a
    divisor, `saturated_results` converts sums of real numbers to it.
    """
    made = _code(acc, rows, p, q, step, mirrored, planes, stride)
    return _compiled(acc, replace(made, out=out), stream)
