"""Fixtures of all tests. Neither they nor their processes read costs that this user calibrated."""

import os
import tempfile

import pytest

_EMPTY = tempfile.TemporaryDirectory(prefix="gpuconv-tests-")
os.environ["GPUCONV_CONFIG_DIR"] = _EMPTY.name


@pytest.fixture
def exact_memory(monkeypatch):
    """Memory in single bytes, so that tests of strips may be small."""
    from gpuconv.backends import strips

    monkeypatch.setattr(strips, "ALLOCATION", 1)


@pytest.fixture
def emulated():
    """Launcher of the CUDA backend on the emulator; it lists what was launched."""
    from .emulator.backend import emulated

    with emulated() as launcher:
        yield launcher
