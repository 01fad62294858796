"""The matrix of right answers on the GPU, checked on other backends, and what its processes say."""

from dataclasses import replace

import numpy as np
import pytest

import gpuconv
from benchmarks import definition
from benchmarks.cuda import matrix
from benchmarks.cuda.matrix import Combination
from gpuconv.core.boundary import BOUNDARIES
from gpuconv.core.problem import make_problem
from gpuconv.methods import METHODS

from ...marks import always

SOME = [c for c in matrix.everything() if c.method == "direct" and c.shape == (37, 75)]


def reference(c, x, k):
    return gpuconv.corr2d(x, k, backend="reference", **c.keywords)


def test_the_matrix_is_whole():
    found = matrix.everything()
    assert len(set(found)) == len(found) > 5000
    for field, values in (
        ("dtype", matrix.DTYPES),
        ("mode", matrix.MODES),
        ("boundary", gpuconv.core.boundary.BOUNDARIES),
        ("how", matrix.HOWS),
    ):
        assert {getattr(c, field) for c in found} == set(values)
    assert {(c.stride, c.dilation) for c in found} == set(matrix.STEPS)
    assert {"direct", "separable", "fft"} <= {c.method for c in found}
    assert {c.size[0] for c in found if c.dtype == "float32"} >= {3, 31, 63, 127}
    parts = [matrix.share(found, n, 8) for n in range(8)]
    assert sorted(c.name for part in parts for c in part) == sorted(c.name for c in found)
    assert max(map(len, parts)) < 0.3 * len(found)
    assert [c.method for c in parts[0]] == sorted(
        (c.method for c in parts[0]), key=list(METHODS).index
    )
    assert {c.method for c in matrix.subset()} == {c.method for c in found}


def test_right_answers_pass():
    assert [matrix.check(c, reference) for c in SOME[::97]] == [""] * len(SOME[::97])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("method", ["direct", "separable"])
def test_flushed_subnormal_numbers_are_found(dtype, method):
    c = Combination(dtype, (5, 4), method, shape=(37, 75))
    x, k = c.arrays()
    tiny = np.finfo(dtype).tiny
    subnormal = (np.abs(x) < tiny) & (x != 0)
    assert subnormal.sum() > 200
    kept = gpuconv.corr2d(x, k, backend="reference", **c.keywords)
    assert matrix.check(c, lambda *_: kept) == ""
    x[subnormal] = 0
    flushed = gpuconv.corr2d(x, k, backend="reference", **c.keywords)
    assert "outputs" in matrix.check(c, lambda *_: flushed)


@pytest.mark.parametrize(
    ("method", "how"),
    [
        *always([("direct", how) for how in matrix.HOWS], ("direct", matrix.HOWS[0]), rows=True),
        ("separable", "kernel"),
        ("fft", "not finite"),
    ],
)
def test_methods_and_places(method, how):
    c = Combination("float32", (7, 7), method, how=how)
    assert matrix.check(c, matrix.runner(np, "cpu")) == ""


@pytest.mark.parametrize("c", [SOME[0], SOME[-1], Combination("uint8", (3, 3)),
                               Combination("complex64", (3, 3)),
                               Combination("float16", (3, 3))], ids=lambda c: c.name)  # fmt: skip
def test_wrong_answers_are_found(c):
    def off(c, x, k):
        y = reference(c, x, k)
        y[-1, -1] += 3 if y.dtype.kind in "iu" else abs(y[-1, -1]) * 0.01 + 0.05
        return y

    assert f"1 of {reference(c, *c.arrays()).size} outputs" in matrix.check(c, off)
    assert "not" in matrix.check(c, lambda c, x, k: reference(c, x, k)[1:])
    for other in (
        replace(c, boundary="wrap" if c.boundary != "wrap" else "edge", mode="same"),
        replace(c, mode="full"),
    ):
        wrong = replace(other, boundary="symmetric", mode="same")
        assert matrix.check(wrong, lambda _, x, k, o=other: reference(o, x, k))


@pytest.mark.parametrize(("method", "found"), [("direct", True), ("fft", False)])
def test_sums_are_judged_each_by_its_own_size_and_transforms_together(method, found):
    c = Combination("float32", (3, 3), method)
    x, k = c.arrays()
    problem = gpuconv.plan(x.shape, k.shape, mode="same", boundary="reflect").problem
    _, error = matrix.bounded(replace(c, method="direct"), x, k, problem)
    least = np.unravel_index(error.argmin(), error.shape)

    def off(c, x, k):
        y = reference(c, x, k)
        y[least] += 3 * error[least]
        return y

    assert bool(matrix.check(c, off)) == found


def test_pixels_that_are_not_finite_must_stay_where_they_are():
    c = Combination("float32", (3, 3), how="not finite")

    def spread(c, x, k):
        y = reference(c, x, k)
        y[0, 0] = np.nan
        return y

    def lost(c, x, k):
        return np.nan_to_num(reference(c, x, k))

    assert matrix.check(c, reference) == ""
    assert "1 of" in matrix.check(c, spread)
    assert matrix.check(c, lost)


def test_refusals():
    special = Combination("float16", (3, 3), "special")

    def refuses(c, x, k):
        raise ValueError("method='special' cannot be used: the image is too small")

    with pytest.raises(matrix.Refused):
        matrix.check(special, refuses)
    # Direct is for everything: that it refuses is wrong.
    with pytest.raises(ValueError, match="cannot be used"):
        matrix.check(replace(special, method="direct"), refuses)


@pytest.mark.parametrize("dtype", ["float64", "complex128", "int16", "uint64"])
def test_the_definition_is_the_reference(dtype):
    # All borders, modes, strides and dilations; images smaller than their borders; banks.
    some = [c for c in matrix.product() if c.method == "direct" and c.dtype == dtype]
    some = [replace(c, shape=(14, 11)) for c in some if c.size == (5, 4)]
    some += [
        Combination(dtype, (3, 2), mode=((9, 14), (20, 3)), boundary=border, shape=(4, 5))
        for border in BOUNDARIES
    ]
    some.append(Combination(dtype, (5, 4), mode="full", shape=(3, 11, 13), bank=(2, 1)))
    for c in some:
        x, k = c.arrays()
        problem = make_problem(x.shape, k.shape, dtype, dtype, conjugate=True, **c.keywords)
        wide = problem.acc_dtype
        found = definition.correlate(x.astype(wide), k.astype(wide), problem)
        expected = reference(c, x, k)
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype), c.name
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-11, err_msg=c.name)
