"""The CPU backend's loops: blocks, vectors, borders, edges, stores, memory around the arrays."""

import itertools
import subprocess
import sys

import numpy as np
import pytest

import gpuconv
from gpuconv.backends.cpu import in_place, planning, sums
from gpuconv.backends.cpu.jit import vectors
from gpuconv.backends.cpu.jit.direct import micro_kernel, narrow_images
from gpuconv.core import accumulator
from gpuconv.core.boundary import BOUNDARIES
from gpuconv.core.problem import make_problem
from gpuconv.methods.weights import Weights

from ....marks import always, cross
from ....oracle import exact, problem_of, sample

WIDTHS = [
    n + i
    for n, more in [(1, 20), (31, 3), (47, 6), (63, 4), (95, 4), (127, 5), (300, 1)]
    for i in range(more)
]
HEIGHTS = range(1, 10)
KERNELS = [(1, 1), (1, 6), (6, 1), (2, 2), (3, 3), (5, 5), (4, 7), (17, 2), (2, 17), (7, 40)]
METHODS = ["direct", "separable"]
FLOATS = ["float32", "float64"]


def whole_numbers(rng, shape, dtype):
    """Pixels whose sums are exact in every dtype, so that results can be compared bit for bit."""
    return rng.integers(0, 8, shape).astype(dtype)


def weights_for(rng, method, shape, dtype):
    if method == "separable":
        # Powers of two: whatever the factors are, they are exact.
        u, v = rng.choice([1, 2, -4], shape[0]), rng.choice([-1, 2, 4], shape[1])
        return np.outer(u, v).astype(dtype)
    return rng.integers(-4, 5, shape).astype(dtype)


def separable_weights(rng, shape, dtype):
    if np.dtype(dtype).kind in "iu":
        u, v = (rng.integers(1, 5, n).astype(dtype) for n in shape)
    else:
        u, v = (sample(rng, n, dtype) for n in shape)
    return np.outer(u, v)


def shifted(array, columns):
    """The same values, `columns` elements apart in memory."""
    wide = np.zeros((*array.shape[:-1], array.shape[-1] * columns), array.dtype)
    view = wide[..., ::columns]
    view[...] = array
    return view


