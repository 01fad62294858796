"""Signals, full disks and warnings: no file is left behind and no traceback is printed."""

import itertools
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from gpuconv.cli import main
from gpuconv.cli.files.formats import FORMATS

from ... import marks

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
RNG = np.random.default_rng(20)
GUARD = 1800  # seconds after which something hangs; no verdict depends on it

# The command line, whose first sum says "at work" and waits for a signal.
WAITING = """
import sys, threading
import gpuconv
from gpuconv.cli import process

def wait(*arguments, **keywords):
    print("at work", flush=True)
    while True:
        threading.Event().wait()

gpuconv.corr2d = wait
sys.exit(process.start())
"""

# The first removal of a file is interrupted before anything is removed.
INTERRUPTED_REMOVAL = """
import os, pathlib, signal
unlink = pathlib.Path.unlink

def interrupt(path, **keywords):
    pathlib.Path.unlink = unlink
    os.kill(os.getpid(), signal.SIGINT)

pathlib.Path.unlink = interrupt
"""

# The process gets the signal when it looks for a module.
INTERRUPTED_IMPORT = """
import os, signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder())
"""


def default_actions():
    """A parent in the background ignores these, and its children would, too."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def run(*command, **keywords):
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=default_actions, **keywords,
    )  # fmt: skip


SAYS = {
    signal.SIGTERM: "stopped by SIGTERM",
    signal.SIGHUP: "stopped by SIGHUP",
    signal.SIGINT: "interrupted",
}


@pytest.mark.parametrize(
    ("number", "suffix"),
    marks.always(
        list(itertools.product(SAYS, ["zarr", "npy", "tif", "png"])),
        (signal.SIGTERM, "zarr"),
        (signal.SIGHUP, "npy"),
        (signal.SIGINT, "tif"),
        (signal.SIGTERM, "png"),
        rows=True,
    ),
)
def test_signals_leave_nothing(tmp_path, number, suffix):
    np.save(tmp_path / "x.npy", RNG.integers(0, 256, (20, 20), np.uint8))
    child = run("-c", WAITING, "filter", tmp_path / "x.npy", tmp_path / f"y.{suffix}", "--filter",
                "sobel-x")  # fmt: skip
    assert child.stdout.readline() == "at work\n"
    child.send_signal(number)
    _, error = child.communicate(timeout=GUARD)
    assert error == f"gpuconv: error: {SAYS[number]}\n"
    assert child.returncode == 128 + number
    assert os.listdir(tmp_path) == ["x.npy"]


def test_a_second_signal_while_the_first_is_obeyed(tmp_path):
    """The first one cuts the removal of the temporary file short."""
    np.save(tmp_path / "x.npy", np.ones((20, 20)))
    code = INTERRUPTED_REMOVAL + WAITING
    child = run("-c", code, "filter", tmp_path / "x.npy", tmp_path / "y.npy", "--filter", "box-3")
    assert child.stdout.readline() == "at work\n"
    child.send_signal(signal.SIGTERM)
    _, error = child.communicate(timeout=GUARD)
    assert error == "gpuconv: error: interrupted\n"
    assert os.listdir(tmp_path) == ["x.npy"]


# Lists the modules that are loaded while Ctrl-C would still print a traceback.
EARLY_IMPORTS = """
import _signal, atexit, sys

class Finder:
    names = []

    def find_spec(self, name, path=None, target=None):
        if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
            self.names.append(name)

