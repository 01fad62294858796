"""Every name of CuPy's that the sources use exists in the CuPy that is installed.

`.ci/run` asks the newest and the oldest that is allowed. CuPy can be imported without a GPU, but
most of what uses it runs on GPUs only. The names are read from the sources; those of objects that
CuPy returns are listed in `OF_OBJECTS`.
"""

import ast
import importlib.util
import inspect
import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.needs("cupy")
TREE = Path(__file__).parents[2]
ROOTS = ("cupy", "cupyx")
# Array modules go by the name of xp, where they are NumPy or CuPy, and of self._cupy.
ALIASES = {"xp": "cupy", "_cupy": "cupy"}
NUMPY_ONLY = {"cupy.longdouble"}
# Of these names one is used, by CuPy's version.
ONE_OF = [{"cupy.cuda.Stream.from_external", "cupy.cuda.ExternalStream"}]
OF_OBJECTS = {
    "cupy.ndarray": (
        "T", "__cuda_array_interface__", "__dlpack__", "__dlpack_device__", "all", "astype", "conj",
        "copy", "data", "device", "dtype", "fill", "flags", "get", "itemsize", "nbytes", "ndim",
        "real", "reshape", "set", "shape", "size", "strides", "sum", "swapaxes", "transpose",
        "view",
    ),
    "cupy.cuda.Device": ("id", "__enter__", "__exit__"),
    "cupy.cuda.Event": ("done", "record", "synchronize"),
    "cupy.cuda.Graph": ("launch",),
    "cupy.cuda.MemoryPointer": ("device_id", "mem", "ptr"),
    "cupy.cuda.MemoryPool": ("free_bytes", "malloc", "used_bytes"),
    "cupy.cuda.UnownedMemory": ("ptr", "size"),
    "cupy.cuda.Stream.null": (
        "__enter__", "__exit__", "begin_capture", "done", "end_capture", "is_capturing", "ptr",
        "synchronize", "wait_event",
    ),
    "cupy.RawKernel": ("__call__", "max_dynamic_shared_size_bytes"),
    "cupy.RawModule": ("get_function",),
}  # fmt: skip
# Modules that cannot be loaded without libraries of NVIDIA's, which are large. Every wheel has
# their sources.
CUFFT, SIGNAL = "cupy.cuda.cufft", "cupyx.scipy.signal"
TRANSFORMS = ("C2C", "C2R", "D2Z", "R2C", "Z2D", "Z2Z")
CUFFT_NAMES = {f"CUFFT_{name}" for name in (*TRANSFORMS, "FORWARD", "INVERSE")}
# The arguments that plans are made of, all by position.
PLAN = (
    "shape", "inembed", "istride", "idist", "onembed", "ostride", "odist", "fft_type", "batch",
    "order", "last_axis", "last_size",
)  # fmt: skip


