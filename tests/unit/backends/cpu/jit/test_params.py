"""The records that compiled code is told, and those it makes for itself."""

import re
from pathlib import Path

import numpy as np
import pytest
from numba import njit

from gpuconv.backends.cpu.jit import intrinsics, params

FOLDER = Path(params.__file__).parent
SOURCES = [path.read_text("utf-8") for path in FOLDER.rglob("*.py")]
READERS = dict(re.findall(r"^(\w+) = reader\((\w+)\)$", "\n".join(SOURCES), re.M))


@pytest.mark.parametrize("name", ["ROW_SOURCE", "DIRECT_COLUMNS", "TILE_STATE", "BOX_TASK"])
def test_records_on_the_stack_have_room(name):
    dtype = getattr(params, name)
    numbers, make = dtype.itemsize // 8, intrinsics.on_stack(dtype)
    store, load = intrinsics.store_int, intrinsics.load_int

    @njit
    def fill_both(found):
        places = make(), make()
        for which in range(2):
            for i in range(numbers):
                store(places[which], i, 1000 * which + i)
        for which in range(2):
            for i in range(numbers):
                found[which, i] = load(places[which], i)
        return abs(places[1] - places[0])

    found = np.zeros((2, numbers), np.int64)
    assert fill_both(found) >= dtype.itemsize
    np.testing.assert_array_equal(found, np.add.outer([0, 1000], np.arange(numbers)))


def test_records_on_the_stack_are_read_as_what_they_are():
    made, read = {}, 0
    for text in SOURCES:
        here = dict(re.findall(r"^new_(\w+) = on_stack\((\w+)\)$", text, re.M))
        others = text.count("number_on_stack = on_stack(")
        assert text.count("= on_stack(") == len(here) + others
        places = {f"new_{name}()": name for name in here}
        found = re.findall(r"([\w.]+) = (?:.*, )?new_(\w+)\(\)$", text, re.M)
        places |= {place: name for place, name in found if name in here}
        for reader, place in re.findall(r"(\w+)\(([\w.]+(?:\(\))?)\)", text):
            if reader in READERS and place in places:
                assert READERS[reader] == here[places[place]]
                read += 1
        made |= here
    assert {"box_memory", "row_source", "direct_columns", "means_block", "tile_state"} <= set(made)
    assert read >= len(made)
