"""How the CPU backend plans sums, and what a call seen before does without."""

import numpy as np
import pytest

import gpuconv
from gpuconv.backends import get_backend
from gpuconv.backends.cpu import in_place, planning, sums
from gpuconv.backends.cpu.jit import vectors
from gpuconv.backends.cpu.jit.drivers import odd_lines
from gpuconv.core.boundary import BOUNDARIES
from gpuconv.core.problem import make_problem

from ....oracle import sample

MIB = 1 << 20


def test_plans_are_cached():
    x, k = np.ones((30, 40), "f4"), np.ones((3, 3), "f4")
    gpuconv.corr2d(x, k)
    misses = planning.plan_sums.cache_info().misses
    gpuconv.corr2d(x, k)
    assert planning.plan_sums.cache_info().misses == misses


@pytest.mark.parametrize("shape", [(20, 30), (300, 400)], ids=["one thread", "all threads"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_calls_seen_before_sum_at_once(monkeypatch, dtype, shape):
    rng = np.random.default_rng(4)
    x, k = sample(rng, shape, dtype), sample(rng, (3, 3), dtype)
    call = gpuconv.plan(x.shape, k.shape, x_dtype=dtype, method="direct")
    first = call(x, k)
    monkeypatch.setattr(sums, "_plan_sums_of", None)  # what they do without
    assert call(x, k).tobytes() == first.tobytes()
    assert (call(2 * x, k) == 2 * first).all()
    assert (call(x, 2 * k) == 2 * first).all()
    monkeypatch.undo()
    # Arrays that lie otherwise.
    assert (call(np.asfortranarray(x), k) == first).all()
    assert (call(x, np.asfortranarray(k)) == first).all()
    assert (call(x[::-1], k[::-1])[::-1] == call(x[::-1], k[::-1].copy())[::-1]).all()
    wide = np.zeros((shape[0] - 2, 2 * shape[1] - 4), dtype)
    call(x, k, out=wide[:, ::2])
    assert (wide[:, ::2] == first).all()
    swapped = k.astype(k.dtype.newbyteorder())
    assert (gpuconv.corr2d(x, swapped, method="direct") == first).all()


@pytest.mark.parametrize(
    ("shape", "x_dtype", "k_dtype", "keywords"),
    [
        ((150, 160), "uint8", "float32", dict(dtype="uint8")),  # weights say whether 16 bits do
        ((20, 30), "uint8", "int16", {}),
        ((20, 30), "float16", "float16", {}),
        ((20, 30), "complex64", "complex64", {}),
        ((20, 30, 3), "float32", "float32", dict(axes=(0, 1))),
        ((20, 90), "float32", "float32", dict(stride=2, dilation=(1, 5))),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else None,
)
def test_sums_by_weights_seen_before_are_not_planned_anew(
    monkeypatch, shape, x_dtype, k_dtype, keywords
):
    rng = np.random.default_rng(5)
    x, k = sample(rng, shape, x_dtype), sample(rng, (3, 3), k_dtype)
    sums.forget_plans()

    def call():
        return gpuconv.corr2d(x, k, mode="same", method="direct", backend="cpu", **keywords)

    first = call()
    monkeypatch.setattr(sums, "_plan_sums_of", None)
    assert call().tobytes() == first.tobytes()
    monkeypatch.undo()
    before = k.copy()
    k[1, 1] += 3  # the caller's array, changed in place
    other = call()
    assert other.tobytes() != first.tobytes()
    sums.forget_plans()
    assert call().tobytes() == other.tobytes()
    k[...] = before
    assert call().tobytes() == first.tobytes()


def test_weights_seen_before_are_those_that_were_given():
    """Not those that the caller's array has by now."""
    photo = np.ones((20, 30, 3), np.float32)
    first = np.ones((3, 3), np.float32)
    keywords = dict(axes=(0, 1), method="direct", backend="cpu")
    gpuconv.corr2d(photo, first, **keywords)
    first[...] = 5
    again = gpuconv.corr2d(photo, np.ones((3, 3), np.float32), **keywords)
    assert (again == 9).all()


def test_sums_that_are_kept_are_bounded(monkeypatch):
    monkeypatch.setattr(sums, "_DIRECT_SUMS_MAX", 4)
    x = np.ones((9, 9), np.uint8)
    for weight in range(20):
        gpuconv.corr2d(x, np.full((3, 3), weight, np.int16), method="direct", backend="cpu")
        assert len(sums._direct_sums) <= 4
    large = np.ones((1, 1 + sums._CACHED_BYTES // 2), np.int16)
    sums.forget_plans()
    gpuconv.corr2d(np.ones((1, large.size), np.uint8), large, method="direct", backend="cpu")
    assert not sums._direct_sums


def test_rows_of_the_row_buffer_do_not_collide():
    for size in (*range(1, 300), 4096, 8192, 8200, 3 << 20):
        found = odd_lines(size)
        assert found >= size
        assert found % 128 == 64
        assert found < size + 256


@pytest.mark.parametrize(
    ("width", "mode", "dtype", "in_place"),
    [
        (1024, "same", "float32", False),
        (1025, "same", "float32", True),
        (512, "same", "float64", False),
        (513, "same", "float64", True),
        (90, "valid", "float32", True),
    ],
)
def test_short_rows_with_a_border_are_copied_for_separable_sums(width, mode, dtype, in_place):
    """There summing the columns beside the border apart takes longer than copying all."""
    problem = make_problem((200, width), (3, 3), dtype, dtype, mode=mode)
    size = np.dtype(dtype).itemsize
    strides = size * width, size
    for rank, expected in ((1, in_place), (0, True)):
        params = planning.plan_sums(problem, dtype, rank, strides, strides).params[0]
        assert params["x_in_place"] == expected


@pytest.mark.parametrize(
    ("width", "taps", "in_place"),
    [(1024, 7, True), (1024, 9, False), (1000, 63, True), (512, 17, True), (512, 19, False)],
)
def test_rows_that_collide_in_the_cache_are_copied(width, taps, in_place):
    """A column of taps reads rows a power of two apart; the bits are those of any other image."""
    problem = make_problem((200, width), (taps, 3), "float32", "float32", mode="valid")
    strides = 4 * width, 4
    for rank, expected in ((1, in_place), (0, True)):
        params = planning.plan_sums(problem, "float32", rank, strides, strides).params[0]
        assert params["x_in_place"] == expected
    rng = np.random.default_rng(5)
    wide = rng.standard_normal((200, width + 17), "f4")
    x = np.ascontiguousarray(wide[:, :width])
    k = np.outer(rng.random(taps), rng.random(3)).astype("f4")
    found = [
        gpuconv.corr2d(image, k, mode="valid", method="separable") for image in (x, wide[:, :width])
    ]
    np.testing.assert_array_equal(*found)


def test_threads_are_started_where_they_save_more_than_that_takes(monkeypatch):
    def serial(threads, side, dtype="float32"):
        monkeypatch.setattr(planning, "max_threads", lambda: threads)
        sums.forget_plans()
        problem, size = make_problem((side, side), (3, 3), dtype, dtype), np.dtype(dtype).itemsize
        strides = (size * side, size), (size * problem.s, size)
        plan = planning.plan_sums(problem, dtype, 0, *strides)
        assert plan.times.short == (side <= 2000)
        return plan.serial

    # Two threads save half of the time, more of them nearly all.
    assert serial(1, 3000) and serial(1, 2000) and serial(2, 280) and serial(16, 200)
    assert not (serial(2, 400) or serial(16, 280) or serial(2, 280, "float64"))
    sums.forget_plans()


def test_what_loads_rows_is_compiled_only_where_rows_are_loaded(monkeypatch):
    """It is not called where it is not there, which would end the process."""
    monkeypatch.setattr(planning, "_WINDOW_BYTES", 1)  # strips of 512 columns
    sums.forget_plans()
    rng, lanes, loaded = np.random.default_rng(6), vectors.lanes("float32"), {}
    # Whole strips, so wide that a border of a vector on both sides is narrow beside them.
    whole = max(512, 2 * lanes * in_place._NARROW)
    beyond = (-lanes, 0, 1, lanes - 1, lanes, 2 * lanes + 2, 528)
    for width in (whole + columns for columns in beyond):
        x = rng.standard_normal((9, width), "f4")
        for columns in (1, 5, 2 * lanes + 1, 2 * lanes + 2):
            for mode in ("same", "valid", ((0, 1), (columns - 1, 0))):
                k = rng.standard_normal((3, columns), "f4")
                y = gpuconv.corr2d(x, k, mode=mode, method="direct")
                expected = gpuconv.corr2d(x, k, mode=mode, backend="reference")
                np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
                problem = make_problem(x.shape, k.shape, "float32", "float32", mode=mode)
                plan = planning.plan_sums(problem, "float32", 0, x.strides, y.strides)
                loaded[width, columns, mode] = bool(plan.params["load"][0])
    sums.forget_plans()
    assert not loaded[whole, 5, "same"] and not loaded[whole, 2 * lanes + 1, "same"]
    assert loaded[whole, 2 * lanes + 2, "same"]  # too many columns beside the border
    assert loaded[whole + lanes, 1, "valid"] is False
    # The last strip is narrower than a vector.
    assert loaded[whole + lanes - 1, 1, "valid"] is True


@pytest.mark.parametrize(
    ("side", "stride", "dilation", "read"),
    [
        (3, 1, 1, 1.0),
        (3, 2, 1, 4.0),
        (3, 4, 1, 9.0),
        (3, 8, 1, 9.0),
        (1, 5, 1, 1.0),
        (2, 8, 3, 16.0),
    ],
)
def test_pixels_that_a_stride_skips_are_not_counted(side, stride, dilation, read):
    problem = make_problem(
        (800, 800),
        (side, side),
        "float32",
        "float32",
        mode="same",
        stride=stride,
        dilation=dilation,
    )
    assert get_backend("cpu").pixels_read(problem) == read


def buffer_of(problem, dtype, rank, missing=""):
    """Slots of a task's row buffer, and its bytes, as compiled code allocates it."""
    size = np.dtype(dtype).itemsize
    strides = (size * problem.w, size), (size * problem.s, size)
    plan = planning.plan_sums(problem, dtype, rank, *strides, missing=missing)
    slots, params = int(plan.layout.source["slots"][0]), plan.params[0]
    return slots, slots * int(params["pitch"] * params["planes"] * params["size"])


@pytest.mark.parametrize(
    ("side", "taps", "dilation", "slots"),
    [
        (1000, 9, 190, 17 * 190),
        (1000, 9, 250, 18),
        (1000, 31, 100, 39 * 100),  # rows would be loaded eight times
        (1000, 31, 200, 62),
        (1000, 31, 400, 62),
        (3000, 3, 700, 6),
        (3000, 41, 500, 82),
    ],
)
def test_a_row_buffer_does_not_grow_with_taps_times_dilation(side, taps, dilation, slots):
    problem = make_problem(
        (side, side), (taps, taps), "float32", "float32", mode="same", boundary="wrap",
        dilation=dilation,
    )  # fmt: skip
    found, nbytes = buffer_of(problem, "float32", 0)
    assert found == slots and nbytes < 54 * MIB
    assert buffer_of(problem, "float32", 1) == (found, nbytes)
    for more in (buffer_of(problem, "float64", 0), buffer_of(problem, "float32", 0, "many")):
        assert more[1] < 2 * 54 * MIB
        assert more[0] == (slots if slots < 100 else 2 * taps)  # of twice the bytes


@pytest.mark.parametrize("border", BOUNDARIES)
@pytest.mark.parametrize("stride", [1, (2, 3)])
@pytest.mark.parametrize("dtype", ["float32", "uint8", "complex64"])
def test_buffered_rows_of_windows_have_the_bits_of_others(
    fresh_plans, monkeypatch, dtype, stride, border
):
    rng = np.random.default_rng(8)
    x, k = sample(rng, (2, 37, 41), dtype), sample(rng, (2, 3, 5), dtype)
    u, v = sample(rng, (4, 1), dtype), sample(rng, (1, 3), dtype)
    keywords = dict(mode="same", boundary=border, stride=stride, dilation=(7, 2))

    def every_way():
        sums.forget_plans()
        yield gpuconv.corr2d(x, k, method="direct", **keywords)
        if dtype != "uint8":
            yield gpuconv.corr2d(x, u * v, method="separable", **keywords)
        if dtype == "float32":
            holes = np.where(rng.random(x.shape) < 0.2, np.nan, x)
            yield gpuconv.normalized_corr2d(holes, np.abs(k), method="direct", **keywords)

    problem = make_problem(
        x.shape[1:], k.shape[1:], "float32", "float32", **keywords
    )  # fmt: skip
    slots, found = [], []
    for most in (1 << 60, 0):
        monkeypatch.setattr(planning, "_BUFFER_BYTES", most)
        monkeypatch.setattr(planning, "_BUFFER_BYTES_EACH", most)
        rng = np.random.default_rng(9)
        found.append(list(every_way()))
        slots.append(buffer_of(problem, "float32", 0)[0])
    assert slots[1] == 6 < slots[0]
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_far_rows_of_large_images_are_copied(monkeypatch, dtype):
    """Only with a number of rows of taps in between, and to the same bits."""
    monkeypatch.setattr(in_place, "LINE_BYTES", vectors.vector_bytes())

    def copied(shape, taps, **more):
        problem = make_problem(shape, (taps, 3), dtype, dtype, **more)
        item = np.dtype(dtype).itemsize
        return not in_place.reads_in_place(problem, dtype, 0, (shape[1] * item, item))

    far, near, page = (5000, 5000), (9000, 1500), (8192, 8192)
    assert [copied(far, taps) for taps in (5, 6, 24, 25)] == [False, True, True, False]
    assert not copied(near, 7)
    assert not copied(page, 7)
    assert not copied((100, 5000), 7)
    assert not copied(far, 7, dilation=2)
    rng = np.random.default_rng(6)
    x, k = sample(rng, (90, 1001), dtype), sample(rng, (7, 5), dtype)
    results = []
    for stride in (1 << 40, 0):
        sums.forget_plans()
        monkeypatch.setattr(in_place, "_FAR_ROW", stride)
        monkeypatch.setattr(in_place, "_STREAMED_BYTES", stride)
        results.append(gpuconv.corr2d(x, k, mode="same", method="direct"))
        problem = make_problem(x.shape, k.shape, dtype, dtype, mode="same")
        assert in_place.reads_in_place(problem, dtype, 0, x.strides) == bool(stride)
    sums.forget_plans()
    assert results[0].tobytes() == results[1].tobytes()
