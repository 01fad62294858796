"""The calls into CuPy that streaming makes, on a stand-in for it."""

import sys

import numpy as np
import pytest

from gpuconv.backends.cuda import device_link, streaming
from gpuconv.backends.cuda.launcher import DeviceLauncher

from ....emulator.backend import reference
from ....emulator.cupy import StandIn
from ....emulator.streaming import no_workspace, sample
from ....oracle import problem_of

pytestmark = pytest.mark.usefixtures("exact_memory")


@pytest.fixture
def cupy(monkeypatch):
    stand_in = StandIn()
    for name in ("cupy", "cupyx", "cupy.cuda"):
        monkeypatch.setitem(sys.modules, name, stand_in)
    monkeypatch.setattr(device_link, "_idle_streams", {})
    return stand_in


def test_the_calls_into_cupy(cupy):
    x, k = sample((40, 64)), sample((3, 3))
    problem = problem_of(x, k)
    expected = np.empty(problem.out_shape, "f4")
    reference.direct(problem, x, k, expected)
    pinned = [cupy.empty_pinned(n, np.uint8) for n in (x.nbytes, expected.nbytes)]
    x_pinned = pinned[0].view("f4").reshape(x.shape)
    x_pinned[...] = x
    out_pinned = pinned[1].view("f4").reshape(expected.shape)
    cupy.pinned[:] = pinned

    def compute(part, index, x_part, out_part):
        assert cupy.calls[-1] == ("use", 71)
        reference.direct(part, np.asarray(x_part), k, np.asarray(out_part))

    launcher = DeviceLauncher()
    assert launcher.free_bytes() == (2 << 30) + 5
    for images, out in ((x, np.empty_like(expected)), (x_pinned, out_pinned)):
        cupy.calls.clear()
        layout = streaming.layout_of(launcher, problem, no_workspace, 6000)
        streaming.run_in_strips(launcher, problem, layout, images, out, compute)
        np.testing.assert_array_equal(out, expected)
        strip = [("copy", 1, 70), ("wait", 71, 70), ("use", 71), ("wait", 72, 71), ("copy", 2, 72)]
        number = cupy.calls.count(("use", 71))
        assert number > 4
        assert cupy.calls == [
            "enter", "enter", ("wait", 70, 0), ("wait", 71, 0), *strip * number,
            ("synchronize", 70), ("synchronize", 71), ("synchronize", 72), "exit", "exit",
        ]  # fmt: skip
        sizes = [a.nbytes for a in cupy.pinned[2:]]
        assert len(sizes) == 6  # of the first call alone
        assert all(n & (n - 1) == 0 for n in sizes)
    # Memory that was freed on a stream is kept for it, so there must not be ever new ones.
    assert len(cupy.streams) == 3
    half = x_pinned[:20]
    cupy.pinned[:] = [half]
    assert launcher.is_page_locked(half)
    assert not launcher.is_page_locked(x_pinned)
    assert not launcher.is_page_locked(x)
