"""What compiled code is told, as records with named fields.

Each algorithm has a NumPy record dtype. Python fills one in by name (`record`) and passes its
address; compiled code sees it by name, too, through a `functions.reader` of the dtype:
``source = row_source(address)``, ``source.width``. LLVM makes a plain load at an offset of each.

An address keeps nothing alive: whoever makes a record holds the arrays that its fields lead to.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def fields(*names: str) -> np.dtype[Any]:
    """Dtype of a record of 64-bit integers with these names."""
    return np.dtype([(name, np.int64) for name in names])


def record(dtype: np.dtype[Any], **values: Any) -> Any:
    """Array of one record whose fields have these values, and 0 where none is given."""
    made = np.zeros(1, dtype)
    for name, value in values.items():
        made[name] = value
    return made


# Where rows of pixels come from, as `row_buffer` reads them: addresses of the tables that say which
# row and column of the image stands at each padded one (-1: the fill value), the number of padded
# columns, where the run of the image's columns begins among them and how long it is, bytes between
# the image's rows and columns, columns from one output to the next, rows of the ring that the rows
# are written to, and bytes from a row's real parts to its imaginary parts, where it has such. The
# fill value is of the sums' dtype.
ROW_SOURCE = np.dtype(
    [
        *fields(
            "rows", "columns", "column_count", "left", "width", "row_stride", "column_stride",
            "step", "slots", "imaginary",
        ).descr,
        ("fill", np.uint8, 16),
    ]
)  # fmt: skip
FILL = ROW_SOURCE.fields["fill"][1]  # type: ignore[index]  # bytes from the record's beginning


def fill_bytes(value: Any, acc: str) -> Any:
    """Bytes of a border's value in the sums' dtype, as records hold them."""
    raw = np.zeros(16, np.uint8)
    value = np.dtype(acc).type(value)
    raw[: value.itemsize] = np.frombuffer(value.tobytes(), np.uint8)
    return raw
