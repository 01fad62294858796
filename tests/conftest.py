"""Fixtures of all tests, and the costs that methods are chosen by in them and their processes.

These are not what this user calibrated, nor (but on a Zen 4) what is shipped for this processor: a
test that says which method is chosen would fail on another.
"""

import functools
import importlib.util
import math
import os
import sys
import tempfile

import numpy as np
import pytest

from gpuconv import call_cache
from gpuconv.backends.cpu import call_times
from gpuconv.backends.cpu.backend import CpuBackend
from gpuconv.backends.cpu.costs import IN_HALVES
from gpuconv.backends.cpu.scipy_fft import scipy_plan
from gpuconv.selection import costs

_CONFIGURATION = tempfile.TemporaryDirectory(prefix="gpuconv-tests-")
os.environ["GPUCONV_CONFIG_DIR"] = _CONFIGURATION.name
costs.save(IN_HALVES, {"of": "vectors of 64 bytes, computed in halves, as shipped"})
scipy_plan.scipy_factor = lambda: 1.0  # on such a processor
# What runs on several threads in a test does not depend on how busy the machine is.
call_times._STALL_SECONDS = math.inf


try:
    from hypothesis import HealthCheck, settings
except ImportError:  # tests that need it say so
    pass
else:  # a busy machine is no failure
    settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("tests")


@pytest.fixture
def calls_by_method(monkeypatch):
    """Repeated calls on the CPU, too, are made by the methods, which tests replace."""
    monkeypatch.setattr(call_cache, "_calls", {})
    monkeypatch.setattr(CpuBackend, "repeated", lambda *arguments: None)


@functools.cache
def _no_gpu():
    """Why no GPU can be used, or None."""
    from gpuconv.backends.cuda.launcher import DeviceLauncher

    return DeviceLauncher().unavailable()


# Examples that compile for many dtypes: a test runs them with less to compile.
_IN_A_TEST = ("gpuconv.checks.check",)


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items):
    items[:] = [item for item in items if item.name not in _IN_A_TEST]
    for item in items:
        if item.get_closest_marker("cuda") and _no_gpu() is not None:
            item.add_marker(pytest.mark.skip(reason=f"no usable GPU: {_no_gpu()}"))
        for mark in item.iter_markers("needs"):
            missing = [name for name in mark.args if importlib.util.find_spec(name) is None]
            if missing:
                why = f"{', '.join(missing)} not installed; run: pip install -e '.[test-all]'"
                item.add_marker(pytest.mark.skip(reason=why))


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


_FIRST_STATES: dict[int, object] = {}


@functools.lru_cache(maxsize=1)
def _shared_modules(imported):
    """Modules of ours that are no tests, of as many as are imported by now."""
    names = [n for n in list(sys.modules) if n.startswith("tests.") and ".test_" not in n]
    return [module for n in names if hasattr(module := sys.modules[n], "RNG")]


@pytest.fixture(autouse=True)
def the_same_random_numbers(request):
    """Each test draws the same numbers, whichever tests ran before it in this process."""
    # No test draws by another file's generator, and to set those of all takes milliseconds.
    own = getattr(request.node, "module", None)
    for module in (own, *_shared_modules(len(sys.modules))):
        rng = getattr(module, "RNG", None)
        if isinstance(rng, np.random.Generator):
            first = _FIRST_STATES.setdefault(id(rng), rng.bit_generator.state)
            rng.bit_generator.state = first
