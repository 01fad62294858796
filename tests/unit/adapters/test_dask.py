"""Dask arrays: lazy, the one-machine result bit for bit, on threads and on processes that die."""

import contextlib
import itertools
import os
import pickle
import signal
import sys
import time
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest

import gpuconv
from benchmarks import memory_dask
from gpuconv import call_cache
from gpuconv.backends.cuda import sums
from gpuconv.core.boundary import BOUNDARIES

from ...emulator.backend import cuda
from ...emulator.launcher import EmulatedLauncher
from ...marks import always

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")

RNG = np.random.default_rng(31)
X = RNG.standard_normal((2, 37, 41)).astype("f4")
CHUNKS = [(1, 10, 41), (2, (1, 30, 2, 4), (7, 7, 20, 7)), (2, (0, 12, 25), 15), (2, 3, 2)]
MODES = ["valid", "same", "full", ((3, 50), (0, 9))]
STEPS = [(1, 1), ((2, 3), 1), (1, (2, 3)), (7, 2)]
SHAPES = [(3, 5), (4, 2), (9, 6), (1, 1)]


def equal(lazy, whole, **how):
    assert isinstance(lazy, da.Array)
    assert (lazy.shape, lazy.dtype) == (whole.shape, whole.dtype)
    found = lazy.compute(**({"scheduler": "synchronous"} | how))
    assert (type(found), found.dtype) == (type(whole), whole.dtype)
    np.testing.assert_array_equal(found, whole)


@pytest.mark.parametrize(
    ("mode", "boundary"),
    always(
        list(itertools.product(MODES, BOUNDARIES)),
        ("valid", "constant"),
        ("same", "edge"),
        ("same", "reflect"),
        ("full", "wrap"),
        (MODES[3], "symmetric"),
        rows=True,
    ),
    ids=str,
)
def test_bit_for_bit(mode, boundary):
    # Every pair of a chunking and a kernel; steps and functions take turns.
    turns = itertools.cycle(itertools.product(STEPS, (gpuconv.corr2d, gpuconv.convolve2d)))
    for _ in range(MODES.index(mode) + BOUNDARIES.index(boundary)):
        next(turns)
    for chunks, shape in itertools.product(CHUNKS, SHAPES):
        (stride, dilation), call = next(turns)
        k = RNG.standard_normal(shape).astype("f4")
        keywords = dict(
            mode=mode, boundary=boundary, stride=stride, dilation=dilation, fillvalue=1.5,
            method="direct",
        )  # fmt: skip
        equal(call(da.from_array(X, chunks=chunks), k, **keywords), call(X, k, **keywords))


def test_padding_wider_than_the_image_and_windows_beside_it():
    x = X[0, :2, :3]
    for boundary in BOUNDARIES:
        keywords = dict(mode=((9, 11), (8, 30)), boundary=boundary, stride=7, fillvalue=2)
        lazy = gpuconv.corr2d(da.from_array(x, chunks=1), np.ones((2, 1), "f4"), **keywords)
        equal(lazy, gpuconv.corr2d(x, np.ones((2, 1), "f4"), **keywords))


@pytest.mark.parametrize(
    ("x_lead", "k_lead"), [((3, 1), (4,)), ((4,), (4,)), ((1,), (3, 1)), ((), (2, 3)), ((0,), ())]
)
def test_leading_dimensions_broadcast(x_lead, k_lead):
    x, k = RNG.random((*x_lead, 9, 8)), RNG.random((*k_lead, 3, 2))
    whole = gpuconv.corr2d(x, k, mode="same")
    for sizes in (1, 2, 5):
        lazy = da.from_array(x, chunks=(*[max(1, sizes)] * len(x_lead), 5, 3))
        equal(gpuconv.corr2d(lazy, k, mode="same"), whole)
        other = da.from_array(k, chunks=(*[1] * len(k_lead), 2, 1))
        equal(gpuconv.corr2d(lazy, other, mode="same"), whole)


