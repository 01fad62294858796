"""CONTRIBUTING says which files a new border, dtype, method, backend, filter or peer needs.

For each, a search for the names of those that there are finds the files that know them. These must
be the files that the entry in "What to touch" names, so that CONTRIBUTING has the only lists. What
the search does not see: code that treats one in a special way without its name, or names a dtype
other than the two of half precision, and code that only uses a method or backend (`method="direct"`
in a call). Of what a new format needs only the files named are checked to exist.
"""

import ast
import re
from functools import cache
from pathlib import Path

from benchmarks import peers
from benchmarks.peers import cuda as cuda_peers
from gpuconv.backends import BACKENDS
from gpuconv.core.boundary import BOUNDARIES
from gpuconv.imaging import filters
from gpuconv.methods import METHODS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
FOLDERS = ("gpuconv", "tests", "benchmarks", "docs", "examples", "recipe", ".ci")
PATHS = [*ROOT.glob("*"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*"))]
NAMES = {path.relative_to(ROOT).as_posix(): path for path in PATHS}

# Names that mean something else in a file, or are only used there.
OTHERWISE = {
    "gpuconv/backends/base.py": {"cpu"},  # a device
    "gpuconv/checks/cases.py": {"symmetric", "float16"},  # weights, and a dtype to try
    "gpuconv/checks/samples.py": {"symmetric"},
    "gpuconv/cli/demo.py": {"symmetric"},
    "gpuconv/cli/files/formats.py": {"float16"},  # a dtype that some formats hold
    "gpuconv/cli/files/tiff_writer.py": {"float16"},
    "gpuconv/cli/parser.py": {"symmetric"},
    "gpuconv/imaging/filters/registry.py": {"edge"},  # a filter
    "gpuconv/selection/calibrate.py": {"cpu"},  # the name of the machine's
    "gpuconv/signal/along_axes.py": {"direct", "fft"},  # methods of SciPy
}


def find(name):
    """Paths that end with what CONTRIBUTING calls a file or folder."""
    return {path for path in NAMES if f"/{path}".endswith("/" + name.rstrip("/"))}


def files_named_for(what):
    entry = re.search(rf"- \*\*A new {what}\*\*(.*?)\n(?=- |\n)", TEXT, re.S).group(1)
    found = set()
    for name in re.findall(r"`([\w./-]+\.(?:py|md|cuh?))[`:]", entry):
        (path,) = (path for path in find(name) if path == name or not path.startswith("tests/"))
        found.add(path)
    return found


@cache
def texts(folder, suffix):
    """Texts of the files in a folder, by path."""
    return {
        name: path.read_text("utf-8")
        for name, path in NAMES.items()
        if name.startswith(folder) and re.fullmatch(suffix, path.suffix)
    }


@cache
def trees(folder):
    return {name: ast.parse(text) for name, text in texts(folder, r"\.py").items()}


def constants(nodes):
    return {node.value for node in nodes if isinstance(node, ast.Constant)}


def values(tree):
    """Constants, but no docstrings, defaults of parameters, or names in `__all__`."""
    for node in ast.iter_child_nodes(tree):
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        exports = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        if isinstance(node, ast.Constant):
            yield node.value
        elif not (docstring or exports or isinstance(node, ast.arguments)):
            yield from values(node)


def asked_for(tree, names):
    """The names in comparisons, patterns and keys, and in collections that have several of them."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare | ast.MatchValue):
            found |= constants(ast.walk(node)) & names
        elif isinstance(node, ast.Dict):
            found |= constants(filter(None, node.keys)) & names
        if isinstance(node, ast.Tuple | ast.List | ast.Set | ast.Dict):
            several = constants(node.values if isinstance(node, ast.Dict) else node.elts) & names
            found |= several if len(several) > 1 else set()
    return found


def python_files(search, names):
    """Files of the package in which `search` finds any of the names in its own meaning."""
    found = {name: search(tree) & names for name, tree in trees("gpuconv/").items()}
    for name, others in OTHERWISE.items():
        assert others & names <= found[name], f"{name} no longer has {others}"
        found[name] -= others
    return {name for name, rest in found.items() if rest}


def cuda_files(names):
    sources = texts("gpuconv/", r"\.cuh?").items()
    return {file for file, text in sources if re.search(rf"\b({'|'.join(names)})\b", text)}


def texts_that_list(names, least):
    """Docstrings and pages in which `least` of the names are, in quotes."""
    found = [*texts("docs/", r"\.md").items()]
    for file, tree in trees("gpuconv/").items():
        found += [(file, str(text)) for text in constants(ast.walk(tree))]
    quotes = r"[\"`]({})[\"`]".format("|".join(names))
    return {file for file, text in found if len(set(re.findall(quotes, text))) >= least}


def test_a_border():
    """Any file may ask for "constant": no other border has pixels that the image does not have."""
    known = python_files(lambda tree: set(values(tree)), set(BOUNDARIES) - {"constant"})
    known |= cuda_files([name.upper() for name in BOUNDARIES])
    known |= texts_that_list(BOUNDARIES, 4)
    assert known == files_named_for("border")


def test_a_dtype():
    """One of half precision: the others are also those of sums, and have no list to be in."""
    known = python_files(lambda tree: set(values(tree)), {"float16", "bfloat16"})
    known |= {name for name in cuda_files(["Half", "Bfloat"]) if "/src/tensor/" not in name}
    assert known == files_named_for("dtype")
    assert len(known) <= 4


def test_a_method():
    """The modules of backends aside: a method needs those of the backends that have it."""
    names = set(METHODS)
    known = python_files(lambda tree: asked_for(tree, names), names)
    for file, tree in trees("gpuconv/").items():
        made = [n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.alias)]
        known |= {file} if len(names.intersection(made)) >= 4 else set()
    known = {name for name in known if not re.match(r"gpuconv/backends/(cpu|cuda)/", name)}
    assert known | texts_that_list(METHODS, 4) == files_named_for("method")
    assert {f"gpuconv/methods/{name}.py" for name in names} <= set(NAMES)


def test_a_backend():
    """Any file may ask for the reference, which is the definition. In core/ "cpu" is a device."""
    names = set(BACKENDS) - {"reference"}
    known = python_files(lambda tree: asked_for(tree, names), names)
    known = {file for file in known if not file.startswith("gpuconv/core/")}
    assert known | {"tests/toy_backend.py"} == files_named_for("backend")
    for path in BACKENDS.values():
        module, _, name = path.partition(":")
        source = ROOT.joinpath(*module.split(".")).with_suffix(".py").read_text("utf-8")
        assert f"class {name}(Backend)" in source


def test_a_filter():
    """The modules that make them aside."""
    names = set(filters.__all__) - {"by_name", "names"}
    modules = {getattr(filters, name).__module__.replace(".", "/") + ".py" for name in names}
    known = {
        file
        for file, text in (texts("gpuconv/", r"\.py") | texts("docs/", r"\.md")).items()
        if len(names.intersection(re.findall(r"[\"`](\w+)[\"`(]", text))) >= 5
    }
    assert known - modules == files_named_for("filter")


def test_a_peer():
    names = {*peers.MODULES, *cuda_peers.MODULES}
    known = {file for file, tree in trees("benchmarks/").items() if asked_for(tree, names)}
    assert known == files_named_for("peer")


def test_what_is_named_exists():
    """Files, folders, and names in files ("file.py: name"), in all of CONTRIBUTING."""
    for text in set(re.findall(r"`([^`]+)`", TEXT.replace("```", ""))):
        name, _, inside = text.partition(": ")
        if not re.fullmatch(r"[\w./-]+(/|/\w+|\.(py|md|cuh?|h|cpp|toml|yaml|cff))", name):
            continue
        assert find(name), text
        if inside:
            assert any(inside in NAMES[path].read_text("utf-8") for path in find(name)), text
