"""Repeated normalised correlations of small images: the same as when they are read anew."""

import itertools

import numpy as np
import pytest

import gpuconv
from gpuconv.imaging import normalized_arrays, normalized_prepared

from ...marks import cross

RNG = np.random.default_rng(7)
KERNELS = {
    "5x5": RNG.random((5, 5)),
    "Gaussian": np.outer([1.0, 2, 1], [1.0, 2, 1]),
    "signs": np.array([[1.0, -0.5, 2]]),
}
OPTIONS = [
    dict(mode="same"),
    dict(mode="same", boundary="reflect", min_weight=0.5) | dict(undefined=-1.0),
    dict(mode="full", fillvalue=2.0),
    dict(stride=2, dilation=(1, 2), nan_policy="propagate"),
    dict(mode="same", dtype="float64"),
    dict(mode="same", preserve_nan=True),
    dict(mode=((1, 2), (0, 1)), dtype="float16"),
]


@pytest.fixture(autouse=True)
def forgotten():
    normalized_prepared.forget()
    yield
    normalized_prepared.forget()


def images(dtype, missing):
    x = (100 * RNG.random((3, 21, 34))).astype(dtype)
    if missing and x.dtype.kind == "f":
        x[:, 3:9, 5:7] = np.nan
    return x


def same(mine, theirs):
    assert (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape)
    assert mine.tobytes() == theirs.tobytes()


@pytest.mark.parametrize(
    ("dtype", "name", "options"),
    cross(["float32", "float64", "uint8", "int16", "float16"], [*KERNELS], OPTIONS),
)
def test_repeated_calls_give_what_new_ones_do(dtype, name, options):
    if name == "signs" and "min_weight" in options:
        options = options | dict(min_weight=0.0)
    k = KERNELS[name].astype("f8" if dtype == "float64" else "f4")
    masks = None, RNG.random((21, 34)) < 0.3
    for missing, mask in itertools.product((False, True), masks):
        for x in images(dtype, missing):
            mine = gpuconv.normalized_corr2d(x, k, mask=mask, **options)
            kept = dict(normalized_prepared._seen)
            normalized_prepared.forget()
            same(mine, gpuconv.normalized_corr2d(x, k, mask=mask, **options))
            normalized_prepared._seen.update(kept)


def test_so_many_calls_are_kept(monkeypatch):
    monkeypatch.setattr(normalized_prepared, "_CALLS_MOST", 2)
    normalized_prepared.forget()
    k = KERNELS["5x5"].astype("f4")
    for size in (18, 19, 20, 18):
        x = images("float32", True)[0][:size, :20]
        found = gpuconv.normalized_corr2d(x, k)
        assert 1 <= len(normalized_prepared._seen) <= 2
        same(found, gpuconv.normalized_corr2d(x, k))


def test_what_is_kept_is_for_these_weights_and_rules():
    x, k = images("float32", True)[0], KERNELS["5x5"].astype("f4")
    first = gpuconv.normalized_corr2d(x, k, mode="same")
    assert len(normalized_prepared._seen) == 1
    other = k.copy()
    k[0, 0] += 1  # the caller's array changes
    changed = gpuconv.normalized_corr2d(x, k, mode="same")
    assert len(normalized_prepared._seen) == 2
    assert not np.array_equal(changed, first, equal_nan=True)
    same(gpuconv.normalized_corr2d(x, other, mode="same"), first)
    flipped = gpuconv.normalized_convolve2d(x, other[::-1, ::-1], mode="same")
    np.testing.assert_allclose(flipped, first, rtol=1e-6)
    assert len(normalized_prepared._seen) == 3
    loud = dict(mode="same", nan_policy="raise")
    for _ in range(2):
        full = gpuconv.normalized_corr2d(np.nan_to_num(x), other, **loud)
        assert np.isfinite(full).all()
        with pytest.raises(ValueError, match="X holds NaN pixels"):
            gpuconv.normalized_corr2d(x, other, **loud)


def test_only_calls_seen_before_are_not_read(monkeypatch):
    x, k = images("float32", True)[0], KERNELS["5x5"].astype("f4")
    calls = [
        dict(mode="same"),
        dict(mode="same", mask=np.isnan(x)),
        dict(mode="same", preserve_nan=True),
        dict(mode="same", out=np.empty_like(x)),
        dict(mode="same", weights=np.ones_like(x)),
        dict(mode="same", mask=np.isnan(x).tolist()),
    ]
    for keywords in calls:
        gpuconv.normalized_corr2d(x, k, **keywords)
    read, new = [], normalized_arrays.normalize
    monkeypatch.setattr(
        normalized_arrays, "normalize", lambda *given: read.append(given) or new(*given)
    )
    counts = []
    for keywords in calls:
        gpuconv.normalized_corr2d(x, k, **keywords)
        counts.append(len(read))
    assert counts == [0, 0, 1, 2, 3, 4]


@pytest.mark.parametrize("layout", ["strided", "transposed", "big-endian", "unaligned", "subclass"])
def test_any_layout_of_a_repeated_call(layout):
    x, k = images("float32", True)[0], KERNELS["5x5"].astype("f4")
    wanted = [gpuconv.normalized_corr2d(x, k, mode="same") for _ in range(2)][1]
    raw = np.zeros(x.nbytes + 1, np.uint8)
    raw[1:] = np.frombuffer(x.tobytes(), np.uint8)
    views = {
        "strided": np.repeat(x, 2, axis=1)[:, ::2],
        "transposed": np.asfortranarray(x),
        "big-endian": x.astype(">f4"),
        "unaligned": raw[1:].view("f4").reshape(x.shape),
        "subclass": np.ma.masked_array(x, np.isnan(x)),
    }
    for _ in range(2):
        mine = gpuconv.normalized_corr2d(views[layout], k, mode="same")
        np.testing.assert_allclose(np.asarray(mine), wanted, rtol=1e-6)  # unaligned in blocks
        if layout != "unaligned":
            same(np.asarray(mine), wanted)


def test_banks_of_one_kernel_keep_their_dimension():
    x, k = images("float32", True)[0], KERNELS["5x5"].astype("f4")
    wanted = gpuconv.normalized_corr2d(x, k)
    for shape in ((1, 5, 5), (1, 1, 5, 5)):
        for _ in range(3):
            found = gpuconv.normalized_corr2d(x, k.reshape(shape))
            same(found, wanted.reshape(*shape[:-2], *wanted.shape))


def test_a_mask_that_does_not_fit_is_refused_again():
    x, k = images("float32", False)[0], KERNELS["5x5"].astype("f4")
    gpuconv.normalized_corr2d(x, k)
    for wrong, error in ((np.zeros((20, 34), bool), ValueError), (np.zeros(x.shape), TypeError)):
        with pytest.raises(error, match="mask"):
            gpuconv.normalized_corr2d(x, k, mask=wrong)
