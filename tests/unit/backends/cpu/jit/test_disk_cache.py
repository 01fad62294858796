"""Compiled code on disk: what is kept, and that nothing is taken for something else."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpuconv.backends.cpu.jit import functions, weight_gradient
from gpuconv.backends.cpu.jit.direct import direct_driver
from gpuconv.backends.cpu.jit.fft import fft_functions, fft_tiles

from .....marks import always, exhaustive

CODE = """
import numpy as np, gpuconv
for side in (30, 900):
    x = np.ones((side, side), np.float32)
    for size in (3, 5):
        gpuconv.corr2d(x, np.ones((size, size), np.float32), method="direct")
    gpuconv.corr2d(x, np.ones((5, 5), np.float32), method="separable")
"""


# Calls of most kinds, and how many steps of compiling they took.
CALLS = """
import sys
import numpy as np, numba, gpuconv
from numba.core import event
from gpuconv.backends.cpu.jit import emitted_functions
x = np.linspace(0, 1, 120 * 90, dtype=np.float32).reshape(120, 90)
k, missing = x[:9, :9].copy(), np.where(x < 0.01, np.float32(np.nan), x)
image, kernel, dy = x[None, None], k[None, None], np.ones((1, 1, 112, 82), np.float32)
calls = {
    "direct": lambda: gpuconv.corr2d(x, k, mode="same", method="direct"),
    "separable": lambda: gpuconv.corr2d(x, np.ones_like(k), method="separable"),
    "box": lambda: gpuconv.corr2d(x, np.ones_like(k), method="box"),
    "fft": lambda: gpuconv.corr2d(x, k, method="fft"),
    "auto": lambda: gpuconv.corr2d(x, k + k.T),
    "narrow": lambda: gpuconv.corr2d(x[:40, :30], k[:3, :3], mode="same", method="direct"),
    "row": lambda: gpuconv.corr2d(x, np.ones((1, 7), np.float32), method="direct"),
    "complex": lambda: gpuconv.corr2d(x * 1j, k, method="direct"),
    "half": lambda: gpuconv.corr2d(x.astype(np.float16), k.astype(np.float16)),
    "large": lambda: gpuconv.corr2d(np.tile(x, (9, 9)), k[:3, :3], method="direct"),
    "masked": lambda: gpuconv.normalized_corr2d(x, k, mask=x > 0.9),
    "strides": lambda: gpuconv.corr2d(x, k, stride=3, boundary="wrap", mode="same"),
    "bytes": lambda: gpuconv.corr2d((99 * x).astype(np.uint8), np.eye(3), dtype="uint8"),
    "gradient": lambda: gpuconv.corr2d_vjp(x, k, dy[0, 0]),
    "layer": lambda: gpuconv.nn.conv2d_vjp(image, kernel, dy),
    "means": lambda: gpuconv.normalized_corr2d(missing, np.ones_like(k)),
    "means by fft": lambda: gpuconv.normalized_corr2d(missing, k + 1, method="fft"),
    "template": lambda: gpuconv.match_template(x, k),
}
emitted, compile_emitted = [], emitted_functions._compile
emitted_functions._compile = lambda *arguments: emitted.append(1) or compile_emitted(*arguments)
with event.install_recorder("numba:run_pass") as compiled:
    for name in sys.argv[1:] or calls:
        calls[name]()
print(len([one for _, one in compiled.buffer if one.is_start]) + len(emitted))
"""


@pytest.mark.parametrize(
    "names", always([["narrow", "fft", "means"], []], ["narrow", "fft", "means"]), ids=str
)
def test_a_second_process_compiles_nothing(names):
    command = [sys.executable, "-c", CALLS, *names]
    subprocess.run(command, check=True)
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout == "0\n"


FULL_DISK = """
import resource, warnings
import numpy as np
import gpuconv

resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # no compiled function is so short
x = np.random.default_rng(0).random((60, 70), np.float32)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for weights in (gpuconv.filters.gaussian(1), gpuconv.filters.box(9)):
        y, expected = (
            gpuconv.corr2d(x, weights, backend=backend) for backend in ("cpu", "reference")
        )
        np.testing.assert_allclose(y, expected, rtol=1e-5)
print(*(warning.message for warning in caught), sep="\\n")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_a_full_disk_keeps_nobody_from_computing(tmp_path):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK], env=environment, capture_output=True, text=True
    )
    assert done.stderr == ""
    (warning,) = done.stdout.splitlines()
    assert warning.startswith(f"compiled code cannot be kept ({tmp_path}")
    assert "File too large), so every process compiles anew; set NUMBA_CACHE_DIR" in warning


