"""What goes with the pixels is kept, or named in one note."""

import json

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image, ImageCms

import gpuconv

from .calls import run

RNG = np.random.default_rng(22)
BLUR = ["--filter", "box-3"]
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def notes(capsys):
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]


def pixels(*shape):
    return RNG.integers(0, 256, shape or (12, 15, 3)).astype(np.uint8)


@pytest.fixture
def photo(tmp_path):
    exif = Image.Exif()
    exif[271], exif[274] = "camera", 6
    exif.get_ifd(34665)[42036] = "a lens with a long name"
    exif.get_ifd(34853)[1] = "N"
    path = tmp_path / "photo.jpg"
    Image.fromarray(pixels()).save(
        path, quality=61, subsampling="4:2:2", exif=exif, icc_profile=ICC, dpi=(300, 200),
        comment="a comment",
    )  # fmt: skip
    return path


@pytest.mark.parametrize("shape", [(12, 15), (12, 15, 2)])
def test_a_profile_of_grey_levels(tmp_path, capsys, shape):
    """Formats without grey levels get red, green and blue, to which it does not belong."""
    grey = bytearray(ICC)
    grey[16:20] = b"GRAY"
    path = tmp_path / "grey.png"
    for icc, suffixes in ((bytes(grey), (".webp", ".avif")), (ICC, ())):
        Image.fromarray(pixels(*shape)).save(path, icc_profile=icc)
        for suffix in (".png", ".tif", ".webp", ".avif"):
            out = tmp_path / f"{len(suffixes)}{suffix}"
            assert run(path, out, *BLUR) == 0
            dropped = f"note: dropped ICC profile of grey levels of {path}"
            assert notes(capsys) == ([dropped] if suffix in suffixes else [])
            with Image.open(out) as picture:
                kept = picture.info.get("icc_profile")
            assert kept == (None if suffix in suffixes else icc)
    assert run(path, tmp_path / "y.bmp", *BLUR, "--background", "white") == 0
    assert notes(capsys) == [f"note: dropped ICC profile of {path}"]


@pytest.mark.parametrize(
    ("suffix", "dropped"),
    [(".jpg", []), (".png", []), (".tif", ["comment"]),
     (".webp", ["resolution (DPI)", "comment"]), (".bmp", ["ICC profile", "EXIF", "comment"]),
     (".npy", ["ICC profile", "EXIF", "resolution (DPI)", "comment"])],
)  # fmt: skip
def test_a_photo(photo, tmp_path, capsys, suffix, dropped):
    out = tmp_path / f"out{suffix}"
    assert run(photo, out, *BLUR) == 0
    found = notes(capsys)
    if not dropped:
        assert found == []
    else:
        assert found == [f"note: dropped {', '.join(dropped)} of {photo}"]
    if suffix == ".npy":
        return
    with Image.open(out) as picture:
        assert picture.size == (12, 15)
        exif = picture.getexif()
        assert ("ICC profile" in dropped) == (picture.info.get("icc_profile") is None)
        if "EXIF" not in dropped:
            assert exif[271] == "camera"
            assert exif.get(274, 1) == 1  # upright by now
            assert exif.get_ifd(34665)[42036] == "a lens with a long name"
            assert exif.get_ifd(34853)[1] == "N"
        if "resolution (DPI)" not in dropped:
            np.testing.assert_allclose(np.float64(picture.info["dpi"]), (200, 300), atol=0.02)


def test_jpeg_tables_are_used_again(photo, tmp_path):
    from PIL import JpegImagePlugin

    assert run(photo, tmp_path / "out.jpg", *BLUR) == 0
    with Image.open(photo) as before, Image.open(tmp_path / "out.jpg") as after:
        assert before.quantization == after.quantization
        assert JpegImagePlugin.get_sampling(before) == JpegImagePlugin.get_sampling(after)
        assert after.info["comment"] == b"a comment"


