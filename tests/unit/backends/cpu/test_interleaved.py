"""Channels that take turns in memory: summed where they are, with the bits of separate images."""

import numpy as np
import pytest

import gpuconv
from gpuconv.backends.cpu import interleaved, sums
from gpuconv.core.boundary import BOUNDARIES

from ....marks import cross
from ....oracle import sample

RNG = np.random.default_rng(33)
GAUSSIAN = np.outer(*[np.exp(-(np.linspace(-2, 2, 7) ** 2))] * 2)
KERNELS = {
    "3x3": ("direct", RNG.standard_normal((3, 3))),
    "5x4": ("direct", RNG.standard_normal((5, 4))),
    "9x17": ("direct", RNG.standard_normal((9, 17))),
    "derivative": ("direct", np.array([[1, 0, -1]])),
    "gaussian": ("separable", GAUSSIAN),
    "box": ("box", np.full((3, 5), 0.5)),
    "fft": ("fft", RNG.standard_normal((5, 5))),
}
PLACES = [
    *({"mode": "same", "boundary": border} for border in BOUNDARIES),
    {"mode": "full", "fillvalue": 2},
    {"mode": "valid"},
    {"mode": ((1, 2), (0, 5)), "dilation": (2, 3)},
    {"mode": "same", "stride": (2, 1), "boundary": "wrap"},
    {"mode": "same", "stride": (1, 2), "boundary": "edge"},
]


def fits(k_shape, shape, keywords):
    """Whether a kernel is no larger than the padded image."""
    if keywords["mode"] in ("same", "full"):
        return True
    pads = ((0, 0), (0, 0)) if keywords["mode"] == "valid" else keywords["mode"]
    dilations = keywords.get("dilation", (1, 1))
    axes = zip(k_shape, shape, pads, dilations, strict=True)
    return all((taps - 1) * step < n + sum(pad) for taps, n, pad, step in axes)


@pytest.mark.parametrize(
    ("dtype", "channels", "shape", "kernel"),
    cross(
        ["float32", "uint8", "float64", "complex64", "float16"],
        [3, 4, 2, 5],
        [(40, 50), (17, 300), (9, 8)],
        list(KERNELS),
    ),
    ids=str,
)
def test_each_channel_is_summed_as_an_image_of_its_own(dtype, channels, shape, kernel):
    method, k = KERNELS[kernel]
    k = k.astype("float64" if dtype == "float64" else "float32")
    x = sample(RNG, (*shape, channels), dtype)
    for keywords in PLACES:
        if not fits(k.shape, shape, keywords):
            continue
        if method == "fft" and dtype == "float16":
            continue
        options = dict(method=method, **keywords)
        y = gpuconv.corr2d(x, k, axes=(0, 1), **options)
        alone = [
            gpuconv.corr2d(np.ascontiguousarray(x[..., c]), k, **options) for c in range(channels)
        ]
        if method in ("fft", "box"):  # grouped by place
            np.testing.assert_allclose(y, np.stack(alone, axis=-1), rtol=2e-3, atol=2e-3)
        else:
            np.testing.assert_array_equal(y, np.stack(alone, axis=-1))
        # The result has the image's layout, in calls that are seen again, too.
        for again in (y, gpuconv.corr2d(x, k, axes=(0, 1), **options)):
            assert again.flags.c_contiguous
            assert again.tobytes() == y.tobytes()


def test_photos_in_batches_and_banks():
    x = RNG.standard_normal((4, 30, 40, 3)).astype("f4")
    k = RNG.standard_normal((4, 1, 3, 3)).astype("f4")  # a kernel for each photo
    y = gpuconv.corr2d(x, k, axes=(1, 2), mode="same")
    for photo, weights, found in zip(x, k, y, strict=True):
        for c in range(3):
            alone = gpuconv.corr2d(photo[..., c].copy(), weights[0], mode="same")
            np.testing.assert_array_equal(found[..., c], alone)
    k = RNG.standard_normal((3, 3, 3)).astype("f4")  # a kernel for each channel
    y = gpuconv.corr2d(x, k, axes=(1, 2), mode="same")
    alone = gpuconv.corr2d(x[1, ..., 2].copy(), k[2], mode="same")
    np.testing.assert_array_equal(y[1, ..., 2], alone)


def test_crops_and_results_elsewhere():
    photo = sample(RNG, (50, 60, 3), "uint8")
    k = RNG.standard_normal((3, 3)).astype("f4")
    whole = gpuconv.corr2d(photo, k, axes=(0, 1))
    np.testing.assert_array_equal(
        gpuconv.corr2d(photo[5:40, 7:50], k, axes=(0, 1)), whole[5:38, 7:48]
    )
    out = np.zeros((48, 58, 4), np.float32)[..., :3]  # channels of which one is left out
    assert gpuconv.corr2d(photo, k, axes=(0, 1), out=out) is out
    np.testing.assert_array_equal(out, whole)
    upside_down = gpuconv.corr2d(photo[::-1], k, axes=(0, 1))
    alone = gpuconv.corr2d(photo[::-1, :, 1].copy(), k)
    np.testing.assert_array_equal(upside_down[..., 1], alone)


def test_nothing_is_gathered(monkeypatch):
    """A photo is one problem of rows as wide as all channels together."""
    planned, plan_sums = [], sums.plan_sums

    def noting(problem, *arguments, **keywords):
        planned.append(problem)
        return plan_sums(problem, *arguments, **keywords)

    monkeypatch.setattr(sums, "plan_sums", noting)
    k = RNG.standard_normal((3, 3)).astype("f4")
    gpuconv.corr2d(np.zeros((70, 80, 3), "f4"), k, axes=(0, 1), mode="same")
    [problem] = planned
    assert (problem.x_shape, problem.channels, problem.dilation) == ((70, 240), 3, (1, 3))
    joined = interleaved.join_channels(problem, (960, 4), (960, 4), 4)
    assert joined.problem is problem
