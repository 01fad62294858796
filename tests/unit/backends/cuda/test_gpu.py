"""On a machine with an NVIDIA GPU: the real kernels, streams and memory (``pytest -m cuda``)."""

import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

import gpuconv
from gpuconv import nn
from gpuconv.backends.cuda import device_link, stoppable_work, sums
from gpuconv.backends.cuda.launcher import DeviceLauncher
from gpuconv.core import dtypes
from gpuconv.core.boundary import BOUNDARIES

from ....cases import LAYERS as CASES
from ....emulator.backend import cuda
from ....oracle import problem_of, sample
from ....promises import check

pytestmark = pytest.mark.cuda
RNG = np.random.default_rng(21)
PLAIN = [name for name in dtypes.NAMES if name != "bfloat16"]


@pytest.fixture
def cupy():
    return pytest.importorskip("cupy")


def compare(cupy, x, k, **keywords):
    expected = gpuconv.corr2d(x, k, **keywords | dict(method="direct"))
    for kernel in (k, cupy.asarray(k)):
        y = gpuconv.corr2d(cupy.asarray(x), kernel, **keywords)
        assert isinstance(y, cupy.ndarray)
        assert y.dtype == expected.dtype
        near = {"float16": 2e-3, "float32": 2e-5, "complex64": 2e-5}
        tolerance = near.get(expected.dtype.name, 0 if expected.dtype.kind in "iu" else 1e-12)
        scale = np.abs(expected).max(initial=1)
        np.testing.assert_allclose(y.get(), expected, atol=tolerance * scale, rtol=tolerance)


@pytest.mark.parametrize("dtype", PLAIN)
@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_dtypes_and_borders(cupy, dtype, boundary):
    x, k = sample(RNG, (3, 67, 90), dtype), sample(RNG, (5, 4), dtype)
    compare(cupy, x, k, mode=((70, 3), (2, 99)), boundary=boundary)
    compare(cupy, x, k, mode="same", boundary=boundary, stride=(2, 3), dilation=(3, 1))


@pytest.mark.parametrize("method", ["direct", "separable", "fft"])
@pytest.mark.parametrize("size", [(3, 3), (31, 17), (65, 64)])
def test_methods(cupy, method, size):
    k = np.outer(sample(RNG, size[0], "float32"), sample(RNG, size[1], "float32"))
    compare(cupy, sample(RNG, (500, 700), "float32"), k, method=method, mode="same")


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_tensor_cores(cupy, name, boundary):
    # Aligned rows and others, all of the band at once and in passes, several kernels.
    for mode, x_shape, k_shape in (
        ("same", (150, 264), (7, 7)),
        ("valid", (3, 70, 200), (3, 15, 11)),
        (((3, 40), (5, 0)), (60, 101), (31, 31)),
        ("full", (50, 110), (33, 63)),
    ):
        x, k = sample(RNG, x_shape, name), sample(RNG, k_shape, name)
        for out_dtype in ("float32", name):
            problem = problem_of(
                x, k, name, name, precision="tf32" if name == "float32" else None, mode=mode,
                boundary=boundary, fillvalue=1.5, dtype=out_dtype,
            )  # fmt: skip
            out, other = (cupy.empty(problem.out_shape, dtypes.storage(out_dtype)) for _ in "12")
            cuda.tensor(problem, cupy.asarray(x), k, out)
            cuda.tensor(problem, cupy.asarray(x), cupy.asarray(k), other)
            check(problem, x, k, out.get(), "tensor")
            np.testing.assert_array_equal(out.get(), other.get())


@pytest.mark.parametrize("name", ["float16", "float32"])
def test_tensor_cores_and_what_is_not_finite(cupy, name):
    x = RNG.integers(1, 5, (300, 500)).astype(name)
    x[7, 9], x[150, 301], x[299, 0] = np.nan, np.inf, -np.inf
    k = RNG.integers(-3, 4, (9, 15)).astype(name)
    keywords = dict(mode="same", boundary="reflect", dtype="float32")
    expected = gpuconv.corr2d(x, k, method="direct", **keywords)
    lower = dict(precision="tf32") if name == "float32" else dict(method="tensor")
    found = gpuconv.corr2d(cupy.asarray(x), k, **keywords, **lower)
    np.testing.assert_array_equal(found.get(), expected)


def test_tensor_cores_are_reproducible(cupy):
    x, k = (cupy.asarray(sample(RNG, shape, "float16")) for shape in ((2000, 3000), (15, 15)))
    first = gpuconv.corr2d(x, k, method="tensor")
    for _ in range(5):
        assert (gpuconv.corr2d(x, k, method="tensor") == first).all()


