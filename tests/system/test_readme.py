"""The code of README, the tables of "In detail" and that of other libraries are true."""

import doctest
import re
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
import scipy.signal

import gpuconv

README = Path(__file__).parents[2] / "README.md"
TEXT = README.read_text("utf-8")
X = np.random.default_rng(6).random((20, 24))
K = np.random.default_rng(7).random((3, 3))


IN_DETAIL = (README.parent / "docs" / "in-detail.md").read_text("utf-8")
MIGRATING = (README.parent / "docs" / "howto" / "migrating.md").read_text("utf-8")


def table(heading, text=IN_DETAIL):
    part = text.split(f"# {heading}")[1].split("\n## ")[0]
    rows = re.findall(r"^\|(.+)\|$", part, re.M)[2:]
    return [[cell.strip().strip("`") for cell in row.split("|")] for row in rows]


def test_code():
    failed, run = doctest.testfile(str(README), module_relative=False)
    assert run >= 4
    assert failed == 0


def test_commands():
    commands = re.findall(r"```sh\n(.*?)\n```", TEXT, re.S)
    assert len(commands) == 2
    assert commands[0].endswith("gpuconv demo")
    assert "python -m pytest" in commands[1]


def test_links():
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (README.parent / target).exists(), target


@pytest.mark.parametrize("row", table("Borders"), ids=lambda row: row[0])
def test_borders(row):
    ours, numpy_name, signal, ndimage, _ = row
    y = gpuconv.corr2d(X, K, mode="same", boundary=ours, fillvalue=0)
    padded = np.pad(X, 1, mode=numpy_name)
    np.testing.assert_allclose(gpuconv.corr2d(padded, K), y, atol=1e-13)
    if signal:
        expected = scipy.signal.correlate2d(X, K, "same", signal)
        np.testing.assert_allclose(y, expected, atol=1e-13)
        np.testing.assert_array_equal(gpuconv.corr2d(X, K, mode="same", boundary=signal), y)
    np.testing.assert_allclose(y, scipy.ndimage.correlate(X, K, mode=ndimage), atol=1e-13)


@pytest.mark.needs("cv2")
@pytest.mark.parametrize("row", table("Borders"), ids=lambda row: row[0])
def test_borders_of_opencv(row):
    import cv2

    y = gpuconv.corr2d(X, K, mode="same", boundary=row[0])
    bordered = cv2.copyMakeBorder(X, 1, 1, 1, 1, getattr(cv2, row[4]))
    np.testing.assert_allclose(gpuconv.corr2d(bordered, K), y, atol=1e-13)


OPTIONAL = ("cv2", "skimage", "astropy")


@pytest.mark.parametrize(
    ("there", "here"),
    [
        pytest.param(
            *row,
            marks=[pytest.mark.needs(name) for name in OPTIONAL if name in row[0]],
            id=row[0][:40],
        )
        for row in table("Coming from elsewhere") + table("Coming from another library", MIGRATING)
    ],
)
def test_migration(there, here):
    names = dict(np=np, X=X, K=K, gpuconv=gpuconv, scipy=scipy)
    if there.startswith("cv2"):
        import cv2

        names["cv2"] = cv2
    if there.startswith("astropy"):
        import astropy.convolution

        names["astropy"] = astropy
    if there.startswith("skimage"):
        import skimage.feature
        import skimage.registration

        names["skimage"] = skimage
    actual = eval(here, dict(names))
    if there.startswith("torch"):
        torch = pytest.importorskip("torch")
        names |= dict(torch=torch, X=torch.from_numpy(X), K=torch.from_numpy(K))
    # CuPy's filters are documented to equal SciPy's, which is what a machine without a GPU has.
    expected = np.asarray(eval(there.replace("cupyx.scipy", "scipy"), names))
    single = expected.dtype == "float32"
    np.testing.assert_allclose(
        actual, expected, atol=1e-5 if single else 1e-13, rtol=1e-5 if single else 1e-7
    )


def test_what_replaces_a_function_has_a_row():
    here = [row[1] for row in table("Coming from another library", MIGRATING)]
    names = ["corr2d", "convolve2d", "normalized_corr2d", "normalized_convolve2d", "nn.conv2d"]
    names += ["match_template", "phase_cross_correlation"]
    for module in ("ndimage", "signal"):
        names += [f"{module}.{name}" for name in getattr(gpuconv, module).__all__]
    assert [n for n in names if not any(f"gpuconv.{n}(" in call for call in here)] == []


def test_even_kernels_of_ndimage():
    k = np.random.default_rng(1).random((4, 2))
    p, q = k.shape
    y = gpuconv.corr2d(
        X, k, mode=((p // 2, p - 1 - p // 2), (q // 2, q - 1 - q // 2)), boundary="symmetric"
    )
    np.testing.assert_allclose(y, scipy.ndimage.correlate(X, k), atol=1e-13)


@pytest.mark.parametrize("row", table("Methods and backends")[:4], ids=lambda row: row[0])
def test_methods_by_backend(row):
    from gpuconv.backends import get_backend

    for name, cell in zip(("reference", "cpu", "cuda"), row[1:4], strict=True):
        assert (row[0] in get_backend(name).methods) == (cell == "yes")
