"""What users of other libraries ran into, each as a test of ours under the number it has there."""

import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

import gpuconv
from gpuconv import nn
from gpuconv.backends.cuda import planning
from gpuconv.backends.cuda.launch import Layout
from gpuconv.core import dtypes
from gpuconv.core.problem import make_problem

from .. import oracle
from ..emulator.backend import cuda, emulated
from ..emulator.launcher import ADDRESS, SanitizedLauncher
from ..marks import always, exhaustive

RNG = np.random.default_rng(99)
PACKAGE = Path(gpuconv.__file__).parent
SOURCES = PACKAGE / "backends" / "cuda" / "src"
BACKENDS = ("cpu", "cuda")


@pytest.fixture
def launcher():
    """The CUDA sources, run on the CPU."""
    with emulated(specialised=False) as launcher:
        yield launcher


def padded(x, k, boundary):
    """`mode="same"` by numpy.pad and the formula."""
    (p, q), pads = k.shape, [((n - 1) // 2, n // 2) for n in k.shape]
    x = np.pad(x, pads, mode=boundary)
    view = np.lib.stride_tricks.sliding_window_view(x, (p, q))
    return np.einsum("rspq,pq->rs", view, k)


def limited(code, megabytes):
    """Run code in a process that may allocate so much after its preparations."""
    head = f"""
import numpy as np, resource, gpuconv
from gpuconv import nn
def limit():
    status = open("/proc/self/status").read()
    now = int(status.partition("VmData:")[2].split()[0]) << 10
    resource.setrlimit(resource.RLIMIT_DATA, (now + ({megabytes} << 20),) * 2)
"""
    return subprocess.run(
        [sys.executable, "-c", head + code], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_unsigned_sums_do_not_wrap(launcher, backend):
    """scipy#8757: correlate2d of uint16 wraps around silently."""
    x, k = np.full((4, 5), 60000, np.uint16), np.full((3, 3), 50000, np.uint16)
    y = gpuconv.corr2d(x, k, backend=backend, method="direct")
    assert y.dtype == np.uint64
    assert (y == 9 * 60000 * 50000).all()


def test_large_correlations_go_through_transforms():
    """scipy#12232: correlating a 4096x4096 image with a large template would take days."""
    x = RNG.standard_normal((4096, 4096), np.float32)
    k = x[1000:1511, 2000:2511]
    assert gpuconv.plan(x.shape, k.shape, x_dtype="float32").method == "fft"
    y = gpuconv.corr2d(x, k)
    exact = np.vdot(k.astype("f8"), k)
    assert np.unravel_index(np.argmax(y), y.shape) == (1000, 2000)
    assert y[1000, 2000] == pytest.approx(exact, rel=1e-4)
    beside = np.vdot(k.astype("f8"), x[1003:1514, 1993:2504])
    assert abs(y[1003, 1993] - beside) < 1e-4 * exact


@exhaustive
@pytest.mark.large
def test_more_than_two_gigabytes():
    """scipy#10761: convolve2d is wrong past 2**31 bytes."""
    side = 46400  # 2.15e9 pixels
    x = np.zeros((side, side), np.uint8)  # pages that nothing is written to cost no memory
    x[-1, -1], x[-2, -3], x[0, 0] = 9, 5, 2
    y = gpuconv.corr2d(x, np.array([[1, 2], [3, 4]], np.uint8), dtype=np.uint8)
    assert y.nbytes > 2**31
    tail = gpuconv.corr2d(x[-3:, -4:], np.array([[1, 2], [3, 4]], np.uint8), dtype=np.uint8)
    np.testing.assert_array_equal(y[-2:, -3:], tail)
    assert (y[-1, -1], y[0, 0]) == (36, 2)
    # In blocks, so that no mask of the whole is made.
    assert sum(np.count_nonzero(y[a : a + 4096]) for a in range(0, side, 4096)) == 1 + 1 + 4


@pytest.mark.parametrize("boundary", ["wrap", "symmetric"])
def test_inputs_are_never_swapped(boundary):
    """scipy#12685 and #12686: a kernel larger than the image is taken for the image."""
    x, k = RNG.standard_normal((4, 5)), RNG.standard_normal((7, 9))
    y = gpuconv.corr2d(x, k, mode="same", boundary=boundary)
    assert y.shape == x.shape
    np.testing.assert_allclose(y, padded(x, k, boundary), atol=1e-12)
    full = gpuconv.convolve2d(x, k, mode="full", boundary=boundary)
    assert full.shape == (10, 13)
    part = gpuconv.convolve2d(np.pad(x, ((6, 6), (8, 8)), mode=boundary), k)
    np.testing.assert_allclose(full, part, atol=1e-12)
    with pytest.raises(ValueError, match=r"K of shape \(7, 9\) is larger than"):
        gpuconv.corr2d(x, k)


def test_nan_does_not_depend_on_the_method_taken():
    """scipy#15927: method="auto" spreads a NaN over the whole result once an image is large."""
    k, methods = RNG.standard_normal((31, 31)), set()
    for side in (40, 300, 1200):
        x = RNG.standard_normal((side, side))
        x[side // 2, side // 3] = np.nan
        expected = np.zeros((side - 30, side - 30), bool)
        top, left = side // 2 - 30, side // 3 - 30
        expected[max(top, 0) : side // 2 + 1, max(left, 0) : side // 3 + 1] = True
        np.testing.assert_array_equal(np.isnan(gpuconv.corr2d(x, k)), expected)
        methods.add(gpuconv.plan(x.shape, k.shape, x_dtype="f8").method)
    assert methods == {"direct", "fft"}


@pytest.mark.parametrize("backend", BACKENDS)
def test_fractional_weights_of_integer_images(launcher, backend):
    """scipy#10527: float weights on an integer image give truncated integers."""
    x = np.array([[1, 2, 4]], np.int32)
    y = gpuconv.corr2d(x, [[0.5, 0.25]], backend=backend, method="direct")
    np.testing.assert_array_equal(y, [[1.0, 2.0]])
    assert y.dtype == np.float64


def test_memory_maps_are_not_copied(tmp_path):
    """scipy#18884: a memory-mapped image is read into memory as a whole."""
    path = tmp_path / "large.bin"
    with open(path, "wb") as handle:
        handle.truncate(1 << 30)
    code = f"""
x = np.memmap({str(path)!r}, np.uint8, "r", shape=(32768, 32768))
k = np.ones((3, 3), np.uint8)
gpuconv.corr2d(np.ones((999, 999), np.uint8), k, stride=32)
limit()
try:
    np.array(x)
except MemoryError:
    pass
else:
    raise SystemExit("the limit does not limit")
y = gpuconv.corr2d(x, k, stride=32)
assert y.shape == (1024, 1024) and not y.any()
"""
    done = limited(code, 300)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("backend", BACKENDS)
def test_negative_strides(launcher, backend):
    """cupy#10303: arrays with negative strides are filtered as if they were not flipped."""
    x, k = RNG.standard_normal((9, 11)), RNG.standard_normal((3, 2))
    for flip in (np.s_[::-1], np.s_[:, ::-1], np.s_[::-1, ::-1]):
        y = gpuconv.corr2d(x[flip], k[flip], backend=backend, method="direct")
        expected = gpuconv.corr2d(x[flip].copy(), k[flip].copy(), backend="reference")
        np.testing.assert_allclose(y, expected, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_strides_are_not_ignored(launcher, backend):
    """cupy#7267 and #9233: a RawKernel sees a strided array as a contiguous one."""
    base, k = RNG.standard_normal((3, 24, 30)), RNG.standard_normal((2, 3))
    views = (
        base[:, ::2, 1::3], np.asfortranarray(base), base.transpose(2, 1, 0),
        np.broadcast_to(base[0, :, :1], (24, 30)), base[1:, 3:20, 5:17],
    )  # fmt: skip
    for x in views:
        out = np.full((*x.shape[:-2], x.shape[-2] - 1, 2 * (x.shape[-1] - 2)), 7.0)
        gpuconv.corr2d(x, k, backend=backend, method="direct", out=out[..., ::2])
        expected = gpuconv.corr2d(x.copy(), k, backend="reference")
        np.testing.assert_allclose(out[..., ::2], expected, atol=1e-12)
        assert (out[..., 1::2] == 7).all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("x_dtype", "k_dtype"),
    always(
        [("uint8", "int8"), ("uint8", "int16"), ("int8", "uint8"), ("uint64", "int64")],
        ("uint8", "int8"),
        ("uint64", "int64"),
        rows=True,
    ),
)
def test_mixed_dtypes(launcher, backend, x_dtype, k_dtype):
    """cupy#6047: operands of two dtypes overflow in the smaller."""
    x = np.full((4, 4), np.iinfo(x_dtype).max, x_dtype)
    k = np.array([[-100, 27], [3, 127]]).astype(k_dtype)
    y = gpuconv.corr2d(x, k, mode="same", boundary="edge", backend=backend, method="direct")
    exact = int(x[0, 0]) * sum(int(v) for v in k.ravel())
    assert y.dtype == np.int64
    assert (y == (exact + 2**63) % 2**64 - 2**63).all()


def test_dlpack_of_flipped_arrays():
    """cupy#10172: flipped arrays come out of DLPack with their elements in the wrong places."""

    class Foreign:
        def __init__(self, array):
            self.array = array

        def __dlpack__(self, **keywords):
            return self.array.__dlpack__(**keywords)

        def __dlpack_device__(self):
            return self.array.__dlpack_device__()

    x, k = RNG.standard_normal((7, 8)), RNG.standard_normal((3, 3))
    for flip in (np.s_[::-1], np.s_[:, ::-1], np.s_[::-2, ::-1]):
        y = gpuconv.corr2d(Foreign(x[flip]), Foreign(k[flip]))
        np.testing.assert_array_equal(y, gpuconv.corr2d(x[flip].copy(), k[flip].copy()))


def test_kernels_are_found_in_the_disk_cache():
    """cupy#10173: a RawModule with name_expressions is compiled again in every process.

    What is compiled here is found by its text (unit/backends/cuda/test_compiler.py), and functions
    by their names, which works only if C++ does not mangle them.
    """
    assert len(list(SOURCES.rglob("*.cu"))) > 9
    for path in SOURCES.rglob("*.cu"):
        assert 'extern "C" __global__' in path.read_text(encoding="utf-8"), path.name


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["float16", "float32", "complex64"])
def test_nothing_is_forced_to_float64(launcher, backend, dtype):
    """cupy#4247: filters compute in float64 whatever they are given."""
    x, k = oracle.sample(RNG, (6, 7), dtype), oracle.sample(RNG, (2, 2), dtype)
    assert gpuconv.corr2d(x, k, backend=backend, method="direct").dtype == dtype
    dx, dk = gpuconv.corr2d_vjp(x, k, np.ones((5, 6), dtype))
    assert dx.dtype == dk.dtype == dtype
    if backend == "cuda":
        assert launcher.launched[0][0].acc_dtype in ("float32", "complex64")


def test_more_images_and_rows_than_a_grid_has_in_y(launcher):
    """opencv_contrib#4153: more than 65535 blocks along the grid's y fail to launch."""
    x = RNG.integers(0, 9, (500, 1, 2), np.int32)
    y = gpuconv.corr2d(x, [[1, 10]], backend="cuda", method="direct")
    np.testing.assert_array_equal(y[:, 0, 0], x[:, 0, 0] + 10 * x[:, 0, 1])
    for shape in ((10**7, 3), (70000, 3, 3), (300, 300, 64, 64)):
        problem = make_problem(shape, (3, 3), "float32", "float32")
        launch = planning.plan(problem, "direct", 1, False, Layout(0, False, False))
        assert 0 < launch.grid < 2**31  # blocks, in x alone, that go on to further tiles


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("p", "q"), always([(33, 33), (1, 65), (65, 1), (40, 2)], (33, 33), (1, 65), rows=True)
)
def test_more_taps_than_thirty_two(launcher, backend, p, q):
    """opencv_contrib#3997: CUDA filters take at most 32 taps a side."""
    x = RNG.standard_normal((70, 75))
    u, v = RNG.standard_normal(p), RNG.standard_normal(q)
    k = np.outer(u, v)
    view = np.lib.stride_tricks.sliding_window_view(x, (p, q))
    expected = np.einsum("rspq,p,q->rs", view, u, v, optimize=True)
    for method in ("direct", "separable"):
        y = gpuconv.corr2d(x, k, backend=backend, method=method)
        np.testing.assert_allclose(y, expected, atol=1e-9)


@pytest.mark.parametrize("backend", BACKENDS)
def test_kernels_of_one_row_or_column(launcher, backend):
    """arrayfire#3104: convolve2 fails with 1xn and nx1 kernels."""
    x = RNG.standard_normal((12, 13))
    for shape in ((1, 1), (1, 2), (1, 9), (2, 1), (9, 1)):
        k = RNG.standard_normal(shape)
        y = gpuconv.corr2d(x, k, mode="same", boundary="reflect", backend=backend, method="direct")
        np.testing.assert_allclose(y, padded(x, k, "reflect"), atol=1e-12)


@pytest.mark.parametrize("dtype", always(["float64", "complex128"], "float64"))
def test_shared_memory_is_sized_by_the_element(launcher, dtype):
    """cucim#408: shared memory sized for 4-byte elements breaks float64."""
    x, k = oracle.sample(RNG, (31, 40), dtype), oracle.sample(RNG, (5, 6), dtype)
    problem = make_problem(x.shape, k.shape, dtype, dtype, mode="same", conjugate=True)
    y, expected = (np.empty(problem.out_shape, dtype) for _ in range(2))
    # Every array, shared memory too, ends where AddressSanitizer sees it.
    checked = SanitizedLauncher(ADDRESS, [x, y])
    cuda.launcher = checked
    cuda.direct(problem, x, k, y)
    assert checked.code == 0, checked.report
    gpuconv.corr2d(x, k, mode="same", backend="reference", out=expected)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_float32_keeps_its_digits(launcher, backend):
    """pytorch#107514: float32 convolutions lose half their digits to TF32 by default."""
    x = np.full((8, 9), 1 + 2.0**-23, np.float32)
    k = np.zeros((7, 7), np.float32)
    k[3, 3] = 1
    y = gpuconv.corr2d(x, k, backend=backend, method="direct")
    np.testing.assert_array_equal(y, x[:2, :3])  # TF32 has 10 of the 23 digits
    xs, w = np.broadcast_to(x, (1, 2, 8, 9)), np.stack([k, 0 * k])[None]
    np.testing.assert_array_equal(nn.conv2d(xs, w)[0, 0], x[:2, :3])


def test_gradients_have_the_same_bits_every_time():
    """pytorch#70042: gradients of convolutions differ from run to run."""
    x, k = oracle.sample(RNG, (3, 200, 300), "float32"), oracle.sample(RNG, (7, 7), "float32")
    dy = oracle.sample(RNG, (3, 194, 294), "float32")
    xs, w = (
        oracle.sample(RNG, (2, 3, 40, 50), "float32"),
        oracle.sample(RNG, (4, 3, 3, 3), "float32"),
    )
    dys = oracle.sample(RNG, (2, 4, 38, 48), "float32")
    before, runs = numba.get_num_threads(), []
    try:
        for threads in [*range(1, before + 1), before]:
            numba.set_num_threads(threads)
            runs.append([*gpuconv.corr2d_vjp(x, k, dy), *nn.conv2d_vjp(xs, w, dys)[:2]])
    finally:
        numba.set_num_threads(before)
    for run in runs[1:]:
        for a, b in zip(run, runs[0], strict=True):
            np.testing.assert_array_equal(a, b)
    for path in SOURCES.rglob("*.cu*"):
        # Sums in the order in which blocks happen to finish; they may be counted in any.
        text = path.read_text(encoding="utf-8").replace("atomicAdd(done, 1)", "")
        assert "atomicadd" not in text.lower(), path.name


@pytest.mark.parametrize("backend", BACKENDS)
def test_offsets_of_more_than_32_bits(launcher, backend):
    """pytorch#80020: convolutions fail or are wrong where an index needs more than 32 bits."""
    memory = np.zeros(5 * 2**30, np.uint8)  # pages that nothing is written to cost no memory
    x = memory.reshape(5, 2**30)[:, 7:20]
    x[...] = RNG.integers(0, 99, x.shape)
    k = np.array([[1, 2], [3, 4]], np.uint8)
    expected = gpuconv.corr2d(x.copy(), k, backend="reference")
    out = np.zeros(8 * 2**28, np.uint64).reshape(8, 2**28)[:4, 5:17]
    gpuconv.corr2d(x, k, backend=backend, method="direct", out=out)
    np.testing.assert_array_equal(out, expected)


@exhaustive
def test_no_matrix_of_all_windows():
    """vision#7413: a layer asked for 23,000 GB, one copy of the image for every tap."""
    code = """
x = np.ones((1, 4, 640, 640), np.float32)
w = np.ones((4, 4, 15, 15), np.float32)
nn.conv2d(x[..., :40, :40], w)
limit()
try:
    np.ones((4 * 225, 626 * 626), np.float32)  # what a copy for every tap would take
except MemoryError:
    pass
else:
    raise SystemExit("the limit does not limit")
assert (nn.conv2d(x, w) == 4 * 225).all()
"""
    done = limited(code, 600)
    assert done.returncode == 0, done.stderr


def test_correlation_and_convolution_are_told_apart():
    """opencv#9121 and #26192: filter2D, documented as a convolution, does not flip the kernel."""
    x, k = np.zeros((5, 5)), np.arange(1.0, 10).reshape(3, 3)
    x[2, 2] = 1
    np.testing.assert_array_equal(gpuconv.convolve2d(x, k), k)
    np.testing.assert_array_equal(gpuconv.corr2d(x, k), k[::-1, ::-1])


@pytest.mark.parametrize("backend", BACKENDS)
def test_parts_of_a_larger_image(launcher, backend):
    """opencv#13179: kernels over 11x11 crash on a part of a larger image."""
    base = np.full((60, 70), np.nan, np.float32)
    x = base[20:40, 15:50]
    x[...] = RNG.standard_normal(x.shape)
    for size in (12, 13, 19):
        k = RNG.standard_normal((size, size)).astype("f4")
        for method in ("direct", "fft")[: 2 if backend == "cpu" else 1]:
            y = gpuconv.corr2d(x, k, mode="same", boundary="edge", backend=backend, method=method)
            np.testing.assert_allclose(y, padded(x, k, "edge"), atol=2e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_wrapping_borders(launcher, backend):
    """jax#7276: there is no border that wraps around."""
    x, k = RNG.standard_normal((6, 7)), RNG.standard_normal((3, 5))
    y = gpuconv.corr2d(x, k, mode="same", boundary="wrap", backend=backend, method="direct")
    expected = sum(k[a, b] * np.roll(x, (1 - a, 2 - b), (0, 1)) for a in range(3) for b in range(5))
    np.testing.assert_allclose(y, expected, atol=1e-12)


def test_auto_in_two_dimensions_on_a_gpu(launcher):
    """cupyx.scipy.signal.correlate(2-D, method="auto") raises NotImplementedError."""
    x, k = RNG.standard_normal((9, 10)), RNG.standard_normal((3, 4))
    y = gpuconv.corr2d(x, k, mode="full", method="auto", backend="cuda")
    np.testing.assert_allclose(
        y, gpuconv.corr2d(x, k, mode="full", backend="reference"), atol=1e-12
    )
    assert launcher.launched
    assert dtypes.name_of(y.dtype) == "float64"
