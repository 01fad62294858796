"""Which parameters of a test run always, and which only with ``-m exhaustive``."""

import pytest

exhaustive = pytest.mark.exhaustive


def always(values, *kept, rows=False):
    """Parameters of which `kept` run always and the others are marked exhaustive.

    With `rows` every value is a row of several arguments.
    """
    assert all(one in values for one in kept)
    return [
        one if one in kept else pytest.param(*(one if rows else [one]), marks=exhaustive)
        for one in values
    ]
