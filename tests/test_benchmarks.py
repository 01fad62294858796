"""The benchmarks run (one case of each suite; how fast is not a test's business)."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("suite", ["filters", "layers"])
def test_quick(suite):
    pytest.importorskip("torch")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", suite],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("|") > 20
