"""Calls made before: the same result, and never that of another call."""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import gpuconv
from gpuconv import call_cache
from gpuconv.backends.cpu import sums

from ..marks import exhaustive
from ..oracle import sample

METHODS = ["auto", "direct", "separable", "fft"]
PACKAGE = Path(gpuconv.__file__).parent
RNG = np.random.default_rng(29)


@pytest.fixture(autouse=True)
def forgotten():
    call_cache._calls.clear()
    yield
    call_cache._calls.clear()


def rank1(rng, shape, dtype="float32"):
    return np.outer(sample(rng, shape[0], dtype), sample(rng, shape[1], dtype))


@pytest.mark.parametrize("call", [gpuconv.corr2d, gpuconv.convolve2d])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "float16", "int32", "uint8"])
def test_a_repeated_call_gives_the_same(call, method, dtype):
    if method == "fft" and dtype == "int32":
        pytest.skip("sums of int32 may be too large for transforms to be exact")
    rng = np.random.default_rng(1)
    for shape, kernel in (((40, 50), (3, 4)), ((3, 90, 130), (9, 7))):
        x, other = sample(rng, shape, dtype), sample(rng, shape, dtype)
        k = np.ones(kernel, dtype)
        k[:, 1:] *= 2
        keywords = dict(mode="same", boundary="reflect", method=method)
        first = call(x, k, **keywords)
        assert call_cache._calls
        for _ in range(2):
            again = call(x, k, **keywords)
            assert again is not first
            np.testing.assert_array_equal(again, first)
        out = np.empty_like(first)
        for _ in range(2):
            assert call(x, k, out=out, **keywords) is out
            np.testing.assert_array_equal(out, first)
        another = call(other, k, **keywords)
        call_cache._calls.clear()
        np.testing.assert_array_equal(another, call(other, k, **keywords))
        assert not np.array_equal(another, first)


