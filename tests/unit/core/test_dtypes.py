"""Which numbers dtypes have."""

import numpy as np
import pytest

from gpuconv.core import dtypes


@pytest.mark.parametrize(
    ("name", "value", "acc", "expected"),
    [
        ("uint8", 7, "int64", True),
        ("uint8", 256, "int64", False),
        ("float16", 0.1, "float32", False),
        ("float32", np.nan, "float32", True),
        ("float32", 2 + 0j, "complex64", True),
        ("float32", 2j, "complex64", False),
        ("int8", 300 + 0j, "complex64", False),
        ("complex64", 2j, "complex64", True),
    ],
)
def test_holds(name, value, acc, expected):
    assert dtypes.holds(name, value, acc) is expected