def test_strided_views(cupy):
    x, k = sample(RNG, (4, 80, 90), "float32"), sample(RNG, (3, 3), "float32")
    for view in (lambda a: a[::-1, ::-1, 5::2], lambda a: a.transpose(2, 0, 1)):
        y = gpuconv.corr2d(view(cupy.asarray(x)), k[::-1, ::-1])
        np.testing.assert_allclose(y.get(), gpuconv.corr2d(view(x), k[::-1, ::-1]), atol=1e-4)
    y = gpuconv.convolve2d(cupy.asarray(x), cupy.asarray(k))
    np.testing.assert_allclose(y.get(), gpuconv.convolve2d(x, k), atol=1e-4)


def test_more_than_65535_images_and_tiles(cupy):
    x = cupy.asarray(sample(RNG, (70000, 3, 3), "float32"))
    y = gpuconv.corr2d(x, np.ones((3, 3), np.float32))
    np.testing.assert_allclose(y.get()[:, 0, 0], x.get().sum((1, 2)), atol=1e-5)
    tall = cupy.ones((65536 * 40, 3), cupy.uint8)
    assert int(gpuconv.corr2d(tall, np.ones((3, 3), np.uint8)).min()) == 9


def test_the_callers_stream_without_waiting(cupy):
    stream = cupy.cuda.Stream(non_blocking=True)
    x = cupy.asarray(sample(RNG, (4096, 4096), "float32"))
    k = sample(RNG, (15, 15), "float32")
    gpuconv.corr2d(x, k, method="direct")
    cupy.cuda.Device().synchronize()
    with stream:
        for _ in range(20):
            y = gpuconv.corr2d(x, k, method="direct")
        assert not stream.done
    stream.synchronize()
    np.testing.assert_allclose(
        y[:50, :50].get(), gpuconv.corr2d(x[:64, :64].get(), k, method="direct"), atol=1e-3
    )


@pytest.mark.parametrize("taps", [(7, 5), (31, 33)])
@pytest.mark.parametrize("method", ["direct", "separable", "fft"])
def test_calls_are_captured_in_graphs(cupy, method, taps):
    """Weights are those of the capture, also where they are too large for the launch."""
    stream, pool = cupy.cuda.Stream(non_blocking=True), cupy.cuda.MemoryPool()
    k = np.outer(sample(RNG, taps[0], "float32"), sample(RNG, taps[1], "float32"))
    x, out = cupy.asarray(sample(RNG, (300, 400), "float32")), cupy.empty((300, 400), "f4")
    call = dict(method=method, mode="same", out=out)
    cupy.cuda.Device().synchronize()
    with stream, cupy.cuda.using_allocator(pool.malloc):
        gpuconv.corr2d(x, k, **call)  # compiles, and uploads the weights
        stream.begin_capture()
        gpuconv.corr2d(x, k, **call)
        graph = stream.end_capture()
        for n in range(2, 50):
            gpuconv.corr2d(x, n * k, **call)
        x[...] = x[::-1].copy()
        out[...] = 0
        graph.launch(stream)
    stream.synchronize()
    np.testing.assert_allclose(out.get(), gpuconv.corr2d(x.get(), k, mode="same"), atol=1e-2)


def test_a_capture_cannot_hold_an_upload(cupy):
    x, k = cupy.asarray(sample(RNG, (300, 400), "float32")), sample(RNG, (29, 29), "float32")
    stream, out = cupy.cuda.Stream(non_blocking=True), cupy.empty((272, 372), "f4")
    cupy.cuda.Device().synchronize()
    with stream:
        gpuconv.corr2d(x, k, method="direct", out=out)
        stream.begin_capture()
        try:
            with pytest.raises(RuntimeError, match=r"K .* not on the GPU yet"):
                gpuconv.corr2d(x, k + 1, method="direct", out=out)
            gpuconv.corr2d(x, k, method="direct", out=out)
        finally:
            graph = stream.end_capture()
        out[...] = 0
        graph.launch(stream)
    stream.synchronize()
    np.testing.assert_allclose(out.get(), gpuconv.corr2d(x.get(), k), atol=1e-2)


