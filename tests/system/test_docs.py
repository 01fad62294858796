"""The documentation's code runs, and what is generated in it is complete."""

import csv
import doctest
import importlib.util
import inspect
import re
from pathlib import Path

import pytest

import gpuconv
from benchmarks import report
from benchmarks.accuracy import DTYPES, METHODS

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(DOCS.rglob("*.md"))


def load_tables():
    spec = importlib.util.spec_from_file_location("docs_tables", DOCS / "tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tables = load_tables()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code(page):
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.S | re.M)
    if page.stem in ("dask", "scipy"):
        pytest.importorskip("dask.array")
    if page.stem in ("torch", "xarray"):
        pytest.importorskip(page.stem)
    assert all(block.startswith(">>> ") and block.endswith("\n\n") for block in blocks)
    failed, run = doctest.testfile(str(page), module_relative=False)
    assert failed == 0
    assert run >= len(blocks)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pictures_are_there(page):
    for target in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text("utf-8")):
        assert (page.parent / target).is_file(), target


def test_every_public_name_is_in_the_reference():
    page = (DOCS / "reference.md").read_text("utf-8")
    whole = page + tables.other_names(page)
    for name in gpuconv.__all__:
        value = getattr(gpuconv, name)
        if inspect.ismodule(value):
            assert f".. automodule:: gpuconv.{name}\n   :members:" in page
            # With it all names of __all__ that have a docstring are shown.
            assert all(inspect.getdoc(getattr(value, n)) for n in value.__all__)
        elif not name.startswith("__"):
            assert re.search(rf"\.\. auto(function|class|exception):: gpuconv\.{name}\n", whole), (
                name
            )


def public():
    """Every public function, class and method of a class, by name."""
    for module in (gpuconv, gpuconv.filters, gpuconv.ndimage, gpuconv.nn, gpuconv.signal):
        for name in module.__all__:
            value = getattr(module, name)
            if not name.startswith("__") and not inspect.ismodule(value):
                yield name, value
                for method in vars(value) if inspect.isclass(value) else ():
                    if method[0] != "_" and inspect.isfunction(vars(value)[method]):
                        yield f"{name}.{method}", getattr(value, method)


