"""Where outputs may go: over no input and nothing that others wrote; refused before the work."""

import io
import os
import sys
import types

import numpy as np
import pytest
from PIL import Image

import gpuconv
from gpuconv.cli import filter_command, main, temporary
from gpuconv.cli.files.replace import replace_on_success
from gpuconv.cli.files.safety import WriteError

from .calls import refused, run

RNG = np.random.default_rng(31)
BLUR = ["--filter", "box-3"]


def save(path):
    Image.fromarray(RNG.integers(0, 256, (12, 15, 3)).astype(np.uint8)).save(path)
    return path


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_no_input_is_overwritten_under_another_name(tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    source, other = save(folder / "a.png"), save(folder / "b.png")
    (tmp_path / "out").mkdir()
    os.symlink(source, tmp_path / "link.png")
    os.link(source, tmp_path / "hard.png")
    os.link(source, tmp_path / "out" / "b.png")
    os.symlink(source, tmp_path / "out" / "a.png")
    before = contents(tmp_path)
    link = tmp_path / "link.png"
    for shape, says in (
        ([source, link], f"{link}: is an input, {source} by another name; it is not replaced"),
        ([link, link], f"{link}: is an input; it is not replaced"),
        ([link, source], "by another name"),
        ([source, tmp_path / "hard.png"], "by another name"),
        ([source, other, "--output-dir", tmp_path / "out"], f"out/a.png: is an input, {source} by"),
        ([other, source, "--output-dir", tmp_path / "out"], f"out/b.png: is an input, {source} by"),
    ):
        assert says in refused(capsys, 4, *shape, *BLUR, "--overwrite")
    assert contents(tmp_path) == before
    assert link.is_symlink()


def test_a_link_is_replaced_itself(tmp_path):
    source, photo = save(tmp_path / "a.png"), save(tmp_path / "b.png")
    out = tmp_path / "out"
    out.mkdir()
    before = photo.read_bytes()
    for link, shape in (
        (tmp_path / "link.png", [source, tmp_path / "link.png"]),
        (out / "a.png", [source, "--output-dir", out]),
    ):
        os.symlink(photo, link)
        assert run(*shape, *BLUR) == 4
        assert run(*shape, *BLUR, "--overwrite") == 0
        assert not link.is_symlink()
    assert photo.read_bytes() == before


def test_the_standard_input_replaces_no_photo(tmp_path, monkeypatch, capsys):
    photo = save(tmp_path / "b.png")
    before = photo.read_bytes()
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(before)))
    text = refused(capsys, 4, "-", photo, *BLUR, "--overwrite")
    assert "does not say that gpuconv wrote it" in text
    assert photo.read_bytes() == before


@pytest.mark.parametrize("more", [[], ["--overwrite"]])
def test_a_folder_that_takes_two_names_for_one(tmp_path, capsys, monkeypatch, more):
    """Such as a.png and A.png on some file systems; here a link made meanwhile does the same."""
    both = [save(tmp_path / name) for name in ("a.png", "b.png")]
    out = tmp_path / "out"
    finish = filter_command.Inputs.keep_output

    def link_as_well(inputs, output, source):
        finish(inputs, output, source)
        os.link(output, out / "b.png")

    monkeypatch.setattr(filter_command.Inputs, "keep_output", link_as_well)
    assert run(*both, "--output-dir", out, *BLUR, *more) == 1
    error = capsys.readouterr().err
    assert f"{out / 'b.png'}: was written for {both[0]} just now" in error
    assert "1 of 2 files filtered, 1 failed" in error


@pytest.mark.parametrize("there", [False, True])
def test_what_appears_meanwhile_is_kept(tmp_path, there):
    out = tmp_path / "y.png"
    if there:
        out.write_bytes(b"")
    with pytest.raises(WriteError, match="was made or changed meanwhile"), replace_on_success(out):
        out.write_text("mine")
    assert out.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [out]


