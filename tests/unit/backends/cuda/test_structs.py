"""Structs that Python fills in lie in C++ as they do in Python; launchers take the same calls."""

import ctypes
import inspect

import numpy as np
import pytest

from gpuconv.backends.cuda import device_link, launcher, structs

from ....emulator.launcher import EXPORT, PLAIN, EmulatedLauncher, build
from ....emulator.streams import EmulatedLink

STRUCTS = structs.BY_NAME | {f"Norm_{t}": structs.norm(t) for t in ("float32", "float64")}


def layouts_in_c(structs):
    """Size of each struct and offset and size of its members, as g++ has them; by its name."""
    text, counts = "", {}
    for name, (source, members) in structs.items():
        values = [f"sizeof({name})"]
        for member in members:
            values += [f"__builtin_offsetof({name}, {member})", f"sizeof(((({name}*)0)->{member}))"]
        text += f"{source}\n{EXPORT} unsigned long layout_{name}[] = {{{', '.join(values)}}};\n"
        counts[name] = len(values)
    library = ctypes.CDLL(str(build(text, PLAIN)))
    return {
        name: list((ctypes.c_ulong * count).in_dll(library, f"layout_{name}"))
        for name, count in counts.items()
    }


def layout_in_python(dtype):
    values = [dtype.itemsize]
    for member in dtype.names:
        values += [dtype.fields[member][1], dtype[member].itemsize]
    return values


def test_members_have_the_same_offsets():
    sources = {n: (structs.struct_source(n, dtype), dtype.names) for n, dtype in STRUCTS.items()}
    found = layouts_in_c(sources)
    assert found == {name: layout_in_python(dtype) for name, dtype in STRUCTS.items()}


def test_another_order_of_members_would_be_noticed():
    dtype = np.dtype([("a", "i4"), ("b", "i8"), ("c", "i4", (3,))], align=True)
    other = np.dtype([("b", "i8"), ("a", "i4"), ("c", "i4", (3,))], align=True)
    found = layouts_in_c({"Mixed": (structs.struct_source("Mixed", dtype), dtype.names)})["Mixed"]
    assert found == layout_in_python(dtype)
    assert found != layout_in_python(other)


def test_packed_structs_are_refused():
    with pytest.raises(ValueError, match="struct Packed must be made with align=True"):
        structs.struct_source("Packed", np.dtype([("a", "i1"), ("b", "i8")]))


@pytest.mark.parametrize(
    ("protocol", "implementation"),
    [
        (launcher.Launcher, launcher.DeviceLauncher),
        (launcher.Launcher, EmulatedLauncher),
        (device_link.Link, device_link.DeviceLink),
        (device_link.Link, EmulatedLink),
    ],
)
def test_implementations_take_the_calls_of_their_protocol(protocol, implementation):
    calls = {n: f for n, f in vars(protocol).items() if inspect.isfunction(f) and n[0] != "_"}
    assert len(calls) > 5
    for name, call in calls.items():
        own = getattr(implementation, name)
        assert own is not call, f"{name} has no body of its own"
        assert list(inspect.signature(own).parameters) == list(inspect.signature(call).parameters)
