"""Many inputs, names, and that no input is ever overwritten."""

import os
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from gpuconv.cli import main, progress

from ...marks import always
from .calls import refused, run, save_photo

RNG = np.random.default_rng(23)
BLUR = ["--filter", "box-3"]
save = partial(save_photo, RNG)


@pytest.fixture
def photos(tmp_path):
    (tmp_path / "in").mkdir()
    return [save(tmp_path / "in" / name) for name in ("a.png", "b.jpg", "c.tif")]


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_many_inputs(photos, tmp_path, capsys):
    out = tmp_path / "new" / "out"
    assert run(*photos, "--output-dir", out, *BLUR) == 0
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "b.jpg", "c.tif"]
    assert capsys.readouterr().err == ""  # as --quiet says
    command = ["filter", *map(str, photos), "--output-dir", str(tmp_path / "loud"), *BLUR]
    assert main([*command, "--backend", "reference"]) == 0
    assert capsys.readouterr().err == "3 of 3 files filtered\n"
    single = tmp_path / "single.png"
    assert run(photos[0], single, *BLUR) == 0
    assert (out / "a.png").read_bytes() == single.read_bytes()


def test_another_format(photos, tmp_path):
    assert run(*photos, "--output-dir", tmp_path / "out", "--format", "png", *BLUR) == 0
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["a.png", "b.png", "c.png"]


def test_goes_on_after_a_bad_file(photos, tmp_path, capsys):
    photos[0].write_bytes(b"no picture")
    missing = tmp_path / "in" / "z.png"
    assert run(*photos, missing, "--output-dir", tmp_path / "out", *BLUR) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(f"gpuconv: error: {photos[0]}: cannot be read as png")
    assert lines[1] == f"gpuconv: error: {missing}: no such file"
    assert lines[2] == "2 of 4 files filtered, 2 failed"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["b.jpg", "c.tif"]


def test_one_bar_for_all(photos, tmp_path, capsys, monkeypatch):
    made, make_bar = [], progress.make_bar

    def count(total, unit, forced):
        made.append((total, unit))
        return make_bar(total, unit, forced)

    monkeypatch.setattr("gpuconv.cli.many_files.make_bar", count)
    monkeypatch.setattr("gpuconv.cli.filter_command.make_bar", count)
    assert run(*photos, "--output-dir", tmp_path / "out", "--progress", *BLUR) == 0
    assert made == [(3, "file")]
    assert "3/3" in capsys.readouterr().err


def test_options_may_stand_between_files(photos, tmp_path):
    assert run(photos[0], *BLUR, photos[1], "--output-dir", tmp_path / "out", photos[2]) == 0
    assert len(list((tmp_path / "out").iterdir())) == 3
    with pytest.raises(SystemExit):
        run(photos[0], tmp_path / "y.png", *BLUR, "--no-such-option")


def test_how_many_files(photos, tmp_path, capsys):
    assert "for many inputs pass --output-dir" in refused(capsys, 2, *photos, *BLUR)
    assert "got 1 file" in refused(capsys, 2, photos[0], *BLUR)
    text = refused(capsys, 2, photos[0], tmp_path / "y.png", *BLUR, "--format", "png")
    assert "--format is for --output-dir" in text


def test_no_input_is_overwritten(photos, tmp_path, capsys):
    save(tmp_path / "in" / "d.png")
    os.symlink(tmp_path / "in", tmp_path / "link")
    before = contents(tmp_path / "in")
    folder = tmp_path / "in"
    for more in ([], ["--overwrite"]):
        assert "is an input" in refused(capsys, 4, *photos, "--output-dir", folder, *BLUR, *more)
        through = tmp_path / "link"
        assert "is an input" in refused(capsys, 4, *photos, "--output-dir", through, *BLUR, *more)
        refused(capsys, 4, photos[0], photos[0], *BLUR, *more)
        refused(capsys, 4, photos[0], tmp_path / "link" / "a.png", *BLUR, *more)
        refused(capsys, 4, photos[0], folder / "d.png", *BLUR, *more)  # as *.png names them
    assert contents(tmp_path / "in") == before


