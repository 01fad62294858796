"""The chapter runs, as a script and as the notebook made from it."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.exhaustive,
    pytest.mark.needs("matplotlib", "jupytext", "nbformat", "nbclient", "ipykernel"),
]
EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPT = EXAMPLES / "convolutions_for_images.py"
NOTEBOOK = SCRIPT.with_suffix(".ipynb")


def test_script(tmp_path):
    done = subprocess.run(
        [sys.executable, SCRIPT, tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "All of it holds." in done.stdout
    pictures = {path.name for path in tmp_path.iterdir()}
    assert pictures == {path.name for path in (EXAMPLES / "pictures").iterdir()}
    assert all((EXAMPLES / "pictures" / name).stat().st_size < 60_000 for name in pictures)


def test_notebook_is_the_script():
    import jupytext
    import nbformat

    made = jupytext.read(SCRIPT)
    kept = nbformat.read(NOTEBOOK, as_version=4)
    assert [c.source for c in kept.cells] == [c.source for c in made.cells], (
        "run: jupytext --to ipynb examples/convolutions_for_images.py"
    )


def test_notebook_runs():
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=1800, kernel_name="python3").execute()
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", [])]
    assert sum("image/png" in o.get("data", {}) for o in outputs) >= 6
