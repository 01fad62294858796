"""A MemoryError says how many rows of `out` are complete: wherever it strikes, these are."""

import ctypes
import re
from dataclasses import replace

import numpy as np
import pytest

import gpuconv
from gpuconv import nn
from gpuconv.backends import reference
from gpuconv.backends.cpu import backend, box, fft, fft_plan, planning, sums, weight_gradient
from gpuconv.backends.cpu.jit.fft import fft_driver
from gpuconv.backends.cpu.jit.params import (
    BOX_PARAMS,
    DIRECT_PARAMS,
    DIRECT_TILES_PARAMS,
    FFT_PARAMS,
    copy_record,
)
from gpuconv.backends.cpu.scipy_fft import scipy_fft, scipy_filter, scipy_plan, scipy_tiles

from ..cases import misaligned

RNG = np.random.default_rng(2)
UNTOUCHED = 77


def sample(shape, dtype="f4"):
    if np.dtype(dtype).kind == "i":
        return RNG.integers(-9, 9, shape).astype(dtype)
    values = RNG.standard_normal(shape)
    return (values + 1j * RNG.standard_normal(shape) if dtype[0] == "c" else values).astype(dtype)


def record_at(address, dtype):
    raw = (ctypes.c_uint8 * dtype.itemsize).from_address(address)
    return np.frombuffer(raw, dtype)[0]


class Memory:
    """Memory for so many tasks, each of which asks for as much when it is done again."""

    def __init__(self, monkeypatch):
        self.left = self.spent = 0
        kernels = tuple(self.record(kernel, DIRECT_PARAMS) for kernel in sums._kernels())
        monkeypatch.setattr(sums, "_kernels", lambda: kernels)
        box_kernels = tuple(self.record(kernel, BOX_PARAMS) for kernel in box._kernels())
        monkeypatch.setattr(box, "_kernels", lambda: box_kernels)
        at_once = self.record(sums._sum_arrays(), DIRECT_PARAMS)
        monkeypatch.setattr(sums, "_sum_arrays", lambda: at_once)
        for form in ("serial", "parallel"):
            tiles = self.record(getattr(fft_driver, f"tiles_{form}"), FFT_PARAMS)
            monkeypatch.setattr(fft_driver, f"tiles_{form}", tiles)
            directly = self.record(getattr(fft_driver, f"directly_{form}"), DIRECT_TILES_PARAMS)
            monkeypatch.setattr(fft_driver, f"directly_{form}", directly)

    def take(self, tasks):
        """Tasks of so many that there is memory for."""
        have = min(tasks, self.left)
        if have == tasks or tasks == 1:
            self.left -= have
            self.spent += have
        return have

    def record(self, kernel, dtype):
        """Replace a kernel that is told a record by one that runs out of memory."""

        def call(address, *arguments):
            params = record_at(address, dtype)
            first, last = params["first"], params["last"]
            have = self.take(int(last - first))
            params["last"] = first + have
            kernel(address, *arguments)
            params["last"] = last
            if first + have < last:
                if "failed" in dtype.names:
                    params["failed"] += 1
                else:
                    record_at(int(params["direct_params"]), DIRECT_PARAMS)["failed"] += 1

        return call


@pytest.fixture
def memory(monkeypatch):
    return Memory(monkeypatch)


@pytest.fixture(params=["short", "long"])
def length(request, monkeypatch):
    """Calls all at once, and in slices as if they took long."""
    if request.param == "long":
        for module in (fft, planning, box):
            monkeypatch.setattr(module, "LONG", 1e3)
        monkeypatch.setattr(planning, "LONG_TASK", 1e3)
        monkeypatch.setattr(fft, "LONG_TASK", 1e3)
        monkeypatch.setattr(box, "LONG_TASK", 1e3)
    _forget_plans()
    yield request.param
    _forget_plans()


def _forget_plans():
    for cache in (fft_plan.tile_plan, box._plan):
        cache.cache_clear()
    sums.forget_plans()


