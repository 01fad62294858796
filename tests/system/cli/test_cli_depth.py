"""The numbers that are written: dtype, scale, sign, and what is refused before the work."""

import numpy as np
import pytest
import tifffile
from PIL import Image

import gpuconv

from ...marks import always, exhaustive
from .calls import refused, run

RNG = np.random.default_rng(20)
BLUR, EDGE = ["--filter", "box-3"], ["--filter", "sobel-x"]


def read(path):
    if path.suffix == ".npy":
        return np.load(path)
    return tifffile.imread(path) if path.suffix == ".tif" else np.asarray(Image.open(path))


def sums(x, name, **keywords):
    weights = gpuconv.filters.by_name(name)
    return gpuconv.corr2d(x, weights, mode="same", boundary="symmetric", backend="reference",
                          **keywords)  # fmt: skip


DTYPES = ("uint8", "int8", "uint16", "int16", "int32", "int64", "uint64", "float16", "float32")


@pytest.mark.parametrize("dtype", always(DTYPES, "uint8", "int16", "float32"))
def test_the_dtype_is_kept(tmp_path, dtype):
    x = (RNG.random((9, 8)) * 100).astype(dtype)
    np.save(tmp_path / "x.npy", x)
    assert run(tmp_path / "x.npy", tmp_path / "y.npy", *BLUR) == 0
    y = read(tmp_path / "y.npy")
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, sums(x, "box-3", dtype=dtype))


def test_results_saturate(tmp_path):
    x = RNG.integers(-(1 << 15), 1 << 15, (9, 8)).astype(np.int16)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "k.npy", np.array([[3]]))
    assert run(tmp_path / "x.npy", tmp_path / "y.npy", "--kernel", tmp_path / "k.npy") == 0
    y = read(tmp_path / "y.npy")
    assert y.dtype == np.int16
    np.testing.assert_array_equal(y, np.clip(3 * x.astype(int), -(1 << 15), (1 << 15) - 1))


@pytest.mark.parametrize(
    ("given", "written"),
    [("float64", "float32"), ("int64", "float32"), ("uint64", "float32"), ("float16", "float32"),
     ("int32", "int32"), ("uint16", "uint16"), ("bool", "bool")],
)  # fmt: skip
def test_tiff_that_other_programs_open(tmp_path, capsys, given, written):
    x = RNG.integers(0, 2, (9, 8)).astype(given)
    np.save(tmp_path / "x.npy", x)
    assert run(tmp_path / "x.npy", tmp_path / "y.tif", *BLUR) == 0
    assert read(tmp_path / "y.tif").dtype == written
    assert Image.open(tmp_path / "y.tif").size == (8, 9)
    note = capsys.readouterr().err
    assert (f"{given} is written as {written}" in note) == (given != written)
    assert run(tmp_path / "x.npy", tmp_path / "z.tif", *BLUR, "--dtype", given) == 0
    assert read(tmp_path / "z.tif").dtype == given


@pytest.mark.parametrize(
    ("dtype", "suffix"),
    [("float32", ".png"), ("int32", ".png"), ("uint16", ".jpg"), ("float64", ".bmp"),
     ("int8", ".png"), ("uint32", ".png")],
)  # fmt: skip
def test_what_needs_a_scale_is_refused_without(tmp_path, capsys, dtype, suffix):
    x = (RNG.random((9, 8)) * 100).astype(dtype)
    tifffile.imwrite(tmp_path / "x.tif", x)
    out = tmp_path / f"y{suffix}"
    text = refused(capsys, 4, tmp_path / "x.tif", out, *BLUR)
    assert f"x.tif: {dtype}" in text
    assert "--range LO HI" in text
    assert "use .tif" in text
    assert not out.exists()
    assert run(tmp_path / "x.tif", out, *BLUR, "--range", "0", "100") == 0
    white = 65535 if suffix == ".png" and np.dtype(dtype).itemsize > 1 else 255
    y = read(out)
    if suffix != ".jpg":
        np.testing.assert_allclose(y, sums(x, "box-3", dtype="f8") * white / 100, atol=0.51)
    assert y.max() > white / 3


@pytest.mark.parametrize("suffix", [".tif", ".npy", ".png"])
@pytest.mark.parametrize(
    ("given", "asked", "most"),
    [("float32", "uint8", 1), ("float64", "uint16", 1), ("uint16", "uint8", 65535),
     ("int64", "uint8", 2**63 - 1), ("int16", "uint8", 32767), ("uint8", "int8", 255)],
)  # fmt: skip
def test_integers_that_hold_less_need_a_scale(tmp_path, capsys, given, asked, most, suffix):
    """Even if every number of the input happens to fit."""
    if suffix == ".png" and asked == "int8":
        return
    x = RNG.integers(0, 2, (9, 8)).astype(given)
    np.save(tmp_path / "x.npy", x)
    files = [tmp_path / "x.npy", tmp_path / f"y{suffix}", "--filter", "box-1"]
    text = refused(capsys, 4, *files, "--dtype", asked)
    limit = np.iinfo(asked).max
    assert f"x.npy: {given} does not become {asked} without a scale; pass --scale (0 to " in text
    assert f"becomes 0 to {limit})" in text
    assert "--scale 1 to round the numbers as they are" in text
    assert not files[1].exists()
    for number, more in enumerate((["--scale"], ["--range", 0, most], ["--scale", 1])):
        files[1] = tmp_path / f"y{number}{suffix}"
        assert run(*files, "--dtype", asked, *more) == 0
        factor = 1 if number == 2 else limit / most
        np.testing.assert_array_equal(read(files[1]), np.rint(x * factor))