@pytest.mark.parametrize(
    ("shape", "method"),
    always(
        list(itertools.product(KERNELS, METHODS)),
        ((3, 3), "direct"),
        ((4, 7), "separable"),
        rows=True,
    ),
    ids=str,
)
def test_widths_and_heights(method, shape):
    rng = np.random.default_rng(1)
    p, q = shape
    x = whole_numbers(rng, (max(HEIGHTS) + p - 1, max(WIDTHS) + q - 1), "float32")
    k = weights_for(rng, method, shape, "float32")
    expected = gpuconv.corr2d(x, k, backend="reference")
    images = {"in place": x, "other dtype": x.astype("u1"), "columns apart": shifted(x, 2)}
    ways = list(itertools.product(images, ("plain", "float64", "columns apart")))
    for (i, s), (j, r) in itertools.product(enumerate(WIDTHS), enumerate(HEIGHTS)):
        # Every size by the first way and by one of all nine; each width and each height, by all.
        for name, out in {ways[0], ways[(i % 3 + j // 3) % 3 * 3 + (i // 3 + j) % 3]}:
            wanted = expected[:r, :s]
            y = np.full((2 * r, 3 * s), np.nan, "f4")[::2, ::3] if out == "columns apart" else None
            got = gpuconv.corr2d(
                images[name][: r + p - 1, : s + q - 1], k, method=method, backend="cpu",
                dtype="float64" if out == "float64" else None, out=y,
            )  # fmt: skip
            assert y is None or got is y
            assert got.dtype == ("float64" if out == "float64" else "float32")
            assert np.array_equal(got, wanted), (name, s, r, out)


@pytest.mark.parametrize(
    ("boundary", "method", "kernel"),
    always(
        list(
            itertools.product(
                BOUNDARIES, METHODS, [(1, 1), (2, 2), (3, 3), (5, 5), (4, 7), (2, 17)]
            )
        ),
        ("reflect", "direct", (3, 3)),
        ("reflect", "direct", (4, 7)),
        rows=True,
    ),
)
def test_borders(method, boundary, kernel):
    rng = np.random.default_rng(2)
    pads = [((1, 1), (1, 1)), ((0, 3), (2, 0)), ((11, 9), (23, 20)), ((0, 0), (1, 2))]
    steps = [
        ((1, 1), (1, 1)),
        ((2, 1), (1, 1)),
        ((1, 3), (1, 1)),
        ((1, 2), (1, 1)),
        ((3, 4), (1, 1)),
        ((1, 1), (2, 3)),
        ((3, 2), (2, 2)),
    ]
    for size in ((3, 5), (1, 1), (4, 17), (9, 131)):
        x = whole_numbers(rng, size, "float32")
        k = weights_for(rng, method, kernel, "float32")
        for pad, (stride, dilation) in itertools.product(pads, steps):
            rows, columns = (
                n + sum(side) - (m - 1) * d
                for n, side, m, d in zip(size, pad, kernel, dilation, strict=True)
            )
            if min(rows, columns) < 1:
                continue
            keywords = dict(mode=pad, boundary=boundary, fillvalue=3, stride=stride,
                            dilation=dilation)  # fmt: skip
            got = gpuconv.corr2d(x, k, method=method, backend="cpu", **keywords)
            wanted, _ = exact(problem_of(x, k, **keywords), x, k)
            assert np.array_equal(got, wanted), (size, kernel, keywords)


@pytest.mark.parametrize(("method", "boundary", "dtype"), cross(METHODS, BOUNDARIES, FLOATS))
def test_columns_beside_the_border_have_the_same_bits(method, boundary, dtype):
    rng = np.random.default_rng(3)
    cases = [
        ((3, 3), ((1, 1), (1, 1))),
        ((5, 5), ((2, 2), (2, 2))),
        ((4, 7), ((0, 2), (3, 0))),
        ((2, 17), ((1, 0), (0, 9))),
        ((6, 1), ((3, 2), (0, 1))),
    ]
    fill = {"constant_values": np.dtype(dtype).type(0.3)} if boundary == "constant" else {}
    seen = set()
    for (kernel, pad), height in itertools.product(cases, (1, 4, 7, 35, 300)):
        for width in (127, 300, 1200) if height < 300 else (300,):
            if width < 32 * sum(pad[1]):
                continue
            x = sample(rng, (height, width), dtype)
            k = (separable_weights if method == "separable" else sample)(rng, kernel, dtype)
            for dilation, stride in ((1, 1), (1, (2, 1)), ((2, 3), 1)):
                span = [(n - 1) * d + 1 for n, d in zip(kernel, np.broadcast_to(dilation, 2),
                                                        strict=True)]  # fmt: skip
                if height + sum(pad[0]) < span[0]:
                    continue
                keywords = dict(dilation=dilation, stride=stride, method=method, backend="cpu")
                got = gpuconv.corr2d(x, k, mode=pad, boundary=boundary, fillvalue=0.3, **keywords)
                wanted = gpuconv.corr2d(np.pad(x, pad, boundary, **fill), k, **keywords)
                assert np.array_equal(got, wanted), (kernel, pad, x.shape, dilation, stride)
                problem = make_problem(
                    x.shape, k.shape, dtype, dtype, mode=pad, boundary=boundary, fillvalue=0.3,
                    dilation=dilation, stride=stride,
                )  # fmt: skip
                rank = Weights(problem, k).factors().rank if method == "separable" else 0
                params = planning.plan_sums(problem, dtype, rank, x.strides, got.strides).params[0]
                seen.add((bool(params["x_in_place"]), bool(params["edge_most"])))
    assert (True, method == "direct") in seen  # the case in question was among them


@pytest.mark.parametrize(
    ("dtype", "method"),
    always(
        list(itertools.product(["float32", "float64", "int64", "uint8", "int32"], METHODS)),
        ("float32", "direct"),
        ("float64", "separable"),
        ("uint8", "direct"),
        rows=True,
    ),
)
def test_crops_have_the_same_bits(method, dtype):
    rng = np.random.default_rng(4)
    for kernel in ((3, 3), (5, 5), (4, 7), (2, 17), (9, 3)):
        x = sample(rng, (70, 700), dtype)
        k = (separable_weights if method == "separable" else sample)(rng, kernel, dtype)
        whole = gpuconv.corr2d(x, k, method=method, backend="cpu")
        for width in (*range(1, 17), 33, 47, 64, 250, 600):
            r, s = int(rng.integers(1, 14)), width
            i = int(rng.integers(whole.shape[0] - r + 1))
            j = int(rng.integers(whole.shape[1] - s + 1))
            part = x[i : i + r + kernel[0] - 1, j : j + s + kernel[1] - 1]
            for image in (part, part.copy()):
                got = gpuconv.corr2d(image, k, method=method, backend="cpu")
                assert np.array_equal(got, whole[i : i + r, j : j + s]), (kernel, i, j, r, s)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    "kernel",
    always(
        [(1, 1), (3, 3), (5, 5), (2, 17), (7, 1), (4, 20), (1, 9), (1, 20)],
        *[(1, 1), (3, 3), (2, 17), (1, 20)],
    ),
    ids=str,
)
def test_streamed_stores(monkeypatch, fresh_plans, dtype, kernel):
    rng = np.random.default_rng(5)
    p, q = kernel
    size, lanes = np.dtype(dtype).itemsize, vectors.lanes(dtype)
    k = sample(rng, kernel, dtype)
    images = [sample(rng, (r + p - 1, s + q - 1), dtype)
              for r in (1, 3, 4, 6, 9) for s in (lanes, lanes + 1, 50, 97, 131)]  # fmt: skip
    expected = [gpuconv.corr2d(x, k, method="direct") for x in images]
    monkeypatch.setattr(in_place, "_STREAMED_BYTES", 0)
    monkeypatch.setattr(in_place, "_STREAMED_ROW", 0)
    monkeypatch.setattr(in_place, "LINE_BYTES", vectors.vector_bytes())
    monkeypatch.setattr(narrow_images, "fits", lambda *_: False)
    sums.forget_plans()
    pitch = 64 // size * (160 * size // 64 + 1)
    for (x, wanted), offset in itertools.product(
        zip(images, expected, strict=True), (0, 1, 3, lanes - 1, lanes + 2)
    ):
        r, s = wanted.shape
        memory = np.full((r + 2) * pitch + 64 // size, -7.5, dtype)
        first = -memory.ctypes.data % 64 // size  # of a vector's place in memory
        rows = memory[first : first + (r + 2) * pitch].reshape(r + 2, pitch)
        out = rows[1:-1, offset : offset + s]
        assert out.ctypes.data % 64 == offset * size % 64
        problem = make_problem(x.shape, k.shape, dtype, dtype)
        params = planning.plan_sums(problem, dtype, 0, x.strides, out.strides).params[0]
        streamed = micro_kernel.sums(dtype, micro_kernel.ROWS, p, q, 1, True)
        assert params["sum_block_in_place"] == streamed
        gpuconv.corr2d(x, k, method="direct", out=out)
        assert np.array_equal(out, wanted), (x.shape, offset)
        out[...] = -7.5
        assert (memory == -7.5).all(), (x.shape, offset)


def test_streamed_stores_with_borders_and_batches(monkeypatch, fresh_plans):
    rng = np.random.default_rng(6)
    calls = []
    for shape, keywords in (
        ((3, 33, 128), dict(mode="same", boundary="reflect")),
        ((40, 320), dict(mode="same", fillvalue=2.5)),
        ((40, 336), dict(dilation=(3, 1), mode=((3, 3), (1, 1)), boundary="wrap")),
        ((37, 66), dict(stride=(2, 1))),
        ((37, 66), dict(dilation=(2, 1))),
    ):
        x, k = sample(rng, shape, "float32"), sample(rng, (3, 3), "float32")
        calls.append((x, k, keywords, gpuconv.corr2d(x, k, method="direct", **keywords)))
    monkeypatch.setattr(in_place, "_STREAMED_BYTES", 0)
    monkeypatch.setattr(in_place, "_STREAMED_ROW", 0)
    monkeypatch.setattr(in_place, "LINE_BYTES", vectors.vector_bytes())
    sums.forget_plans()
    for x, k, keywords, wanted in calls:
        assert wanted.strides[-2] % 64 == 0
        got = gpuconv.corr2d(x, k, method="direct", **keywords)
        assert np.array_equal(got, wanted), keywords


GUARDED = [("float32", o) for o in ("float32", "float64", "float16", "uint8", "int64", "bfloat16")]
GUARDED += [("float64", o) for o in ("float64", "float32", "float16", "bfloat16")]
GUARDED += [("uint8", o) for o in ("int64", "uint8", "int32", "float32", "float64")]
GUARDED += [("complex64", "complex64"), ("int64", "int64")]


@pytest.mark.parametrize("method", [*METHODS, "fft"])
@pytest.mark.parametrize(
    ("dtype", "out_dtype"),
    always(
        GUARDED,
        ("float32", "float32"), ("float32", "bfloat16"), ("float64", "float16"), ("uint8", "uint8"),
        ("complex64", "complex64"), ("int64", "int64"), rows=True,
    ),
)  # fmt: skip
def test_nothing_outside_out_changes(method, dtype, out_dtype):
    if method == "fft" and dtype in ("uint8", "int64"):
        pytest.skip("integers never go through FFT")
    rng = np.random.default_rng(7)
    if out_dtype == "bfloat16":
        stored = np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    else:
        stored = np.dtype(out_dtype)
    signed = "int8" if dtype == "uint8" else dtype
    for kernel, mode in (((3, 3), "same"), ((2, 5), "valid"), ((4, 2), "full"), ((1, 1), "valid")):
        k = separable_weights(rng, kernel, signed)
        k[0] *= -1
        for r, s in ((1, 1), (2, 15), (4, 16), (5, 17), (3, 40), (9, 63), (7, 100), (6, 131)):
            x = sample(rng, (r + kernel[0] - 1, s + kernel[1] - 1), dtype)
            keywords = dict(mode=mode, boundary="symmetric", method=method, backend="cpu")
            wanted = gpuconv.corr2d(x, k, dtype=out_dtype, **keywords)
            height, width = wanted.shape
            for (top, left), (down, across) in (
                ((2, 3), (1, 1)),
                ((1, 1), (2, 1)),
                ((1, 5), (1, 3)),
            ):
                area = (height * down + 3, width * across + 9)
                raw = np.full(area[0] * area[1] * stored.itemsize, 0xA5, np.uint8)
                whole = raw.view(stored).reshape(area)
                view = whole[
                    top : top + height * down : down, left : left + width * across : across
                ]
                assert gpuconv.corr2d(x, k, out=view, **keywords) is view
                assert view.tobytes() == wanted.tobytes(), (kernel, x.shape, down, across)
                view[...] = np.full(stored.itemsize, 0xA5, np.uint8).view(stored)[0]
                assert (raw == 0xA5).all(), (kernel, x.shape, down, across)


AT_THE_END = """
import ctypes, mmap, sys
import numpy as np
import gpuconv
from numpy.lib.stride_tricks import as_strided

PAGE = mmap.PAGESIZE
libc = ctypes.CDLL(None, use_errno=True)

def fenced(values, front, pitch=None):
    "The values in pages of their own, up to the last byte or from the first on; no access beside."
    size = values.dtype.itemsize
    pitch = pitch or values.shape[1]
    used = ((values.shape[0] - 1) * pitch + values.shape[1]) * size
    pages = -(-used // PAGE)
    memory = mmap.mmap(-1, (pages + 2) * PAGE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for page in (start, start + (pages + 1) * PAGE):
        assert libc.mprotect(ctypes.c_void_p(page), ctypes.c_size_t(PAGE), 0) == 0
    offset = PAGE if front else (pages + 1) * PAGE - used
    flat = np.frombuffer(memory, values.dtype, used // size, offset)
    view = as_strided(flat, values.shape, (pitch * size, size))
    view[...] = values
    return view

rng = np.random.default_rng(8)
for dtype, kernel_dtype in (pair.split(",") for pair in sys.argv[1:]):
    for shape in ((9, 33), (21, 17), (12, 101), (8, 131), (40, 5), (7, 7), (300, 203)):
        x = rng.integers(0, 9, shape).astype(dtype)
        for kernel in ((3, 3), (5, 5), (2, 4)):
            k = np.outer(rng.integers(1, 4, kernel[0]), rng.integers(1, 4, kernel[1]))
            k = k.astype(kernel_dtype)
            for method in ("direct", "separable", "fft"):
                if method == "fft" and kernel_dtype == "i1":
                    continue
                for front in (False, True):
                    for pitch in (None, shape[1] + 3):
                        image, taps = fenced(x, front, pitch), fenced(k, front)
                        for mode in ("valid", "same"):
                            wanted = gpuconv.corr2d(x, k, mode=mode, method=method)
                            out = fenced(np.zeros_like(wanted), front)
                            gpuconv.corr2d(image, taps, mode=mode, method=method, out=out)
                            assert np.array_equal(out, wanted), (dtype, shape, kernel, method)
                            flipped = gpuconv.corr2d(x[::-1], k, mode=mode, method=method)
                            gpuconv.corr2d(image[::-1], taps, mode=mode, method=method, out=out)
                            assert np.array_equal(out, flipped)
                    if method == "fft":
                        continue
                    image, taps = fenced(x, front), fenced(k, front)
                    for mode, stride in (("valid", 2), ("same", (1, 3)), ("same", 4)):
                        keywords = dict(mode=mode, stride=stride, method=method)
                        wanted = gpuconv.corr2d(x, k, **keywords)
                        out = fenced(np.zeros_like(wanted), front)
                        gpuconv.corr2d(image, taps, out=out, **keywords)
                        assert np.array_equal(out, wanted), (dtype, shape, kernel, method, stride)

# Rows of a page each, of which a stride skips some: these may not be read.
x = rng.integers(0, 9, (19, PAGE // 4)).astype("f4")
k = rng.integers(0, 9, (3, 3)).astype("f4")
image = fenced(x, True)
for row in range(19):
    if row % 8 > 2:
        page = image.ctypes.data + row * PAGE
        assert libc.mprotect(ctypes.c_void_p(page), ctypes.c_size_t(PAGE), 0) == 0
for method in ("direct", "separable"):
    taps = np.outer(k[0], k[1]) if method == "separable" else k
    keywords = dict(stride=8, method=method, backend="cpu")
    wanted = gpuconv.corr2d(x, taps, **keywords)
    assert np.array_equal(gpuconv.corr2d(image, taps, **keywords), wanted)
print("done")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mprotect as Linux has it")
@pytest.mark.parametrize("dtypes", always(["f4,f4", "u1,f4", "u1,i1"], "f4,f4"))
def test_nothing_outside_the_arrays_is_read_or_written(dtypes):
    command = [sys.executable, "-c", AT_THE_END, dtypes]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr[-2000:]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "int64"])
def test_serial_and_parallel_forms_have_the_same_bits(monkeypatch, fresh_plans, method, dtype):
    rng = np.random.default_rng(9)
    for shape, kernel, keywords in (
        ((2, 200, 700), (5, 5), dict(mode="same", boundary="reflect")),
        ((100, 130), (3, 3), dict(dilation=(3, 2))),
        ((150, 90), (4, 7), dict(stride=(2, 3), mode="full")),
        ((61, 3000), (2, 17), {}),
    ):
        x = sample(rng, shape, dtype)
        k = separable_weights(rng, kernel, dtype)
        results = []
        for threads, limit in ((1, 1e9), (2, 0), (7, 0)):
            monkeypatch.setattr(planning, "max_threads", lambda threads=threads: threads)
            monkeypatch.setattr(planning, "START", limit)
            sums.forget_plans()
            results.append(gpuconv.corr2d(x, k, method=method, **keywords))
        assert np.array_equal(results[0], results[1])
        assert np.array_equal(results[0], results[2])


EXACT = [  # dtypes of X and K, weights, fill value, dtype of the sums
    ("bool", "int64", [[2**24 - 1, 1]], 0, "float32"),
    ("bool", "int64", [[2**24, 1]], 0, "float64"),
    ("bool", "int64", [[2**52]], 0, "float64"),
    ("bool", "int64", [[2**52 + 2]], 0, "int64"),
    ("bool", "uint64", [[2**52 + 2]], 0, "uint64"),
    ("uint8", "int64", [[65793]], 0, "float32"),
    ("uint8", "int64", [[-65794]], 0, "float64"),
    ("int8", "int64", [[2**16], [-(2**16)]], 0, "float32"),
    ("int8", "int64", [[2**16], [-(2**16) - 1]], 0, "float64"),
    ("uint8", "uint8", [[1, 1]], 2**23, "float32"),
    ("uint8", "uint8", [[1, 1]], 2**23 + 1, "float64"),
    ("uint8", "int8", [[-1, 1]], -(2**51), "float64"),
    ("uint8", "int8", [[-1, 1]], -(2**51) - 1, "int64"),
    ("uint32", "uint8", [[255] * 64] * 64, 0, "float64"),
    ("uint32", "uint16", [[65535] * 5] * 5, 0, "int64"),
    ("int64", "int8", [[1]], 0, "int64"),
]


@pytest.mark.parametrize(
    ("x_dtype", "k_dtype", "weights", "fill", "exact"),
    always(EXACT, *(EXACT[n] for n in (0, 1, 3, 4, 7, 10, 12, 14)), rows=True),
)
def test_integers_are_summed_in_what_holds_them(x_dtype, k_dtype, weights, fill, exact):
    k = np.array(weights, k_dtype)
    keywords = dict(mode=((1, 1), (2, 2)), fillvalue=fill)
    if x_dtype == "bool":
        lowest, highest = False, True
    else:
        lowest, highest = np.iinfo(x_dtype).min, np.iinfo(x_dtype).max
    rng = np.random.default_rng(10)
    shape = (k.shape[0] + 6, k.shape[1] + 40)
    problem = make_problem(shape, k.shape, x_dtype, k_dtype, **keywords)
    if exact == "int64" and problem.acc_dtype == "uint64":
        exact = "uint64"
    wide = k.astype(problem.acc_dtype)
    assert accumulator.choose_exact_accumulator(problem, wide) == exact
    for some in (0.5, 0.01, 0.99):
        x = np.where(rng.random(shape) < some, lowest, highest).astype(x_dtype)
        if x_dtype != "bool":
            x[::3] -= np.array(rng.integers(0, 3, x[::3].shape), x_dtype) * (x[::3] == highest)
        for out in (None, "u1", "i2", "uint64", "int64", "float32", "float64"):
            got = gpuconv.corr2d(x, k, dtype=out, backend="cpu", method="direct", **keywords)
            wanted = gpuconv.corr2d(x, k, dtype=out, backend="reference", **keywords)
            assert got.dtype == wanted.dtype
            assert np.array_equal(got, wanted), (out, got.ravel()[:5], wanted.ravel()[:5])


@pytest.mark.parametrize(
    ("x_dtype", "u", "v", "exact"),
    [
        ("uint8", [100, 157], [128, -128], "float32"),  # 257 * 256 * 255 is just below 2**24
        ("uint8", [100, 158], [128, -128], "float64"),
        ("bool", [2**26], [2**25, 2**25], "float64"),
        ("bool", [2**26], [2**25, 2**25 + 1], "int64"),
        ("int32", [2**20, 7, 1], [2**30, -5], "int64"),
    ],
)
def test_separable_integers_are_summed_in_what_holds_them(x_dtype, u, v, exact):
    rng = np.random.default_rng(11)
    k = np.outer(np.array(u, np.int64), np.array(v, np.int64))
    x = rng.integers(0, 2, (30, 60)).astype(x_dtype)
    if x_dtype != "bool":
        x *= np.iinfo(x_dtype).max
    problem = make_problem(x.shape, k.shape, x_dtype, "int64")
    factors = np.array([[v]], np.int64), np.array([[u]], np.int64)
    assert accumulator.choose_exact_accumulator(problem, *factors) == exact
    for out in (None, "u1", "uint64", "float64"):
        got = gpuconv.corr2d(x, k, method="separable", dtype=out)
        assert np.array_equal(got, gpuconv.corr2d(x, k, backend="reference", dtype=out))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scale", [1, 2**20])  # sums in float32, in float64
@pytest.mark.parametrize("out", ["float16", "float32", "float64"])
def test_integer_zeros_have_no_sign(method, scale, out):
    x = np.zeros((9, 50), np.uint8)
    x[3, 20], x[3, 21] = 1, 1
    k = np.array([[-1, 1], [-2, 2]], np.int64) * scale
    y = gpuconv.corr2d(x, k, method=method, dtype=out, mode="full")
    assert (y == 0).sum() > 100
    assert not np.signbit(y[y == 0]).any()


@pytest.mark.parametrize("method", METHODS)
def test_int64_sums_wrap(method):
    rng = np.random.default_rng(12)
    info = np.iinfo(np.int64)
    x = rng.integers(info.min, info.max, (12, 60), endpoint=True)
    u, v = (rng.integers(-(2**31), 2**31, n) for n in (3, 4))
    k = np.outer(u, v)
    got = gpuconv.corr2d(x, k, method=method)
    wide = np.zeros(got.shape, object)
    for a, b in np.ndindex(k.shape):
        part = x[a : a + got.shape[0], b : b + got.shape[1]].astype(object)
        wide += part * int(k[a, b])
    wrapped = (wide + 2**63) % 2**64 - 2**63
    assert (wide != wrapped).any()
    assert np.array_equal(got, wrapped.astype(np.int64))
    unsigned = gpuconv.corr2d(x.view("u8"), np.abs(k).astype("u8"), method=method)
    assert unsigned.dtype == np.uint64
    signed = gpuconv.corr2d(x, np.abs(k), method=method)
    assert np.array_equal(unsigned.view("i8"), signed)


PADS = [
    {"mode": "same"},
    {"mode": "full", "fillvalue": 2.5},
    {"mode": ((2, 0), (0, 1)), "fillvalue": -1.0},
    {"mode": ((0, 9), (2, 3))},
    {"mode": ((1, 0), (6, 0)), "fillvalue": 3.0},
    {"mode": "same", "boundary": "mirror"},
    {"mode": "full", "boundary": "wrap"},
    {"mode": ((2, 0), (0, 1)), "boundary": "edge"},
    {"mode": ((0, 9), (2, 1)), "boundary": "reflect"},
    {"mode": ((1, 0), (6, 3)), "boundary": "mirror"},  # more columns than a kernel reaches
]


# Rows of so many vectors and of one more: each number has code of its own, of 5 and more in groups.
NARROW = [
    ((3, 3), "float32", (1, 3, 7)),
    ((3, 3), "float32", (2, 4)),
    ((3, 3), "float64", (1, 4)),
    ((2, 2), "float32", (2, 3)),
    ((4, 7), "float64", (1, 2, 3, 4)),
]


@pytest.mark.parametrize(
    ("shape", "dtype", "numbers"), always(NARROW, NARROW[0], rows=True), ids=str
)
def test_whole_rows_of_narrow_images(shape, dtype, numbers):
    rng = np.random.default_rng(9)
    lanes = vectors.lanes(dtype)
    widths = {8, *(n * lanes + off for n in numbers for off in (-3, -1, 0, 1))} - {lanes - 3}
    for w, h, pad in itertools.product(sorted(widths), (8, 13), PADS):
        if isinstance(pad["mode"], tuple) and w + sum(pad["mode"][1]) < shape[1]:
            continue  # narrower than the kernel, on machines of short vectors
        x = whole_numbers(rng, (2, 3, h, w), dtype)[:, :, ::-1]
        k = weights_for(rng, "direct", (3, *shape), dtype)
        expected, _ = exact(problem_of(x, k, **pad), x, k)
        memory = np.full((*expected.shape[:-1], expected.shape[-1] + 2), 7, dtype)
        out = memory[..., 1:-1]
        gpuconv.corr2d(x, k, backend="cpu", method="direct", out=out, **pad)
        assert np.array_equal(out, expected), (w, h, pad)
        assert (memory[..., [0, -1]] == 7).all(), (w, h, pad)


@pytest.mark.parametrize(
    ("size", "columns"), always([(3, 7), (3, 30), (7, 30)], (3, 7), (7, 30), rows=True)
)
def test_any_number_of_rows_of_narrow_images(size, columns):
    # Fewer than a block has, and more than one call of the code of a block sums.
    rng = np.random.default_rng(12)
    k = weights_for(rng, "direct", (size, size), "float32")
    if vectors.vector_bytes() > 16:
        assert narrow_images.fits("float32", columns - size + 1, columns, size, size, 0, None)
    for rows in (*range(1, 11), 63, 64, 65, 66, 127, 130):
        x = whole_numbers(rng, (rows + size - 1, columns), "float32")
        expected, _ = exact(problem_of(x, k), x, k)
        memory = np.full((rows + 2, columns - size + 3), 7, "float32")
        gpuconv.corr2d(x, k, backend="cpu", method="direct", out=memory[1:-1, 1:-1])
        assert np.array_equal(memory[1:-1, 1:-1], expected), rows
        memory[1:-1, 1:-1] = 7
        assert (memory == 7).all(), rows


def test_narrow_images_are_crops_of_wide_ones():
    rng = np.random.default_rng(10)
    x, k = sample(rng, (40, 200), "float32"), sample(rng, (3, 3), "float32")
    whole = gpuconv.corr2d(x, k, backend="cpu", method="direct")
    for first, width in ((0, 58), (7, 64), (100, 18)):
        part = gpuconv.corr2d(x[:, first : first + width], k, backend="cpu", method="direct")
        assert np.array_equal(part, whole[:, first : first + width - 2])


def test_narrow_rows_keep_what_is_not_finite():
    x = np.ones((1, 9, 60), "float32")
    x[0, 4, 0] = np.inf
    got = gpuconv.corr2d(x, np.ones((3, 3), "f4"), mode="same", backend="cpu", method="direct")
    assert np.array_equal(~np.isfinite(got[0]), np.pad(np.ones((3, 2), bool), ((3, 3), (0, 58))))
    same = dict(mode="same", backend="cpu", method="direct")
    around = gpuconv.corr2d(x, np.ones((3, 3), "f4"), boundary="wrap", **same)
    assert np.array_equal(np.flatnonzero(np.isinf(around[0]).any(axis=0)), [0, 1, 59])
    k = np.full((3, 3), np.nan, "f4")
    got = gpuconv.corr2d(x, k, mode="same", backend="cpu", method="direct")
    assert np.isnan(got).all()


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_of_taps_of_any_length_have_the_bits_of_columns(dtype, mirrored):
    """Vectors of pixels are loaded or cut out of others, unrolled or in groups with a rest."""
    rng = np.random.default_rng(5)
    x = rng.standard_normal((6, 399)).astype(dtype)
    for taps in (*range(1, 50), 63, 64, 65, 127):
        k = rng.standard_normal((1, taps)).astype(dtype)
        if mirrored:
            k = k + k[:, ::-1]
        for width in (taps, taps + 16, 256 + taps, 399):
            across = gpuconv.corr2d(x[:, :width], k, method="direct")
            down = gpuconv.corr2d(x[:, :width].T.copy(), k.T.copy(), method="direct")
            np.testing.assert_array_equal(across, down.T)
        expected = (np.lib.stride_tricks.sliding_window_view(x, (1, taps)) * k).sum(axis=(-2, -1))
        tolerance = 1e-5 if dtype == "float32" else 1e-13
        np.testing.assert_allclose(across, expected, atol=tolerance * taps)
