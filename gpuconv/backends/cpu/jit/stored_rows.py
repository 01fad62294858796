"""Jit functions that write rows of sums to the output, in its dtype (Numba).

The parts of complex sums lie in two planes, of real and of imaginary parts, and are joined here.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from ....core import dtypes
from .conversion import make_tag, narrowed, store_run
from .functions import compile_function
from .intrinsics import elements
from .row_buffer import TAKEN_APART, parts_of

# Bound to other values in every compiled function: tags (see `conversion`) of what is stored and of
# the sums' parts, and the `every` of `store` if it is a constant of the code.
TAG = ACC = EVERY = None


def _store(sums, n, out, step, count, pitch, out_pitch, unused):
    """Write `count` rows of `n` sums, `pitch` bytes apart, to rows `out_pitch` bytes apart."""
    for row in range(count):
        line = elements(ACC, sums + row * pitch, n)
        store_run(TAG, out + row * out_pitch, step, line)


def _store_every(sums, n, out, step, count, pitch, out_pitch, every):
    """Write rows of `n` sums as `_store` does: the first of every `every` that are in memory."""
    step_of_sums = EVERY if EVERY else every
    for row in range(count):
        line = elements(ACC, sums + row * pitch, step_of_sums * n)
        store_run(TAG, out + row * out_pitch, step, line[::step_of_sums])


def _store_complex(sums, n, out, step, count, pitch, out_pitch, imaginary):
    """Write rows of sums whose imaginary parts are `imaginary` bytes behind their real parts."""
    for row in range(count):
        start = out + row * out_pitch
        real = elements(ACC, sums + row * pitch, n)
        other = elements(ACC, sums + imaginary + row * pitch, n)
        if step == 2 * TAG.itemsize:
            target = elements(TAG, start, 2 * n)
            # Unsigned indices: LLVM vectorises loops in which no index can be negative.
            for j in range(n):
                target[np.uintp(2 * j)] = narrowed(TAG, real[j])
                target[np.uintp(2 * j + 1)] = narrowed(TAG, other[j])
        else:
            for j in range(n):
                target = elements(TAG, start + j * step, 2)
                target[0] = narrowed(TAG, real[j])
                target[1] = narrowed(TAG, other[j])


def _store_exact(sums, n, out, step, count, pitch, out_pitch, unused):
    """Write rows of sums that are integers within the output's range."""
    kind = TAG.dtype.type
    for row in range(count):
        line = elements(ACC, sums + row * pitch, n)
        start = out + row * out_pitch
        if step == TAG.itemsize:
            target = elements(TAG, start, n)
            for j in range(n):
                target[j] = kind(line[j])
        else:
            for j in range(n):
                elements(TAG, start + j * step, 1)[0] = kind(line[j])


@cache
def store(acc: str, out: str, exact: bool = False, every: int = 1) -> int:
    """Return the address of the jit function that writes sums in dtype `out`.

    `exact` says that sums are integers within its range. With `every` above 1, which is also passed
    to the function, it writes every `every`-th real sum; `exact` makes no difference then.
    """
    if every > 1:
        known = every if every in TAKEN_APART else 0
        name, tags = f"store_{acc}_{out}_every{known or ''}", (make_tag(out), make_tag(acc))
        return compile_function(_store_every, name, TAG=tags[0], ACC=tags[1], EVERY=known)
    function = _store_complex if parts_of(acc) == 2 else _store_exact if exact else _store
    name = f"store_{acc}_{out}{'_exact' if exact else ''}"
    # Complex sums are written part by part; real sums as elements of `out`, which may be complex.
    stored = dtypes.part(out) if parts_of(acc) == 2 else out
    tags = make_tag(stored), make_tag(dtypes.part(acc))
    return compile_function(function, name, TAG=tags[0], ACC=tags[1])
