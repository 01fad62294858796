"""Division of vectors of 16-bit sums by a whole number, rounded to nearest even (llvmlite)."""

from __future__ import annotations

from llvmlite import ir

from .vectors import Vectors

__all__ = ["divide_by_constant", "divide_rounded"]


def divide_rounded(
    v: Vectors, sums: ir.Value, n: ir.Value, reciprocal: ir.Value, shift: ir.Value, even: bool
) -> ir.Value:
    """Divide unsigned sums by n; `reciprocal` and `shift` are `core.division.find_reciprocal`'s.

    These three are vectors. `even` says whether n is.
    """
    b, one = v.builder, v.constant(1)
    raised = b.add(sums, b.lshr(n, one))
    quotient = b.lshr(_upper_product(v, raised, reciprocal), shift)
    if even:  # halves were rounded up; where that gave an odd number, subtract one
        half = b.icmp_unsigned("==", b.mul(quotient, n), raised)
        quotient = b.sub(quotient, b.select(half, b.and_(quotient, one), v.constant(0)))
    return quotient


def divide_by_constant(
    v: Vectors, sums: ir.Value, n: int, reciprocal: int, shift: int
) -> ir.Value:  # fmt: skip
    """`divide_rounded` by a number that is known when the code is compiled."""
    return divide_rounded(v, sums, *map(v.constant, (n, reciprocal, shift)), n % 2 == 0)


def _upper_product(v: Vectors, a: ir.Value, b: ir.Value) -> ir.Value:
    """Return the upper 16 bits of the products."""
    wide = ir.VectorType(ir.IntType(32), v.lanes)
    product = v.builder.mul(v.builder.zext(a, wide), v.builder.zext(b, wide))
    places = ir.Constant(wide, [16] * v.lanes)
    return v.builder.trunc(v.builder.lshr(product, places), v.kind)
