"""The wheel and the sdist hold all of the package: ``check_dist.py FOLDER DISTRIBUTION ...``."""

import sys
import tarfile
import zipfile
from pathlib import Path


def names(path: Path) -> set[str]:
    """Files of a wheel or an sdist, without the latter's top folder."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            return set(wheel.namelist())
    with tarfile.open(path) as sdist:
        return {member.name.partition("/")[2] for member in sdist.getmembers() if member.isfile()}


folder, *distributions = map(Path, sys.argv[1:])
needed = {
    path.as_posix()
    for path in folder.rglob("*")
    if path.is_file() and "__pycache__" not in path.parts
}
assert f"{folder}/py.typed" in needed, "py.typed"
assert any(name.endswith(".cu") for name in needed), "CUDA sources"
assert sorted(path.suffix for path in distributions) == [".gz", ".whl"], distributions
for path in distributions:
    held = names(path)
    missing = sorted(needed - held)
    assert not missing, f"{path.name} lacks {missing}"
    if path.suffix == ".whl":
        strange = sorted(n for n in held - needed if ".dist-info/" not in n)
        assert not strange, f"{path.name} holds {strange} too"
    print(f"{path.name}: all {len(needed)} files of {folder}/")
