"""No Python file lists borders, dtypes, methods or backends but those that CONTRIBUTING names."""

import ast
import re
from functools import cache
from pathlib import Path

import gpuconv
from gpuconv.backends import BACKENDS
from gpuconv.core.boundary import BOUNDARIES
from gpuconv.methods import METHODS

PACKAGE = Path(gpuconv.__file__).parent
TEXT = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text("utf-8")


def files_named_for(what):
    """Files that the entry for a new `what` names, by their ends."""
    entry = re.search(rf"\*\*A new {what}\*\*(.*?)\n- \*\*", TEXT, re.S).group(1)
    return set(re.findall(r"`([\w./]+\.(?:py|cu|cuh))`", entry))


@cache
def parse(path):
    return ast.parse(path.read_text("utf-8"))


def constants(path):
    """Strings that are values in a Python file: not docstrings, nor parts of longer messages."""
    tree = parse(path)
    statements = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in statements:
            yield node.value


def python_files_with(names):
    """Python files that hold at least two of these names as values: one may mean another thing."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        if len(set(constants(path)) & set(names)) > 1:
            found.add(path.relative_to(PACKAGE).as_posix())
    return found


def collections_of_names(path):
    """The strings in each tuple, list, set or dict (its keys) that is written out in a file."""
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Tuple | ast.List | ast.Set | ast.Dict):
            items = node.keys if isinstance(node, ast.Dict) else node.elts
            yield {item.value for item in items if isinstance(item, ast.Constant)}


def files_that_list(names):
    """Files in which a collection has at least two of these names."""
    return {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if any(len(found & names) > 1 for found in collections_of_names(path))
    }


def named(path, ends):
    return any(path.endswith(end) for end in ends)


def test_a_border():
    ends = files_named_for("border")
    known = python_files_with(set(BOUNDARIES) - {"constant", "edge"})
    assert all(named(path, ends) for path in known), known
    assert "core/boundary.py" in known


def test_a_dtype():
    ends = files_named_for("dtype")
    assert len(ends) <= 4
    known = python_files_with({"bfloat16", "float16"})
    assert all(named(path, ends) for path in known), known
    sources = [p for p in PACKAGE.rglob("*.cu*") if "__nv_bfloat16" in p.read_text("utf-8")
               or re.search(r"struct Bfloat\b", p.read_text("utf-8"))]  # fmt: skip
    assert all(named(path.as_posix(), ends) for path in sources), sources


def test_a_method_and_a_backend():
    for name in METHODS:
        assert (PACKAGE / "methods" / f"{name}.py").is_file()
    for path in BACKENDS.values():
        module, _, name = path.partition(":")
        source = PACKAGE.parent.joinpath(*module.split(".")).with_suffix(".py").read_text("utf-8")
        assert f"class {name}(Backend)" in source


def test_lists_of_methods_and_backends():
    """They are derived from `METHODS` and `BACKENDS`, except in the files that the entry names."""
    ends = files_named_for("method")
    found = files_that_list({"separable", "box", "tensor"})
    assert "gradients/vjp.py" in found
    elsewhere = [path for path in found if not path.startswith(("methods/", "backends/"))]
    assert all(named(path, ends) for path in elsewhere), elsewhere
    assert files_that_list({"reference", "cpu", "cuda"}) <= {
        "backends/__init__.py",
        "imaging/template_arrays.py",  # the fastest method for each of two; any takes others
    }


def test_who_asks_for_a_backend_by_its_name():
    """All else asks a `Backend` what it is, so that another one needs no change there."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.Compare):
                values = [n.value for n in ast.walk(node) if isinstance(n, ast.Constant)]
                if {"cpu", "cuda"} & set(map(str, values)):
                    found.add(path.relative_to(PACKAGE).as_posix())
    elsewhere = {path for path in found if not path.startswith(("core/", "backends/"))}
    assert elsewhere == {
        "cli/report.py",  # says that Numba compiles
        "imaging/compiled_blocks.py",  # has loops for the CPU alone
        "imaging/normalized_one_pass.py",  # so has this
        "selection/costs.py",  # those of the CPU may have been measured
    }


def test_the_files_named_exist():
    for end in re.findall(
        r"`((?:core|cpu|cuda|jit|methods|backends|src|cli|adapters|tests)/[\w./]+)`", TEXT
    ):
        paths = [*PACKAGE.rglob("*"), *(PACKAGE.parent / "tests").rglob("*")]
        assert any(path.as_posix().endswith("/" + end.rstrip("/")) for path in paths), end
