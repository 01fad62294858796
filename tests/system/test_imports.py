"""What importing loads, which way imports go, and that what is public is documented."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import gpuconv

PACKAGE = Path(gpuconv.__file__).parent


def test_import_loads_numpy_only():
    code = (
        "import sys, gpuconv; heavy = {'numba', 'scipy', 'cupy', 'torch', 'dask', 'PIL', 'zarr'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def modules():
    return sorted(p for p in PACKAGE.rglob("*.py"))


def imported(path):
    """Names of the package's own parts that a module imports."""
    depth = len(path.relative_to(PACKAGE).parts) - 1
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = path.relative_to(PACKAGE).parts[: depth - node.level + 1]
            names = (node.module or "").split(".") if node.module else []
            full = [*base, *names]
            yield from [full[0]] if full else [a.name for a in node.names]


# Who may import what.
ALLOWED = {
    "core": {"core"},
    "backends": {"core", "backends"},
    "methods": {"core", "backends", "methods"},
    "call_cache": {"core", "selection", "methods"},
}


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if part in ALLOWED:
        assert set(imported(path)) <= ALLOWED[part]


def test_public_names():
    for name in gpuconv.__all__:
        thing = getattr(gpuconv, name)
        if name != "__version__":
            assert inspect.getdoc(thing), name
    assert callable(gpuconv.backends)


@pytest.mark.parametrize("name", gpuconv.filters.__all__)
def test_filters_are_documented(name):
    text = inspect.getdoc(getattr(gpuconv.filters, name))
    assert "Examples" in text
    assert "Returns" in text


@pytest.mark.parametrize("name", ["corr2d", "convolve2d", "plan", "backends", "receptive_field"])
def test_functions_are_documented(name):
    assert ">>>" in inspect.getdoc(getattr(gpuconv, name))