def test_what_was_written_here_is_replaced(tmp_path):
    for suffix in (".png", ".jpg", ".tif", ".npy", ".npz", ".fits"):
        source, out = tmp_path / f"x{suffix}", tmp_path / f"y{suffix}"
        if suffix in (".png", ".jpg", ".tif"):
            save(source)
        elif suffix == ".fits":
            fits = pytest.importorskip("astropy.io.fits")
            fits.PrimaryHDU(RNG.random((9, 8))).writeto(source)
        else:
            save_array = np.save if suffix == ".npy" else np.savez
            save_array(source, RNG.random((9, 8)))
        other = tmp_path / f"z{suffix}"  # one more input, as a pattern names it
        other.write_bytes(source.read_bytes())
        assert run(source, other, "--filter", "box-5", "--overwrite") == 4
        assert other.read_bytes() == source.read_bytes()
        assert run(source, out, *BLUR) == 0
        first = out.read_bytes()
        assert run(source, out, "--filter", "box-5") == 4
        assert run(source, out, "--filter", "box-5", "--overwrite") == 0
        assert out.read_bytes() != first


@pytest.mark.parametrize("other", ["b.jpg", "b.tif", "b.npy", "2/b.png", "2/b.jpg"])
def test_what_a_pattern_names_by_mistake(tmp_path, capsys, other):
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    source = save(tmp_path / "b.png" if "/" not in other else tmp_path / "1" / "b.png")
    photo = tmp_path / other
    if photo.suffix == ".npy":
        np.save(photo, RNG.random((9, 8)))
    else:
        save(photo)
    before = contents(tmp_path)
    in_folder = ["--output-dir", photo.parent, "--format", photo.suffix]
    for shape in ([source, photo], [source, *in_folder]):
        for more in ([], ["--overwrite"]):
            text = refused(capsys, 4, *shape, *BLUR, *more)
            assert f"{photo}: does not say that gpuconv wrote it" in text
            assert "--overwrite does not replace it" in text
    assert contents(tmp_path) == before
    photo.unlink()
    for more in ([], ["--overwrite"]):
        assert run(source, *BLUR, *in_folder, *more) == 0
    assert "pass --overwrite" in refused(capsys, 4, source, *in_folder, *BLUR)
    assert run(source, photo, "--filter", "box-5", "--overwrite") == 0


OTHERS = ["webp", "avif", "bmp", "gif", "jp2", "tga", "sgi", "ppm", "pgm", "pnm"]


@pytest.mark.parametrize("suffix", OTHERS)
@pytest.mark.parametrize("names", ["a.{} b.{}", "a.png b.{}", "1/b.{} 2/b.{}", "1/a.jpg 2/b.{}"])
def test_a_second_photo_is_kept(tmp_path, capsys, suffix, names):
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    shape = (12, 15) if suffix in ("gif", "pgm") else (12, 15, 3)
    both = [save(tmp_path / one.format(suffix), *shape) for one in names.split()]
    before = contents(tmp_path)
    text = refused(capsys, 4, *both, *BLUR, "--overwrite")
    assert f"{both[1]}: does not say that gpuconv wrote it and may be an input" in text
    assert "pass --output-dir, or delete it first" in text
    assert contents(tmp_path) == before
    both[1].unlink()
    assert run(*both, *BLUR) == 0
    assert run(*both, "--filter", "box-5", "--overwrite") == 0


