"""Fixtures of the CPU backend's tests."""

import pytest

from gpuconv.backends.cpu import sums


@pytest.fixture
def fresh_plans():
    """No plan of sums is from before the test, and none is left after it."""
    sums.forget_plans()
    yield
    sums.forget_plans()
