"""No test, nor a process that a test starts, reads costs that this user has calibrated."""

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
