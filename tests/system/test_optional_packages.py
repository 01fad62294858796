"""The base install works without each package it does not declare, and says what is missing."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from ..marks import exhaustive

# CuPy first: once imported it cannot be imported anew.
NAMES = (
    "cupy", "ml_dtypes", "torch", "dask", "distributed", "PIL", "tifffile", "zarr", "tqdm",
    "safetensors", "matplotlib", "cv2", "joblib",
)  # fmt: skip


@exhaustive
@pytest.mark.parametrize("what", [("base", *NAMES), ("numba",), ("torch",)], ids=lambda w: w[0])
def test_without(what, tmp_path):
    if what == ("torch",) and importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed")
    script = Path(__file__).with_name("without_packages.py")
    done = subprocess.run(
        [sys.executable, str(script), *what], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
