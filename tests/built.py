"""What compilers make of sources, kept on disk: built once for all processes and all runs.

Whatever decides what is built (source, options, version of the compiler) is part of the key, so
nothing here is ever out of date, and the folder may be deleted at any time.
"""

import contextlib
import getpass
import hashlib
import tempfile
from pathlib import Path

try:
    import fcntl
except ImportError:  # not POSIX: two processes may build the same thing, and one of them wins
    fcntl = None

FOLDER = Path(tempfile.gettempdir()) / f"gpuconv-tests-built-{getpass.getuser()}"


@contextlib.contextmanager
def _locked(path):
    with path.open("w") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def kept(key, make, suffix=""):
    """Path of what `make(path)` writes, a file or a folder; the strings in `key` decide all of it.

    Of several processes one builds and the others wait.
    """
    name = hashlib.sha256("\0".join(key).encode()).hexdigest()[:32]
    target = FOLDER / f"{name}{suffix}"
    if target.exists():
        return target
    FOLDER.mkdir(exist_ok=True)
    with _locked(FOLDER / f"{name}.lock"):
        if not target.exists():
            with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
                made = Path(folder) / "made"
                make(made)
                made.rename(target)
    return target