@pytest.mark.parametrize("boundary", ["reflect", "wrap"])
def test_memory_does_not_grow_with_the_padding(boundary):
    x, k = RNG.random((30, 40)), RNG.random((1, 100_000))
    lazy = gpuconv.corr2d(da.from_array(x, chunks=20), k, mode="same", boundary=boundary)
    missing = np.where(x < 0.1, np.nan, x)
    keywords = dict(mode="same", boundary=boundary)
    mean = gpuconv.normalized_corr2d(da.from_array(missing, chunks=20), k, **keywords)
    peaks = []
    for array in (lazy, mean):
        array.compute(scheduler="synchronous")
        tracemalloc.start()
        try:
            found = array.compute(scheduler="synchronous")
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
        whole = gpuconv.corr2d if array is lazy else gpuconv.normalized_corr2d
        expected = whole(x if array is lazy else missing, k, **keywords)
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert max(peaks) < 20 * k.nbytes  # a block with its padding would take 30 times as much


def test_axes():
    photo, k = np.moveaxis(X, 0, -1).copy(), np.ones((3, 3), "f4")
    whole = gpuconv.corr2d(photo, k, axes=(0, 1), mode="same")
    equal(gpuconv.corr2d(da.from_array(photo, (10, 11, 2)), k, axes=(0, 1), mode="same"), whole)


def test_empty_chunks_beside_a_single_one():
    x, k = RNG.random((1, 9, 8)), RNG.random((3, 1, 3, 2))
    lazy = da.from_array(x, chunks=((0, 1, 0), (0, 9), (8, 0)))
    other = da.from_array(k, chunks=((1, 0, 2), (0, 0, 1), 3, 2))
    equal(gpuconv.corr2d(lazy, k[0]), gpuconv.corr2d(x, k[0]))
    equal(gpuconv.corr2d(lazy, k[:, 0]), gpuconv.corr2d(x, k[:, 0]))
    equal(gpuconv.corr2d(lazy, other), gpuconv.corr2d(x, k))
    two = x.repeat(2, 0)
    equal(gpuconv.corr2d(da.from_array(two, chunks=(1, 4, 4)), other), gpuconv.corr2d(two, k))


@pytest.mark.parametrize(
    ("x_dtype", "k_dtype", "dtype"),
    [
        ("u1", "i2", None),
        ("u1", "f4", "u1"),
        ("f4", "f4", "i2"),
        ("f2", "f2", None),
        (">f8", "f8", "f4"),
        ("?", "u1", None),
        ("c8", "c8", None),
    ],
)
def test_dtypes(x_dtype, k_dtype, dtype):
    x, k = (RNG.random((30, 21)) * 250).astype(x_dtype), (RNG.random((3, 3)) * 4).astype(k_dtype)
    k = k * 1j if k.dtype.kind == "c" else k
    backend = "reference" if k.dtype.kind == "c" else "auto"  # compiles nothing
    for call in (gpuconv.corr2d, gpuconv.convolve2d):
        keywords = dict(mode="same", dtype=dtype, backend=backend)
        lazy = call(da.from_array(x, chunks=11), k, **keywords)
        equal(lazy, call(x, k, **keywords))
        assert (type(lazy._meta), lazy._meta.ndim) == (np.ndarray, 2)
    half = pytest.importorskip("ml_dtypes").bfloat16
    equal(
        gpuconv.corr2d(da.from_array(X.astype(half), chunks=15), k.real.astype(half)),
        gpuconv.corr2d(X.astype(half), k.real.astype(half)),
    )


def test_nothing_is_computed_at_the_call():
    def fail(block):
        raise AssertionError("computed")

    x = da.from_array(X, chunks=20).map_blocks(fail, dtype="f4", meta=X[:0, :0, :0])
    k = da.from_array(X[0, :3, :3], chunks=2).map_blocks(fail, dtype="f4", meta=X[0, :0, :0])
    lazy = gpuconv.corr2d(x, k, mode="same")
    assert lazy.shape == X.shape
    assert lazy.chunks == x.chunks
    with pytest.raises(AssertionError, match="computed"):
        lazy.compute(scheduler="synchronous")