def test_exif_goes_from_tiff_to_jpeg(photo, tmp_path):
    assert run(photo, tmp_path / "a.tif", *BLUR) == 0
    assert run(tmp_path / "a.tif", tmp_path / "b.tif", *BLUR) == 0
    assert run(tmp_path / "b.tif", tmp_path / "c.jpg", *BLUR) == 0
    exif = Image.open(tmp_path / "c.jpg").getexif()
    assert exif.get_ifd(34665)[42036] == "a lens with a long name"
    assert exif.get_ifd(34853)[1] == "N"


def test_png_chunks(tmp_path, capsys):
    from PIL import PngImagePlugin

    text = PngImagePlugin.PngInfo()
    text.add_text("Author", "me")
    text.add(b"gAMA", (45455).to_bytes(4, "big"))
    Image.fromarray(pixels()).save(tmp_path / "x.png", pnginfo=text, dpi=(300, 300))
    assert run(tmp_path / "x.png", tmp_path / "y.png", *BLUR) == 0
    assert notes(capsys) == []
    with Image.open(tmp_path / "y.png") as picture:
        assert picture.info["gamma"] == 0.45455
        assert picture.text["Author"] == "me"
    assert run(tmp_path / "x.png", tmp_path / "y.bmp", *BLUR) == 0
    assert "dropped text, gamma and chromaticities of" in notes(capsys)[0]


def test_parts_that_nothing_reads_are_named(tmp_path, capsys):
    from PIL import PngImagePlugin

    text = PngImagePlugin.PngInfo()
    text.add(b"prVt", b"private")
    Image.fromarray(pixels()).save(tmp_path / "x.png", pnginfo=text)
    iptc, other = (bytes([0xFF, kind, 0, 11]) + b"Photoshop" for kind in (0xED, 0xEB))
    Image.fromarray(pixels()).save(tmp_path / "x.jpg", extra=iptc + other)
    for name, dropped in (("x.png", "PNG chunks prVt"), ("x.jpg", "JPEG segments APP11")):
        assert run(tmp_path / name, tmp_path / f"y{name}", *BLUR) == 0
        assert notes(capsys) == [f"note: dropped {dropped} of {tmp_path / name}"]
    with Image.open(tmp_path / "yx.jpg") as picture:
        assert ("APP13", b"Photoshop") in picture.applist
    assert run(tmp_path / "x.jpg", tmp_path / "z.png", *BLUR) == 0
    assert "JPEG segments APP11, IPTC" in notes(capsys)[0]


def test_deep_png_keeps_its_chunks(tmp_path):
    pytest.importorskip("imagecodecs")
    x = RNG.integers(0, 65536, (12, 15, 3)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "x.tif", x, iccprofile=ICC, resolution=(300, 300),
                     resolutionunit="INCH")  # fmt: skip
    assert run(tmp_path / "x.tif", tmp_path / "y.png", *BLUR) == 0
    with Image.open(tmp_path / "y.png") as picture:
        assert picture.info["icc_profile"] == ICC
        assert round(picture.info["dpi"][0]) == 300


GEO = [
    (33550, 12, 3, (10.0, 20.0, 0.0), True),
    (33922, 12, 6, (0.0, 0.0, 0.0, 500.0, 900.0, 0.0), True),
    (34735, 3, 8, (1, 1, 0, 1, 1024, 0, 1, 1), True),
    (315, 2, 0, "me", True),
    (270, 2, 0, "a description", True),
    (33432, 2, 0, "© me".encode(), True),
]


@pytest.mark.parametrize(
    ("more", "scale", "corner"),
    [([], 1, (0, 0)), (["--mode", "valid"], 1, (-1, -1)), (["--mode", "full"], 1, (1, 1)),
     (["--stride", "2"], 2, (0.25, 0.25))],
)  # fmt: skip
def test_geotiff_follows_the_pixels(tmp_path, more, scale, corner):
    tifffile.imwrite(tmp_path / "x.tif", pixels(20, 30), extratags=GEO, metadata=None)
    assert run(tmp_path / "x.tif", tmp_path / "y.tif", *BLUR, *more) == 0
    tags = {tag.code: tag.value for tag in tifffile.TiffFile(tmp_path / "y.tif").pages[0].tags}
    assert tags[33550][:2] == (10 * scale, 20 * scale)
    assert tags[33922] == (*corner, 0, 500, 900, 0)
    assert (tags[34735], tags[315], tags[270]) == (GEO[2][3], "me", "a description")
    assert tags[33432] == "© me"