def test_a_file_is_named_twice(tmp_path, capsys):
    source = save(tmp_path / "a.png")
    same = os.path.join(tmp_path, ".", "a.png")
    assert "is named twice" in refused(capsys, 2, source, same, "--output-dir", tmp_path / "out",
                                       *BLUR)  # fmt: skip
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ("folder", "is a folder; it is not replaced; to write into it pass --output-dir"),
        ("link", "is a folder; it is not replaced; to write into it pass --output-dir"),
        (".", "is a folder"),
        ("missing/y.png", "no such folder"),
        ("file/y.png", "file is a file, not a folder"),
        ("file/more/y.png", "file is a file, not a folder"),
        ("n" * 252 + ".png", "cannot be written: File name too long"),
        ("é" * 126 + ".zarr", "cannot be written: File name too long"),
        ("y", "has no suffix, which says the format, such as .png"),
    ],
)
def test_outputs_that_cannot_be(tmp_path, capsys, monkeypatch, output, says):
    """All are refused before anything is computed."""
    source = save(tmp_path / "x.png")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    os.symlink(tmp_path / "folder", tmp_path / "link")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(gpuconv, "corr2d", None)
    path = tmp_path / output
    for more in ([], ["--overwrite"]):
        text = refused(capsys, 4, source, path, *BLUR, *more)
        assert text.startswith(f"gpuconv: error: {path}: ")
        assert says in text
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_is_no_input(tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    save(folder / "a.png")
    for more in ([tmp_path / "y.png"], ["--output-dir", tmp_path / "out"]):
        text = refused(capsys, 3, folder, *more, *BLUR)
        assert f"{folder}: is a folder; name the files in it, such as {folder / '*'}" in text
        assert "--output-dir" in text


def test_pictures_do_not_go_into_zarr_arrays(tmp_path, capsys):
    source, store = save(tmp_path / "x.png"), tmp_path / "s.zarr"
    assert run(source, store, *BLUR) == 0
    before = contents(tmp_path)
    for more in ([store / "y.png"], ["--output-dir", store], ["--output-dir", store / "new"]):
        text = refused(capsys, 4, source, *more, *BLUR)
        assert "is part of s.zarr, a Zarr array or group" in text
    assert contents(tmp_path) == before
    assert not (store / "new").exists()


@pytest.mark.parametrize("where", ["file", "file/folder"])
@pytest.mark.parametrize("command", ["filter", "demo"])
def test_folders_that_cannot_be(tmp_path, capsys, where, command):
    source = save(tmp_path / "x.png")
    (tmp_path / "file").write_text("mine")
    out = tmp_path / where
    more = [source, *BLUR] if command == "filter" else []
    assert main([command, *map(str, more), "--output-dir", str(out)]) == 4
    printed = capsys.readouterr()
    assert printed.out == ""
    what = "is a file" if where == "file" else f"{tmp_path / 'file'} is a file"
    assert printed.err == f"gpuconv: error: {out}: {what}, not a folder\n"
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("suffix", ["png", "zarr"])
@pytest.mark.parametrize("compare", [False, True])
def test_a_folder_that_cannot_be_written(tmp_path, capsys, monkeypatch, suffix, compare):
    source, out, folder = save(tmp_path / "x.png"), tmp_path / f"y.{suffix}", tmp_path / "other"
    folder.mkdir()
    closed = folder if compare else tmp_path
    note_name = temporary._note_name

    def refuse(path, suffix):
        if path.parent == closed:
            raise PermissionError(13, "Permission denied")
        return note_name(path, suffix)

    monkeypatch.setattr(temporary, "_note_name", refuse)
    monkeypatch.setattr(gpuconv, "corr2d", None)
    more = ["--compare", folder / "both.png"] if compare else []
    text = refused(capsys, 4, source, out, *BLUR, *more)
    named = folder / "both.png" if compare else out
    assert text == f"gpuconv: error: {named}: cannot be written: Permission denied\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "x.png"]
