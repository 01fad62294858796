"""Files about the project agree with each other: versions, dependencies, what CI calls."""

import ast
import re
import tomllib
from pathlib import Path

import gpuconv

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def read(name):
    return (ROOT / name).read_text("utf-8")


def test_versions():
    assert PROJECT["version"] == gpuconv.__version__
    assert re.search(rf"^version: {re.escape(gpuconv.__version__)}$", read("CITATION.cff"), re.M)
    assert f'version: "{gpuconv.__version__}"' in read("recipe/recipe.yaml")


def test_the_recipe_needs_what_the_package_needs():
    needed = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["cli"]
    run = read("recipe/recipe.yaml").split("  run:\n")[1].split("  run_constraints:\n")[0]
    listed = {name: bound for name, bound in re.findall(r"- (\S+) >=([\d.]+)$", run, re.M)}
    assert listed == dict(one.split(">=") for one in needed)


def test_the_recipe_has_the_program():
    (name, place), *others = PROJECT["scripts"].items()
    assert not others
    assert f"- {name} = {place}\n" in read("recipe/recipe.yaml")


def test_workflows_call_what_is_there():
    workflows = [path.read_text("utf-8") for path in (ROOT / ".github/workflows").glob("*.yml")]
    commands = re.findall(r"run: (?:bash )?(\.ci/run.*)$", "\n".join(workflows), re.M)
    assert sorted(commands) == [".ci/run", ".ci/run core"]
    assert '"${1:-}" = core' in read(".ci/run")
    assert any("gpuconv check" in text and "pytest -m cuda" in text for text in workflows)


def test_no_test_file_imports_another():
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names]
                parts = [*(getattr(node, "module", None) or "").split("."), *names]
                assert not [part for part in parts if part.startswith("test_")], path


def test_unit_tests_mirror_the_package():
    """A folder for each of its folders, and what stands beside these is of a module beside them."""
    for path in (ROOT / "tests/unit").rglob("test_*.py"):
        folder = path.parent.relative_to(ROOT / "tests/unit")
        assert (ROOT / "gpuconv" / folder / "__init__.py").is_file(), path
        if not folder.parts:
            assert (ROOT / "gpuconv" / path.name.removeprefix("test_")).is_file(), path


def test_addresses_agree():
    home = PROJECT["urls"]["Homepage"]
    assert re.fullmatch(r"https://github\.com/[\w-]+/gpuconv", home)
    assert all(url == home or url.startswith(f"{home}/") for url in PROJECT["urls"].values())
    recipe = read("recipe/recipe.yaml")
    about = dict(re.findall(r"^  (homepage|repository): (.*)$", recipe, re.M))
    assert about == {"homepage": home, "repository": home}
    maintainers = re.findall(r"^    - (.*)$", recipe.split("  recipe-maintainers:\n")[1], re.M)
    assert maintainers
    # The account is set in all places or in none.
    assert ("OWNER" in maintainers) == ("/OWNER/" in home)


def test_no_other_file_names_an_address():
    for name in ("README.md", "CITATION.cff", "SECURITY.md", "CODE_OF_CONDUCT.md"):
        assert "github.com" not in read(name)
    forms = (ROOT / ".github").rglob("*.yml")
    assert all("OWNER" not in path.read_text("utf-8") for path in forms)