@pytest.mark.parametrize("stride", [1, 2])
def test_a_geotiff_matrix(tmp_path, stride):
    matrix = np.array([[10, 1, 0, 500], [2, -20, 0, 900], [0, 0, 0, 0], [0, 0, 0, 1.0]])
    tag = (34264, 12, 16, tuple(matrix.ravel()), True)
    tifffile.imwrite(tmp_path / "x.tif", pixels(20, 30), extratags=[tag])
    assert run(tmp_path / "x.tif", tmp_path / "y.tif", *BLUR, "--stride", stride) == 0
    page = tifffile.TiffFile(tmp_path / "y.tif").pages[0]
    there = np.reshape(page.tags[34264].value, (4, 4))
    for output in ((0, 0), (3, 2)):  # centres of pixels
        source = [n * stride + 0.5 for n in output]
        here = [n + 0.5 for n in output]
        np.testing.assert_allclose(there @ [*here, 0, 1], matrix @ [*source, 0, 1])


def test_ome(tmp_path):
    about = {
        "axes": "TCZYX", "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm", "PhysicalSizeZ": 2.0,
        "Channel": {"Name": ["one", "two", "three"]},
    }  # fmt: skip
    tifffile.imwrite(tmp_path / "x.ome.tif", pixels(2, 3, 2, 12, 15), ome=True, metadata=about)
    assert run(tmp_path / "x.ome.tif", tmp_path / "y.tif", *BLUR, "--stride", "2") == 0
    with tifffile.TiffFile(tmp_path / "y.tif") as file:
        assert (file.series[0].axes, file.series[0].shape) == ("TCZYX", (2, 3, 2, 6, 8))
        xml = file.ome_metadata
    for text in ('PhysicalSizeX="1.0"', 'PhysicalSizeXUnit="µm"', 'PhysicalSizeZ="2.0"',
                 'Name="two"'):  # fmt: skip
        assert text in xml


def test_ome_of_other_shapes_and_numbers(tmp_path, capsys):
    about = {"axes": "CYX", "PhysicalSizeX": 0.5, "Channel": {"Name": ["one", "two"]}}
    tifffile.imwrite(tmp_path / "x.ome.tif", pixels(2, 12, 15), ome=True, metadata=about)
    one = [tmp_path / "x.ome.tif", tmp_path / "y.tif", *BLUR, "--overwrite"]
    assert run(*one, "--page", 1) == 0
    assert "dropped names and colours of channels" in notes(capsys)[0]
    xml = tifffile.TiffFile(tmp_path / "y.tif").ome_metadata
    assert 'PhysicalSizeX="0.5"' in xml
    assert 'Name="one"' not in xml
    for dtype, dropped in (("float64", False), ("int64", True), ("float16", True)):
        assert run(*one, "--dtype", dtype) == 0
        assert bool(notes(capsys)) == dropped
        with tifffile.TiffFile(tmp_path / "y.tif") as file:
            assert file.is_ome == (not dropped)
            assert file.series[0].dtype == dtype


def test_imagej(tmp_path, capsys):
    tables = [np.arange(256, dtype=np.uint8)[None] * np.ones((3, 1), np.uint8)] * 2
    about = {"axes": "TZCYX", "spacing": 0.3, "unit": "um", "LUTs": tables, "Ranges": (0, 99) * 2}
    tifffile.imwrite(tmp_path / "x.tif", pixels(2, 3, 2, 12, 15), imagej=True, metadata=about,
                     resolution=(2.5, 2.5))  # fmt: skip
    assert run(tmp_path / "x.tif", tmp_path / "y.tif", *BLUR) == 0
    assert notes(capsys) == []
    with tifffile.TiffFile(tmp_path / "y.tif") as file:
        assert file.series[0].axes == "TZCYX"
        assert file.imagej_metadata["spacing"] == 0.3
        assert file.imagej_metadata["unit"] == "um"
        assert file.imagej_metadata["Ranges"] == (0, 99) * 2
        np.testing.assert_array_equal(file.imagej_metadata["LUTs"], tables)
        assert file.pages[0].resolution == (2.5, 2.5)
    assert run(tmp_path / "x.tif", tmp_path / "y.zarr", *BLUR) == 0
    assert "dropped pixel size" in notes(capsys)[0]