@pytest.mark.parametrize(("name", "value"), list(public()))
def test_docstrings_are_complete(name, value):
    text = inspect.getdoc(value)
    error = inspect.isclass(value) and issubclass(value, Exception)
    # Of a class that others make, the attributes are what matters.
    made = inspect.isclass(value) and "\nAttributes\n" in text
    if not made and not error:
        part = re.split(r"\n(?:\w+)\n---", text.partition("\nParameters\n----")[2])[0]
        told = re.findall(r"^\**(\w[\w, *]*?)(?: : .*)?$", part, re.M)
        told = {word for line in told for word in re.split(r"[, *]+", line)}
        assert {p for p in inspect.signature(value).parameters if p != "self"} <= told
    if "." not in name:
        assert "\nExamples\n" in text
        assert ">>> " in text
    if inspect.isfunction(value) and value.__annotations__["return"] not in ("None", None):
        assert "\nReturns\n" in text or name == "threads"
    if value.__module__.startswith("gpuconv.imaging.filters"):
        assert re.search(r"O\(|Costs as much", text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_powers_are_code(page):
    """Two of them would be taken for bold text between."""
    text = re.sub(r"^```.*?^```|`[^`\n]+`", "", page.read_text("utf-8"), flags=re.S | re.M)
    assert not re.search(r"\d\*\*\d", text)


def test_names_without_a_place():
    assert tables.other_names("").count(".. auto") == sum(
        not n.startswith("__") and not inspect.ismodule(getattr(gpuconv, n))
        for n in gpuconv.__all__
    )
    assert ".. autoclass:: gpuconv.Plan\n" in tables.other_names(".. autofunction:: gpuconv.plan\n")


def test_the_newest_of_every_suite(tmp_path):
    for name in ("2026-01-02-small", "2026-01-03-small", "2025-12-31-big", "notes"):
        (tmp_path / f"{name}.md").write_text(f"# {name}\n\n![a](b.png)\n", "utf-8")
    page = tables.benchmarks(folder=tmp_path)
    assert re.findall(r"^## (.+)$", page, re.M) == ["2025-12-31-big", "2026-01-03-small"]
    assert "![a](../benchmarks/results/b.png)" in page


def test_long_tables_are_left_to_their_files(tmp_path):
    rows = "\n".join(["| a |", "|---|"] + ["| 1 |"] * (tables.LONGEST + 1))
    (tmp_path / "2026-01-02-long.md").write_text(f"# long\n\n{rows}\n\n- end\n", "utf-8")
    page = tables.benchmarks(folder=tmp_path)
    assert "| 1 |" not in page
    assert f"{tables.LONGEST + 1} rows are in `benchmarks/results/2026-01-02-long.md`" in page
    assert page.endswith("- end\n\n</details>")


def test_ratios(tmp_path):
    """The best peer counts, neither limits nor cases with further words."""
    rows = [
        ("9x9 float32, full rank", 3, "gpuconv", 2),
        ("9x9 float32, full rank", 3, "cv2.filter2D", 5),
        ("9x9 float32, full rank", 3, "torch conv2d", 3), ("9x9 float32, full rank", 3, "sgemm", 1),
        ("9x9 float32, full rank", 3, "copy, driver", 1),
        ("9x9 float32, full rank", 5, "gpuconv", 1),
        ("9x9 float32, full rank, method=direct", 3, "gpuconv", 9),
    ]  # fmt: skip
    with open(tmp_path / "2026-01-02-filters.csv", "w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, report.COLUMNS)
        table.writeheader()
        for group, k, contender, value in rows:
            record = dict(group=group, k=k, contender=contender, value=value, unit="ms")
            table.writerow(dict(suite="filters") | record)
    assert tables.ratios(tmp_path).splitlines()[2:] == [
        "| machine | size, dtype | k=3 |", "|---|---|---|", "| CPU | 9x9 float32 | 1.50 |",
    ]  # fmt: skip
    assert "| H200 | 8192x8192 float16 |" in tables.ratios()


def read_ratios(text, machine, group):
    """The ratios of a line of the table, by k, as they are written there."""
    head, line = (
        next(line for line in text.splitlines() if line.startswith(begin))
        for begin in ("| machine |", f"| {machine} | {group} |")
    )
    cells = zip(head.split("|")[3:-1], line.split("|")[3:-1], strict=True)
    return {int(k.strip().removeprefix("k=")): ratio.strip() for k, ratio in cells if ratio.strip()}


def test_peers_of_earlier_runs_count(tmp_path):
    rows = [("gpuconv", 2), ("cupyx", 8), ("copy, driver", 1)]
    with open(tmp_path / "2026-01-02-cuda-speed.csv", "w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, report.COLUMNS)
        table.writeheader()
        for contender, value in rows:
            group = "9x9 float32, full rank"
            table.writerow(dict(group=group, k=3, contender=contender, value=value, unit="ms"))
    for name, peers in (
        ("cuda-jax", "gpuconv direct 0.1 (0.1-0.1), torch conv2d, TF32 7 (6-8)*, jax conv 3 (3-3)"),
        ("cuda-peers", "jax conv 5 (4-6), torch conv2d, TF32 -"),
    ):
        text = "| case | gpuconv ms | peers ms |\n|---|---|---|\n"
        text += f"| 9x9 float32, full rank, 3x3 | 1 (1-1) | {peers} |\n"
        text += "| 9x9 float32, full rank, channels last, 3x3 | 1 (1-1) | jax conv 1 (1-1) |\n"
        (tmp_path / f"2026-01-01-{name}.md").write_text(text, "utf-8")
    assert read_ratios(tables.ratios(tmp_path), "H200", "9x9 float32") == {3: "1.50"}


def test_readmes_say_what_the_table_of_ratios_says():
    found = read_ratios(tables.ratios(), "H200", "8192x8192 float32")
    results = (tables.RESULTS / "README.md").read_text("utf-8")
    (ks, listed) = re.search(r"\| k = ([\d, ]+); float32.*?float32: ([\d., ]+);", results).groups()
    assert dict(zip(map(int, ks.split(", ")), listed.split(", "), strict=True)) == found
    first, eleven, *more = re.search(
        r"H200, .*? k = 3, ([\d.]+) times .*? k = 11, ([\d.]+) times .*? k = 31, ([\d.]+) times;"
        r".*? k = 127, ([\d.]+) times",
        (DOCS.parent / "README.md").read_text("utf-8"), re.S,
    ).groups()  # fmt: skip
    assert [first, eleven, *more] == [found[k] for k in (3, 11, 31, 127)]
    said = re.search(
        r"a copy, ([\d.]+) and ([\d.]+) times .*?k = 11 \(([\d.]+) times.*?k = 31 \(([\d.]+) .*?"
        r"k = 63 \(([\d.]+) .*?k = 127 \(([\d.]+) ",
        (DOCS / "in-detail.md").read_text("utf-8"), re.S,
    ).groups()  # fmt: skip
    assert list(said) == [found[k] for k in (3, 5, 11, 31, 63, 127)]


def test_every_filter_is_drawn():
    page = tables.filter_pictures()
    for name in gpuconv.filters.names():
        drawing = page.split(f'aria-label="{name}"')[1].split("</svg>")[0]
        assert drawing.count("<rect") == gpuconv.filters.by_name(name).size
    assert '#ff0000"' in page
    assert '#0000ff"' in page


def test_errors():
    table = tables.errors()
    rows = [[c.strip() for c in r.split("|")[1:-1]] for r in table.splitlines() if r[:1] == "|"]
    head, rows = rows[0], rows[2:]
    shown = {(row[0], row[1]): row[2:] for row in rows}
    for method in METHODS:
        of = DTYPES if method == "direct" else DTYPES[:-1]
        promised = shown["*promised*", "*fft*" if method == "fft" else "*direct, separable*"]
        for dtype in of:
            cells = shown[method, dtype]
            assert len(cells) == len(head) - 2
            for cell, most in zip(cells, promised, strict=True):
                assert 0 < float(cell) <= float(most.strip("*"))
    assert "differ from the exact ones: 0." in table


def test_errors_are_the_worst_over_kinds(tmp_path):
    common = {"suite": "accuracy", "group": "float32", "k": 3, "method": "direct", "unit": "eps"}
    exact = {"suite": "accuracy", "group": "integers", "k": 15, "value": 0}
    with open(tmp_path / "2026-01-02-accuracy.csv", "w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, report.COLUMNS)
        table.writeheader()
        table.writerows([common | {"value": v} for v in (1.5, 2.5, 0.5)] + [exact])
    assert "| direct | float32 | 2.5 |" in tables.errors(folder=tmp_path)
