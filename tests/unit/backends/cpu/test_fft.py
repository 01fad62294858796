"""Fourier transforms on the CPU: tiles of every size, what is not finite, spectra kept."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest

import gpuconv
from gpuconv.backends.cpu import backend as cpu
from gpuconv.backends.cpu import fft, fft_plan, fft_spectra
from gpuconv.backends.cpu.jit.fft import fft_driver, fft_transforms
from gpuconv.core.problem import make_problem

from ....marks import always
from ....oracle import sample

SMALL = [side for side in fft_plan.SIDES if side <= 256]
LARGE = [side for side in fft_plan.SIDES if side > 256]
FLOATS = ["float32", "float64"]
COMPLEX = ["complex64", "complex128"]


@pytest.fixture
def force(monkeypatch):
    """Make all tiles of given sides."""

    def force(*sides):
        monkeypatch.setattr(fft_plan, "sides", lambda problem: sides)
        monkeypatch.setattr(cpu, "own_transforms", lambda problem: True)
        fft_plan.tile_plan.cache_clear()

    fft_plan.tile_plan.cache_clear()
    yield force
    fft_plan.tile_plan.cache_clear()


@pytest.fixture
def spectra(monkeypatch):
    """The spectra kept, none at first."""
    monkeypatch.setattr(fft_spectra, "_cache", fft_spectra.SpectrumCache(fft_plan.SPECTRA_BYTES))
    return fft_spectra.cache()._kept


@pytest.fixture
def made(monkeypatch, spectra):
    """Counts spectra as they are made."""
    calls, make = [], fft_driver.make_spectrum
    monkeypatch.setattr(fft_driver, "make_spectrum", lambda *a: (calls.append(1), make(*a)))
    return calls


def check(x, k, slack=0.0, bad=None, **keywords):
    """Compare with direct sums in float64; `bad` says which pixels are not to be compared."""
    got = gpuconv.corr2d(x, k, method="fft", backend="cpu", **keywords)
    wide = "c16" if np.result_type(x, k).kind == "c" else "f8"
    wide = x.astype(wide), k.astype(wide)
    keywords.pop("dtype", None)
    clean = wide[0] if bad is None else np.where(bad, 0, wide[0])
    wanted = gpuconv.corr2d(clean, wide[1], method="direct", **keywords)
    fill = abs(keywords.pop("fillvalue", 0))
    sizes = gpuconv.corr2d(
        np.abs(clean), np.abs(wide[1]), method="direct", fillvalue=fill, **keywords
    )
    eps = np.finfo(np.result_type(x, k) if got.dtype.kind in "fc" else "f4").eps
    if got.dtype.itemsize == 2:
        eps = np.finfo("f4").eps
    error = np.abs(got.astype(wanted.dtype) - wanted)
    if bad is not None:
        error = error[np.isfinite(got)]
        assert error.size
    assert got.shape == wanted.shape
    assert (error <= 64 * eps * sizes.max() + slack * np.abs(wanted).max()).all(), float(
        error.max() / (eps * sizes.max())
    )
    return got


@pytest.mark.parametrize("dtype", FLOATS + COMPLEX)
@pytest.mark.parametrize("sides", list(itertools.product(SMALL, SMALL)), ids=str)
def test_tiles_of_every_size(force, spectra, sides, dtype):
    rng = np.random.default_rng(1)
    kernel = (5, 9)
    steps = [n - m + 1 for n, m in zip(sides, kernel, strict=True)]
    force(*sides)
    for tiles_y, tiles_x in ((1, 1), (1, 3), (3, 1), (2, 2)):
        r, s = (tiles_y - 1) * steps[0] + 5, (tiles_x - 1) * steps[1] + 7
        x = sample(rng, (r + kernel[0] - 1, s + kernel[1] - 1), dtype)
        check(x, sample(rng, kernel, dtype))
    # All of a tile is used: its last row and column too.
    x = sample(rng, sides, dtype)
    check(x, sample(rng, kernel, dtype))
    check(x[:7, :11], sample(rng, kernel, dtype), mode="full", boundary="wrap")


@pytest.mark.parametrize("dtype", FLOATS + COMPLEX)
@pytest.mark.parametrize("side", LARGE)
def test_large_sides(force, side, dtype):
    rng = np.random.default_rng(2)
    for sides in ((32, side), (side, 32)):
        force(*sides)
        x = sample(rng, (sides[0] + 3, sides[1] - 1), dtype)
        check(x, sample(rng, (7, 5), dtype), mode="same")


@pytest.mark.parametrize("dtype", FLOATS + COMPLEX)
@pytest.mark.parametrize(
    "keywords",
    [
        dict(stride=(2, 1)),
        dict(stride=(1, 3)),
        dict(stride=(5, 7), mode="full"),
        dict(dilation=(2, 3)),
        dict(dilation=(3, 1), stride=(2, 2), mode="same", boundary="reflect"),
        dict(mode=((20, 3), (0, 41)), boundary="symmetric"),
        dict(mode=9, fillvalue=-2.5),
    ],
    ids=str,
)
def test_strides_dilation_and_borders(force, dtype, keywords):
    rng = np.random.default_rng(2)
    k = sample(rng, (4, 5), dtype)
    for sides in ((32, 32), (64, 128), None):
        if sides:
            force(*sides)
        for shape in ((10, 13), (77, 140), (23, 91)):
            check(sample(rng, shape, dtype), k, **keywords)


@pytest.mark.parametrize("dtype", FLOATS + COMPLEX)
def test_batches_and_banks(force, spectra, dtype):
    rng = np.random.default_rng(3)
    force(32, 64)
    for x_lead, k_lead in (((5,), (5,)), ((2, 1), (3,)), ((3,), ()), ((), (4,)), ((2, 3), (2, 1))):
        x = sample(rng, (*x_lead, 40, 75), dtype)
        k = sample(rng, (*k_lead, 3, 6), dtype)
        got = check(x, k, mode="same")
        lead = np.broadcast_shapes(x_lead, k_lead)
        xs, ks = np.broadcast_to(x, (*lead, 40, 75)), np.broadcast_to(k, (*lead, 3, 6))
        for index in np.ndindex(lead):
            alone = gpuconv.corr2d(xs[index], ks[index], method="fft", mode="same")
            np.testing.assert_array_equal(got[index], alone)
    assert gpuconv.corr2d(x[:0], k[:0], method="fft").shape == (0, 3, 38, 70)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, "huge"])
@pytest.mark.parametrize("stride", [1, (2, 3)])
def test_bad_pixels_stay_in_their_windows(force, dtype, bad, stride):
    rng = np.random.default_rng(4)
    force(32, 64)
    k = sample(rng, (5, 6), dtype)
    k[np.abs(k) < 0.05] = 0.5
    if bad == "huge":
        bad = float(np.finfo(dtype).max)
        k[0, 0], k[-1, -1] = 3.0, 0.25  # times these it overflows, and does not
    x = sample(rng, (90, 170), dtype)
    places = [(0, 0), (27, 58), (28, 59), (45, 100), (89, 169), (45, 101)]
    for some in (places, places[:1], places[4:5]):
        image, where = x.copy(), np.zeros(x.shape, bool)
        for place in some:
            image[place], where[place] = bad, True
        with np.errstate(invalid="ignore", over="ignore"):
            direct = gpuconv.corr2d(image, k, method="direct", stride=stride)
            got = gpuconv.corr2d(image, k, method="fft", stride=stride)
        np.testing.assert_array_equal(np.isfinite(got), np.isfinite(direct))
        if some is places:
            assert not np.isfinite(got).all()
        np.testing.assert_array_equal(np.isnan(got), np.isnan(direct))
        if np.isfinite(bad):
            continue  # where nothing overflows, a tile's errors are relative to its largest sum
        touched = gpuconv.corr2d(where, np.ones(k.shape, bool), stride=stride) > 0
        np.testing.assert_array_equal(got[touched], direct[touched])
        sizes = gpuconv.corr2d(np.abs(x), np.abs(k), stride=stride)
        error = np.abs(got[~touched] - direct[~touched])
        assert (error <= 64 * np.finfo(dtype).eps * sizes.max()).all()


@pytest.mark.parametrize("dtype", FLOATS + COMPLEX)
def test_threads_do_not_change_a_bit(monkeypatch, dtype):
    rng = np.random.default_rng(5)
    x, k = sample(rng, (3, 200, 330), dtype), sample(rng, (17, 12), dtype)
    x[1, 50, 60] = np.nan
    results = []
    for threads in (1, 2, 3, 100):
        # What plans; Numba would wait for ever for threads that it has not started.
        planned = SimpleNamespace(thread_count=lambda threads=threads: threads)
        monkeypatch.setattr(cpu, "threads", planned)
        results.append(gpuconv.corr2d(x, k, method="fft", mode="same"))
    problem, strides = make_problem(x.shape, k.shape, dtype, dtype, mode="same"), results[0].strides
    plans = [fft_plan.tile_plan(problem, x.strides, strides, threads) for threads in (1, 2, 3)]
    workers = {plan.workers for plan in plans}
    assert workers == {1, 2, 3}
    for other in results[1:]:
        np.testing.assert_array_equal(results[0], other)


@pytest.mark.parametrize("dtype", FLOATS + COMPLEX)
@pytest.mark.parametrize("shape", [(61, 40), (1, 40), (61, 1)])
def test_threads_work_together_on_few_large_tiles(monkeypatch, force, dtype, shape):
    rng, calls, together = np.random.default_rng(7), [], fft._transform_together
    monkeypatch.setattr(fft, "_transform_together", lambda *a: (calls.append(1), together(*a))[1])
    force(1024, 1024 if dtype == "float32" else 512)
    x, k = sample(rng, (1000, 500), dtype), sample(rng, shape, dtype)
    with_nan, huge = x.copy(), x * np.finfo(dtype).max ** 0.7
    with_nan[500, 300] = np.nan
    zero = np.zeros_like(x)
    for image in (x, np.stack([x, zero, x[::-1]]), with_nan, huge, zero):
        results = []
        for threads in (1, 2, 5):
            planned = SimpleNamespace(thread_count=lambda threads=threads: threads)
            monkeypatch.setattr(cpu, "threads", planned)
            calls.clear()
            results.append(gpuconv.corr2d(image, k, method="fft"))
            assert len(calls) == (math.prod(image.shape[:-2]) < threads)
        for other in results[1:]:
            np.testing.assert_array_equal(results[0], other)
        direct = gpuconv.corr2d(image, k, method="direct")
        np.testing.assert_array_equal(np.isfinite(results[0]), np.isfinite(direct))
        np.testing.assert_allclose(
            results[0], direct, rtol=0, equal_nan=True,
            atol=200 * np.finfo(dtype).eps * np.nanmax(np.abs(direct), initial=0),
        )  # fmt: skip
    bank = np.stack([k, -k])
    got = gpuconv.corr2d(x, bank, method="fft")
    np.testing.assert_array_equal(got[0], -got[1])


def test_threads_that_find_no_memory_for_a_large_tile_work_alone(monkeypatch, force):
    force(1024, 1024)
    x, k = sample(np.random.default_rng(8), (1000, 1000), "float32"), np.ones((5, 5), "float32")
    wanted = gpuconv.corr2d(x, k, method="fft")
    empty, refused = np.empty, []

    def refusing(shape, dtype=float, **keywords):
        if np.dtype(dtype) == np.int8 and np.ndim(shape) == 0 and shape > 1 << 20:
            refused.append(shape)
            raise MemoryError
        return empty(shape, dtype, **keywords)

    planned = SimpleNamespace(thread_count=lambda: 2)
    monkeypatch.setattr(cpu, "threads", planned)
    gpuconv.corr2d(x, k, method="fft")
    monkeypatch.setattr(fft.np, "empty", refusing)
    np.testing.assert_array_equal(gpuconv.corr2d(x, k, method="fft"), wanted)
    assert len(refused) == 2  # of all threads, and of one


def test_a_spectrum_is_made_once(made, spectra):
    rng = np.random.default_rng(6)
    x, k = sample(rng, (100, 120), "float32"), sample(rng, (11, 13), "float32")
    first = gpuconv.corr2d(x, k, method="fft")
    for other in (k, k.copy(), np.asfortranarray(k), k[::-1, ::-1].copy()[::-1, ::-1]):
        np.testing.assert_array_equal(gpuconv.corr2d(x, other, method="fft"), first)
    assert (len(made), len(spectra)) == (1, 1)


class Hashed(bytes):
    """Bytes that count how often they are hashed."""

    times = 0

    def __hash__(self):
        type(self).times += 1
        return super().__hash__()


def test_the_last_weights_are_compared_and_not_hashed():
    cache, spectrum = fft_spectra.SpectrumCache(1 << 20), np.ones(3)
    cache.put(b"weights", "key", spectrum)
    Hashed.times = 0
    assert cache.get(Hashed(b"weights"), "key") is spectrum
    assert not Hashed.times
    assert cache.get(b"weights", "other key") is cache.get(b"others", "key") is None
    assert cache.get(b"weights", "key") is spectrum


def test_changed_weights_have_another_spectrum(made):
    rng = np.random.default_rng(7)
    x, k = sample(rng, (100, 120), "float32"), sample(rng, (11, 13), "float32")
    for count in range(1, 4):
        check(x, k)
        assert len(made) == count
        k[5, 5] += 1
    # Of the same bytes: another shape, another dilation, another dtype, another kernel of a bank.
    square = sample(rng, (2, 4, 9), "float32")
    for kernel in (square[0], square[0].reshape(9, 4), square[0].reshape(6, 6), square):
        check(x, kernel)
        check(x, kernel, dilation=2)
        check(x, kernel, dilation=(2, 1))
    check(x.astype("f8"), square[0].astype("f8"))
    check(x.astype("f8"), square[0].reshape(2, 18).view("f8"))


def test_spectra_are_bounded(monkeypatch, made, spectra):
    rng = np.random.default_rng(8)
    x = sample(rng, (60, 70), "float32")
    kernels = sample(rng, (40, 5, 5), "float32")
    wanted = [gpuconv.corr2d(x, k, method="direct") for k in kernels]
    gpuconv.corr2d(x, kernels[0], method="fft")
    (one,) = (memory.nbytes for memory in spectra.values())
    for limit in (5 * one, one - 1):
        monkeypatch.setattr(fft_spectra.cache(), "_most", limit)
        for _ in range(2):
            for k, y in zip(kernels, wanted, strict=True):
                got = gpuconv.corr2d(x, k, method="fft")
                np.testing.assert_allclose(got, y, atol=1e-4)
                assert len(spectra) <= max(1, limit // one)
        assert len(spectra) == max(1, limit // one)
    before = len(made)
    gpuconv.corr2d(x, kernels[-1], method="fft")  # the latest is still there
    assert len(made) == before
    monkeypatch.setattr(fft_spectra.cache(), "_most", 2 * one)
    got = gpuconv.corr2d(x, kernels, method="fft")  # a bank larger than what is kept
    np.testing.assert_allclose(got, wanted, atol=1e-4)
    assert len(spectra) == 2


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("x_shape", "k_shape", "dilation", "own"),
    [
        ((20, 4200), (1, 4098), 1, False),
        ((4160, 20), (4099, 2), 1, False),
        ((4300, 40), (3, 2), (2100, 1), True),
        ((30, 1150), (1, 1025), 1, True),
        ((1025, 40), (1024, 3), 1, True),
        ((20, 1100), (2, 1000), 1, True),
    ],
)
def test_the_largest_kernels(dtype, x_shape, k_shape, dilation, own):
    rng = np.random.default_rng(9)
    x, k = sample(rng, x_shape, dtype), sample(rng, k_shape, dtype)
    problem = make_problem(x_shape, k_shape, dtype, dtype, dilation=dilation)
    assert cpu.own_transforms(problem) is own
    check(x, k, dilation=dilation)
    bad = np.zeros(x_shape, bool)
    bad[3, 5] = True
    with np.errstate(invalid="ignore"):
        y = check(np.where(bad, np.nan, x).astype(dtype), k, bad=bad, dilation=dilation)
    touched = gpuconv.corr2d(bad, np.ones(k_shape, bool), dilation=dilation) > 0
    np.testing.assert_array_equal(np.isnan(y), touched)


def test_half_precision():
    ml = pytest.importorskip("ml_dtypes")
    rng = np.random.default_rng(10)
    x, k = sample(rng, (90, 140), "float32"), sample(rng, (9, 8), "float32")
    for dtype, half in ((np.float16, 2.0**-11), (ml.bfloat16, 2.0**-8)):
        got = check(x.astype(dtype), k.astype(dtype), slack=half, mode="same")
        assert got.dtype == dtype
        got = check(x.astype(dtype), k, mode="same")
        assert got.dtype == np.float32
        for wide in ("f4", "f8"):
            got = check(x.astype(wide), k.astype(wide), slack=half, dtype=dtype)
            assert got.dtype == dtype


@pytest.mark.parametrize("dtype", FLOATS + COMPLEX)
def test_out_of_any_layout(force, dtype):
    rng = np.random.default_rng(11)
    x, k = sample(rng, (2, 70, 110), dtype), sample(rng, (4, 7), dtype)
    force(32, 64)
    wanted = gpuconv.corr2d(x, k, method="fft")
    r, s = wanted.shape[-2:]
    for out in (
        np.full((2, s, r), np.nan, dtype).transpose(0, 2, 1),
        np.full((2, r, 2 * s), np.nan, dtype)[:, ::-1, ::-2],
        np.full((4, 3 * r, s + 1), np.nan, dtype)[::2, ::3, 1:],
        np.full(2 * r * s * wanted.itemsize + 1, 255, "u1")[1:].view(dtype).reshape(2, r, s),
    ):
        assert gpuconv.corr2d(x, k, method="fft", out=out) is out
        np.testing.assert_array_equal(out, wanted)
    for image in (np.asfortranarray(x), x[:, ::-1, ::-1].copy()[:, ::-1, ::-1]):
        np.testing.assert_array_equal(gpuconv.corr2d(image, k, method="fft"), wanted)


@pytest.mark.parametrize("n", fft_transforms.RADICES)
def test_factors_fit_the_stages(n):
    assert set(fft_transforms.RADICES) == {*fft_plan.SIDES, *fft_plan.THIRDS}
    radices = fft_transforms.RADICES[n]
    assert math.prod(radices) == n
    assert set(radices[1:]) <= {4, 8}
    assert radices[0] == (8 if n in fft_plan.SIDES else 3)
    stages, m = [], n
    for r in radices:
        stages.append((m, r))
        m //= r
    for dtype in FLOATS:
        factors = fft_transforms.twiddles(n, dtype)
        assert factors.dtype == dtype
        turns = np.concatenate([
            [k * q / m for k in range(m // r) for q in range(1, r)] for m, r in stages
        ])  # fmt: skip
        wanted = np.exp(-2j * np.pi * turns)
        got = factors[::2] + 1j * factors[1::2].astype("f8")
        np.testing.assert_allclose(got, wanted, atol=np.finfo(dtype).eps)
        assert tuple(fft_plan.radices(n)[: len(radices)]) == radices
        np.testing.assert_array_equal(fft_plan.twiddles(n, dtype), factors)


@pytest.mark.parametrize("n", fft_transforms.RADICES)
def test_places_of_frequencies(n):
    """Those that stages leave, which divide what they are given into blocks of a few numbers."""
    x = np.random.default_rng(n).standard_normal(n)
    blocks, m = x.reshape(1, n), n
    for r in fft_transforms.RADICES[n]:
        angles = np.arange(r)[:, None] * np.arange(m // r) / m
        parts = np.fft.fft(blocks.reshape(-1, r, m // r), axis=1) * np.exp(-2j * np.pi * angles)
        m //= r
        blocks = parts.reshape(-1, m)
    frequencies = fft_plan.frequencies(n)
    np.testing.assert_allclose(blocks.ravel(), np.fft.fft(x)[frequencies], atol=1e-9)
    k = np.arange(n // 2)
    first, negative = frequencies[fft_plan.frequency_places(n, 64) // 64]
    np.testing.assert_array_equal(first, k)
    np.testing.assert_array_equal(negative, np.where(k == 0, n // 2, n - k))
    pairs = frequencies[fft_plan.frequency_pairs(n)]
    np.testing.assert_array_equal(pairs.sum(axis=1) % n, 0)
    np.testing.assert_array_equal(pairs[:, 0], np.arange(n // 2 + 1))


@pytest.mark.parametrize(
    ("x_dtype", "dtype"),
    always(
        list(
            itertools.product(
                ["bool", "int16", "uint64", "float16", "float64", "complex64"], COMPLEX
            )
        ),
        ("uint64", "complex128"),
        ("float16", "complex64"),
        ("complex64", "complex64"),
        rows=True,
    ),
)
def test_complex_weights_over_pixels_of_any_dtype(force, dtype, x_dtype):
    rng = np.random.default_rng(12)
    force(32, 64)
    x, k = sample(rng, (50, 83), x_dtype), sample(rng, (4, 7), dtype)
    for keywords in ({}, dict(mode="same", boundary="wrap"), dict(mode=5, fillvalue=2 - 3j)):
        wanted = gpuconv.corr2d(x, k, method="direct", **keywords)
        got = gpuconv.corr2d(x, k, method="fft", **keywords)
        assert got.dtype == wanted.dtype
        eps = np.finfo(got.dtype).eps
        assert np.abs(got - wanted).max() <= 64 * eps * np.abs(x).max() * np.abs(k).sum()
        for image in (np.asfortranarray(x), x[::-1, ::-1].copy()[::-1, ::-1]):
            again = gpuconv.corr2d(image, k, method="fft", **keywords)
            np.testing.assert_array_equal(again, got)


@pytest.mark.parametrize("dtype", COMPLEX)
@pytest.mark.parametrize("bad", [np.nan, complex(0, np.inf), complex(np.nan, 1)])
def test_bad_complex_pixels_stay_in_their_windows(force, dtype, bad):
    rng = np.random.default_rng(13)
    force(32, 64)
    x, k = sample(rng, (2, 90, 170), dtype), sample(rng, (5, 6), dtype)
    clean = gpuconv.corr2d(x, k, method="fft", mode="same", stride=(1, 2), boundary="wrap")
    x[1, 45, 101] = x[1, 0, 169] = bad
    with np.errstate(invalid="ignore"):
        got = gpuconv.corr2d(x, k, method="fft", mode="same", stride=(1, 2), boundary="wrap")
        direct = gpuconv.corr2d(x, k, method="direct", mode="same", stride=(1, 2), boundary="wrap")
    np.testing.assert_array_equal(np.isfinite(got), np.isfinite(direct))
    np.testing.assert_array_equal(got[0], clean[0])
    finite = np.isfinite(got)
    bound = 64 * np.finfo(dtype).eps * np.abs(k).sum() * np.abs(x[0]).max()
    assert np.abs(got - clean)[finite].max() <= bound


@pytest.mark.parametrize("dtype", FLOATS)
def test_bad_pixels_of_wide_tiles(force, dtype):
    """Tall kernels are summed in strips narrower than such a tile, whose columns are two apart."""
    rng = np.random.default_rng(15)
    force(128, 4096)
    x, k = sample(rng, (126, 4101), dtype), sample(rng, (124, 3), dtype)
    x[60, 7] = np.nan
    got, wanted = (gpuconv.corr2d(x, k, method=name, stride=(1, 2)) for name in ("fft", "direct"))
    np.testing.assert_array_equal(np.isnan(got), np.isnan(wanted))
    bound = 64 * np.finfo(dtype).eps * np.nanmax(np.abs(x)) * np.abs(k).sum()
    assert np.nanmax(np.abs(got - wanted)) <= bound


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("bad", ["pixel", "weight"])
def test_bad_pixels_under_large_kernels(monkeypatch, force, dtype, bad):
    """SciPy's transforms take them out: direct sums of such a tile take minutes."""
    rng = np.random.default_rng(16)
    keywords = dict(mode=((300, 0), (0, 200)), boundary="wrap", stride=(2, 1), method="fft")
    x, k = sample(rng, (2, 700, 810), dtype), sample(rng, (500, 501), dtype)
    force(1024, 1024)
    clean = gpuconv.corr2d(x, k, **keywords)
    monkeypatch.setattr(fft.sums, "direct", None)
    monkeypatch.setattr(fft, "_sum_real_tiles", None)
    if bad == "weight":
        k[3, 4] = np.nan
        assert np.isnan(gpuconv.corr2d(x, k, **keywords)).all()
        return
    where = np.zeros((700, 810))
    where[650, 7] = 1
    x[1, 650, 7] = np.nan
    got = gpuconv.corr2d(x, k, **keywords)
    keywords |= dict(method="box")
    touched = gpuconv.corr2d(where, np.ones(k.shape), **keywords) > 0
    assert 0 < touched.mean() < 1
    np.testing.assert_array_equal(np.isnan(got[1]), touched)
    np.testing.assert_array_equal(got[0], clean[0])
    sizes = gpuconv.corr2d(np.abs(x[0]), np.ones(k.shape, dtype), **keywords)
    bound = 64 * np.finfo(dtype).eps * np.abs(k).max() * sizes.max()
    assert np.abs(got[1] - clean[1])[~touched].max() <= bound