def test_a_micrometre_of_imagej(tmp_path):
    tifffile.imwrite(tmp_path / "x.tif", pixels(2, 12, 15), imagej=True,
                     metadata={"axes": "ZYX", "unit": "?m", "Info": "10 µm"})  # fmt: skip
    raw = (tmp_path / "x.tif").read_bytes()
    (tmp_path / "x.tif").write_bytes(raw.replace(b"unit=?m", b"unit=\xb5m"))
    assert run(tmp_path / "x.tif", tmp_path / "y.tif", *BLUR) == 0
    with tifffile.TiffFile(tmp_path / "y.tif") as file:
        assert "unit=\\u00B5m" in file.pages[0].description
        assert file.imagej_metadata["Info"] == "10 µm"


def test_tifffile_metadata(tmp_path, capsys):
    about = {"axes": "ZYX", "microscope": "one", "step": 0.25}
    tifffile.imwrite(tmp_path / "x.tif", pixels(2, 12, 15), metadata=about)
    assert run(tmp_path / "x.tif", tmp_path / "y.tif", *BLUR) == 0
    assert notes(capsys) == []
    (found,) = tifffile.TiffFile(tmp_path / "y.tif").shaped_metadata
    assert (found["axes"], found["microscope"], found["step"]) == ("ZYX", "one", 0.25)
    assert run(tmp_path / "x.tif", tmp_path / "y.npy", *BLUR) == 0
    assert "pixel size" in notes(capsys)[0]


def test_how_the_input_was_compressed_is_not_said_of_the_output(tmp_path, capsys):
    # Parameters of LERC, and how many lines of a fax were bad.
    more = [(326, "I", 1, 3, True), (327, "H", 1, 1, True)]
    tifffile.imwrite(tmp_path / "x.tif", pixels(20, 30), compression="lerc", extratags=more)
    with tifffile.TiffFile(tmp_path / "x.tif") as written:
        assert {326, 327, 50674} <= {tag.code for tag in written.pages[0].tags}
    assert run(tmp_path / "x.tif", tmp_path / "y.tif", *BLUR) == 0
    with tifffile.TiffFile(tmp_path / "y.tif") as written:
        assert written.pages[0].compression == 1
        assert not {326, 327, 50674} & {tag.code for tag in written.pages[0].tags}
    assert notes(capsys) == []


@pytest.mark.parametrize("form", [2, 3])
def test_zarr_attributes(tmp_path, form):
    more = dict(dimension_names=("y", "x")) if form == 3 else {}
    zarr.create_array(
        str(tmp_path / "x.zarr"), data=pixels(12, 15), zarr_format=form,
        attributes={"long_name": "elevation"}, **more,
    )  # fmt: skip
    assert run(tmp_path / "x.zarr", tmp_path / "y.zarr", *BLUR) == 0
    y = zarr.open_array(str(tmp_path / "y.zarr"), mode="r")
    assert y.attrs["long_name"] == "elevation"
    assert y.metadata.zarr_format == form
    if form == 3:
        assert y.metadata.dimension_names == ("y", "x")


