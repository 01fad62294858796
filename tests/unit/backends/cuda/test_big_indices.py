"""More elements and bytes than 32 bits count, in memory of which few pages are ever touched."""

import numpy as np
import pytest

import gpuconv
from gpuconv.backends.cuda import planning

from ....emulator.backend import cuda
from ....marks import always, exhaustive
from ....oracle import problem_of, sample

PITCH = 12 << 20  # items between rows: rows 43 and 86 of 4 bytes lie beyond 2**31 and 2**32
ROWS = 100
RNG = np.random.default_rng(3)


def far(dtype, columns, rows=ROWS, pitch=PITCH):
    """An array whose rows are so far apart, of memory that the system has only promised."""
    pitch = pitch * 4 // np.dtype(dtype).itemsize
    return np.zeros((rows, pitch), dtype)[:, :columns]


@pytest.fixture(scope="module")
def images():
    found = {}
    for dtype in ("f4", "c8", "u1"):
        view = far(dtype, 90)
        view[...] = sample(RNG, view.shape, np.dtype(dtype).name)
        found[dtype] = view
    return found


K = np.outer([1.0, 2.0, -1.0, 0.5], [2.0, 1.0, 3.0]).astype("f4")
VIEWS = {
    "rows": lambda x: x,
    "columns": lambda x: x.T,
    "reversed": lambda x: x[::-1, ::-1],
    "images": lambda x: x.reshape(ROWS, 9, 10),
}


@pytest.mark.parametrize("dtype", always(["f4", "c8", "u1"], "f4"))
@pytest.mark.parametrize("view", VIEWS)
def test_offsets_beyond_32_bits(images, view, dtype):
    x = VIEWS[view](images[dtype])
    near = x.copy()
    for method in ("direct", "separable", "fft"):
        if method == "fft" and view == "images":
            continue
        for keywords in (dict(), dict(mode="same", boundary="reflect", stride=(2, 1))):
            wanted = gpuconv.corr2d(near, K, method=method, **keywords)
            found = gpuconv.corr2d(x, K, method=method, **keywords)
            np.testing.assert_array_equal(found, wanted)
    wanted = gpuconv.corr2d(near, K, mode="same")
    out = far(wanted.dtype, wanted.shape[-1], wanted.shape[-2], PITCH)
    if x.ndim == 2:
        for target in (out, far(wanted.dtype, wanted.shape[0], wanted.shape[1]).T):
            gpuconv.corr2d(x, K, mode="same", out=target)
            np.testing.assert_array_equal(target, wanted)


def test_gradients_of_far_rows(images):
    x = images["f4"]
    dy = far("f4", 88, 97)
    dy[...] = sample(RNG, dy.shape, "float32")
    for found, wanted in zip(
        gpuconv.corr2d_vjp(x, K, dy, method="direct"),
        gpuconv.corr2d_vjp(x.copy(), K, dy.copy(), method="direct"),
        strict=True,
    ):
        np.testing.assert_array_equal(found, wanted)


@exhaustive
@pytest.mark.parametrize(
    ("method", "shape", "stride"),
    [
        ("separable", (50_000, 43_000), (499, 497)),
        ("direct", (2**26, 40), (2**20 + 7, 1)),
    ],
)
def test_more_pixels_than_31_bits(method, shape, stride):
    """One row seen as many: every output row is that of a three-row image."""
    row = sample(RNG, shape[1], "float32")
    x, few = (np.lib.stride_tricks.as_strided(row, (h, shape[1]), (0, 4)) for h in (shape[0], 4))
    assert x.size > 2**31
    wanted = gpuconv.corr2d(few, K, method=method, stride=(1, stride[1]))
    found = gpuconv.corr2d(x, K, method=method, stride=stride)
    assert len(found) > 60
    np.testing.assert_array_equal(found, np.broadcast_to(wanted, found.shape))


@exhaustive
def test_more_outputs_than_31_bits():
    row = np.arange(46_402, dtype="u1")
    x, few = (np.lib.stride_tricks.as_strided(row, (h, len(row)), (0, 1)) for h in (46_402, 3))
    k = np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0]], "u1")
    found = gpuconv.corr2d(x, k, dtype="u1")
    assert found.size > 2**31
    (wanted,) = gpuconv.corr2d(few, k, dtype="u1")
    for i in (0, 1, 23_141, 46_280, 46_399):
        np.testing.assert_array_equal(found[i], wanted)
    assert (found[:, ::4001] == wanted[::4001]).all()


@exhaustive
@pytest.mark.parametrize("view", ["rows", "columns", "reversed", "images"])
def test_cuda_offsets_beyond_32_bits(emulated, images, view):
    x = VIEWS[view](images["f4"][:, :30] if view != "images" else images["f4"])
    if view == "images":
        x = x[::9]  # images 48 and 96 rows behind the first
    problem = problem_of(x, K, mode="same")
    wanted = np.empty(problem.out_shape, "f4")
    cuda.direct(problem, np.ascontiguousarray(x), K, wanted)
    found = np.empty_like(wanted)
    cuda.direct(problem, x, K, found)
    np.testing.assert_array_equal(found, wanted)
    if x.ndim == 2:
        out = far("f4", wanted.shape[1], wanted.shape[0])
        cuda.direct(problem, x, K, out)
        np.testing.assert_array_equal(out, wanted)
        u, v = (np.ascontiguousarray(a) for a in (K[None, None, :, 0], K[None, None, 0] / K[0, 0]))
        cuda.separable(problem, np.ascontiguousarray(x), u, v, wanted)
        cuda.separable(problem, x, u, v, out)
        np.testing.assert_array_equal(out, wanted)


def test_cuda_more_images_than_a_grid_is_high(emulated, monkeypatch):
    for name, value in (("BLOCK", (2, 1)), ("ROWS", 1), ("THREADS", 2)):
        monkeypatch.setattr(planning, name, value)
    x = sample(RNG, (65_536 + 20, 2, 3), "float32")
    k = K[:2, :2]
    problem = problem_of(x, k)
    found = np.empty(problem.out_shape, "f4")
    cuda.direct(problem, x, k, found)
    np.testing.assert_allclose(found, gpuconv.corr2d(x, k), rtol=1e-5, atol=1e-5)
