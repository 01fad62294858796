"""What importing loads, which way imports go, and that what is public is documented."""

import ast
import inspect
import itertools
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


def test_what_corr2d_does_not_need_is_loaded_when_first_used():
    code = (
        "import sys, gpuconv\n"
        "later = {'checks', 'cli', 'gradients', 'imaging', 'ndimage', 'nn', 'signal'}\n"
        "print([m for m in sys.modules if m[:8] == 'gpuconv.' and m.split('.')[1] in later])\n"
        "assert set(gpuconv.__all__) <= set(dir(gpuconv))\n"
        "print([name for name in gpuconv.__all__ if getattr(gpuconv, name) is None])\n"
        "print(gpuconv.ndimage is sys.modules['gpuconv.ndimage'], hasattr(gpuconv, 'corr3d'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "[]", "True False"]


def test_what_is_loaded_later_is_what_type_checkers_see():
    tree = ast.parse((PACKAGE / "__init__.py").read_text("utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {}
    for node in block.body:
        for alias in node.names:
            seen[alias.name] = ".".join(filter(None, (node.module, alias.name)))
            if alias.name not in gpuconv._MODULES:
                seen[alias.name] = node.module
    assert seen == gpuconv._MODULES | gpuconv._MODULE_OF


# From below to above; the longest name that a module's begins with counts.
LEVELS = {
    level: number
    for number, names in enumerate(
        (
            ("core",),
            ("backends",),
            ("methods",),
            ("selection",),
            ("call_cache",),
            ("engine",),
            ("gradients",),
            ("nn.channel_sums", "nn.geometry"),
            ("adapters",),
            ("api", "config", "plans", "nn.functions", "nn.layer", "nn"),
            ("adapters.torch", "adapters.torch_layers"),
            ("imaging",),
            ("ndimage", "signal"),
            ("",),
            ("cli", "__main__"),
        )
    )
    for level in names
}


def name_of(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in PACKAGE.rglob("*.py")}


def imported(name):
    """Modules of the package that a module imports, also inside functions."""
    path = MODULES[name]
    package = name.split(".") if path.stem == "__init__" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = ".".join(n for n in package[: len(package) - node.level + 1] if n)
            base = ".".join(n for n in (base, node.module) if n)
            for alias in node.names:
                full = f"{base}.{alias.name}" if base else alias.name
                yield full if full in MODULES else base
        elif isinstance(node, ast.Import):
            yield from ("" for alias in node.names if alias.name == "gpuconv")


def level(name):
    while name not in LEVELS:
        name = name.rpartition(".")[0]
    return LEVELS[name]


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_go_down(name):
    upward = [other for other in imported(name) if level(other) > level(name)]
    assert not upward


def test_compiled_code_knows_nothing_of_its_callers():
    """As `backends/cpu/jit/__init__.py` says; what compiled code is told is in its params."""
    known = ("core", "backends.cpu.jit", "backends.cpu.vector_width")
    for name in MODULES:
        if name.startswith("backends.cpu.jit."):
            assert not [other for other in imported(name) if not other.startswith(known)], name


def test_no_circle_of_files():
    left = {name: set(imported(name)) - {name} for name in MODULES}
    while free := [name for name, needs in left.items() if not needs & left.keys()]:
        for name in free:
            del left[name]
    assert not left


def test_no_class_name_stands_for_two_ideas():
    """Nor do two that differ in an underscore alone. (`Conv2d` is torch's name of `Conv2D`.)"""
    found = {}
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name.strip("_"), []).append(name)
    assert {name: where for name, where in found.items() if len(where) > 1} == {}


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


def public_functions():
    for module in (gpuconv, gpuconv.filters, gpuconv.ndimage, gpuconv.signal, gpuconv.nn):
        for name in module.__all__:
            yield f"{module.__name__}.{name}", getattr(module, name)


def test_docstrings_have_each_section_once_and_in_order():
    order = ["Parameters", "Returns", "Warns", "Raises", "Notes", "Examples"]
    for name, function in public_functions():
        if not inspect.isfunction(function):
            continue
        lines = (inspect.getdoc(function) or "").splitlines()
        found = [a for a, b in itertools.pairwise(lines) if a in order and b == "-" * len(a)]
        assert found == sorted(set(found), key=order.index), name