def test_one_method_for_all_blocks(monkeypatch):
    from gpuconv.adapters import dask as adapter
    from gpuconv.backends.cpu import threads

    x, smooth = RNG.random((400, 400)).astype("f4"), gpuconv.filters.gaussian(5.0).astype("f4")
    rough, seen = RNG.random((40, 40)).astype("f4"), []
    original = adapter.engine.correlate

    def spy(image, kernel, **keywords):
        seen.append((keywords["method"], threads.thread_count()))
        return original(image, kernel, **keywords)

    monkeypatch.setattr(adapter.engine, "correlate", spy)
    for k, method in ((smooth, "separable"), (rough, "fft"), (rough[:3, :3], "direct")):
        assert gpuconv.plan(x.shape, k.shape, kernel=k, mode="same").method == method
        lazy = gpuconv.corr2d(da.from_array(x, chunks=(90, 130)), k, mode="same")
        found, whole = lazy.compute(scheduler="threads", num_workers=2), original(x, k, mode="same")
        if method == "fft":
            np.testing.assert_allclose(found, whole, rtol=1e-4)
        else:
            np.testing.assert_array_equal(found, whole)
        # Dask keeps every core busy by itself.
        assert set(seen) == {(method, 1)}
        seen.clear()


class OnDevice(np.ndarray):
    """A stand-in for CuPy's arrays, over NumPy's memory."""

    device = SimpleNamespace(id=0)
    __cuda_array_interface__ = None
    data = property(
        lambda self: SimpleNamespace(ptr=self.__array_interface__["data"][0], device_id=0)
    )


OnDevice.__module__ = "cupy"


def test_chunks_on_a_device(monkeypatch, request):
    # test_cuda_gpu has the same with CuPy itself.
    here = SimpleNamespace(
        Device=lambda _: contextlib.nullcontext(), runtime=SimpleNamespace(getDevice=lambda: 0)
    )
    cupy = SimpleNamespace(
        ndarray=OnDevice, cuda=here, empty=lambda *a: np.empty(*a).view(OnDevice)
    )
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(cuda, "launcher", EmulatedLauncher())
    monkeypatch.setattr(call_cache, "_calls", {})
    sums.prepare.cache_clear()
    request.addfinalizer(sums.prepare.cache_clear)
    x, k = X[0].view(OnDevice), RNG.standard_normal((4, 5)).astype("f4")
    lazy_k = da.from_array(k.view(OnDevice), chunks=-1, asarray=False)
    for boundary, weights in itertools.product(("constant", "wrap"), (k, lazy_k)):
        keywords = dict(mode="same", boundary=boundary, method="direct")
        whole = gpuconv.corr2d(x, k, **keywords)
        lazy = gpuconv.corr2d(da.from_array(x, chunks=(20, 17), asarray=False), weights, **keywords)
        assert isinstance(lazy._meta, OnDevice)
        # Dask would join stand-ins by the name of CuPy, and remember that for the other tests.
        blocks = dask.get(lazy.__dask_graph__(), lazy.__dask_keys__())
        assert {type(b) for row in blocks for b in row} == {type(whole)} == {OnDevice}
        np.testing.assert_array_equal(
            np.block([list(map(np.asarray, row)) for row in blocks]), whole
        )


def test_the_graph_grows_with_the_blocks_only():
    def size(n):
        lazy = gpuconv.corr2d(da.zeros((n, n), chunks=8, dtype="f4"), np.ones((99, 99)), mode=49)
        found = lazy.__dask_graph__().get_all_dependencies()
        return len(found) + sum(map(len, found.values()))

    small, large = size(400), size(800)
    assert large < 5 * small
    one, other = (
        gpuconv.corr2d(da.zeros((64, 64), chunks=8), np.ones((3, 3)), mode="same") for _ in range(2)
    )
    assert one.numblocks == (8, 8)
    assert pickle.loads(pickle.dumps(one)).name == one.name == other.name