def test_corr2d_is_not_convolve2d():
    rng = np.random.default_rng(2)
    x, k = sample(rng, (20, 30), "float32"), sample(rng, (4, 2), "float32")
    for _ in range(3):
        for mode in ("valid", "same"):
            a, b = gpuconv.corr2d(x, k, mode=mode), gpuconv.convolve2d(x, k, mode=mode)
            flipped = np.ascontiguousarray(k[::-1, ::-1])
            assert not np.array_equal(a, b)
            if mode == "valid":
                np.testing.assert_allclose(b, gpuconv.corr2d(x, flipped), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("call", [gpuconv.corr2d, gpuconv.convolve2d])
@pytest.mark.parametrize("method", METHODS)
def test_changed_weights_change_the_result(call, method):
    rng = np.random.default_rng(3)
    x = sample(rng, (200, 300), "float32")
    kernels = [rank1(rng, (9, 9)) for _ in range(3)]
    if method != "separable":
        kernels.insert(1, sample(rng, (9, 9), "float32"))
    wanted = [call(x.astype("f8"), k.astype("f8"), method="direct") for k in kernels]
    k = np.empty((9, 9), "float32")
    for number in [*range(len(kernels)), *range(len(kernels))[::-1], *range(len(kernels))]:
        k[...] = kernels[number]
        got = call(x, k, method=method)
        np.testing.assert_allclose(got, wanted[number], rtol=0, atol=1e-3)
    # The weights seen first, now in another array, while the array seen first holds others.
    for kernel, y in zip(kernels, wanted, strict=True):
        np.testing.assert_allclose(call(x, kernel, method=method), y, rtol=0, atol=1e-3)


def test_a_kernel_that_no_longer_separates_is_refused():
    rng = np.random.default_rng(4)
    x, k = sample(rng, (50, 60), "float32"), rank1(rng, (5, 5))
    for _ in range(2):
        gpuconv.corr2d(x, k, method="separable")
    k[...] = sample(rng, (5, 5), "float32")
    with pytest.raises(ValueError, match="full rank 5"):
        gpuconv.corr2d(x, k, method="separable")


X, K = np.arange(35.0).reshape(5, 7), np.arange(9.0).reshape(3, 3) ** 2


@pytest.mark.parametrize("name", ["stride", "dilation", "mode"])
def test_whole_numbers_are_not_mistaken(name):
    wanted = gpuconv.corr2d(X, K, **{name: 1})
    for good in (1, np.int64(1), np.uint8(1), (1, 1), [1, 1], np.array([1, 1]), (np.int8(1), 1)):
        for _ in range(2):
            np.testing.assert_array_equal(gpuconv.corr2d(X, K, **{name: good}), wanted)
    for bad in (True, 1.0, np.True_, np.float32(1), (True, 1), (1, 1.0), [1, True],
                np.array([1.0, 1.0]), np.array([True, True]), 1 + 0j, None):  # fmt: skip
        for _ in range(2):
            with pytest.raises(TypeError):
                gpuconv.corr2d(X, K, **{name: bad})
    for other in (2, (1, 2), (2, 1), [2, 1], np.array([1, 2])):
        shape = gpuconv.corr2d(X, K, **{name: other}).shape
        call_cache._calls.clear()
        assert gpuconv.corr2d(X, K, **{name: other}).shape == shape


class Index:
    def __init__(self, value):
        self.value = value

    def __index__(self):
        return self.value


def test_objects_that_stand_for_numbers():
    step = Index(1)
    assert gpuconv.corr2d(X, K, stride=step).shape == (3, 5)
    step.value = 2
    assert gpuconv.corr2d(X, K, stride=step).shape == (2, 3)


@pytest.mark.parametrize(
    "fills",
    [
        (0, 0.0, -0.0, False, np.float32(0), -0.0, 0),
        (2, 2.0, True, 1, 2),
        (0.1, np.float32(0.1), np.float64(0.1), np.float16(0.1)),
        (np.array(0.1234567891), np.array(0.1234567892)),
        (1e-20, np.array(1e-20), np.array(1.00000000001e-20)),
        (np.nan, np.inf, -np.inf, np.float32("nan")),
    ],
    ids=str,
)
def test_fill_values_are_not_mistaken(fills):
    one = np.ones((1, 1))
    for value in (*fills, *fills[::-1]):
        y = gpuconv.corr2d(X, one, mode=1, fillvalue=value, method="direct")
        np.testing.assert_array_equal(y[0, 0], float(value))
        assert y.dtype == np.float64


def test_integer_fill_values_are_not_mistaken():
    x, one = X.astype(int), np.ones((1, 1), int)
    for value in (1, True, 1.0, np.uint8(1), 2**53, 2**53 + 1, float(2**53), 1):
        assert gpuconv.corr2d(x, one, mode=1, fillvalue=value)[0, 0] == int(value)
    for bad in (0.5, 2**63, 1j):
        with pytest.raises((TypeError, ValueError)):
            gpuconv.corr2d(x, one, mode=1, fillvalue=bad)


def test_dtypes_are_not_mistaken():
    spellings = ["f4", np.float32, np.dtype("f4"), "float32", "f8", float, "i8", int, "u1", None]
    wanted = ["f4"] * 4 + ["f8"] * 2 + ["i8"] * 2 + ["u1", "f8"]
    for _ in range(2):
        for spelling, name in zip(spellings, wanted, strict=True):
            assert gpuconv.corr2d(X, K, dtype=spelling).dtype == name
            out = np.zeros((3, 5), name)
            gpuconv.corr2d(X, K, out=out)
            np.testing.assert_array_equal(out, gpuconv.corr2d(X, K, dtype=name))
    for _ in range(2):
        with pytest.raises(TypeError, match="contradicts"):
            gpuconv.corr2d(X, K, dtype="f4", out=np.zeros((3, 5)))
        gpuconv.corr2d(X, K, dtype="f8", out=np.zeros((3, 5)))
        for bad in (bool, "U3", object):
            with pytest.raises(TypeError):
                gpuconv.corr2d(X, K, dtype=bad)
    for x in ("f4", "f8", "u1", "i4"):
        for k in ("f4", "f8", "u1", "i4"):
            y = gpuconv.corr2d(X.astype(x), K.astype(k))
            np.testing.assert_array_equal(y, gpuconv.corr2d(X, K))
            call_cache._calls.clear()
            assert y.dtype == gpuconv.corr2d(X.astype(x), K.astype(k)).dtype


@pytest.mark.parametrize("method", METHODS)
def test_out_is_checked_every_time(method):
    k = np.outer([1.0, 2, 3], [1.0, 1, 2])
    whole = np.zeros((30, 7))
    whole[:5] = X
    x = whole[:5]
    wanted = gpuconv.corr2d(X, k, method="direct", mode="same")
    kept = k.copy()
    for _ in range(3):
        out = whole[10:15]
        gpuconv.corr2d(x, k, mode="same", method=method, out=out)
        np.testing.assert_allclose(out, wanted, rtol=1e-12)
        for overlapping in (whole[:5], whole[4:9]):
            with pytest.raises(ValueError, match="out overlaps X"):
                gpuconv.corr2d(x, k, mode="same", method=method, out=overlapping)
        with pytest.raises(ValueError, match="out overlaps K"):
            gpuconv.corr2d(k, out[:3, :3], mode="same", method="direct", out=out[:3, :3])
        out.flags.writeable = False
        with pytest.raises(ValueError, match="read-only"):
            gpuconv.corr2d(x, k, mode="same", method=method, out=out)
        with pytest.raises(ValueError, match="out has shape"):
            gpuconv.corr2d(x, k, mode="same", method=method, out=np.zeros((5, 8)))
        with pytest.raises(TypeError, match="native byte order"):
            gpuconv.corr2d(x, k, mode="same", method=method, out=np.zeros((5, 7), ">f8"))
        strided = np.zeros((10, 7))[::2]
        gpuconv.corr2d(x, k, mode="same", method=method, out=strided)
        np.testing.assert_allclose(strided, wanted, rtol=1e-12)
        with pytest.raises(ValueError, match="share one address"):
            gpuconv.corr2d(
                x, k, mode="same", method=method, out=np.lib.stride_tricks.as_strided(
                    np.zeros(7), (5, 7), (0, 8))
            )  # fmt: skip
    np.testing.assert_array_equal(whole[:5], X)
    np.testing.assert_array_equal(k, kept)


@pytest.mark.parametrize("call", [gpuconv.corr2d, gpuconv.convolve2d])
@pytest.mark.parametrize("dtype", ["float32", "complex64", "uint8"])
def test_other_weights_are_looked_at_without_reading_the_call_anew(monkeypatch, call, dtype):
    rng = np.random.default_rng(9)
    x, n = sample(rng, (300, 310), dtype), 9
    whole = sample(rng, (n, n), dtype)
    product = np.outer(np.arange(1, n + 1), np.arange(n, 0, -1)).astype(dtype)
    several = [whole, product, np.full((n, n), 3, dtype), whole.T.copy(), product.T + 1]
    keywords = dict(mode="same", boundary="edge")
    expected = [call(x, k, method="direct", **keywords) for k in several]
    chosen = [gpuconv.plan(x.shape, k.shape, x_dtype=dtype, kernel=k, **keywords) for k in several]
    methods = {plan.method for plan in chosen}
    assert "separable" in methods and len(methods) > 1
    call(x, several[0].copy(), **keywords)
    monkeypatch.setattr(gpuconv.engine, "correlate_new", None)
    bound = 50 * np.finfo("f4").eps * max(abs(result).max() for result in expected)
    for k, result in zip(several, expected, strict=True):
        found = call(x, k, **keywords)
        assert abs(found.astype("c16") - result).max() <= (0 if dtype == "uint8" else bound)
        kept = k.copy()
        k[0, 0] += 1  # what was kept is not the caller's array
        np.testing.assert_array_equal(call(x, kept, **keywords), found)


def test_other_weights_are_refused_as_the_first_would_be():
    rng = np.random.default_rng(10)
    x, k = sample(rng, (40, 50), "float32"), rank1(rng, (5, 6))
    gpuconv.corr2d(x, k, method="separable")
    with pytest.raises(ValueError, match=r"kernel of shape \(5, 6\) has full rank 5"):
        gpuconv.corr2d(x, sample(rng, (5, 6), "float32"), method="separable")
    gpuconv.corr2d(x, np.ones((5, 6), "f4"), method="box")
    with pytest.raises(ValueError, match="not all equal and finite"):
        gpuconv.corr2d(x, k, method="box")


def test_weights_in_another_byte_order_are_not_taken_for_those_of_these_bytes():
    x = sample(np.random.default_rng(11), (40, 50), "float64")
    k = np.outer([1.0, 2, 3], [1.0, 1, 2])
    wanted = gpuconv.corr2d(x, k, method="separable")
    swapped = k.astype(">f8")
    for _ in range(3):
        np.testing.assert_array_equal(gpuconv.corr2d(x, swapped, method="separable"), wanted)
    # Read in the machine's own order, these bytes are weights seen before.
    same_bytes = k.view(">f8")
    wanted = gpuconv.corr2d(x, same_bytes.astype("f8"), method="direct")
    np.testing.assert_allclose(gpuconv.corr2d(x, same_bytes, method="auto"), wanted, rtol=1e-9)


@pytest.mark.parametrize(
    ("method", "dtype"), [("separable", "float32"), ("box", "float64"), ("fft", "uint8")]
)
def test_a_plan_that_depends_on_the_weights_is_not_made_anew_for_those_seen(
    monkeypatch, method, dtype
):
    rng = np.random.default_rng(8)
    x = sample(rng, (40, 50), dtype)
    k = np.full((3, 4), 2, dtype)
    other = k * 3
    keywords = dict(mode="same", method=method)
    expected = [gpuconv.corr2d(x, weights, **keywords) for weights in (k, other)]
    plan = gpuconv.plan(x.shape, k.shape, x_dtype=dtype, **keywords)
    out = np.zeros_like(expected[0])
    for weights in (k, other):
        plan(x, weights)
        plan(x, weights, out=out)

    def anew(*_):
        raise AssertionError("read and chosen anew")

    with monkeypatch.context() as changed:
        changed.setattr(gpuconv.Plan, "_call_anew", anew)
        for weights, result in zip((k, other, k), (*expected, expected[0]), strict=True):
            np.testing.assert_array_equal(plan(x, weights.copy()), result)
            assert plan(x, weights, out=out) is out
            np.testing.assert_array_equal(out, result)
    k *= 5  # in the caller's array
    np.testing.assert_array_equal(plan(x, k), gpuconv.corr2d(x, k, **keywords))
    np.testing.assert_array_equal(plan(x, k, out=out), gpuconv.corr2d(x, k, **keywords))


def test_photos_are_not_prepared_anew(monkeypatch):
    """Not by a repeated call, nor by a plan, into an array of theirs or not."""
    rng = np.random.default_rng(5)
    photo, k = sample(rng, (30, 40, 3), "uint8"), sample(rng, (3, 3), "float32")
    keywords = dict(mode="same", axes=(0, 1), dtype="uint8")
    wanted = gpuconv.corr2d(photo, k, **keywords)
    plan = gpuconv.plan(photo.shape, k.shape, x_dtype="uint8", k_dtype="float32", **keywords)
    gpuconv.corr2d(photo, k, out=np.empty_like(photo), **keywords)
    plan(photo, k)
    monkeypatch.setattr(gpuconv.engine, "correlate_new", None)
    for out in (None, np.empty_like(photo), np.zeros((3, 30, 40), "u1").transpose(1, 2, 0)):
        for found in (gpuconv.corr2d(photo, k, out=out, **keywords), plan(photo, k, out=out)):
            assert out is None or found is out
            np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("method", METHODS)
def test_byte_order_and_layout(method):
    k = np.outer([1.0, 2, 3], [1.0, 1, 2])
    wanted = gpuconv.corr2d(X, k, method="direct")
    buffer = np.zeros(X.nbytes + 1, np.uint8)
    unaligned = buffer[1:].view(X.dtype).reshape(X.shape)
    unaligned[...] = X
    swapped = X.astype(">f8")
    images = (X, swapped, np.asfortranarray(X), X[::-1].copy()[::-1], unaligned)
    for _ in range(2):
        for image in images:
            for taps in (k, k.astype(">f8"), np.asfortranarray(k), k[:, ::-1].copy()[:, ::-1]):
                got = gpuconv.corr2d(image, taps, method=method)
                np.testing.assert_allclose(got, wanted, rtol=1e-12)
                assert got.dtype.isnative


def test_other_arrays(tmp_path):
    wanted = gpuconv.corr2d(X, K)
    mapped = np.memmap(tmp_path / "x", X.dtype, "w+", shape=X.shape)
    mapped[...] = X
    matrix, taps = X.view(np.matrix), K.view(np.matrix)
    masked = np.ma.masked_array(X, X > 3)
    lists = X.tolist()
    for _ in range(2):
        for x in (X, mapped, matrix, lists):
            got = gpuconv.corr2d(x, K)
            assert type(got) is np.ndarray
            np.testing.assert_array_equal(got, wanted)
            np.testing.assert_array_equal(gpuconv.corr2d(X, taps), wanted)
        for x, k in ((masked, K), (X, np.ma.masked_array(K))):
            with pytest.raises(TypeError, match="masked array"):
                gpuconv.corr2d(x, k)
        out = np.memmap(tmp_path / "out", "f8", "w+", shape=wanted.shape)
        assert gpuconv.corr2d(X, K, out=out) is out
        np.testing.assert_array_equal(out, wanted)
    del mapped, out


@pytest.mark.parametrize("bad", [["edge"], {}, {"edge"}, np.array(["edge"]), None, 3, "edges"])
@pytest.mark.parametrize("name", ["boundary", "backend"])
def test_names_that_are_none(name, bad):
    gpuconv.corr2d(X, K)
    for _ in range(2):
        with pytest.raises((ValueError, TypeError), match=r"unknown|must be") as found:
            gpuconv.corr2d(X, K, **{name: bad})
        assert "unhashable" not in str(found.value)


def test_what_is_remembered_is_bounded():
    x = np.zeros((3, 3))
    for pad in range(call_cache._CALLS_MAX + 10):
        gpuconv.corr2d(x[:, :1], x[:1, :1], mode=((pad, 0), (0, 0)), method="direct")
    assert 0 < len(call_cache._calls) <= call_cache._CALLS_MAX
    call_cache._calls.clear()
    rng = np.random.default_rng(5)
    for _ in range(call_cache._KERNELS_MAX + 10):
        gpuconv.corr2d(X, rank1(rng, (3, 3), "float64"), method="separable")
    (call,) = call_cache._calls.values()
    assert 0 < len(call.by_weights) <= call_cache._KERNELS_MAX


def test_calls_from_many_threads():
    rng = np.random.default_rng(6)
    jobs = []
    for number, method in enumerate(METHODS * 2):
        x = sample(rng, (90 + number, 300), "float32")
        k = rank1(rng, (9, 5 + number))
        jobs.append((x, k, method, gpuconv.corr2d(x, k, method=method, mode="same")))
    call_cache._calls.clear()
    start, wrong = threading.Barrier(8), []

    def work(number):
        start.wait()
        for turn in range(40):
            x, k, method, wanted = jobs[(number + turn * 3) % len(jobs)]
            try:
                if not np.array_equal(gpuconv.corr2d(x, k, method=method, mode="same"), wanted):
                    wrong.append((method, x.shape))
            except Exception as error:
                wrong.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


FIRST_CALLS = """
import sys, threading
import numpy as np
import gpuconv

assert gpuconv.__file__.startswith(sys.argv[1]), gpuconv.__file__
rng = np.random.default_rng(0)
x = rng.integers(0, 9, (400, 600)).astype("f4")
k = np.outer([1, 2, 4, 2, 1], [1, 2, 4, 2, 1]).astype("f4")
wanted = gpuconv.corr2d(x, k, backend="reference")
start, wrong = threading.Barrier(int(sys.argv[2])), []

def work(method):
    start.wait()
    try:
        y = gpuconv.corr2d(x, k, method=method)
        if not np.abs(y - wanted).max() <= (0.05 if method == "fft" else 0):
            wrong.append(method)
    except BaseException as error:
        wrong.append(repr(error))

methods = ["direct", "fft", "separable", "auto"] * 2
threads = [threading.Thread(target=work, args=(m,)) for m in methods[: int(sys.argv[2])]]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(wrong)
"""


def first_calls(threads, package=PACKAGE, **environment):
    """A fresh process whose first calls come from some threads at once."""
    kept = {n: v for n, v in os.environ.items() if n not in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")}
    path = {"PYTHONPATH": str(package.parent)}
    return subprocess.Popen(
        [sys.executable, "-c", FIRST_CALLS, str(package), str(threads)],
        env=kept | path | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=package.parent,
    )  # fmt: skip


def all_right(process):
    try:
        out, error = process.communicate(timeout=1800)  # only so that what hangs ends
    finally:
        process.kill()
    assert (process.returncode, out) == (0, "[]\n"), out + error[-2000:]


@exhaustive
def test_the_very_first_calls_from_many_threads(tmp_path):
    all_right(first_calls(8, NUMBA_CACHE_DIR=str(tmp_path)))
    assert list(tmp_path.rglob("*.nbi"))


@exhaustive
def test_two_processes_fill_one_cache(tmp_path):
    """That of the user, because the package cannot be written."""
    package, home = tmp_path / "site" / "gpuconv", tmp_path / "home"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    home.mkdir()
    for folder in {path.parent for path in package.rglob("*.py")}:
        (folder / "__pycache__").write_bytes(b"")  # no directory, whoever asks
    both = [first_calls(1, package, HOME=str(home)) for _ in range(2)]
    for process in both:
        all_right(process)
    assert list(home.rglob("*.nbi"))
    all_right(first_calls(1, package, HOME=str(home)))


def calls_of(x, k):
    """A call by the call cache and one of a plan, each with a result of its own and given one."""
    plan = gpuconv.plan(x.shape, k.shape, x_dtype=x.dtype, k_dtype=k.dtype, mode="same")
    for call in (lambda x, k, **to: gpuconv.corr2d(x, k, mode="same", **to), plan):
        yield call
        yield lambda x, k, call=call: call(x, k, out=np.empty(x.shape, x.dtype))


@pytest.fixture
def repeated(monkeypatch):
    """One item for each call that was run with less ado."""
    found, repeated_sums = [], sums.repeated

    def spy(*arguments):
        run = repeated_sums(*arguments)
        return run and (lambda *arrays: (found.append(1), run(*arrays))[1])

    monkeypatch.setattr(sums, "repeated", spy)
    return found


def test_calls_are_repeated_on_arrays_of_the_same_strides(repeated):
    x, k = RNG.random((20, 24), "f4"), RNG.random((3, 3), "f4")
    other = RNG.random((20, 24), "f4")
    for call in calls_of(x, k):
        for _ in range(3):
            call(x, k)
        repeated.clear()
        for image, kernel in ((x, k), (other, k), (x, k[::-1].copy()), (other, 2 * k)):
            expected = gpuconv.corr2d(image, kernel, mode="same", backend="reference")
            np.testing.assert_allclose(call(image, kernel), expected, rtol=1e-5)
        assert len(repeated) == 4


def test_other_strides_and_places_are_calls_like_any_other(repeated):
    x, k = RNG.random((20, 24), "f4"), RNG.random((3, 3), "f4")
    unaligned = np.zeros(x.nbytes + 1, np.uint8)[1:].view("f4").reshape(x.shape)
    unaligned[...] = x
    for call in calls_of(x, k):
        expected = [call(x, k) for _ in range(3)][-1]
        repeated.clear()
        wide = np.zeros((20, 48), "f4")
        wide[:, ::2] = x
        for image, kernel in (
            (wide[:, ::2], k),
            (np.asfortranarray(x), k),
            (x[::-1].copy()[::-1], k),
            (unaligned, k),
            (x, np.asfortranarray(k)),
            (x, np.repeat(k, 2, axis=1)[:, ::2]),
        ):
            np.testing.assert_array_equal(call(image, kernel), expected)
        assert not repeated
        np.testing.assert_array_equal(call(x, k), expected)
        assert len(repeated) == 1


def test_results_that_do_not_fit_are_seen_in_repeated_calls(repeated):
    x, k = RNG.random((20, 24), "f4"), RNG.random((3, 3), "f4")
    plan = gpuconv.plan(x.shape, k.shape, mode="same")
    for call in (lambda *a, out: gpuconv.corr2d(*a, mode="same", out=out), plan):
        expected = [call(x, k, out=np.empty_like(x)) for _ in range(3)][-1].copy()
        repeated.clear()
        unaligned = np.zeros(x.nbytes + 1, np.uint8)[1:].view("f4").reshape(x.shape)
        for out in (unaligned, np.empty_like(x, order="F"), np.empty((24, 20), "f4").T):
            np.testing.assert_array_equal(call(x, k, out=out), expected)
        fixed = np.empty_like(x)
        fixed.flags.writeable = False
        for out, text in ((x, "overlaps"), (fixed, "read-only")):
            with pytest.raises(ValueError, match=text):
                call(x, k, out=out)
        assert not repeated


def test_a_repeated_call_that_fails_is_run_like_any_other(repeated, monkeypatch):
    x, k = RNG.random((20, 24), "f4"), RNG.random((3, 3), "f4")
    expected = [gpuconv.corr2d(x, k) for _ in range(3)][-1]
    (call,) = call_cache._calls.values()
    failing = call.for_all_weights.repeater._layout._replace(run=lambda *arrays: False)
    call.for_all_weights.repeater._layout = failing
    np.testing.assert_array_equal(gpuconv.corr2d(x, k), expected)
    assert call.for_all_weights.repeater._layout not in (None, failing)
    sums.forget_plans()  # whoever does wants other plans to be made
    repeated.clear()
    np.testing.assert_array_equal(gpuconv.corr2d(x, k), expected)
