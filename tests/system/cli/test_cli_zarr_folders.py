"""Folders of Zarr that may be replaced: what gpuconv wrote, and nothing besides."""

import numpy as np
import pytest
import zarr

from gpuconv.cli import main

RNG = np.random.default_rng(31)
KEEP = ["--filter", "box-1", "--backend", "reference", "--quiet"]


def run(*arguments):
    return main(["filter", *map(str, arguments), *KEEP])


def write_source(path, form, group):
    x = RNG.integers(0, 256, (3, 700, 600)).astype(np.uint8)
    if not group:
        zarr.create_array(str(path), data=x, zarr_format=form)
        return
    opened = zarr.open_group(str(path), mode="w", zarr_format=form)
    scales = [{"axes": [{"name": n} for n in "czyx"[-3:]], "datasets": [{"path": "scale/0"}]}]
    opened.attrs.update({"multiscales": scales} if form == 2 else {"ome": {"multiscales": scales}})
    opened.create_array("scale/0", data=x)


@pytest.mark.parametrize("form", [2, 3])
@pytest.mark.parametrize("group", [False, True])
def test_what_was_put_there_since_is_kept(tmp_path, capsys, form, group):
    source, out = tmp_path / "x.zarr", tmp_path / "y.zarr"
    write_source(source, form, group)
    assert run(source, out) == 0
    assert run(source, out, "--overwrite") == 0
    (out / ".DS_Store").touch()  # which a file manager leaves
    assert run(source, out, "--overwrite") == 0
    array = out / "scale" / "0" if group else out
    names = "thesis.txt", "labels/zarr.json", "c/notes.txt", "1/2/x", "7", "2024/01/05", "3/2/1"
    for name in names:
        for folder in {out, array}:
            mine = folder / name
            made = not mine.parent.exists()
            mine.parent.mkdir(parents=True, exist_ok=True)
            mine.write_text("mine")
            capsys.readouterr()
            assert run(source, out, "--overwrite") == 4
            error = capsys.readouterr().err
            assert f"did not write ({mine.relative_to(out).as_posix()})" in error
            assert mine.read_text() == "mine"
            mine.unlink()
            while made and mine.parent not in (out, array) and not any(mine.parent.iterdir()):
                mine.parent.rmdir()
                mine = mine.parent
    (out / "photos").mkdir()
    assert run(source, out, "--overwrite") == 4
    assert "did not write (photos)" in capsys.readouterr().err
    (out / "photos").rmdir()
    assert run(source, out, "--overwrite") == 0