@pytest.mark.parametrize("suffix", OTHERS)
@pytest.mark.parametrize("colour", ["L", "RGB", "RGBA", "I;16", "odd"])
def test_who_wrote_it_is_said_in_every_format(tmp_path, capsys, suffix, colour):
    channels = {"L": (), "I;16": (), "odd": (3,)}.get(colour, (len(colour),))
    x = RNG.integers(0, 256, ((7, 5) if colour == "odd" else (12, 16)) + channels)
    x = x.astype("u2") * 257 if colour == "I;16" else x.astype("u1")
    source, out = tmp_path / "a.png", tmp_path / f"b.{suffix}"
    Image.fromarray(x).save(source)
    if run(source, out, "--filter", "box-1") == 4:
        return  # the format does not hold it
    first = out.read_bytes()
    assert b"gpuconv" in first
    with Image.open(out) as picture:
        picture.load()
        assert getattr(picture, "n_frames", 1) == 1
        y = np.asarray(picture.convert(colour) if suffix == "gif" else picture)
    if suffix != "avif" and colour != "RGBA":
        np.testing.assert_array_equal(y, x if y.ndim == x.ndim else np.stack([x] * 3, -1))
    if suffix in ("bmp", "webp"):
        size = int.from_bytes(first[2:6] if suffix == "bmp" else first[4:8], "little")
        assert size == len(first) - (8 if suffix == "webp" else 0)
    capsys.readouterr()
    assert main(["filter", str(out), str(tmp_path / "c.tif"), *BLUR]) == 0
    # JPEG 2000 has a comment of OpenJPEG.
    assert ("dropped" in capsys.readouterr().err) == (suffix == "jp2")
    assert run(source, out, *BLUR, "--overwrite") == 0
    assert out.read_bytes() != first


def test_weights_are_an_input_too(tmp_path, capsys):
    kernel = tmp_path / "k.npy"
    np.save(tmp_path / "a.npy", RNG.random((9, 8)))
    assert main(["filters", "box-3", "--save", str(kernel)]) == 0
    before = contents(tmp_path)
    files = [tmp_path / "a.npy", kernel, "--kernel", kernel, "--overwrite"]
    assert "has the weights of --kernel" in refused(capsys, 4, *files)
    more = ["--output-dir", tmp_path, "--kernel", kernel, "--overwrite"]
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "k.npy", RNG.random((9, 8)))
    assert "has the weights of --kernel" in refused(capsys, 4, tmp_path / "in" / "k.npy", *more)
    assert contents(tmp_path).items() >= before.items()


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp"])
def test_photos_are_no_comparisons(tmp_path, capsys, suffix):
    both = [save(tmp_path / f"{name}.{suffix}") for name in "ab"]
    before = contents(tmp_path)
    files = ["--compare", *both, tmp_path / "out.png"]
    text = refused(capsys, 4, *BLUR, "--overwrite", *files)
    assert f"{both[0]}: does not say that gpuconv wrote it" in text
    assert "another name to --compare" in text
    assert contents(tmp_path) == before
    both[0].unlink()
    assert run(*BLUR, *files) == 0
    assert run(*BLUR, "--overwrite", *files) == 0


@pytest.mark.parametrize("suffix", ["png", "npy"])
def test_photos_are_no_weights(tmp_path, capsys, suffix):
    path = tmp_path / f"mine.{suffix}"
    if suffix == "png":
        save(path)
    else:
        np.save(path, RNG.random((9, 8)))
    before = contents(tmp_path)
    command = ["filters", "sobel-x", "--save", str(path), "--overwrite"]
    assert main(command) == 4
    error = capsys.readouterr().err
    assert f"{path}: does not say that gpuconv wrote it" in error
    assert "another name to --save" in error
    assert contents(tmp_path) == before
    path.unlink()
    assert main(command) == 0
    assert main(command) == 0


def test_outputs_of_one_name(tmp_path, capsys):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        save(tmp_path / name / "x.png")
    both = [tmp_path / name / "x.png" for name in ("a", "b")]
    text = refused(capsys, 4, *both, "--output-dir", tmp_path / "out", *BLUR)
    assert "would be written for both" in text
    assert not (tmp_path / "out").exists()