sys.meta_path.insert(0, Finder())
atexit.register(lambda: print(*Finder.names))
"""
SCRIPT = "from gpuconv.cli.process import start; raise SystemExit(start())"


@pytest.mark.parametrize("script", [False, True])
def test_little_is_loaded_before_interrupts_are_silent(tmp_path, script):
    """No more than the package itself and the module that sees to it, not even `signal`."""
    (tmp_path / "sitecustomize.py").write_text(EARLY_IMPORTS)
    (tmp_path / "gpuconv").write_text(SCRIPT)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    command = [tmp_path / "gpuconv"] if script else ["-m", "gpuconv"]
    child = run(*command, "--version", env=os.environ | {"PYTHONPATH": path})
    output, _ = child.communicate(timeout=GUARD)
    names = output.splitlines()[-1].split()
    silent = names.index("gpuconv.core.startup")
    before, after = names[names.index("gpuconv") : silent], names[silent + 1 :]
    assert set(before) <= {"gpuconv", "__future__", "gpuconv.core"}
    # Later it is a command, which is interrupted in an orderly way, that loads what it needs.
    assert not [name for name in after if name.split(".")[0] in ("gpuconv", "numpy", "argparse")]


# The first is loaded by the package, the last by the command line.
@pytest.mark.parametrize(
    "module", ["typing", "numpy.version", "gpuconv.core.problem", "gpuconv.cli.process", "argparse"]
)
def test_interrupt_during_imports(module, tmp_path):
    # Python runs this file first.
    (tmp_path / "sitecustomize.py").write_text(INTERRUPTED_IMPORT.format(module=module))
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    child = run("-m", "gpuconv", "info", env=os.environ | {"PYTHONPATH": path})
    _, error = child.communicate(timeout=GUARD)
    assert error == ""
    assert child.returncode == -signal.SIGINT


def test_a_program_that_uses_the_package_keeps_its_interrupts():
    code = "import signal, gpuconv; print(signal.getsignal(2) is signal.default_int_handler)"
    child = run("-c", code)
    assert child.communicate(timeout=GUARD)[0] == "True\n"


def test_ignored_signals_stay_ignored(tmp_path):
    """As `nohup` asks for."""
    np.save(tmp_path / "x.npy", np.ones((20, 20)))
    code = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n" + WAITING.replace(
        'print("at work", flush=True)',
        'os.kill(os.getpid(), signal.SIGHUP); print("at work", flush=True)',
    ).replace("import sys", "import os, signal, sys")
    child = run("-c", code, "filter", tmp_path / "x.npy", tmp_path / "y.npy", "--filter", "box-3")
    assert child.stdout.readline() == "at work\n"
    child.kill()
    child.communicate(timeout=GUARD)
    assert child.returncode == -signal.SIGKILL


def run_with_small_files(*command):
    """Run where files end at 64 KiB, which stands for a full disk."""
    import resource

    def small_files():
        default_actions()
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
        resource.setrlimit(resource.RLIMIT_CPU, (GUARD, GUARD))  # of an encoder that never gives up

    return subprocess.run(
        [sys.executable, "-m", "gpuconv", "filter", *map(str, command), "--filter", "box-1",
         "--quiet", "--backend", "reference"],
        capture_output=True, text=True, preexec_fn=small_files, check=False,
    )  # fmt: skip


FULL = "(File too large|no space is left, or files may not be that large)"
WRITTEN = sorted({suffix[1:] for suffix in FORMATS} - {"jpeg", "pgm", "pnm", "tiff", "fit", "fts"})


@pytest.mark.parametrize("suffix", marks.always(WRITTEN, "zarr", "npy", "tif", "jp2", "png"))
def test_a_full_disk_leaves_nothing(tmp_path, suffix):
    """Of a Zarr array several chunks fail at the same time."""
    if suffix == "fits":
        pytest.importorskip("astropy")
    np.save(tmp_path / "x.npy", RNG.integers(0, 256, (600, 700), np.uint8))
    out = tmp_path / f"y.{suffix}"
    done = run_with_small_files(tmp_path / "x.npy", out)
    assert re.fullmatch(
        f"gpuconv: error: {re.escape(str(out))}: cannot be written: {FULL}\n", done.stderr
    )
    assert done.returncode == 4
    assert os.listdir(tmp_path) == ["x.npy"]


def test_a_full_disk_and_a_comparison(tmp_path):
    """The output alone would fit."""
    x = RNG.integers(0, 256, (600, 700), np.uint8)
    Image.fromarray(x).save(tmp_path / "x.png")
    files = [tmp_path / "x.png", tmp_path / "y.png", "--stride", 4]
    done = run_with_small_files(*files, "--compare", tmp_path / "both.png")
    assert done.stderr == (
        f"gpuconv: error: {tmp_path / 'both.png'}: cannot be written: File too large\n"
    )
    assert done.returncode == 4
    assert os.listdir(tmp_path) == ["x.png"]
    assert run_with_small_files(*files).returncode == 0


def test_a_full_disk_and_many_inputs(tmp_path):
    sizes = {"a": 10, "b": 600, "c": 10}
    for name, side in sizes.items():
        x = RNG.integers(0, 256, (side, side), np.uint8)
        Image.fromarray(x).save(tmp_path / f"{name}.png")
    out = tmp_path / "out"
    done = run_with_small_files(*(tmp_path / f"{name}.png" for name in sizes), "--output-dir", out)
    assert done.stderr == (
        f"gpuconv: error: {out / 'b.png'}: cannot be written: File too large\n"
        "2 of 3 files filtered, 1 failed\n"
    )
    assert done.returncode == 1
    assert sorted(os.listdir(out)) == ["a.png", "c.png"]


def test_a_reader_that_has_seen_enough():
    child = run("-m", "gpuconv", "--help")
    child.stdout.close()
    assert child.wait(GUARD) in (0, 1)
    assert child.stderr.read() == ""


def test_warnings_are_one_line(tmp_path, capsys, monkeypatch):
    import warnings

    from gpuconv.cli import commands

    def warn(options):
        warnings.warn("first line\nsecond", UserWarning, stacklevel=1)

    monkeypatch.setitem(commands._COMMANDS, "info", warn)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main(["info"]) == 0
    assert capsys.readouterr().err == "gpuconv: warning: first line second\n"


@pytest.mark.parametrize("place", [0, 1, 3])
def test_debug_shows_the_traceback(tmp_path, capsys, place):
    command = ["filter", str(tmp_path / "no.png"), str(tmp_path / "y.png"), "--filter", "box-3"]
    assert main(command) == 3
    assert "Traceback" not in capsys.readouterr().err
    command.insert(place, "--debug")
    assert main(command) == 3
    error = capsys.readouterr().err
    assert error.startswith("Traceback (most recent call last):\n")
    assert "in check_regular" in error
    assert error.splitlines()[-1].startswith("gpuconv: error: ")


def test_faults_are_told_apart_from_wrong_use(capsys, monkeypatch):
    from gpuconv.cli import commands

    monkeypatch.setitem(commands._COMMANDS, "info", lambda options: {}["lost"])
    assert main(["info"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("gpuconv: error: a fault in gpuconv: KeyError: 'lost'; please report")