@pytest.mark.parametrize("method", ["direct", "fft"])
def test_threads_make_the_same_call_on_streams_of_their_own(cupy, method):
    k = sample(RNG, (31, 31), "float32")
    images = [sample(RNG, (200, 300), "float32") for _ in range(4)]
    expected = [gpuconv.corr2d(image, k) for image in images]
    wrong = []

    def work(n):
        with cupy.cuda.Device(0), cupy.cuda.Stream(non_blocking=True) as stream:
            x = cupy.asarray(images[n])
            for _ in range(30):
                y = gpuconv.corr2d(x, k, method=method)
            stream.synchronize()
            if not np.allclose(y.get(), expected[n], atol=1e-2):
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(len(images))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("size", [(3, 3), (9, 9), (15, 15), (31, 31), (33, 40)])
@pytest.mark.parametrize("offset", [0, 1, 3])
@pytest.mark.parametrize("width", [1024, 1003])
def test_one_size_and_any_size_have_the_same_bits(cupy, monkeypatch, size, offset, width):
    x = cupy.asarray(sample(RNG, (700, width), "float32"))[:, offset:]
    k = sample(RNG, size, "float32")
    results = []
    for most in (sums.SPECIALISED_MOST, 0):
        monkeypatch.setattr(sums, "SPECIALISED_MOST", most)
        monkeypatch.setattr(sums, "_specialised", set())
        sums.prepare.cache_clear()
        results.append(gpuconv.corr2d(x, k, mode="same", boundary="wrap", method="direct"))
    sums.prepare.cache_clear()
    assert bool((results[0] == results[1]).all())
    expected = gpuconv.corr2d(x.get(), k, mode="same", boundary="wrap", method="direct")
    np.testing.assert_allclose(results[0].get(), expected, atol=1e-3)


def test_compiled_code_is_kept_between_processes(tmp_path):
    """The second process finds all it needs on disk, and does not compile."""
    code = (
        "import cupy, numpy as np, gpuconv\n"
        "gpuconv.corr2d(cupy.ones((99, 98), 'f4'), np.ones((5, 4), 'f4'), method='direct').sum()"
    )
    found = []
    for _ in range(2):
        subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            env=os.environ | {"CUPY_CACHE_DIR": str(tmp_path)},
        )
        found.append({p.name: p.stat().st_mtime_ns for p in tmp_path.rglob("*.cubin")})
    assert found[0]
    assert found[0] == found[1]


@pytest.mark.parametrize("method", ["direct", "separable", "fft"])
@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_host_arrays_stream_through(method, boundary):
    x = sample(RNG, (2, 600, 300), "float32")
    k = np.outer(sample(RNG, 9, "float32"), sample(RNG, 7, "float32"))
    keywords = dict(mode="full", boundary=boundary, method=method)
    bound = 1 << 28 if method == "fft" else 1 << 18
    y = gpuconv.corr2d(x, k, backend="cuda", max_device_bytes=bound, **keywords)
    assert isinstance(y, np.ndarray)
    np.testing.assert_allclose(y, gpuconv.corr2d(x, k, **keywords), atol=1e-3)


@pytest.fixture
def device_bytes(cupy, monkeypatch):
    """Device memory in use beyond what there was, at every launch."""
    pool = cupy.get_default_memory_pool()
    before, seen = pool.used_bytes(), []
    launch = DeviceLauncher.launch

    def launch_and_look(self, *arguments):
        seen.append(pool.used_bytes() - before)
        launch(self, *arguments)

    monkeypatch.setattr(DeviceLauncher, "launch", launch_and_look)
    yield seen
    assert pool.used_bytes() <= before


@pytest.mark.parametrize("bound", [1 << 20, 1 << 24])
def test_streaming_stays_within_its_bound(device_bytes, bound):
    x, k = sample(RNG, (3, 4000, 1000), "float32"), sample(RNG, (35, 35), "float32")
    for each in (k[:5, :5], k):  # by value, and behind a pointer
        device_bytes.clear()
        keywords = dict(mode="same", method="direct")
        y = gpuconv.corr2d(x, each, backend="cuda", max_device_bytes=bound, **keywords)
        np.testing.assert_allclose(y, gpuconv.corr2d(x, each, **keywords), atol=1e-3)
        assert len(device_bytes) > 2
        assert bound / 4 < max(device_bytes) <= bound
    with pytest.raises(ValueError, match="max_device_bytes=100000 is too small: one row"):
        gpuconv.corr2d(x, k, backend="cuda", method="direct", max_device_bytes=100_000)


