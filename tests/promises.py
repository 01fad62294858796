"""README's bounds on errors, as a check that any backend, method and dtype goes through."""

import numpy as np

from gpuconv.core import dtypes

from .oracle import exact


def rounded_to_tf32(values):
    """Float32 with 11 significant bits, to nearest."""
    return ((values.view("u4") + 0x1000) & ~np.uint32(0x1FFF)).view("f4")


def largest_in_tiles(sizes, kept):
    """For each output the largest of those in its tile of `kept` rows and columns."""
    (down, across), (r, s) = kept, sizes.shape[-2:]
    most = np.maximum.reduceat(sizes, range(0, r, down), axis=-2)
    most = np.maximum.reduceat(most, range(0, s, across), axis=-1)
    return most.repeat(down, axis=-2)[..., :r, :].repeat(across, axis=-1)[..., :s]


def bound(problem, method, sizes, kept=None):
    """Largest error of a sum in its accumulator, by the sums of absolute values.

    `kept` are the rows and columns that a tile of a transform keeps, where all tiles are held to
    the bound; without it the largest of the whole result takes the place of each tile's.
    """
    info = np.finfo(problem.acc_dtype)
    if method == "tensor":
        return 2 * problem.p * (problem.q + 30) * info.eps * sizes
    if method != "fft":
        return (problem.p * problem.q + 8) * info.eps * sizes
    largest = sizes.max(initial=0) if kept is None else largest_in_tiles(sizes, kept)
    return 64 * info.eps * largest + info.smallest_subnormal


def check(problem, x, k, y, method, kept=None):
    """Assert that every element of `y` is within the promised bound of the exact sum."""
    if problem.precision == "tf32":
        x, k = rounded_to_tf32(x), rounded_to_tf32(k)
    sums, sizes = exact(problem, x, k)
    if dtypes.is_integer(problem.acc_dtype):
        np.testing.assert_array_equal(y, dtypes.finish(sums, problem.out_dtype))
        return
    tolerance = bound(problem, method, sizes, kept)
    out = problem.out_dtype
    if dtypes.is_integer(out):
        info = np.iinfo(out)
        sums, tolerance = np.clip(sums.real, info.min, info.max), tolerance + 0.5
    elif out in ("float16", "bfloat16"):
        half = {"float16": 2.0**-11, "bfloat16": 2.0**-8}[out]
        tolerance = tolerance + half * np.abs(sums) + 2.0**-25
        y = dtypes.widen(y, out, "float64")
    elif out != problem.acc_dtype:
        tolerance = tolerance + np.abs(sums) * np.finfo(out).eps
    wrong = ~(np.abs(y - sums) <= tolerance)
    assert not wrong.any(), (
        f"{wrong.sum()} of {wrong.size} sums are outside the bound, the first at "
        f"{tuple(int(n[0]) for n in np.nonzero(wrong))}"
    )