def test_bad_pixels_of_a_narrow_image():
    """Narrow images are summed by whole rows where no tile asks for some columns."""
    x, k = np.ones((70, 60), "float32"), np.ones((3, 3), "float32")
    x[3, 4] = np.nan
    np.testing.assert_array_equal(
        np.isnan(gpuconv.corr2d(x, k, method="fft")), np.isnan(gpuconv.corr2d(x, k))
    )


@pytest.mark.parametrize("dtype", always(FLOATS + COMPLEX, "float32", "complex64"))
@pytest.mark.parametrize("shape", [(1, 2), (1, 61), (37, 1), (2, 1), (1, 1)])
def test_lines_of_taps(spectra, dtype, shape):
    """Only the axis that taps lie along is transformed."""
    rng = np.random.default_rng(8)
    x, k = sample(rng, (3, 80, 140), dtype), sample(rng, shape, dtype)
    check(x, k, mode="full", boundary="wrap")
    check(x, k, stride=(2, 3), dilation=(1, 2) if shape[0] == 1 else (2, 1))
    x[1, 30, 40] = np.nan
    y = gpuconv.corr2d(x, k, method="fft", backend="cpu", mode="same")
    np.testing.assert_array_equal(
        np.isnan(y), np.isnan(gpuconv.corr2d(x, k, method="direct", mode="same"))
    )