class Uses(ast.NodeVisitor):
    """Collects modules that are imported, dotted names, and calls of dotted names."""

    def __init__(self, path):
        self.path, self.modules, self.names, self.calls = path, set(), {}, []
        self.known = dict(zip(ROOTS, ROOTS, strict=True)) | ALIASES
        self.visit(ast.parse(path.read_text("utf-8")))

    def dotted(self, node):
        if isinstance(node, ast.Name):
            return self.known.get(node.id)
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "sys.modules":
            key = node.slice.value if isinstance(node.slice, ast.Constant) else None
            return key if key in ROOTS else None
        if not isinstance(node, ast.Attribute):
            return None
        if node.attr == "_cupy":
            return "cupy"
        owner = self.dotted(node.value)
        return owner and f"{owner}.{node.attr}"

    def visit_Import(self, node):
        self.modules |= {a.name for a in node.names if a.name.partition(".")[0] in ROOTS}

    def visit_ImportFrom(self, node):
        if node.level == 0 and node.module.partition(".")[0] in ROOTS:
            self.modules.add(node.module)
            for alias in node.names:
                self.known[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                self.note(f"{node.module}.{alias.name}", node)

    def visit_Assign(self, node):
        self.generic_visit(node)
        for target in node.targets:
            pairs = [(target, node.value)]
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = list(zip(target.elts, node.value.elts, strict=False))
            for name, value in pairs:
                if isinstance(name, ast.Name) and isinstance(value, (ast.Attribute, ast.Name)):
                    found = self.dotted(value)
                    if found is not None:
                        self.known[name.id] = found

    def visit_Attribute(self, node):
        found = self.dotted(node)
        if found is None:
            self.generic_visit(node)
        elif found not in ROOTS:
            self.note(found, node)

    def visit_Call(self, node):
        found = self.dotted(node.func)
        if found is not None:
            self.calls.append((found, node))
        self.generic_visit(node)

    def note(self, name, node):
        self.names.setdefault(name, f"{self.path.name}:{node.lineno}")


def sources():
    package = Path(importlib.util.find_spec("gpuconv").origin).parent
    tests = [p for p in (TREE / "tests").rglob("*_gpu.py")]
    return sorted(package.rglob("*.py")) + sorted((TREE / "benchmarks").rglob("*.py")) + tests


USES = [Uses(path) for path in sources()]


def is_loadable(name):
    return not name.startswith((CUFFT, SIGNAL)) and name not in NUMPY_ONLY


def find(name):
    """What a dotted name stands for, or None; modules are imported on the way."""
    root, *parts = name.split(".")
    found, path = importlib.import_module(root), root
    for part in parts:
        path = f"{path}.{part}"
        if not hasattr(found, part):
            if not inspect.ismodule(found) or importlib.util.find_spec(path) is None:
                return None
            importlib.import_module(path)
        found = getattr(found, part)
    return found


def test_the_sources_use_cupy():
    names = {name for use in USES for name in use.names}
    assert {"cupy.cuda.nvrtc.getVersion", "cupy.cuda.runtime.memcpyAsync", "cupyx.empty_pinned"} < (
        names
    )
    assert sum(len(use.calls) for use in USES) > 50


def test_names_are_read_from_sources(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        "import sys, cupy.cuda.nvrtc\n"
        "from cupy.cuda import runtime\n"
        "class Link:\n"
        "    def copy(self, xp):\n"
        "        cuda, here = self._cupy.cuda, runtime.getDevice\n"
        "        cuda.nothing(xp.asarray, here())\n"
        "        sys.modules['cupy'].linalg.norm\n"
    )
    use = Uses(path)
    assert use.modules == {"cupy.cuda.nvrtc", "cupy.cuda"}
    assert set(use.names) == {
        "cupy.cuda", "cupy.cuda.runtime", "cupy.cuda.runtime.getDevice", "cupy.cuda.nothing",
        "cupy.asarray", "cupy.linalg.norm",
    }  # fmt: skip
    assert find("cupy.cuda.nothing") is None
    assert importlib.util.find_spec("cupy.cuda.nvrtc") is None  # an attribute, not a module


def test_imported_modules_are_modules():
    for name in sorted({name for use in USES for name in use.modules}):
        assert importlib.util.find_spec(name) is not None, name


def test_names_exist():
    wrong = []
    either = set().union(*ONE_OF)
    for use in USES:
        for name, place in use.names.items():
            if is_loadable(name) and name not in either and find(name) is None:
                wrong.append(f"{place}: {name}")
    assert wrong == []
    for names in ONE_OF:
        assert any(find(name) is not None for name in names), names


@pytest.mark.parametrize("name", OF_OBJECTS)
def test_objects_have_what_is_asked_of_them(name):
    owner = find(name)
    assert [part for part in OF_OBJECTS[name] if not hasattr(owner, part)] == []


def test_calls_fit_signatures():
    """Of functions that tell their signature, which compiled ones do not."""
    checked, wrong = set(), []
    for use in USES:
        for name, node in use.calls:
            if not is_loadable(name):
                continue
            try:
                signature = inspect.signature(find(name))
            except (TypeError, ValueError):
                continue
            if any(isinstance(a, ast.Starred) for a in node.args):
                continue
            try:
                signature.bind(*node.args, **{k.arg: k for k in node.keywords if k.arg})
            except TypeError as error:
                wrong.append(f"{use.path.name}:{node.lineno}: {name}: {error}")
            checked.add(name)
    assert wrong == []
    assert {"cupy.cuda.Event", "cupyx.empty_pinned", "cupy.asarray"} < checked


def used_of(module):
    names = {name for use in USES for name in use.names if name.startswith(module + ".")}
    return {name.removeprefix(module + ".") for name in names}


def test_cufft():
    folder = Path(importlib.util.find_spec("cupy").origin).parent / "cuda"
    text = "".join((folder / f"cufft.{kind}").read_text() for kind in ("pyx", "pxd"))
    for name in CUFFT_NAMES:
        assert re.search(rf"\b{name}\b *=", text), name
    assert used_of(CUFFT) <= CUFFT_NAMES | {"PlanNd"}
    body = text[text.index("cdef class PlanNd:") :]
    arguments = re.search(r"def __init__\(self,(.*?)\):", body, re.S)[1].split(",")
    assert tuple(a.split()[-1] for a in arguments[: len(PLAN)]) == PLAN
    assert all("=" in a for a in arguments[len(PLAN) :] if a.strip() != "*")
    assert "self.work_area = work_area" in body
    assert "def fft(self, a, out, direction)" in body


def test_signal():
    text = Path(importlib.util.find_spec(SIGNAL).origin).read_text()
    assert used_of(SIGNAL)
    for name in used_of(SIGNAL):
        assert re.search(rf"\bimport {name}\b", text), name


def test_memory_of_others_can_be_wrapped():
    """As `core/tensors.py` does; this works without a GPU."""
    import cupy
    import numpy as np

    class Foreign(cupy.cuda.UnownedMemory):
        def __init__(self, host):
            super().__init__(host.ctypes.data, host.nbytes, host, 0)
            self.host = host

    host = np.arange(12, dtype=np.float32)
    pointer = cupy.cuda.MemoryPointer(Foreign(host), 0)
    array = cupy.ndarray((3, 4), np.float32, pointer)[1:, ::2]
    assert array.data.mem.host is host
    assert (array.data.ptr - array.data.mem.ptr, array.strides) == (16, (16, 8))