@pytest.mark.parametrize(
    ("given", "asked"),
    [("uint8", "int16"), ("int8", "uint8"), ("int16", "uint16"), ("bool", "uint8"),
     ("uint16", "float16"), ("float64", "float16"), ("int64", "float32")],
)  # fmt: skip
def test_numbers_that_hold_as_much_need_no_scale(tmp_path, given, asked):
    x = RNG.integers(0, 2, (9, 8)).astype(given)
    np.save(tmp_path / "x.npy", x)
    out = tmp_path / "y.npy"
    assert run(tmp_path / "x.npy", out, "--filter", "box-1", "--dtype", asked) == 0
    assert read(out).dtype == asked
    np.testing.assert_array_equal(read(out), x)


def test_scales(tmp_path):
    x = RNG.integers(0, 65536, (9, 8)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "x.tif", x)
    smooth = sums(x, "box-3")
    for more, factor in ((["--scale"], 255 / 65535), (["--scale", "0.001"], 0.001)):
        out = tmp_path / "y.bmp"
        assert run(tmp_path / "x.tif", out, *BLUR, "--overwrite", *more) == 0
        np.testing.assert_allclose(read(out), np.clip(smooth * factor, 0, 255), atol=0.51)
    part = RNG.random((9, 8)).astype(np.float32)
    np.save(tmp_path / "x.npy", part)
    assert run(tmp_path / "x.npy", tmp_path / "z.png", *BLUR, "--scale", "--dtype", "uint8") == 0
    np.testing.assert_allclose(read(tmp_path / "z.png"), sums(part, "box-3") * 255, atol=0.51)


