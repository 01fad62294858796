"""Code that only runs on a GPU takes names of the package that exist, and calls what takes them.

Nothing else would find a name that has moved before somebody runs the code on a GPU.
"""

import ast
import importlib
import inspect
import types
from pathlib import Path

import pytest

TREE = Path(__file__).parents[2]
OURS = ("gpuconv", "benchmarks", "tests")


def on_gpus_only():
    """Files of tests that are marked `cuda`, and benchmarks of GPUs."""
    tests = [
        path
        for path in sorted((TREE / "tests").rglob("*.py"))
        if "pytest.mark.cuda" in path.read_text("utf-8") and path != Path(__file__)
    ]
    return tests + sorted((TREE / "benchmarks").rglob("cuda/*.py"))


class Names(ast.NodeVisitor):
    """Looks up every dotted name that begins with one that the module has imported from us."""

    def __init__(self, module):
        self.module, self.bound, self.seen = module, [], 0
        self.wrong = {}  # as an ordered set: some names are looked up twice

    def _function(self, node):
        arguments = node.args
        names = {a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
        names |= {a.arg for a in (arguments.vararg, arguments.kwarg) if a is not None}
        # Names that a function binds itself are not the module's.
        for inner in ast.walk(node):
            if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
                names.add(inner.id)
            if isinstance(inner, (ast.Import, ast.ImportFrom)):
                names |= {(a.asname or a.name).partition(".")[0] for a in inner.names}
        self.bound.append(names)
        self.generic_visit(node)
        self.bound.pop()

    visit_FunctionDef = visit_AsyncFunctionDef = visit_Lambda = _function

    def find(self, node):
        """What a dotted name stands for, or None where that cannot be told without running."""
        if isinstance(node, ast.Name):
            if any(node.id in names for names in self.bound):
                return None
            found = getattr(self.module, node.id, None)
            return found if _is_ours(found) else None
        if not isinstance(node, ast.Attribute):
            return None
        owner = self.find(node.value)
        if not isinstance(owner, (types.ModuleType, type)):
            return None
        return self.take(owner, node.attr, node)

    def take(self, owner, name, node):
        self.seen += 1
        if not hasattr(owner, name) and name not in getattr(owner, "__annotations__", {}):
            self.wrong[f"line {node.lineno}: {owner.__name__} has no {name}"] = None
        return getattr(owner, name, None)

    def visit_Attribute(self, node):
        if self.find(node) is None:
            self.generic_visit(node)

    def visit_Call(self, node):
        function = self.find(node.func)
        if isinstance(function, types.FunctionType):
            self.check_arguments(function, node)
        if isinstance(node.func, ast.Attribute) and node.func.attr == "setattr":
            owner, name = node.args[:2]
            owner = self.find(owner)
            if isinstance(name, ast.Constant) and isinstance(owner, (types.ModuleType, type)):
                self.take(owner, name.value, node)
        self.generic_visit(node)

    def check_arguments(self, function, node):
        unpacked = any(isinstance(a, ast.Starred) for a in node.args)
        unpacked |= any(keyword.arg is None for keyword in node.keywords)
        signature = inspect.signature(function)
        bind = signature.bind_partial if unpacked else signature.bind
        plain = [a for a in node.args if not isinstance(a, ast.Starred)]
        try:
            bind(*plain, **{k.arg: k for k in node.keywords if k.arg is not None})
        except TypeError as error:
            self.wrong[f"line {node.lineno}: {function.__qualname__}: {error}"] = None


def _is_ours(obj):
    name = obj.__name__ if isinstance(obj, types.ModuleType) else getattr(obj, "__module__", "")
    return str(name).partition(".")[0] in OURS


def look(module):
    names = Names(module)
    names.visit(ast.parse(Path(module.__file__).read_text("utf-8")))
    return names


@pytest.mark.parametrize("path", on_gpus_only(), ids=lambda path: str(path.relative_to(TREE)))
def test_names_exist(path):
    module = importlib.import_module(".".join(path.relative_to(TREE).with_suffix("").parts))
    names = look(module)
    assert list(names.wrong) == []
    if path.name == "test_gpu.py":
        assert names.seen > 100


def test_what_does_not_exist_is_found(tmp_path):
    code = (
        "import gpuconv\nfrom gpuconv.backends.cuda import sums\n"
        "def test(monkeypatch, cupy):\n"
        "    sums.is_page_locked(1)\n"
        "    sums.prepare.anything()\n"
        "    monkeypatch.setattr(sums, 'MOST', 0)\n"
        "    gpuconv.plan((3, 3), shape=(1, 1))\n"
        "    cupy.nothing\n"
    )
    path = tmp_path / "module.py"
    path.write_text(code)
    spec = importlib.util.spec_from_file_location("module", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    lines = [line.partition(":")[0] for line in look(module).wrong]
    assert lines == ["line 4", "line 6", "line 7"]