@exhaustive
def test_each_form_has_files_of_its_own(tmp_path):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", CODE], env=environment, check=True)
    found = {path.name.partition("-")[0] for path in tmp_path.rglob("*.nbi")}
    stamp = functions.source_stamp(direct_driver.__name__)
    assert {f"direct_driver._sum_tasks_{form}_{stamp}" for form in ("serial", "parallel")} <= found


def forget_sources():
    for cached in (functions._read, functions._imports, functions.source_stamp):
        cached.cache_clear()


JIT = "backends.cpu.jit"
MODULES = {
    ".".join(path.relative_to(functions._PACKAGE).with_suffix("").parts)
    for path in functions._PACKAGE.rglob("*.py")
}


@pytest.mark.parametrize("module", sorted(name for name in MODULES if name.startswith(JIT)))
def test_every_import_of_the_package_is_seen(module):
    """As the parser of Python sees them, wherever they stand and however they are written."""
    expected, place = set(), module.split(".")
    for node in ast.walk(ast.parse(functions._path(module).read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            source = place[: -node.level] + (node.module.split(".") if node.module else [])
            names = [".".join(source), *(".".join([*source, one.name]) for one in node.names)]
            expected.update(set(names) & MODULES)
    assert functions._imports(module) == expected


def test_a_digest_is_of_what_a_module_imports(tmp_path, monkeypatch):
    monkeypatch.setattr(functions, "_PACKAGE", tmp_path)
    sources = {
        "a": "from .b import f\n",
        "b": "from . import (\n    c as other,\n)\nfrom .far.d import d\n",
        "c": "from .b import g\n",
        "far.d": "x = 1\n",
        "far.e": "from .f import h\n",
        "far.f": "from .d import x\nfrom .. import c\n",
        "g": "from .far import e\n",
        "h": "from .far.f import x\n",
    }
    (tmp_path / "far").mkdir()

    def stamps(**changed):
        for name, text in (sources | changed).items():
            functions._path(name).write_text(text)
        forget_sources()
        return {name: functions.source_stamp(f"gpuconv.{name}") for name in sources}

    before = stamps()
    assert before == stamps()
    for changed, affected in (
        ("a", {"a"}),
        ("c", set(sources) - {"far.d"}),
        ("far.d", set(sources)),
        ("far.e", {"far.e", "g"}),
    ):
        after = stamps(**{changed: "y = 2\n" + sources[changed]})
        found = {name for name in sources if after[name] != before[name]}
        assert found == affected, changed
    forget_sources()


@pytest.mark.parametrize("module", ["fft.fft_transforms", "vectors"])
def test_transforms_are_named_by_all_that_is_bound_in_them(module, monkeypatch):
    """Their functions name what another module binds: instructions, and each other."""

    def name():
        forget_sources()
        return functions.named(fft_tiles.forward, "forward", fft_functions.__name__).__name__

    before, changed = name(), functions._path(f"{JIT}.{module}")
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) + b"#" * (path == changed))
    assert name() != before
    forget_sources()


@pytest.mark.parametrize(
    ("serial", "parallel"),
    [
        (direct_driver.sum_tasks_serial, direct_driver.sum_tasks_parallel),
        (weight_gradient.gradient_serial, weight_gradient.gradient_parallel),
    ],
)
def test_only_one_form_starts_threads(serial, parallel):
    assert parallel.code.targetoptions.get("parallel")
    assert not serial.code.targetoptions.get("parallel")
    assert serial.code.py_func.__qualname__ != parallel.code.py_func.__qualname__


FUNCTIONS = """
import sys
from numba import njit, types
from gpuconv.backends.cpu.jit.functions import load_or_compile

@njit(cache=True)
def double(x):
    return 2 * x

@njit(cache=True)
def norm(x):
    return abs(complex(x, double(x))) ** 2

for name in sys.argv[1:]:
    load_or_compile(globals()[name].compile, (types.float64,))
before = "numba.np.linalg" in sys.modules
print(before, double(1.5), round(norm(1.0), 9), njit(lambda x: sum(x))((1, 2)))
"""


@pytest.mark.parametrize("compiled", always([[], ["double"], ["double", "norm"]], ["double"]))
def test_code_is_loaded_without_what_compiling_needs(tmp_path, compiled):
    """And compiling, of ours or of others', works before and after that."""
    (tmp_path / "functions.py").write_text(FUNCTIONS)
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}

    def run(*names):
        command = [sys.executable, str(tmp_path / "functions.py"), *names]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return done.stdout.split(maxsplit=1)

    loaded, values = run(*compiled)
    assert loaded == str(bool(compiled))
    assert values == "3.0 5.0 3\n"
    assert run(*compiled) == ["False", values]
    assert run("double", "norm") == ["False", values]  # the first run has compiled both by now
