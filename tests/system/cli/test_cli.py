"""The command line: formats, bands, atomic output, errors and exit codes."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import gpuconv
from gpuconv.cli import filter_blocks, main
from gpuconv.cli.files import output

from ...marks import exhaustive

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


def test_sixteen_bits(tmp_path):
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
    monkeypatch.setattr(filter_blocks, "BLOCK_PIXELS", 7 * 60)
    monkeypatch.setattr(output, "TILE", 16)
    command = ["filter", *(str(tmp_path / n) for n in ("x.npy", "y.npy")), "--kernel"]
    extra = ["--boundary", boundary, "--mode", mode, "--stride", "2", "--progress"]
    assert main([*command, str(tmp_path / "k.npy"), *extra, "--method", "direct"]) == 0
    expected = gpuconv.corr2d(x, k, mode=mode, boundary=boundary, stride=2, method="direct")
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), expected)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "row" in printed.err


def save(path, image, **keywords):
    import tifffile
    import zarr

    if path.suffix == ".npy":
        np.save(path, image)
    elif path.suffix == ".tif":
        tifffile.imwrite(path, image, **keywords)
    else:
        zarr.create_array(str(path), data=image, chunks=(25,) * image.ndim)


def load(path):
    import tifffile
    import zarr

    if path.suffix == ".tif":
        with tifffile.TiffFile(path) as file:
            assert file.pages[0].is_tiled
            return file.asarray()
    return np.load(path) if path.suffix == ".npy" else zarr.open_array(str(path), mode="r")[...]


PACKED = dict(compression="zlib", tile=(32, 16))


@pytest.mark.parametrize("channels", [False, True])
@pytest.mark.parametrize("boundary", ["constant", "wrap"])
@pytest.mark.parametrize(
    ("there", "keywords", "here"),
    [("zarr", {}, "zarr"), ("tif", PACKED, "tif"), ("tif", {}, "npy"), ("npy", {}, "tif")],
)
def test_files_in_blocks(tmp_path, monkeypatch, there, keywords, here, boundary, channels):
    monkeypatch.setattr(
        filter_blocks, "BLOCK_PIXELS", 32 * 40
    )  # neither rows nor columns in one block
    monkeypatch.setattr(output, "TILE", 16)
    x = RNG.standard_normal((61, 175, 3) if channels else (2, 61, 175)).astype("f4")
    if there == "tif":
        keywords = keywords | {"photometric": "rgb" if channels else "minisblack"}
    source, out = tmp_path / f"x.{there}", tmp_path / f"y.{here}"
    save(source, x, **keywords)
    k = RNG.standard_normal((9, 4)).astype("f4")
    np.save(tmp_path / "k.npy", k)
    extra = ["--boundary", boundary, "--method", "direct"]
    assert main(["filter", str(source), str(out), "--kernel", str(tmp_path / "k.npy"), *extra]) == 0
    planes = np.moveaxis(x, -1, 0) if channels else x
    y = gpuconv.corr2d(planes, k, mode="same", boundary=boundary, method="direct")
    np.testing.assert_array_equal(load(out), np.moveaxis(y, 0, -1) if channels else y)


@pytest.mark.parametrize("suffix", ["npy", "tif", "zarr"])
def test_interrupted_between_blocks(tmp_path, monkeypatch, suffix, capsys):
    monkeypatch.setattr(filter_blocks, "BLOCK_PIXELS", 16 * 40)
    monkeypatch.setattr(output, "TILE", 16)
    np.save(tmp_path / "x.npy", RNG.standard_normal((61, 40)))
    corr2d, calls = gpuconv.corr2d, []

    def stop(*arguments, **keywords):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return corr2d(*arguments, **keywords)

    monkeypatch.setattr(gpuconv, "corr2d", stop)
    out = tmp_path / f"y.{suffix}"
    failing(["filter", tmp_path / "x.npy", out, "--filter", "box-3"], capsys, 130)
    assert len(calls) == 3
    assert [p.name for p in tmp_path.iterdir()] == ["x.npy"]


@exhaustive
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_file(tmp_path):
    import zarr

    side, times = 2048, 16  # 1 GiB, in chunks that are all one file
    tile = RNG.integers(0, 256, (side, side), np.uint8)
    source = tmp_path / "x.zarr"
    image = zarr.create_array(
        str(source), shape=(times * side,) * 2, chunks=tile.shape, dtype="u1", compressors=None
    )
    image[:side, :side] = tile
    for i, j in np.ndindex(times, times):
        (source / "c" / str(i)).mkdir(exist_ok=True)
        if i or j:
            os.link(source / "c" / "0" / "0", source / "c" / str(i) / str(j))
    out = tmp_path / "y.tif"
    extra = ["--filter", "box-5", "--boundary", "wrap", "--stride", "8", "--method", "direct"]
    code = (
        "import sys, gpuconv.cli; assert gpuconv.cli.main(sys.argv[1:]) == 0;"
        "print(*[line.split()[1] for line in open('/proc/self/status') if 'VmHWM' in line])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "filter", str(source), str(out), *extra],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert int(done.stdout) * 1024 < image.nbytes / 2
    y = gpuconv.corr2d(
        tile, gpuconv.filters.box(5), mode="same", boundary="wrap", stride=8, method="direct",
        dtype="u1",
    )  # fmt: skip
    np.testing.assert_array_equal(load(out), np.tile(y, (times, times)))


def failing(arguments, capsys, code):
    """Run a command that fails; the error, which is one line."""
    # What is compiled, and said so unless quiet, depends on what is on disk.
    quiet = ["--quiet"] if arguments[0] == "filter" else []
    assert main([*map(str, arguments), *quiet]) == code
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
    assert f"{photo}: has 40 x 50 pixels" in text
    assert "span 99 x 99" in text
    more = ["--filter", "box-21", "--mode", "valid", "--dilation", "3"]
    assert "span 61 x 61" in failing(["filter", photo, out, *more], capsys, 2)
    assert "no such folder" in failing(
        ["filter", photo, tmp_path / "a" / "b.png", *blur], capsys, 4
    )
    assert "unknown format" in failing(["filter", photo, tmp_path / "b.xyz", *blur], capsys, 4)
    assert not out.exists()
    out.write_text("mine")
    assert "--overwrite" in failing(["filter", photo, out, *blur], capsys, 4)
    text = failing(["filter", photo, out, *blur, "--overwrite"], capsys, 4)
    assert "does not say that gpuconv wrote it" in text
    assert out.read_text() == "mine"
    out.write_bytes(b"")  # nothing is lost
    assert main(["filter", str(photo), str(out), *blur, "--overwrite"]) == 0
    assert np.asarray(Image.open(out)).shape == (40, 50, 3)


def test_unavailable_backend(photo, tmp_path, capsys):
    if gpuconv.backends()["cuda"] is None:
        pytest.skip("this machine has a GPU")
    arguments = ["filter", photo, tmp_path / "o.png", "--filter", "box-3", "--backend", "cuda"]
    assert "backend='cuda' cannot be used here" in failing(arguments, capsys, 5)


def test_a_failed_write_leaves_the_old_file(photo, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out.npy"
    command = ["filter", str(photo), str(out), "--filter", "box-3", "--overwrite"]
    assert main(command) == 0
    capsys.readouterr()
    old = out.read_bytes()

    def full(*arguments, **keywords):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array_header_1_0", full)
    assert "No space left" in failing(command, capsys, 4)
    assert out.read_bytes() == old
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.png", "out.npy"]


def test_interrupt(photo, tmp_path, monkeypatch, capsys):
    def stop(*arguments, **keywords):
        raise KeyboardInterrupt

    monkeypatch.setattr(gpuconv, "corr2d", stop)
    failing(["filter", photo, tmp_path / "o.png", "--filter", "box-3"], capsys, 130)
    assert not (tmp_path / "o.png").exists()


def test_info_and_plan(capsys):
    assert main(["info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["backends"]["cpu"] is None
    assert main(["plan", "2048x2048", "127x127"]) == 0
    assert "method 'fft' on backend 'cpu'" in capsys.readouterr().out


def test_plan_of_what_looks_like_a_photo(capsys):
    assert main(["plan", "1080x1920x3", "3x3"]) == 0
    assert "if 3 is the number of channels, write 3x1080x1920" in capsys.readouterr().err
    assert main(["plan", "3x1080x1920", "3x3"]) == 0
    assert not capsys.readouterr().err


def test_as_a_process():
    done = subprocess.run(
        [sys.executable, "-m", "gpuconv", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == f"gpuconv {gpuconv.__version__}"


@pytest.mark.parametrize(
    ("module", "name", "extra", "says"),
    [
        ("PIL", "x.png", [], "pillow is needed"),
        ("zarr", "x.zarr", [], "zarr is needed"),
        ("tifffile", "x.tif", [], "tifffile is needed"),
        ("tqdm", "x.npy", ["--progress"], "--progress needs tqdm"),
    ],
)
def test_packages_that_are_missing(tmp_path, monkeypatch, capsys, module, name, extra, says):
    for loaded in list(sys.modules):
        if loaded.partition(".")[0] == module:
            monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)
    np.save(tmp_path / "x.npy", np.ones((5, 5)))
    np.save(tmp_path / "good.npy", np.ones((5, 5)))
    (tmp_path / name).touch()
    for files in ((name, "y.npy"), ("good.npy", f"y.{name.split('.')[1]}")):
        command = [*(str(tmp_path / file) for file in files), "--filter", "box-3"]
        assert main(["filter", *command, *extra]) != 0
        error = capsys.readouterr().err
        assert says in error
        assert "pip install 'gpuconv[cli]'" in error
        assert not (tmp_path / files[1]).exists()


def test_arrays_need_no_extra(tmp_path, monkeypatch):
    for module in ("PIL", "zarr", "tifffile", "tqdm"):
        monkeypatch.setitem(sys.modules, module, None)
    x = RNG.standard_normal((9, 9))
    np.save(tmp_path / "x.npy", x)
    command = [*(str(tmp_path / file) for file in ("x.npy", "y.npy")), "--filter", "box-1"]
    assert main(["filter", *command]) == 0
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), x)