def test_a_range_below_zero_shows_signs(tmp_path):
    x = RNG.standard_normal((9, 8)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    span = ["--range", "-4", "4", "--dtype", "uint8"]
    assert run(tmp_path / "x.npy", tmp_path / "y.png", *EDGE, *span) == 0
    want = np.clip((sums(x, "sobel-x") + 4) * 255 / 8, 0, 255)
    np.testing.assert_allclose(read(tmp_path / "y.png"), want, atol=0.51)


@pytest.mark.parametrize("signed", ["abs", "offset", "clip", None])
@pytest.mark.parametrize("dtype", always(("uint8", "uint16", "float32", "int16"), "uint8", "int16"))
def test_signs_in_unsigned_numbers(tmp_path, dtype, signed):
    x = (RNG.random((9, 8)) * 20).astype(dtype)
    np.save(tmp_path / "x.npy", x)
    out = np.dtype("uint8" if dtype != "uint16" else "uint16")
    more = ["--dtype", out.name, "--scale", 1, *(["--signed", signed] if signed else [])]
    assert run(tmp_path / "x.npy", tmp_path / "y.tif", *EDGE, *more) == 0
    y = sums(x, "sobel-x", dtype="f8")
    half = (np.iinfo(out).max + 1) // 2
    want = {"offset": y + half, "clip": np.maximum(y, 0)}.get(signed, np.abs(y))
    np.testing.assert_allclose(read(tmp_path / "y.tif"), np.clip(want, 0, np.iinfo(out).max),
                               atol=0.51)  # fmt: skip


def test_signs_in_signed_numbers(tmp_path, capsys):
    x = (RNG.random((9, 8)) * 20).astype(np.int16)
    np.save(tmp_path / "x.npy", x)
    y = sums(x, "sobel-x")
    for signed, want in ((None, y), ("abs", np.abs(y)), ("clip", np.maximum(y, 0))):
        more = ["--signed", signed] if signed else []
        assert run(tmp_path / "x.npy", tmp_path / "y.npy", *EDGE, "--overwrite", *more) == 0
        np.testing.assert_array_equal(read(tmp_path / "y.npy"), want)
    arguments = [tmp_path / "x.npy", tmp_path / "z.npy", *EDGE, "--signed", "offset"]
    assert "--dtype uint8" in refused(capsys, 4, *arguments)


def test_sixteen_bits_a_colour(tmp_path):
    imagecodecs = pytest.importorskip("imagecodecs")
    for channels in (2, 3, 4):
        x = RNG.integers(0, 65536, (9, 8, channels)).astype(np.uint16)
        if channels != 3:
            x[..., -1] = 65535
        source, out = tmp_path / f"x{channels}.png", tmp_path / f"y{channels}.png"
        source.write_bytes(imagecodecs.png_encode(x))
        assert run(source, out, *BLUR) == 0
        y = imagecodecs.png_decode(out.read_bytes())
        assert y.dtype == np.uint16
        want = sums(np.moveaxis(x, -1, 0), "box-3")
        np.testing.assert_allclose(y, np.moveaxis(want, 0, -1), atol=0.51)


@pytest.mark.parametrize("suffix", ["ppm", "pnm"])
def test_ppm_of_sixteen_bits_a_colour(tmp_path, suffix):
    x = RNG.integers(0, 1024, (9, 8, 3)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "x.tif", x)
    out = tmp_path / f"y.{suffix}"
    assert run(tmp_path / "x.tif", out, "--filter", "box-1") == 0
    head, pixels = b"P6\n# gpuconv\n8 9\n65535\n", x.astype(">u2").tobytes()
    assert out.read_bytes() == head + pixels
    # Others have comments and largest numbers of their own.
    out.write_bytes(b"P6 # colours\n# of a camera\n8 9\n1023\n" + pixels)
    assert run(out, tmp_path / "z.tif", "--filter", "box-1") == 0
    np.testing.assert_array_equal(read(tmp_path / "z.tif"), np.rint(x * (65535 / 1023)))
    out.write_bytes(head + pixels[:-1])
    assert run(out, tmp_path / "q.tif", "--filter", "box-1") == 3


def test_bits_that_are_not_read_are_named(tmp_path, capsys):
    imagecodecs = pytest.importorskip("imagecodecs")
    x = RNG.integers(0, 65536, (2, 9, 8, 3)).astype(np.uint16)
    (tmp_path / "deep.png").write_bytes(imagecodecs.apng_encode(x))
    (tmp_path / "grey.png").write_bytes(imagecodecs.apng_encode(x[..., 0]))
    (tmp_path / "flat.png").write_bytes(imagecodecs.apng_encode((x >> 8).astype(np.uint8)))
    for bytes_a_number in (1, 2):
        picture = Image.fromarray((x[0] >> 8).astype(np.uint8))
        picture.save(tmp_path / f"sgi{bytes_a_number}.sgi", bpc=bytes_a_number)
    for name, lost in (("deep.png", True), ("grey.png", False), ("flat.png", False),
                       ("sgi1.sgi", False), ("sgi2.sgi", True)):  # fmt: skip
        assert run(tmp_path / name, tmp_path / f"{name}.tif", "--filter", "box-1") == 0
        assert ("dropped bits of colours beyond 8" in capsys.readouterr().err) == lost
    np.testing.assert_array_equal(read(tmp_path / "grey.png.tif"), x[..., 0])
    assert run(tmp_path / "deep.png", tmp_path / "y.png", "--filter", "box-1", "--page", 1) == 0
    assert "bits of colours beyond 8" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("shape", "suffix", "says"),
    [((3, 9, 8), ".png", "3 pages; PNG holds one; use .tif"), ((9, 8, 5), ".jpg", "5 channels"),
     ((9, 8, 3), ".gif", "GIF holds grey levels")],
)  # fmt: skip
def test_what_an_output_does_not_hold(tmp_path, capsys, monkeypatch, shape, suffix, says):
    tifffile.imwrite(
        tmp_path / "x.tif", np.ones(shape, np.uint8),
        photometric="rgb" if shape[-1] == 3 else "minisblack",
        planarconfig="contig" if shape[-1] in (3, 5) else None,
    )  # fmt: skip

    def never(*arguments, **keywords):
        raise AssertionError("computed")

    monkeypatch.setattr(gpuconv, "corr2d", never)
    text = refused(capsys, 4, tmp_path / "x.tif", tmp_path / f"y{suffix}", *BLUR)
    assert says in text
    assert "x.tif" in text
    assert list(tmp_path.iterdir()) == [tmp_path / "x.tif"]


def test_bad_numbers_on_the_command_line(tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.ones((9, 8)))
    files = [tmp_path / "x.npy", tmp_path / "y.npy"]
    error = refused(capsys, 4, *files, *BLUR, "--dtype", "float")
    assert "x.npy: its results cannot be written as float: there is no such dtype; pass" in error
    files[1] = tmp_path / "y.png"
    error = refused(capsys, 4, *files, *BLUR, "--dtype", "int16")
    assert "written as int16: PNG does not hold that; pass --dtype with one of uint8, uint" in error
    with pytest.raises(SystemExit):
        run(*files, *BLUR, "--range", "4", "1")
    with pytest.raises(SystemExit):
        run(*BLUR, "--scale", *files)
    assert "put the names of files before it" in capsys.readouterr().err


@exhaustive
def test_more_than_float64_holds(tmp_path):
    x = RNG.integers(0, 1 << 62, (9, 8)).astype(np.int64)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "k.npy", np.array([[1, 1]]))
    assert run(tmp_path / "x.npy", tmp_path / "y.npy", "--kernel", tmp_path / "k.npy") == 0
    y = gpuconv.corr2d(x, [[1, 1]], mode="same", boundary="symmetric", backend="reference")
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), y)