def test_many_small_images_are_few_launches(device_bytes):
    x, k = sample(RNG, (1000, 128, 128), "float32"), sample(RNG, (1000, 3, 3), "float32")
    y = gpuconv.corr2d(x, k, backend="cuda", method="direct")
    np.testing.assert_allclose(y, gpuconv.corr2d(x, k, method="direct"), atol=1e-4)
    assert 2 < len(device_bytes) <= 10


def test_memmaps_stream_through(tmp_path, device_bytes):
    x = np.memmap(tmp_path / "x", np.uint8, "w+", shape=(6000, 4000))
    x[...] = RNG.integers(0, 256, x.shape, np.uint8)
    x = np.memmap(tmp_path / "x", np.uint8, "r", shape=x.shape)[::-1]
    out = np.memmap(tmp_path / "y", np.uint8, "w+", shape=x.shape)
    k = np.full((5, 5), 1 / 25, np.float32)
    keywords = dict(mode="same", boundary="reflect", method="direct")
    got = gpuconv.corr2d(x, k, backend="cuda", max_device_bytes=1 << 20, out=out, **keywords)
    assert got is out
    expected = gpuconv.corr2d(x, k, dtype="uint8", **keywords)
    assert np.abs(out.astype(int) - expected).max() <= 1


def test_page_locked_arrays_stream_in_place(cupy):
    cupyx = pytest.importorskip("cupyx")
    x = cupyx.empty_pinned((3000, 2000), np.float32)
    x[...] = sample(RNG, x.shape, "float32")
    out = cupyx.empty_pinned(x.shape, np.float32)
    assert device_link.is_page_locked(x)
    assert not device_link.is_page_locked(x.copy())
    k = sample(RNG, (3, 3), "float32")
    for boundary in BOUNDARIES:
        keywords = dict(mode="same", boundary=boundary, method="direct")
        gpuconv.corr2d(x, k, backend="cuda", max_device_bytes=1 << 20, out=out, **keywords)
        np.testing.assert_allclose(out, gpuconv.corr2d(x, k, **keywords), atol=1e-4)


def test_ctrl_c_while_streaming(device_bytes, monkeypatch):
    x, k = sample(RNG, (8000, 1000), "float32"), sample(RNG, (5, 5), "float32")
    keywords = dict(backend="cuda", method="direct", max_device_bytes=1 << 20)
    expected = gpuconv.corr2d(x, k, method="direct")
    looked = DeviceLauncher.launch

    def launch(self, *arguments):
        looked(self, *arguments)
        if len(device_bytes) == 5:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            assert stopped.wait(1800)

    stopped, stop = threading.Event(), stoppable_work._StoppableJob.stop

    def stop_and_tell(job):
        job.stopped = True
        stopped.set()
        stop(job)  # which waits for the work

    out = np.full_like(expected, np.nan)
    with monkeypatch.context() as patch:
        patch.setattr(stoppable_work._StoppableJob, "stop", stop_and_tell)
        patch.setattr(DeviceLauncher, "launch", launch)
        with pytest.raises(KeyboardInterrupt):
            gpuconv.corr2d(x, k, out=out, **keywords)
    assert 5 <= len(device_bytes) < 10
    rows = np.isnan(out).any(axis=1)
    assert rows.any()
    np.testing.assert_allclose(out[~rows], expected[~rows], atol=1e-3)
    gpuconv.corr2d(x, k, out=out, **keywords)
    np.testing.assert_allclose(out, expected, atol=1e-3)


def test_one_device(cupy):
    x = sample(RNG, (8, 8), "float32")
    with pytest.raises(ValueError, match=r"X is on cpu and K on cuda:0"):
        gpuconv.corr2d(x, cupy.asarray(x[:3, :3]))
    with pytest.raises(ValueError, match="works on host arrays, but X is on cuda:0"):
        gpuconv.corr2d(cupy.asarray(x), x[:3, :3], backend="cpu")
    with pytest.raises(ValueError, match="out is on cpu, but X is on cuda:0"):
        gpuconv.corr2d(cupy.asarray(x), x[:3, :3], out=np.empty((6, 6), "f4"))