BANK = sample((3, 1, 5, 5))
X = sample((3, 2, 150, 90))
WITH_NAN = sample((2, 300, 200))
WITH_NAN[0, 200, 30] = WITH_NAN[1, 7, 7] = np.nan
RANK1 = np.outer(BANK[0, 0, 0], BANK[0, 0, 1])
WIDE = sample((150, 20_000), "i2")

# Arguments, options, and whether tasks write to `out` themselves.
CASES = {
    "direct": (X, BANK, dict(method="direct", mode="same"), True),
    "direct, whole rows": (X[..., :40].copy(), BANK, dict(method="direct", mode="same"), True),
    "direct, strips of columns": (WIDE, BANK[0, 0], dict(method="direct", stride=(2, 1)), True),
    "separable": (X, RANK1, dict(method="separable", boundary="wrap", mode="full"), True),
    "box": (X, np.ones((5, 6), "f4"), dict(method="box", boundary="wrap", mode="full"), True),
    "integers": (sample((2, 150, 90), "i2"), sample((5, 5), "i2"), dict(dilation=3), True),
    "float16 of float64": (X.astype("f8"), BANK, dict(dtype="f2", method="direct"), False),
    "complex": (sample((2, 90, 400), "c8"), BANK[0, 0], dict(method="direct"), True),
    "complex separable": (sample((2, 90, 400), "c8"), RANK1, dict(method="separable"), True),
    "fft": (X, BANK, dict(method="fft", mode="same"), True),
    "fft, kernels by turns": (X[:2, :, None], BANK[:, 0], dict(method="fft"), True),
    "fft with nan": (WITH_NAN, RANK1, dict(method="fft", mode="full"), True),
    "complex fft": (X.astype("c8"), BANK, dict(method="fft", mode="same"), True),
    "complex fft with nan": (WITH_NAN.astype("c8"), RANK1, dict(method="fft", stride=2), True),
    "fft with nan, strided": (WITH_NAN, RANK1, dict(method="fft", stride=(3, 2)), True),
}  # fmt: skip


def rows_of(error):
    """Rows that an error says are complete, of how many."""
    found = re.search(r"; the first (\d+) of the (\d+) rows of out are complete", str(error))
    if not found:
        assert "out may be written in part, no row of it is sure to be complete" in str(error)
        return 0, None
    return int(found[1]), int(found[2])


def complete(out, wanted):
    """Rows from the first one on that are as wanted."""
    same = (out == wanted) | (np.isnan(out) & np.isnan(wanted))
    rows = same.all(axis=-1).ravel()
    return len(rows) if rows.all() else int(np.argmin(rows))


