"""The pictures of the demonstration show what they say."""

import contextlib
import io

import numpy as np
import pytest
from PIL import Image

from benchmarks.make_photo import STONES
from gpuconv.cli import demo, main


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of the pictures, and what was printed."""
    path, printed = tmp_path_factory.mktemp("demo"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(demo, "_SECONDS", 0)
        assert main(["demo", "--output-dir", str(path)]) == 0
    return path, printed.getvalue()


@pytest.fixture(scope="module")
def folder(run):
    return run[0]


def test_what_is_printed(run):
    assert "[[19 25]" in run[1]
    methods = [line.split()[3] for line in run[1].splitlines() if line.startswith("sobel")]
    assert methods == ["direct", "direct"]


def test_a_pixel_of_three_colours_is_one(run):
    (line,) = (one.split() for one in run[1].splitlines() if one.startswith("gaussian-6"))
    assert line[1] == "3x512x768"
    milliseconds, speed = float(line[-2]), float(line[-1])
    assert speed == pytest.approx(512 * 768 / milliseconds / 1e3, rel=0.02, abs=0.6)


def load(folder, name):
    return np.asarray(Image.open(folder / f"{name}.png")).astype(int)


def test_the_sheet_holds_all(folder):
    names = sorted(path.stem for path in folder.iterdir())
    assert names == [
        "blur", "chapter", "contact-sheet", "directions", "edges", "found", "likeness", "picture",
        "sharpen",
    ]  # fmt: skip
    sheet = load(folder, "contact-sheet")
    photo = load(folder, "picture")
    assert sheet.shape[2] == 3
    assert sheet.shape[1] > 4 * 480
    assert photo.shape == (512, 768, 3)


def test_every_white_stone_is_found(folder, monkeypatch):
    found = []
    find = demo._find_peaks
    monkeypatch.setattr(demo, "_find_peaks", lambda *a: found.extend(find(*a)) or found)
    monkeypatch.setattr(demo, "_SECONDS", 0)
    demo.run(folder, "cpu", overwrite=True)
    assert len(found) == np.count_nonzero(STONES[:, 2])
    photo = load(folder, "picture")
    for y, x in found:
        assert photo[y - 8 : y + 9, x - 8 : x + 9].min() > 120  # on white


def test_blur_and_sharpen(folder):
    rough = {name: np.abs(np.diff(load(folder, name), axis=1)).mean() for name in
             ("blur", "picture", "sharpen")}  # fmt: skip
    assert rough["blur"] < rough["picture"] < rough["sharpen"]


def test_directions_have_colours():
    """A slope to the right and one down differ in hue, opposite ones too; flat is black."""
    right, down = np.array([[9, 0, -9, 0, 0]]), np.array([[0, 9, 0, -9, 0]])
    colours = demo._direction(right, down)[0].astype(int)
    assert (colours[4] == 0).all()
    assert len({tuple(colour) for colour in colours}) == 5
    assert colours[:4].max(axis=1).min() > 150


def test_files_that_are_there_are_kept(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(demo, "_SECONDS", 0)
    (tmp_path / "picture.png").write_text("mine")
    (tmp_path / "found.png").symlink_to("nowhere")
    command = ["demo", "--output-dir", str(tmp_path)]
    assert main(command) == 4
    printed = capsys.readouterr()
    assert printed.out == ""  # nothing was computed
    assert f"{tmp_path}: picture.png, found.png exist already; pass --overwrite" in printed.err
    assert (tmp_path / "picture.png").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 2
    assert main([*command, "--overwrite"]) == 4
    assert "picture.png: does not say that gpuconv wrote it" in capsys.readouterr().err
    assert (tmp_path / "picture.png").read_text() == "mine"
    (tmp_path / "picture.png").unlink()
    for _ in range(2):
        assert main([*command, "--overwrite"]) == 0
    assert np.asarray(Image.open(tmp_path / "picture.png")).shape == (512, 768, 3)
    assert main(command) == 4