def test_folders_are_not_deleted(tmp_path, capsys):
    source = save(tmp_path / "x.png")
    zarr.create_array(str(tmp_path / "precious.zarr"), data=np.ones((5, 5)))
    (tmp_path / "notes.zarr").mkdir()
    (tmp_path / "notes.zarr" / "mine.txt").write_text("mine")
    zarr.open_group(str(tmp_path / "group.zarr"), mode="w").create_array("a", data=np.ones((5, 5)))
    (tmp_path / "folder.png").mkdir()
    before = contents(tmp_path)
    for name in ("precious.zarr", "notes.zarr", "group.zarr", "folder.png"):
        assert "not replaced" in refused(capsys, 4, source, tmp_path / name, *BLUR, "--overwrite")
    assert contents(tmp_path) == before
    out = tmp_path / "own.zarr"
    assert run(source, out, *BLUR) == 0
    assert "pass --overwrite" in refused(capsys, 4, source, out, *BLUR)
    assert run(source, out, *BLUR, "--overwrite") == 0


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "npy", "zarr"])
def test_long_names(tmp_path, suffix):
    source = save(tmp_path / "x.png")
    out = tmp_path / ("n" * (250 - len(suffix)) + f".{suffix}")
    assert run(source, out, *BLUR) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([out.name, "x.png"])


def test_axes_of_an_array(tmp_path, capsys):
    x = RNG.integers(0, 256, (3, 12, 15)).astype(np.uint8)
    np.save(tmp_path / "x.npy", x)
    assert "3 pages" in refused(capsys, 4, tmp_path / "x.npy", tmp_path / "y.png", *BLUR)
    assert run(tmp_path / "x.npy", tmp_path / "y.png", "--filter", "box-1", "--axes", "cyx") == 0
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "y.png")), np.moveaxis(x, 0, -1))
    assert run(tmp_path / "x.npy", tmp_path / "z.npy", *BLUR) == 0
    smooth = np.load(tmp_path / "z.npy")
    for letters, axes in (("ycx", (1, 0, 2)), ("yxc", (1, 2, 0)), ("xyt", (2, 1, 0))):
        for suffix in ("npy", "zarr", "npz"):
            source, out = tmp_path / f"{letters}.npy", tmp_path / f"{letters}-out.{suffix}"
            np.save(source, x.transpose(axes))
            assert run(source, out, *BLUR, "--axes", letters) == 0
            if suffix == "zarr":
                y = zarr.open_array(str(out), mode="r")[...]
            else:
                y = np.load(out) if suffix == "npy" else np.load(out)["image"]
            np.testing.assert_array_equal(y, smooth.transpose(axes), letters)
    text = refused(capsys, 3, tmp_path / "x.npy", tmp_path / "q.npy", *BLUR, "--axes", "yx")
    assert "--axes yx does not fit" in text
    save(tmp_path / "x.png")
    text = refused(capsys, 3, tmp_path / "x.png", tmp_path / "q.png", *BLUR, "--axes", "yxc")
    assert "other files say it themselves" in text


@pytest.mark.parametrize("letters", ["zz", "yc", "yyx", "yx1", "cx", "sycx", ""])
def test_axes_that_are_none(tmp_path, capsys, letters):
    np.save(tmp_path / "x.npy", np.ones((4,) * max(2, len(letters))))
    refused(capsys, 3, tmp_path / "x.npy", tmp_path / "y.npy", *BLUR, "--axes", letters)


def test_pages(tmp_path, capsys):
    x = RNG.integers(0, 256, (4, 12, 15)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "x.tif", x, photometric="minisblack")
    np.save(tmp_path / "x.npy", x)
    for source in (tmp_path / "x.tif", tmp_path / "x.npy"):
        one = [source, tmp_path / "y.png", "--filter", "box-1", "--overwrite", "--page"]
        assert run(*one, 2) == 0
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "y.png")), x[2])
        for page in (4, -1):
            assert "counted from 0 to 3" in refused(capsys, 3, *one, page)