@pytest.mark.parametrize("form", [2, 3])
def test_ome_zarr(tmp_path, form, capsys):
    scales = [{
        "axes": [{"name": name} for name in "czyx"],
        "datasets": [
            {"path": str(n), "coordinateTransformations": [
                {"type": "scale", "scale": [1, 2, 0.5 * 2**n, 0.5 * 2**n]}]}
            for n in range(2)
        ],
    }]  # fmt: skip
    group = zarr.open_group(str(tmp_path / "x.zarr"), mode="w", zarr_format=form)
    group.attrs.update({"multiscales": scales} if form == 2 else {"ome": {"multiscales": scales}})
    x = pixels(3, 2, 12, 15)
    for n in range(2):
        group.create_array(str(n), data=x[..., :: 2**n, :: 2**n])
    assert run(tmp_path / "x.zarr", tmp_path / "y.zarr", "--filter", "box-1", "--stride", "2") == 0
    assert "dropped smaller levels of the pyramid" in notes(capsys)[0]
    y = zarr.open_group(str(tmp_path / "y.zarr"), mode="r")
    np.testing.assert_array_equal(y["0"][...], x[..., ::2, ::2])
    about = json.loads(json.dumps(y.attrs.asdict()))
    (found,) = (about if form == 2 else about["ome"])["multiscales"]
    assert [one["path"] for one in found["datasets"]] == ["0"]
    (step,) = found["datasets"][0]["coordinateTransformations"]
    assert step["scale"] == [1, 2, 1, 1]
    assert found["axes"] == scales[0]["axes"]
    for inner, options in (("x.zarr/1", []), ("x.zarr", ["--array", "1"])):
        command = [tmp_path / inner, tmp_path / "z.npy", "--filter", "box-1", "--overwrite"]
        assert run(*command, *options) == 0
        assert "dropped OME-Zarr metadata of the group that the array is in" in notes(capsys)[0]
        np.testing.assert_array_equal(np.load(tmp_path / "z.npy"), x[..., ::2, ::2])


def test_the_other_arrays_of_an_archive_are_named(tmp_path, capsys):
    x = pixels(12, 15)
    np.savez(tmp_path / "x.npz", a=x, b=x[1:])
    assert run(tmp_path / "x.npz", tmp_path / "y.npy", "--filter", "box-1", "--array", "b") == 0
    assert "dropped the archive's other arrays" in notes(capsys)[0]
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), x[1:])


@pytest.mark.parametrize("form", [2, 3])
def test_what_else_a_zarr_group_holds_is_named(tmp_path, capsys, form):
    group = zarr.open_group(str(tmp_path / "x.zarr"), mode="w", zarr_format=form)
    group.attrs["title"] = "a survey"
    x = pixels(12, 15)
    group.create_array("a", data=x)
    group.create_array("in/b", data=x)
    attributes = "attributes of the group that the array is in"
    for source, options, others in (
        ("x.zarr", [], "'in'"),
        ("x.zarr", ["--array", "in/b"], "'a'"),
        ("x.zarr/a", [], "'in'"),
    ):
        command = [tmp_path / source, tmp_path / "y.npy", "--filter", "box-1", "--overwrite"]
        assert run(*command, *options) == 0
        (note,) = notes(capsys)
        assert f"dropped what else the group holds ({others}), {attributes}" in note
    scales = [{"axes": [{"name": name} for name in "yx"], "datasets": [{"path": "a"}]}]
    group.attrs.update({"multiscales": scales} if form == 2 else {"ome": {"multiscales": scales}})
    assert run(tmp_path / "x.zarr", tmp_path / "y.zarr", "--filter", "box-1") == 0
    (note,) = notes(capsys)
    assert note.split("dropped ")[1].startswith("what else the group holds ('in') of ")
    assert zarr.open_group(str(tmp_path / "y.zarr"), mode="r").attrs["title"] == "a survey"


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_channels_of_ome_are_no_colours(tmp_path, capsys, channels):
    scales = [{"axes": [{"name": name} for name in "cyx"], "datasets": [{"path": "0"}]}]
    group = zarr.open_group(str(tmp_path / "x.zarr"), mode="w")
    group.attrs.update({"ome": {"multiscales": scales}})
    x = pixels(channels, 12, 15)
    group.create_array("0", data=x)
    one = [tmp_path / "x.zarr", "--filter", "box-1"]
    assert run(*one, tmp_path / "y.png") == 4
    assert f"{channels} pages; PNG holds one" in capsys.readouterr().err
    assert run(*one, tmp_path / "y.tif") == 0
    with tifffile.TiffFile(tmp_path / "y.tif") as file:
        assert (len(file.pages), file.pages[0].photometric) == (channels, 1)
        np.testing.assert_array_equal(file.asarray(), x)
    assert run(*one, tmp_path / "y.zarr") == 0
    y = zarr.open_group(str(tmp_path / "y.zarr"), mode="r")
    np.testing.assert_array_equal(y["0"][...], x)
    assert y.attrs["ome"]["multiscales"][0]["axes"] == scales[0]["axes"]
    assert run(*one, tmp_path / "page.npy", "--page", 1) == 0
    np.testing.assert_array_equal(np.load(tmp_path / "page.npy"), x[1])
    if channels == 3:
        assert run(*one, tmp_path / "y.png", "--axes", "cyx") == 0
        np.testing.assert_array_equal(Image.open(tmp_path / "y.png"), np.moveaxis(x, 0, -1))


