"""The command line: formats, bands, atomic output, errors and exit codes."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import gpuconv
from gpuconv import array_files, cli
from gpuconv.cli import main

RNG = np.random.default_rng(12)


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "in.png"
    Image.fromarray(RNG.integers(0, 256, (40, 50, 3), np.uint8)).save(path)
    return path


def test_picture(photo, tmp_path):
    out = tmp_path / "out.png"
    assert main(["filter", str(photo), str(out), "--filter", "gaussian-1.5"]) == 0
    image = np.asarray(Image.open(photo))
    expected = gpuconv.corr2d(
        np.moveaxis(image, -1, 0), gpuconv.filters.gaussian(1.5), mode="same",
        boundary="symmetric", dtype="u1",
    )  # fmt: skip
    np.testing.assert_array_equal(np.asarray(Image.open(out)), np.moveaxis(expected, 0, -1))
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


@pytest.mark.parametrize("signed", ["abs", "offset", "clip", None])
def test_signed_results(photo, tmp_path, signed):
    out = tmp_path / "out.png"
    extra = ["--signed", signed] if signed else []
    assert main(["filter", str(photo), str(out), "--filter", "edge-x", *extra]) == 0
    plane = np.asarray(Image.open(photo))[..., 0].astype(int)
    y = gpuconv.corr2d(plane, [[1, -1]], mode="same", boundary="symmetric")
    y = {"offset": y + 128, "clip": y}.get(signed, np.abs(y))
    np.testing.assert_array_equal(np.asarray(Image.open(out))[..., 0], np.clip(y, 0, 255))


def test_alpha_and_sixteen_bits(tmp_path):
    rgba = RNG.integers(0, 256, (20, 20, 4), np.uint8)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    assert (
        main(["filter", str(tmp_path / "a.png"), str(tmp_path / "b.png"), "--filter", "box-3"]) == 0
    )
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "b.png"))[..., 3], rgba[..., 3])
    deep = RNG.integers(0, 65536, (20, 20), np.uint16)
    Image.fromarray(deep).save(tmp_path / "c.png")
    assert (
        main(["filter", str(tmp_path / "c.png"), str(tmp_path / "d.png"), "--filter", "box-1"]) == 0
    )
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "d.png")), deep)


@pytest.mark.parametrize("suffix", ["npy", "tif", "zarr"])
def test_arrays_keep_their_sums(tmp_path, suffix):
    import tifffile
    import zarr

    x = RNG.standard_normal((30, 40)).astype("f4")
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "k.npy", np.array([[1, 2], [3, -4]], "f4"))
    out = tmp_path / f"y.{suffix}"
    command = ["filter", str(tmp_path / "x.npy"), str(out), "--kernel", str(tmp_path / "k.npy")]
    assert main([*command, "--mode", "valid"]) == 0
    readers = {
        "npy": np.load,
        "tif": tifffile.imread,
        "zarr": lambda path: zarr.open_array(str(path), mode="r")[...],
    }
    y = readers[suffix](out)
    np.testing.assert_array_equal(y, gpuconv.corr2d(x, np.array([[1, 2], [3, -4]], "f4")))


@pytest.mark.parametrize("boundary", ["constant", "edge", "reflect", "symmetric", "wrap"])
@pytest.mark.parametrize("mode", ["valid", "same", "full"])
def test_bands_equal_the_whole(tmp_path, monkeypatch, boundary, mode, capsys):
    x = RNG.standard_normal((2, 61, 30))
    k = RNG.standard_normal((9, 4))
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "k.npy", k)
    monkeypatch.setattr(cli, "_BLOCK_PIXELS", 7 * 60)
    monkeypatch.setattr(array_files, "TILE", 16)
    command = ["filter", *(str(tmp_path / n) for n in ("x.npy", "y.npy")), "--kernel"]
    extra = ["--boundary", boundary, "--mode", mode, "--stride", "2", "--progress"]
    assert main([*command, str(tmp_path / "k.npy"), *extra, "--method", "direct"]) == 0
    expected = gpuconv.corr2d(x, k, mode=mode, boundary=boundary, stride=2, method="direct")
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), expected)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "row" in printed.err


def failing(arguments, capsys, code):
    assert main([str(a) for a in arguments]) == code
    err = capsys.readouterr().err
    assert err.startswith("gpuconv: error: ")
    assert err.count("\n") == 1
    return err


def test_errors(photo, tmp_path, capsys):
    out = tmp_path / "out.png"
    blur = ["--filter", "box-3"]
    assert "no such file" in failing(["filter", tmp_path / "no.png", out, *blur], capsys, 3)
    broken = tmp_path / "broken.png"
    broken.write_bytes(photo.read_bytes()[:300])
    assert "cannot be read as png" in failing(["filter", broken, out, *blur], capsys, 3)
    pickled = tmp_path / "p.npy"
    np.save(pickled, np.array([{}], object), allow_pickle=True)
    failing(["filter", pickled, out, *blur], capsys, 3)
    failing(["filter", photo, out, "--kernel", pickled], capsys, 3)
    text = failing(["filter", photo, out, "--filter", "sobel"], capsys, 2)
    assert "did you mean 'sobel-x'" in text or "did you mean 'sobel-y'" in text
    text = failing(["filter", photo, out, "--filter", "box-99", "--mode", "valid"], capsys, 2)
    assert "larger than the padded image" in text
    assert "no such folder" in failing(
        ["filter", photo, tmp_path / "a" / "b.png", *blur], capsys, 4
    )
    assert "unknown format" in failing(["filter", photo, tmp_path / "b.gif", *blur], capsys, 4)
    assert not out.exists()
    out.write_text("mine")
    assert "--overwrite" in failing(["filter", photo, out, *blur], capsys, 4)
    assert out.read_text() == "mine"
    assert main(["filter", str(photo), str(out), *blur, "--overwrite"]) == 0
    assert np.asarray(Image.open(out)).shape == (40, 50, 3)


def test_unavailable_backend(photo, tmp_path, capsys):
    if gpuconv.backends()["cuda"] is None:
        pytest.skip("this machine has a GPU")
    arguments = ["filter", photo, tmp_path / "o.png", "--filter", "box-3", "--backend", "cuda"]
    assert "backend='cuda' cannot be used here" in failing(arguments, capsys, 5)


def test_a_failed_write_leaves_the_old_file(photo, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out.npy"
    out.write_text("old")

    def full(*arguments, **keywords):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array_header_1_0", full)
    failing(["filter", photo, out, "--filter", "box-3", "--overwrite"], capsys, 4)
    assert out.read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.png", "out.npy"]


def test_interrupt(photo, tmp_path, monkeypatch, capsys):
    def stop(*arguments, **keywords):
        raise KeyboardInterrupt

    monkeypatch.setattr(gpuconv, "corr2d", stop)
    failing(["filter", photo, tmp_path / "o.png", "--filter", "box-3"], capsys, 130)
    assert not (tmp_path / "o.png").exists()


def test_info_plan_demo(tmp_path, capsys):
    assert main(["info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["backends"]["cpu"] is None
    assert main(["plan", "2048x2048", "127x127"]) == 0
    assert "method 'fft' on backend 'cpu'" in capsys.readouterr().out
    assert main(["demo", "--output-dir", str(tmp_path / "demo")]) == 0
    text = capsys.readouterr().out
    assert "[[19 25]" in text
    assert "separable" in text
    names = sorted(p.name for p in (tmp_path / "demo").iterdir())
    assert names == ["blur.png", "edge.png", "photo.png", "sharpen.png"]


def test_as_a_process():
    done = subprocess.run(
        [sys.executable, "-m", "gpuconv", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == f"gpuconv {gpuconv.__version__}"