def test_arrays_by_name(tmp_path, capsys):
    x = RNG.integers(0, 256, (2, 12, 15)).astype(np.uint8)
    np.savez(tmp_path / "x.npz", one=x[0], two=x[1])
    out = tmp_path / "y.npy"
    assert "2 arrays (one, two)" in refused(capsys, 3, tmp_path / "x.npz", out, *BLUR)
    assert run(tmp_path / "x.npz", out, "--filter", "box-1", "--array", "two") == 0
    assert "dropped the archive's other arrays" in capsys.readouterr().err
    np.testing.assert_array_equal(np.load(out), x[1])
    group = zarr.open_group(str(tmp_path / "x.zarr"), mode="w")
    for n, name in enumerate(("one", "two")):
        group.create_array(name, data=x[n])
    text = refused(capsys, 3, tmp_path / "x.zarr", out, *BLUR, "--overwrite")
    assert "'one', 'two'" in text
    for source, more in (("x.zarr/two", []), ("x.zarr", ["--array", "two"])):
        assert run(tmp_path / source, out, "--filter", "box-1", "--overwrite", *more) == 0
        np.testing.assert_array_equal(np.load(out), x[1])


@pytest.mark.parametrize(
    ("make", "out", "module", "extra"),
    always(
        [("lzw", "y.tif", "imagecodecs", "cli"), ("deep", "y.png", "imagecodecs", "cli"),
         ("fits", "y.npy", "astropy", "fits")],
        ("lzw", "y.tif", "imagecodecs", "cli"), rows=True,
    ),
)  # fmt: skip
def test_packages_that_are_missing(tmp_path, make, out, module, extra):
    source = tmp_path / ("x.fits" if make == "fits" else "x.tif")
    if make == "lzw":
        save(tmp_path / "x.png")
        Image.open(tmp_path / "x.png").save(source, compression="tiff_lzw")
    elif make == "deep":
        tifffile.imwrite(source, np.ones((9, 9, 3), np.uint16), photometric="rgb")
    else:
        source.write_bytes(b"SIMPLE")
    # In a process of its own, because tifffile looks for imagecodecs once.
    code = (
        f"import sys; sys.modules[{module!r}] = None; import gpuconv.cli;"
        "sys.exit(gpuconv.cli.main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "filter", str(source), str(tmp_path / out), *BLUR]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 3
    assert f"the package {module} is needed" in done.stderr
    assert f"pip install 'gpuconv[{extra}]'" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / out).exists()


def test_pages_of_their_own_kind(tmp_path, capsys):
    x = RNG.integers(0, 256, (2, 12, 15, 3)).astype(np.uint8)
    index = RNG.integers(0, 4, (2, 12, 15)).astype(np.uint8)
    tables = RNG.integers(0, 256, (2, 3, 256)).astype(np.uint16) * 257
    with tifffile.TiffWriter(tmp_path / "turned.tif") as file:
        for page, orientation in zip(x, (1, 6), strict=True):
            tag = (274, 3, 1, orientation, True)
            file.write(page, photometric="rgb", metadata=None, extratags=[tag])
    with tifffile.TiffWriter(tmp_path / "palettes.tif") as file:
        for page, table in zip(index, tables, strict=True):
            file.write(page, photometric="palette", colormap=table, metadata=None)
    shown = {
        "turned.tif": (x[0], np.rot90(x[1], -1)),
        "palettes.tif": [
            (t.T[i] >> 8).astype(np.uint8) for i, t in zip(index, tables, strict=True)
        ],
    }
    for name, pages in shown.items():
        one = [tmp_path / name, tmp_path / "y.png", "--filter", "box-1", "--overwrite"]
        assert "--page" in refused(capsys, 3, *one)
        for number, page in enumerate(pages):
            assert run(*one, "--page", number) == 0
            np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "y.png")), page)


def test_a_page_of_an_array_keeps_its_axes(tmp_path):
    x = RNG.integers(0, 256, (2, 4, 12, 15)).astype(np.uint8)
    x[:, 3] = 255
    np.save(tmp_path / "x.npy", x)
    one = [tmp_path / "x.npy", "--filter", "box-1", "--axes", "tcyx", "--alpha", "--page", 1]
    assert run(*one, tmp_path / "y.npy") == 0
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), x[1])
    assert run(*one, tmp_path / "z.npy", "--background", "white") == 0
    np.testing.assert_array_equal(np.load(tmp_path / "z.npy"), x[1, :3])
