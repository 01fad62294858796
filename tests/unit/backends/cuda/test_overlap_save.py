"""What both ways to transform on the GPU promise, compiled by g++ and run on the CPU.

What is special to one of them is in test_fft.py (cuFFT) and test_fft_block.py (shared memory).
"""

from dataclasses import replace

import numpy as np
import pytest

from gpuconv.core.boundary import BOUNDARIES
from gpuconv.core.problem import make_problem

from .... import oracle
from ....emulator.backend import cuda
from ....emulator.transforms import by_cufft, compare, in_shared_memory, problem_of
from ....marks import always

RNG = np.random.default_rng(17)


@pytest.fixture(params=[by_cufft, in_shared_memory], autouse=True)
def small(request, monkeypatch):
    """Small blocks and tiles, by one way and by the other."""
    return request.param(monkeypatch)


def sample(shape, name):
    return oracle.sample(RNG, shape, name)


@pytest.mark.parametrize(
    ("stride", "dilation", "boundary"),
    always(
        [
            (*steps, boundary)
            for steps in ((1, 1), ((2, 3), 1), (1, (3, 2)), ((3, 2), (2, 3)), ((40, 1), 1))
            for boundary in BOUNDARIES
        ],
        *((1, 1, boundary) for boundary in BOUNDARIES),
        ((3, 2), (2, 3), "reflect"),
        rows=True,
    ),
)
def test_borders_wider_than_the_image(boundary, stride, dilation):
    x, k = sample((7, 5), "float32"), sample((4, 3), "float32")
    problem = problem_of(
        x, k, mode=((9, 46), (12, 30)), boundary=boundary, fillvalue=2.5, stride=stride,
        dilation=dilation,
    )  # fmt: skip
    compare(problem, x, k)


@pytest.mark.parametrize(
    ("x_dtype", "k_dtype", "out"),
    always(
        [
            ("float16", "float16", None),
            ("bfloat16", "bfloat16", None),
            ("float64", "float64", None),
            ("complex64", "complex64", None),
            ("float64", "complex128", None),
            ("uint8", "float32", "uint8"),
            ("int16", "float32", "float64"),
        ],
        ("float16", "float16", None),
        ("float64", "complex128", None),
        ("uint8", "float32", "uint8"),
        rows=True,
    ),
)
@pytest.mark.parametrize("images", always([2, 3], 3))
def test_dtypes(x_dtype, k_dtype, out, images):
    x, k = sample((images, 23, 29), x_dtype), sample((images, 4, 5), k_dtype)
    problem = problem_of(x, k, x_dtype, k_dtype, mode="same", boundary="wrap", dtype=out)
    compare(problem, x, k)


def test_any_strides():
    x, k = sample((3, 44, 60), "float32")[::-1, ::-1, ::-2], sample((5, 4), "float32")[::-1, ::-1]
    compare(problem_of(x, k), x, k)
    k = np.asfortranarray(sample((3, 5, 4), "float32"))
    for height, stride in ((21, (2, 1)), (41, 1), (41, (2, 1))):
        x = np.broadcast_to(sample((20, height), "float32"), (2, 3, 20, height)).swapaxes(-1, -2)
        problem = problem_of(x, k, mode="same", stride=stride)
        wide = np.full((*problem.out_shape[:2], problem.s, 3 * problem.r), 7, "f4")
        out = wide[:, ::-1, :, ::3].swapaxes(-1, -2)
        compare(problem, x, k, out)
        assert (wide[..., 1::3] == 7).all() and (wide[..., 2::3] == 7).all()


def test_whole_sums_of_large_numbers():
    """Sums near 2**50, which the transform does not give to the last bit of float64 by itself."""
    x = RNG.integers(0, 2**32, (40, 50), dtype="uint32")
    k = RNG.integers(-(2**12), 2**12, (6, 7)).astype("f4")
    problem = replace(problem_of(x, k), acc_dtype="float64", out_dtype="int64")
    actual = np.empty(problem.out_shape, "i8")
    cuda.fft(problem, x, k.astype("f8"), actual, whole=True)
    exact = make_problem(x.shape, k.shape, "uint32", "int64")
    sums, _ = oracle.exact(exact, x, k.astype("i8"))
    np.testing.assert_array_equal(actual, sums)
    # Asked for as float64 they are rounded all the same.
    floats = np.empty(problem.out_shape)
    cuda.fft(replace(problem, out_dtype="float64"), x, k.astype("f8"), floats, whole=True)
    np.testing.assert_array_equal(floats, sums)
    cuda.fft(replace(problem, out_dtype="float64"), x, k.astype("f8"), floats, whole=False)
    assert (floats != sums).any()