def test_one_plane_of_an_ome_zarr(tmp_path, capsys):
    scales = [{"axes": [{"name": name} for name in "zyx"], "datasets": [{"path": "0"}]}]
    group = zarr.open_group(str(tmp_path / "x.zarr"), mode="w")
    group.attrs.update({"ome": {"multiscales": scales}})
    x = pixels(3, 12, 15)
    group.create_array("0", data=x)
    command = [tmp_path / "x.zarr", tmp_path / "y.zarr", "--filter", "box-1", "--page", 2]
    assert run(*command) == 0
    assert "dropped OME-Zarr metadata" in notes(capsys)[0]
    np.testing.assert_array_equal(zarr.open_array(str(tmp_path / "y.zarr"), mode="r")[...], x[2])


def test_fits(tmp_path, capsys):
    fits = pytest.importorskip("astropy.io.fits")
    hdu = fits.PrimaryHDU(RNG.integers(0, 60000, (12, 15)).astype(np.uint16))
    hdu.header["OBJECT"], hdu.header["CRPIX1"], hdu.header["CDELT1"] = "M31", 5.0, 0.25
    fits.HDUList([hdu, fits.ImageHDU(np.ones((4, 4)), name="ERR")]).writeto(tmp_path / "x.fits")
    command = [tmp_path / "x.fits", tmp_path / "y.fits", *BLUR, "--overwrite"]
    assert run(*command) == 3
    assert "pick one with --hdu" in capsys.readouterr().err
    assert run(*command, "--hdu", "0", "--stride", "2") == 0
    assert "dropped other HDUs" in notes(capsys)[0]
    header, y = fits.getheader(tmp_path / "y.fits"), fits.getdata(tmp_path / "y.fits")
    assert (header["OBJECT"], header["CRPIX1"], header["CDELT1"]) == ("M31", 3.0, 0.5)
    assert (y.shape, y.dtype) == ((6, 8), np.uint16)
    assert run(*command, "--hdu", "err") == 0
    assert run(*command, "--hdu", "7") == 3


@pytest.mark.parametrize("blank", [0, -5])
def test_fits_blanks_are_not_numbers(tmp_path, blank):
    fits = pytest.importorskip("astropy.io.fits")
    from gpuconv.cli.files import ReadOptions, open_image

    x = RNG.integers(0, 9, (12, 15)).astype(np.int16)
    x[3, 4] = blank
    hdu = fits.PrimaryHDU(x)
    hdu.header["BLANK"], hdu.header["BSCALE"] = blank, 2.0
    hdu.writeto(tmp_path / "x.fits")
    with open_image(tmp_path / "x.fits", ReadOptions()) as image:
        np.testing.assert_array_equal(image.source.whole(), np.where(x == blank, np.nan, 2.0 * x))
    assert run(tmp_path / "x.fits", tmp_path / "y.fits", *BLUR) == 0
    y = fits.getdata(tmp_path / "y.fits")
    np.testing.assert_array_equal(np.isnan(y), x == blank)
    alone = np.where(x == blank, np.nan, 2.0 * x)
    keywords = dict(mode="same", boundary="symmetric", preserve_nan=True)
    wanted = gpuconv.normalized_corr2d(alone, np.ones((3, 3)), **keywords)
    np.testing.assert_allclose(y, wanted, rtol=1e-6)