@pytest.mark.parametrize("shape", [(1, 90), (90, 1)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_lines_whose_taps_cancel(dtype, shape):
    rng = np.random.default_rng(9)
    x = 1000 + sample(rng, (120, 130), dtype)
    x[50] *= 1e4  # a bright row beside others
    k = sample(rng, shape, dtype)
    k -= k.mean()
    got = gpuconv.corr2d(x, k, method="fft", backend="cpu")
    wanted = gpuconv.corr2d(x.astype("f8"), k.astype("f8"), method="direct")
    sizes = gpuconv.corr2d(np.abs(x.astype("f8")), np.abs(k.astype("f8")), method="direct")
    error = np.abs(got - wanted)
    assert (error <= 64 * np.finfo(dtype).eps * sizes.max()).all()


@pytest.mark.parametrize("dtype", ["float32", "complex128"])
@pytest.mark.parametrize("taps", [9, 31, 63, 100])
def test_images_of_a_batch_have_the_bits_that_each_has_alone(dtype, taps):
    x, k = (sample(np.random.default_rng(4), s, dtype) for s in ((3, 512, 512), (taps, taps)))
    for count in (2, 3):
        y = gpuconv.corr2d(x[:count], k, mode="same", method="fft")
        for image, found in zip(x, y, strict=False):
            alone = gpuconv.corr2d(image, k, mode="same", method="fft")
            np.testing.assert_array_equal(found, alone)