def test_errors():
    x, k = da.from_array(X, chunks=20), np.ones((3, 3), "f4")
    with pytest.raises(TypeError, match="out= cannot be given with a Dask array"):
        gpuconv.corr2d(x, k, out=np.empty((2, 35, 39), "f4"))
    with pytest.raises(ValueError, match="compute_chunk_sizes"):
        gpuconv.corr2d(x[x[:, 0, 0] > 0], k)
    with pytest.raises(ValueError, match="larger than the padded image"):
        gpuconv.corr2d(x, np.ones((99, 3)))
    with pytest.raises(ValueError, match="do not broadcast"):
        gpuconv.corr2d(x, np.ones((5, 3, 3)))
    with pytest.raises(ValueError, match="method='separable' cannot be used"):
        gpuconv.corr2d(x, RNG.random((3, 3)), method="separable")
    with pytest.raises(ValueError, match="unknown boundary"):
        gpuconv.corr2d(x, k, boundary="mirrored")
    with pytest.raises(TypeError, match="K is a Dask array; only"):
        gpuconv.corr2d(X, da.from_array(k))
    for call in (
        lambda: gpuconv.corr2d_vjp(x, k, X[:, :35, :39]),
        lambda: gpuconv.nn.conv2d(x[None], k[None, None]),
        lambda: gpuconv.learn_kernel(x, X[:, :35, :39], (3, 3), steps=1),
    ):
        with pytest.raises(TypeError, match=r"is a Dask array; .* pass \w+\.compute\(\)"):
            call()


@pytest.fixture(scope="module")
def client():
    with memory_dask.cluster() as client:
        yield client


@pytest.mark.needs("distributed")
def test_memory_of_the_workers_is_bounded(client, tmp_path, capsys):
    chunk = memory_dask.make_image(tmp_path / "in.zarr")
    assert np.prod(memory_dask.TIMES) * chunk.nbytes > 10 * memory_dask.LIMIT
    workers = set(client.run(os.getpid).values())
    samples = memory_dask.measure(client, tmp_path)
    assert set(client.run(os.getpid).values()) == workers  # none was killed and replaced
    assert samples
    assert max(max(memory) for _, memory in samples) < memory_dask.LIMIT
    assert memory_dask.result_is_right(chunk, tmp_path / "out.zarr")
    assert "% Completed" in capsys.readouterr().out  # a bar moved meanwhile


@pytest.mark.needs("distributed")
def test_a_killed_worker_is_survived(client, tmp_path):
    def block_of(block):
        """Waits in both workers, once each has begun some, until one has been killed."""
        (tmp_path / f"{time.monotonic_ns()}-{os.getpid()}").touch()
        while len(list(tmp_path.iterdir())) >= 8 and not killed.exists():
            time.sleep(0.02)
        return block

    def begun():
        return [int(path.name.partition("-")[2]) for path in tmp_path.iterdir()]

    killed = tmp_path.with_name("killed")
    x = da.from_array(X, chunks=(2, 6, 8)).map_blocks(block_of, dtype="f4", meta=X[:0, :0, :0])
    k = RNG.standard_normal((4, 3)).astype("f4")
    victim = next(iter(client.run(os.getpid).values()))
    future = client.compute(gpuconv.corr2d(x, k, mode="same", boundary="wrap", method="direct"))
    while len(begun()) < 8 or victim not in begun():
        assert not future.done()
        time.sleep(0.02)
    assert not future.done()
    os.kill(victim, signal.SIGKILL)
    killed.touch()
    whole = gpuconv.corr2d(X, k, mode="same", boundary="wrap", method="direct")
    np.testing.assert_array_equal(future.result(), whole)
    assert len(begun()) > x.npartitions  # what was lost has been made again
