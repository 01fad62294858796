"""What is compiled beforehand is what is launched later, each specialisation by one process."""

from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.cuda import cases, launches, matrix, precompile
from benchmarks.peers.cuda import ours
from gpuconv.backends import get_backend

from ...emulator.launcher import EmulatedLauncher
from .fake_device import FakeDevice

# Few of each kind; the emulator takes seconds for a new one.
SOME = [
    matrix.Combination("float32", (3, 3), shape=(20, 22)),
    matrix.Combination("float32", (3, 3), "separable", shape=(20, 22), mode="full"),
    matrix.Combination("float32", (3, 3), "fft", shape=(20, 22)),
    matrix.Combination("float16", (3, 3), stride=(2, 1), shape=(20, 22)),
]


class Recording(EmulatedLauncher):
    """Compiles nothing, and has the emulator's memory."""

    prepare = precompile.CompilingLauncher.prepare
    transforms = precompile.CompilingLauncher.transforms

    def __init__(self, part=0, parts=1):
        super().__init__()
        self.part, self.parts, self.compiled = part, parts, 0
        self._seen, self.specs = set(), []

    def compile(self, spec, shared_bytes):
        self.specs.append(spec)


@pytest.fixture
def few(monkeypatch):
    """Four combinations, no cases, and one launch that cannot be planned."""

    def fails(device):
        raise ValueError("cannot be planned\nat all")

    monkeypatch.setattr(precompile, "cases", list)
    monkeypatch.setattr(matrix, "everything", lambda: SOME)
    monkeypatch.setattr(
        launches, "checks", lambda: [launches.LaunchCheck("direct", "a bad one", fails)]
    )
    monkeypatch.setattr(ours, "BACKEND", "cuda")


def compiled(launcher):
    options = SimpleNamespace(quick=False)
    # A patch of its own: the fixture's would be undone after that of `emulated`, whose launcher
    # would stay.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(get_backend("cuda"), "launcher", launcher)
        found = [task.call() for task in precompile._tasks(FakeDevice(), launcher, options)]
    assert [line["skipped"] for line in found] == [{"a bad one": "ValueError: cannot be planned"}]
    assert sum(line["compiled"] for line in found) == len(launcher.specs)
    assert launcher.launched == []
    return launcher.specs


def test_all_that_is_launched_is_compiled_before(few, emulated):
    for c in SOME:
        assert matrix.check(c, matrix.runner(np, "cuda")) == ""
    launched = {spec for spec, _, _ in emulated.launched}
    assert set(compiled(Recording())) >= launched


def test_each_specialisation_is_compiled_by_one_process(few):
    whole = compiled(Recording())
    parts = [s for part in range(3) for s in compiled(Recording(part, 3))]
    assert sorted(map(repr, parts)) == sorted(map(repr, whole))
    assert len(set(whole)) == len(whole) > 3


def test_kinds_are_those_that_kernels_are_compiled_for():
    found = precompile.kinds(matrix.everything())
    assert 500 < len(found) < 1700
    for field in ("dtype", "size", "method", "mode", "shape", "bank"):
        of = {getattr(c, field) for c in matrix.everything()}
        assert {getattr(c, field) for c in found} == of
    assert any(c.stride != (1, 1) for c in found)


def test_a_case_is_compiled_without_its_pixels(monkeypatch):
    monkeypatch.setattr(ours, "BACKEND", "cuda")
    launcher = Recording()
    monkeypatch.setattr(get_backend("cuda"), "launcher", launcher)
    device = FakeDevice()
    for shape, fields in (
        ((40, 50), {}),
        ((40, 50), {"dtype": "uint8", "k_dtype": "float32"}),
        ((40, 50, 3), {"channels_last": True}),
    ):
        case = cases.DeviceCase("cuda-speed", shape, (5, 5), **fields)
        precompile._case(device, case)
    assert len(launcher.specs) >= 2