def test_torch_on_cuda():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this torch has no CUDA")
    x, k = torch.rand(50, 60, device="cuda"), torch.rand(3, 3, device="cuda")
    y = gpuconv.corr2d(x, k)
    assert y.device == x.device
    np.testing.assert_allclose(y.cpu(), gpuconv.corr2d(x.cpu(), k.cpu()), atol=1e-5)
    half = gpuconv.corr2d(x.bfloat16(), k.bfloat16())
    assert half.dtype == torch.bfloat16


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("method", ["direct", "fft"])
def test_gradients(cupy, boundary, method):
    x, k = sample(RNG, (2, 60, 70), "float64"), sample(RNG, (3, 1, 5, 4), "float64")
    keywords = dict(mode="same", boundary=boundary, stride=(1, 2), method=method)
    dy = sample(RNG, gpuconv.corr2d(x, k, **keywords).shape, "float64")
    expected = gpuconv.corr2d_vjp(x, k, dy, **keywords)
    for found in (
        gpuconv.corr2d_vjp(*map(cupy.asarray, (x, k, dy)), **keywords),
        gpuconv.corr2d_vjp(x, k, dy, backend="cuda", **keywords),
    ):
        for a, e in zip(found, expected, strict=True):
            np.testing.assert_allclose(cupy.asnumpy(a), e, atol=1e-9)


def test_gradients_are_reproducible(cupy):
    x, dy = (cupy.asarray(sample(RNG, (3, 500, 700), "float32")) for _ in range(2))
    k = cupy.zeros((7, 7), "f4")
    runs = [gpuconv.corr2d_vjp(x, k, dy, mode="same", wrt="K", method="direct") for _ in range(5)]
    for _, dk in runs:
        np.testing.assert_array_equal(dk.get(), runs[0][1].get())


@pytest.mark.parametrize("case", CASES[:-1], ids=str)
def test_layers(cupy, case):
    x, w = (sample(RNG, shape, "float64") for shape in case[:2])
    dy = sample(RNG, nn.conv2d(x, w, None, *case[2:]).shape, "float64")
    on_gpu = [cupy.asarray(a) for a in (x, w, dy)]
    y = nn.conv2d(*on_gpu[:2], None, *case[2:])
    np.testing.assert_allclose(y.get(), nn.conv2d(x, w, None, *case[2:]), atol=1e-10)
    for a, e in zip(
        nn.conv2d_vjp(*on_gpu, *case[2:]), nn.conv2d_vjp(x, w, dy, *case[2:]), strict=True
    ):
        np.testing.assert_allclose(a.get(), e, atol=1e-9)


def test_torch_gradients_on_cuda():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this torch has no CUDA")
    x = torch.rand(8, 9, dtype=torch.float64, device="cuda", requires_grad=True)
    k = torch.rand(3, 3, dtype=torch.float64, device="cuda", requires_grad=True)
    assert torch.autograd.gradcheck(gpuconv.corr2d, (x, k))
    x = torch.rand(2, 4, 8, 9, dtype=torch.float64, device="cuda", requires_grad=True)
    w = torch.rand(6, 4, 3, 3, dtype=torch.float64, device="cuda", requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, w: nn.conv2d(x, w, padding=1), (x, w), fast_mode=True)


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_dask_of_cupy(cupy, boundary):
    da = pytest.importorskip("dask.array")
    x, k = cupy.asarray(sample(RNG, (60, 70), "float32")), sample(RNG, (4, 5), "float32")
    keywords = dict(mode="same", boundary=boundary, fillvalue=2, method="direct")
    lazy = gpuconv.corr2d(da.from_array(x, chunks=(20, 33), asarray=False), k, **keywords)
    assert isinstance(lazy._meta, cupy.ndarray)
    found = lazy.compute()
    assert isinstance(found, cupy.ndarray)
    np.testing.assert_array_equal(found.get(), gpuconv.corr2d(x, k, **keywords).get())


@pytest.mark.parametrize("dtype", PLAIN)
@pytest.mark.parametrize("size", [(3, 3), (4, 9), (1, 101), (101, 1), (1, 301), (40, 3), (70, 66)])
def test_images_of_several_tiles(cupy, dtype, size):
    """Of rows that are aligned, and that are not: tiles are loaded and stored in other ways."""
    u, v = (RNG.integers(0, 3, n) for n in size)
    k = np.outer(u, v).astype(dtype)
    for columns in (512, 517):
        x = sample(RNG, (90, columns), dtype)
        for mode in ("same", ((0, size[0] - 1), (0, size[1] - 1))):
            compare(cupy, x, k, mode=mode, boundary="edge", method="direct")
            compare(cupy, x, k, mode=mode, boundary="edge", method="separable")


@pytest.mark.parametrize("size", [(1, 300), (301, 1), (1, 77), (90, 1)])
def test_long_mirrored_lines(cupy, size):
    k = np.hanning(max(size) + 2)[1:-1].reshape(size).astype("f4")
    compare(cupy, sample(RNG, (400, 640), "float32"), k, method="direct")
