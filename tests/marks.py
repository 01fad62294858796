"""Which parameters of a test run always, and which only with ``-m exhaustive``."""

import itertools

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


def cross(*axes):
    """Rows of a cross; those run always in which at most one value is not the first of its axis."""
    rows = list(itertools.product(*axes))
    first = rows[0]
    kept = [row for row in rows if sum(a != b for a, b in zip(row, first, strict=True)) <= 1]
    return always(rows, *kept, rows=True)
