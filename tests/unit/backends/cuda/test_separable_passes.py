"""Large separable kernels on the emulated GPU: two passes give the bits of one launch."""

import numpy as np
import pytest

from gpuconv.backends.cuda import backend as cuda_backend
from gpuconv.backends.cuda import separable_passes, separable_planning, sums
from gpuconv.core import dtypes
from gpuconv.core.boundary import BOUNDARIES
from gpuconv.core.problem import make_problem

from ....emulator.backend import cuda
from ....marks import always
from ....oracle import problem_of, sample
from ....promises import check

RNG = np.random.default_rng(31)


@pytest.fixture
def two_passes(monkeypatch):
    """A function that sums in two passes of few rows each."""

    def run(problem, x, u, v):
        monkeypatch.setattr(separable_planning, "_LEAST_ROWS", 5)
        monkeypatch.setattr(separable_planning, "_COLUMNS_BYTES", 1)
        separable_passes.passes_of.cache_clear()
        out = np.empty(problem.out_shape, dtypes.storage(problem.out_dtype))
        inner, (v, u) = sums.in_exact_floats(problem, v, u)
        separable_passes.run(cuda.launcher, inner, x, u, v, out)
        separable_passes.passes_of.cache_clear()
        return out

    return run


def factors(problem, mirrored):
    acc = dtypes.storage(problem.acc_dtype)
    count = int(np.prod(problem.k_shape[:-2]))
    u, v = (RNG.integers(-3, 4, (count, 1, n)).astype(acc) for n in problem.k_shape[-2:])
    if mirrored:
        u, v = u + u[..., ::-1], v + v[..., ::-1]
    return u, v


@pytest.mark.parametrize(
    ("name", "boundary", "mirrored"),
    always(
        [
            (name, boundary, mirrored)
            for name in dtypes.NAMES
            for boundary in BOUNDARIES
            for mirrored in (False, True)
        ],
        ("float32", "constant", True),
        ("float32", "reflect", False),
        ("uint8", "edge", False),
        ("complex64", "wrap", True),
        rows=True,
    ),
)
def test_same_bits_as_one_launch(emulated, two_passes, name, boundary, mirrored):
    x = sample(RNG, (2, 19, 37), name)
    k = np.zeros((2, 5, 6), dtypes.storage(name))
    problem = problem_of(
        x, k, name, name, mode=((4, 3), (2, 5)), boundary=boundary, fillvalue=2, conjugate=False
    )
    u, v = factors(problem, mirrored)
    one = np.empty(problem.out_shape, dtypes.storage(problem.out_dtype))
    sums.separable(cuda.launcher, problem, x, u, v, one)
    two = two_passes(problem, x, u, v)
    np.testing.assert_array_equal(two, one)


@pytest.mark.parametrize("pad", [(0, 0), (3, 0), (0, 9), (50, 41)])
@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_padding_of_any_width_has_the_bits_of_one_launch(emulated, two_passes, boundary, pad):
    x, k = sample(RNG, (3, 19, 13), "float32"), np.zeros((3, 5, 12), "float32")
    problem = problem_of(x, k, mode=((4, 3), pad), boundary=boundary, fillvalue=-2.5)
    u, v = factors(problem, False)
    one = np.empty(problem.out_shape, "f4")
    sums.separable(cuda.launcher, problem, x, u, v, one)
    np.testing.assert_array_equal(two_passes(problem, x, u, v), one)


def test_a_weight_that_is_not_finite_meets_the_padding(emulated, two_passes):
    x, k = sample(RNG, (9, 8), "float32"), np.zeros((3, 4), "float32")
    problem = problem_of(x, k, mode=((1, 1), (20, 0)))
    u, v = np.float32([[[1, np.inf, 2]]]), np.float32([[[1, 2, 3, 4]]])
    assert np.isnan(two_passes(problem, x, u, v)[:, :18]).all()


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_working_memory_does_not_grow_with_the_padding(boundary):
    def nbytes(q):
        problem = make_problem(
            (300, 300), (1, q), "float32", "float32", mode="same", boundary=boundary
        )
        assert separable_planning.takes_two_passes(problem, 1)
        return separable_planning.workspace_bytes(problem)

    assert nbytes(70) == nbytes(700_001) <= 300 * 304 * 4


@pytest.mark.parametrize("size", [(70, 3), (2, 65), (66, 131)])
def test_large_kernels_take_two_passes(emulated, size):
    x = sample(RNG, (75, 90), "float32")
    u, v = (RNG.normal(size=(1, 1, n)).astype("f4") for n in size)
    k = u[0].T * v[0]
    problem = problem_of(x, k, "float32", "float32", mode="same", boundary="symmetric")
    out = np.empty(problem.out_shape, "f4")
    cuda.separable(problem, x, u, v, out)
    assert [spec.kernel for spec, *_ in emulated.launched] == ["direct", "direct"]
    check(problem, x, k, out, "separable")


def test_only_kernels_of_rank_one_without_steps_take_two_passes():
    def takes(rank=1, size=(65, 3), **steps):
        problem = make_problem((200, 200), size, "float32", "float32", **steps)
        return separable_planning.takes_two_passes(problem, rank)

    assert takes()
    assert takes(size=(3, 65))
    assert not takes(size=(64, 64))
    assert not takes(rank=2)
    assert not takes(stride=2)
    assert not takes(dilation=2)


def test_working_memory_is_bounded_and_counted():
    problem = make_problem((8192, 8192), (101, 101), "float32", "float32", mode="same")
    nbytes = cuda_backend.workspace_bytes(problem, "separable")
    weights = 101 * 202 * 4
    assert separable_planning.workspace_bytes(problem) == nbytes - weights <= 32 << 20
    rows = [passes.rows for passes in separable_passes.passes_of(problem)]
    assert [r.start for r in rows] == [0, *[r.stop for r in rows[:-1]]]
    assert rows[-1].stop == 8192
