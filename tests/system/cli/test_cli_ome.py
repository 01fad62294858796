"""OME-TIFF: pictures beside each other, and what is said of a picture and its channels."""

import numpy as np
import tifffile

from .calls import refused, run

RNG = np.random.default_rng(28)
SAME = ["--filter", "box-1", "--overwrite"]


def notes(capsys):
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]


def test_two_pictures_of_one_size(tmp_path, capsys):
    x = RNG.integers(0, 256, (2, 12, 15)).astype(np.uint8)
    with tifffile.TiffWriter(tmp_path / "x.ome.tif", ome=True) as file:
        for n, name in enumerate("ab"):
            about = {"axes": "YX", "Name": name, "PhysicalSizeX": 0.5 + n}
            file.write(x[n], metadata=about)
    one = [tmp_path / "x.ome.tif", tmp_path / "y.tif", *SAME]
    error = refused(capsys, 3, *one)
    assert (
        "2 pictures that are no pages of one (12x15, 12x15); pick one with --page 0 to 1" in error
    )
    for n, name in enumerate("ab"):
        assert run(*one, "--page", n) == 0
        assert notes(capsys) == []
        with tifffile.TiffFile(tmp_path / "y.tif") as file:
            np.testing.assert_array_equal(file.asarray(), x[n])
            assert f'Name="{name}"' in file.ome_metadata
            assert f'PhysicalSizeX="{0.5 + n}"' in file.ome_metadata


def test_what_is_said_of_a_picture(tmp_path, capsys):
    about = {
        "axes": "CYX", "Name": "cells", "Description": "some words & more",
        "AcquisitionDate": "2020-01-01T00:00:00",
        "Channel": {"Name": ["one", "two"], "Color": [255, 3], "EmissionWavelength": [500.5, 600]},
    }  # fmt: skip
    x = RNG.integers(0, 256, (2, 12, 15)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "x.ome.tif", x, ome=True, metadata=about)
    assert run(tmp_path / "x.ome.tif", tmp_path / "y.tif", *SAME) == 0
    assert notes(capsys) == []
    xml = tifffile.TiffFile(tmp_path / "y.tif").ome_metadata
    for text in ('Name="cells"', "some words &amp; more", "2020-01-01T00:00:00", 'Color="255"',
                 'EmissionWavelength="500.5"', 'Name="two" Color="3"'):  # fmt: skip
        assert text in xml
    for more in ({"Plane": {"DeltaT": [1.0, 2.0]}}, {"MapAnnotation": {"a": "b"}}):
        tifffile.imwrite(tmp_path / "x.ome.tif", x, ome=True, metadata=about | more)
        assert run(tmp_path / "x.ome.tif", tmp_path / "y.tif", *SAME) == 0
        (note,) = notes(capsys)
        assert "dropped other OME metadata" in note


def test_a_channel_that_says_more_than_others(tmp_path, capsys):
    x = RNG.integers(0, 256, (2, 12, 15)).astype(np.uint8)
    about = {"axes": "CYX", "Channel": {"Name": ["one", "two"], "Fluor": ["DAPI", "GFP"]}}
    tifffile.imwrite(tmp_path / "x.ome.tif", x, ome=True, metadata=about)
    data = (tmp_path / "x.ome.tif").read_bytes()
    (tmp_path / "x.ome.tif").write_bytes(data.replace(b' Fluor="GFP"', b"            "))
    assert run(tmp_path / "x.ome.tif", tmp_path / "y.tif", *SAME) == 0
    (note,) = notes(capsys)
    assert "dropped other OME metadata" in note
    assert 'Name="two"' in tifffile.TiffFile(tmp_path / "y.tif").ome_metadata
