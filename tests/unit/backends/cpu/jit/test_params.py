"""The records that compiled code is told."""

import re
from pathlib import Path

import pytest

from gpuconv.backends.cpu.jit import functions, params

FOLDER = Path(functions.__file__).parent
# The names of the readers whose records code makes on its stack: ``reader(stack())``, or
# ``reader(name)`` of what ``name = stack()`` has made.
MADE = set()
for path in FOLDER.glob("*.py"):
    text = path.read_text("utf-8")
    places = {"stack()", *re.findall(r"(\w+) = stack\(\)", text)}
    places.update(re.findall(r"(\w+) = \w+\(\w+\), stack\(\)", text))
    MADE.update(name for name, at in re.findall(r"(\w+)\((\w+(?:\(\))?)\)", text) if at in places)


def test_records_on_the_stack_are_found():
    assert {"direct_columns", "direct_task", "means_block", "box_memory", "box_task"} <= MADE


@pytest.mark.parametrize("name", sorted(MADE))
def test_records_on_the_stack_have_room(name):
    assert getattr(params, name.upper()).itemsize <= 8 * functions.STACK_NUMBERS
