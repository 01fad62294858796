"""Every file is filtered to what its meaning gives in float64, or refused before the work."""

import numpy as np
import pytest
from scipy import ndimage

from gpuconv.cli import main

from ...marks import exhaustive
from . import corpus

tifffile = pytest.importorskip("tifffile")
pytest.importorskip("imagecodecs")
pytest.importorskip("astropy")

# No row or column is like another, and the sum is 1.
WEIGHTS = np.array([[0.05, 0.1, 0.02], [0.2, 0.3, 0.08], [0.15, 0.06, 0.04]])
KEPT = (
    "gray-u2-big.tif", "gray-f8-little.tif", "bits-1-white.tif", "palette-8-little.tif",
    "rgb-u1-separate-3-unassalpha.tif", "rgb-u2-contig-1-None.tif", "bands-5-contig.tif",
    "pages-3-columns.tif", "cmyk-8.tif", "orientation-6-rgb.tif", "ome-TCZYX.tif", "mixed.tif",
    "group4.tif", "mode-P.png", "deep-4.png", "key-RGB.png", "exif-8.jpg", "animation.gif",
    "array-rgb.npy", "group-2.zarr", "fits-u2.fits", "lzw-rgb-tiles.tif", "cielab.tif",
    "xmp-8.png", "pyramid.tif", "ycbcr-jpeg.tif", "ycbcr.tif", "palette-4.tif", "plain-3.ppm",
)  # fmt: skip


def cases():
    found = corpus.all_cases()
    assert len(found) >= 150
    assert set(KEPT) <= {str(case) for case in found}
    return [
        pytest.param(case, id=str(case), marks=[] if str(case) in KEPT else [exhaustive])
        for case in found
    ]


def correlate(planes):
    """(pages, rows, columns, channels), each plane by itself."""
    return ndimage.correlate(planes, WEIGHTS[None, :, :, None], mode="reflect")


def expected(meaning):
    """What the output holds, alpha last, before rounding."""
    if meaning.alpha is None:
        return correlate(meaning.pixels)
    alpha = correlate(meaning.alpha)
    colours = correlate(meaning.pixels * meaning.alpha)
    colours = np.where(alpha > 0, colours / np.where(alpha > 0, alpha, 1), 0)
    white = np.iinfo(meaning.dtype).max if np.dtype(meaning.dtype).kind in "iu" else 1
    return np.concatenate([colours, alpha * white], axis=-1)


INSTEAD = {"float16": "float32", "float64": "float32", "int64": "float32", "uint64": "float32"}


def run(case, folder, name):
    """Write and filter a file: its meaning, the exit code, the output's path and what was there."""
    source, out = folder / str(case), folder / name
    meaning = case.write(source)
    np.save(folder / "weights.npy", WEIGHTS)
    before = sorted(folder.iterdir())
    command = ["filter", str(source), str(out), "--kernel", str(folder / "weights.npy")]
    return meaning, main([*command, "--backend", "reference"]), out, before


def check_refused(error, folder, before):
    assert error.startswith("gpuconv: error: ")
    assert error.count("\n") == 1
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("case", cases())
def test_is_filtered_by_its_meaning(case, tmp_path, capsys):
    meaning, code, out, before = run(case, tmp_path, "out.tif")
    error = capsys.readouterr().err
    if case.refused is not None:
        assert code != 0
        assert case.refused in error
        check_refused(error, tmp_path, before)
        return
    assert code == 0, error
    with tifffile.TiffFile(out) as file:
        y = file.asarray().astype(np.float64)
        page, dtype = file.pages[0], file.series[0].dtype
    y = y.reshape(-1, *meaning.pixels.shape[1:3], int(page.samplesperpixel))
    want = expected(meaning)
    assert dtype == INSTEAD.get(meaning.dtype, meaning.dtype)
    assert ("written as" in error) == (meaning.dtype in INSTEAD)
    assert y.shape == want.shape
    assert (2 in page.extrasamples) == (meaning.alpha is not None)
    if want.shape[-1] in (3, 4) and "bands" not in case.name:
        assert page.photometric == 2
    compare(y, want, meaning)


@exhaustive
@pytest.mark.parametrize("case", cases())
def test_as_a_png_or_refused(case, tmp_path, capsys):
    imagecodecs = pytest.importorskip("imagecodecs")
    meaning, code, out, before = run(case, tmp_path, "out.png")
    error = capsys.readouterr().err
    holds = case.refused is None and len(meaning.pixels) == 1
    holds = holds and meaning.dtype in ("uint8", "uint16") and "bands" not in case.name
    if not holds:
        assert code != 0
        check_refused(error, tmp_path, before)
        return
    assert code == 0, error
    y, want = imagecodecs.png_decode(out.read_bytes()), expected(meaning)
    assert y.dtype == meaning.dtype
    compare(y.reshape(want.shape).astype(np.float64), want, meaning)


def compare(y, want, meaning):
    dtype = np.dtype(INSTEAD.get(meaning.dtype, meaning.dtype))
    if dtype.kind == "f":
        scale = np.abs(meaning.pixels).max()
        np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-5 * scale)
        return
    if dtype.kind == "b":
        np.testing.assert_array_equal(y, np.rint(want))
        return
    # Rounded to the nearest; both neighbours of a tie are right, as sums may end beside it.
    slack = 0.5 + 1e-6 + meaning.levels + 1e-12 * np.iinfo(dtype).max
    if meaning.alpha is not None:
        clear = want[..., -1] < 0.5 + 1e-6
        assert (y[clear][:, :-1] == 0).all() or clear.sum() == 0
        y, want = y[~clear], want[~clear]
    assert np.abs(y - want).max() <= slack