def trials(memory, x, k, options, out=None):
    """Filter with ever more memory; yield the rows that the error says are there and are there."""
    memory.left = 1 << 60
    wanted = gpuconv.corr2d(x, k, **options)
    if out is None:
        out = np.empty_like(wanted)
    memory.left, memory.spent = 1 << 60, 0
    gpuconv.corr2d(x, k, out=out, **options)
    assert complete(out, wanted) == out.size // out.shape[-1]
    tasks = memory.spent
    for enough in np.unique(np.linspace(0, tasks - 1, 12).astype(int)):
        out[...] = UNTOUCHED
        memory.left = int(enough)
        with pytest.raises(MemoryError) as caught:
            gpuconv.corr2d(x, k, out=out, **options)
        said, total = rows_of(caught.value)
        assert total in (None, out.size // out.shape[-1])
        yield said, complete(out, wanted)
    memory.left = tasks
    gpuconv.corr2d(x, k, out=out, **options)
    assert complete(out, wanted) == out.size // out.shape[-1]


@pytest.mark.parametrize("name", CASES)
def test_rows_that_are_complete(memory, length, name):
    x, k, options, in_place = CASES[name]
    said = []
    for rows, found in trials(memory, x, k, options):
        # Of tiles that are not finite some rows may be there already.
        assert rows == found or ("nan" in name and rows < found)
        said.append(rows)
    assert said == sorted(said)
    assert max(said) > 0 or not in_place


@pytest.mark.parametrize(("dtype", "method"), [("f4", "direct"), ("c8", "direct"), ("f4", "fft")])
@pytest.mark.parametrize("out_too", [False, True])
def test_strips_of_copies(memory, monkeypatch, dtype, method, out_too):
    monkeypatch.setattr(backend, "_COPIED_BYTES", 1 << 16)
    x, options = misaligned(sample((2, 150, 90), dtype)), dict(method=method)
    out = None
    if out_too:
        memory.left = 1 << 60
        out = misaligned(gpuconv.corr2d(x, RANK1, **options))
    pairs = list(trials(memory, x, RANK1, options, out))
    assert all(rows == found for rows, found in pairs)
    assert max(rows for rows, _ in pairs) > 146  # the first image


class Fails(MemoryError):
    """One that counts down to it."""

    def __init__(self, calls):
        super().__init__("no memory today")
        self.calls = calls

    def before(self, function):
        def call(*arguments, **keywords):
            self.calls -= 1
            if self.calls < 0:
                raise self
            return function(*arguments, **keywords)

        return call


@pytest.mark.parametrize("name", ["complex64", "float16"])
def test_transforms_of_a_library(monkeypatch, name):
    x = sample((2, 600, 150)).astype(name)
    x[1, 300, 70] = np.nan
    monkeypatch.setattr(backend, "own_transforms", lambda problem: False)
    # Many tiles, one at a time.
    monkeypatch.setattr(scipy_plan, "_TILE_MOST", 1 << 14)
    monkeypatch.setattr(scipy_plan, "_TILE_MOST_SPANS", 0)
    monkeypatch.setattr(scipy_plan, "CHUNK_BYTES", 1 << 14)
    monkeypatch.setattr(scipy_fft, "CHUNK_BYTES", 1 << 14)
    scipy_plan._plan.cache_clear()
    options = dict(method="fft", dtype="float16" if name == "float16" else None)
    if name == "float16":  # of wider sums
        x = x.astype("f8")
    wanted = gpuconv.corr2d(x, RANK1, **options)
    out, said = np.empty_like(wanted), []
    for calls in range(200):
        fails = Fails(calls)
        with monkeypatch.context() as patch:
            for owner, each in (
                (scipy_tiles.TileReader, "_read_stripes"),
                (scipy_filter.TileFilter, "apply"),
                (scipy_filter.TileFilter, "spectrum"),
                (scipy_fft._OverlapSave, "_sum_directly"),
            ):
                patch.setattr(owner, each, fails.before(getattr(owner, each)))
            out[...] = UNTOUCHED
            try:
                gpuconv.corr2d(x, RANK1, out=out, **options)
            except MemoryError as error:
                said.append(rows_of(error)[0])
                assert said[-1] == complete(out, wanted)
            else:
                break
    assert said == sorted(said)
    assert len(set(said)) > 3
    assert complete(out, wanted) == 2 * wanted.shape[-2]


def test_the_reference(monkeypatch):
    x, k, out = X[..., :9, :8], BANK[..., :2, :2], np.empty((3, 2, 8, 7), "f4")
    for images in range(6):
        with monkeypatch.context() as patch:
            patch.setattr(
                reference, "_correlate_image", Fails(images).before(reference._correlate_image)
            )
            with pytest.raises(MemoryError, match="no memory today") as caught:
                gpuconv.corr2d(x, k, out=out, backend="reference")
        assert rows_of(caught.value) == ((images * 8, 48) if images else (0, None))


def test_without_out_it_is_not_spoken_of(memory):
    """Nor where one of ours is written to: in gradients, in layers."""
    x, w = sample((2, 1, 60, 200)), sample((1, 1, 3, 3))
    memory.left = 1 << 60
    y = nn.conv2d(x, w)
    for call in (
        lambda: gpuconv.corr2d(x, w),
        lambda: gpuconv.corr2d_vjp(x, w, y, wrt="X", method="direct"),
        lambda: nn.conv2d(x, w),
    ):
        memory.left = 0
        with pytest.raises(MemoryError, match="no memory for rows of pixels") as caught:
            call()
        assert not re.search(r"\bout\b", str(caught.value))
        memory.left = 1 << 60
        call()


def test_a_call_seen_before(memory):
    """The shortcut for repeated calls goes the same way."""
    x, k = sample((40, 50)), sample((3, 3))
    out = np.empty((38, 48), "f4")
    memory.left = 1 << 60
    for _ in range(3):
        gpuconv.corr2d(x, k, out=out)
    memory.left = 0
    with pytest.raises(MemoryError, match="no row of it is sure to be complete"):
        gpuconv.corr2d(x, k, out=out)


@pytest.fixture
def no_memory(monkeypatch):
    """Compiled code whose first call asks for more memory than there is; gives what it counts."""
    counted = []

    def record(kernel, dtype, field):
        def call(address, *arguments):
            params = record_at(address, dtype)
            asked, failed = int(params[field]), int(params["failed"])
            if not counted:
                params[field] = 1 << 46
            kernel(address, *arguments)
            params[field] = asked
            counted.append((int(params["failed"]) - failed, int(params["last"] - params["first"])))

        return call

    for module, dtype, field in (
        (sums, DIRECT_PARAMS, "block_rows"), (box, BOX_PARAMS, "window_rows"),
    ):  # fmt: skip
        kernels = tuple(record(kernel, dtype, field) for kernel in module._kernels())
        monkeypatch.setattr(module, "_kernels", lambda kernels=kernels: kernels)
    at_once = record(sums._sum_arrays(), DIRECT_PARAMS, "block_rows")
    monkeypatch.setattr(sums, "_sum_arrays", lambda: at_once)
    for form in ("serial", "parallel"):
        tiles = record(getattr(fft_driver, f"tiles_{form}"), FFT_PARAMS, "workspace_bytes")
        monkeypatch.setattr(fft_driver, f"tiles_{form}", tiles)
    return counted


@pytest.mark.parametrize("method", ["direct", "separable", "box", "fft"])
def test_compiled_code_counts_tasks_that_had_no_memory(no_memory, method):
    """They are done again."""
    x, k = sample((9, 180, 170)), np.full((5, 6), 0.5, "f4")
    y = gpuconv.corr2d(x, k, method=method)
    (failed, tasks), *others = no_memory
    assert failed
    assert sum(again for _, again in others) == tasks
    assert not any(failed for failed, _ in others)
    np.testing.assert_array_equal(y, gpuconv.corr2d(x, k, method=method))


@pytest.mark.parametrize("share", [0.001, 0.2])
def test_means_by_transforms_that_had_no_memory(no_memory, share):
    x = np.where(RNG.random((300, 310)) < share, np.nan, RNG.random((300, 310))).astype("f4")
    options = dict(method="fft", mode="same")
    y = gpuconv.normalized_corr2d(x, np.ones((21, 20), "f4"), **options)
    (failed, tasks), *others = no_memory
    assert failed
    assert sum(again for _, again in others) == tasks
    np.testing.assert_array_equal(
        y, gpuconv.normalized_corr2d(x, np.ones((21, 20), "f4"), **options)
    )


def test_weight_gradients_that_had_no_memory(monkeypatch):
    plan = weight_gradient._plan

    def without_memory(*arguments):
        found = plan(*arguments)
        params = copy_record(found.params)
        params["task_bytes"] = 1 << 50
        return replace(found, params=params)

    monkeypatch.setattr(weight_gradient, "_plan", without_memory)
    x, k = sample((40, 50)), sample((3, 3))
    with pytest.raises(MemoryError, match="no memory for rows of pixels"):
        gpuconv.corr2d_vjp(x, k, sample((38, 48)), wrt="K")
