"""`gpuconv.check`: what is right passes, and what is wrong is found, whichever way it is wrong."""

import contextlib
import doctest
import itertools
import sys
from dataclasses import replace

import numpy as np
import pytest

import gpuconv
from gpuconv.backends import get_backend
from gpuconv.checks import expected, places, report, run, samples
from gpuconv.checks.case import Abilities, Case
from gpuconv.checks.cases import FAMILIES, QUICK, make_cases
from gpuconv.core import dtypes
from gpuconv.core.boundary import BOUNDARIES
from gpuconv.methods import METHODS

from ...emulator.backend import emulated
from ...emulator.device_arrays import DeviceArraysLauncher, installed
from ...marks import always, cross, exhaustive

pytestmark = pytest.mark.usefixtures("calls_by_method")
CPU, CUDA = get_backend("cpu"), get_backend("cuda")
EVERYTHING = Abilities(frozenset({"direct", "separable", "box", "fft", "tensor"}), True, True)


def cases(family, dtype, abilities=None):
    abilities = run.abilities_of("cpu") if abilities is None else abilities
    return [case for case in FAMILIES[family](dtype) if abilities.takes(case)]


def outcomes(rows):
    return [row.outcome for row in rows]


@exhaustive
def test_everything_passes_on_the_cpu():
    found = gpuconv.check("cpu")
    assert found.passed
    assert {row.dtype for row in found.rows} == set(dtypes.NAMES)
    assert {row.boundary for row in found.rows} == set(BOUNDARIES)


def test_what_is_quick_is_part_of_everything():
    abilities = run.abilities_of("cpu")
    assert set(make_cases(abilities, QUICK)) < set(make_cases(abilities, dtypes.NAMES))


@pytest.mark.parametrize("family", ["direct, 3x3", "box"])
def test_bools_pass_on_the_cpu(monkeypatch, family):
    monkeypatch.setattr(
        sys.modules["gpuconv.checks"], "make_cases", lambda *_: iter(cases(family, "bool"))
    )
    found = gpuconv.check("cpu")
    assert found.passed
    assert {row.dtype for row in found.rows} == {"bool"}


@pytest.fixture
def few_families(monkeypatch):
    """All kinds of pixels, weights and expected results; the exhaustive run has all families."""
    some = ("direct, 3x3", "separable, rank 2", "derivatives of a constant", "convolve2d", "fft",
            "direct, a row or column")  # fmt: skip
    monkeypatch.setattr(
        sys.modules["gpuconv.checks"],
        "make_cases",
        lambda *wanted: (c for c in make_cases(*wanted) if c.family in some),
    )


def test_quick_passes_on_the_cpu(few_families):
    lines = []
    found = gpuconv.check("cpu", quick=True, show=lines.append)
    assert found.passed
    assert {row.dtype for row in found.rows} == set(QUICK)
    assert [row for row in found.rows if row.outcome != "passed"] == []
    assert "\n".join(lines) == str(found) == repr(found)
    assert lines[-1].startswith(f"All {len(found.rows)} results are right")


def test_the_example_of_the_docstring(few_families):
    (example,) = doctest.DocTestFinder(recurse=False).find(gpuconv.check, "check", globs={})
    assert doctest.DocTestRunner().run(example) == (0, 4)


def test_every_family_has_cases_and_every_case_a_text_of_its_own():
    found = list(make_cases(EVERYTHING))
    assert {case.family for case in found} == set(FAMILIES)
    texts = [(case.family, str(case)) for case in found]
    assert len(set(texts)) == len(texts)
    for name in FAMILIES:
        assert any(case.family == name and case.dtype in QUICK for case in found), name
    assert {case.method for case in found} == set(METHODS)
    # Every dtype and border by every method that takes them.
    crossed = {(case.method, case.dtype, case.boundary) for case in found}
    for method, dtype in itertools.product(("direct", "separable"), dtypes.NAMES):
        assert {(method, dtype, border) for border in BOUNDARIES} <= crossed


def test_a_backend_is_asked_only_for_what_it_has():
    found = list(make_cases(Abilities(frozenset({"direct"}), False, False)))
    assert {case.method for case in found} == {"direct"}
    assert not any("layer" in case.call or case.x_on_host for case in found)
    assert all(case.k_on_host for case in found)


# --- what is wrong is found ----------------------------------------------------------------------


def spoil(monkeypatch, hook, change):
    """Change what a hook of the CPU backend has written."""
    right = getattr(CPU, hook)

    def wrong(problem, x, k, *others):
        right(problem, x, k, *others)
        out = next(a for a in reversed(others) if isinstance(a, np.ndarray))
        change(out)

    monkeypatch.setattr(CPU, hook, wrong)


def one_pixel(out):
    out[..., -1, -1] += 1


def a_thousand_ulps(out):
    out *= 1 + 1000 * np.finfo(out.dtype).eps


def nan_beside(out):
    out[..., 0, 0] = np.nan


SPOILT = [
    ("float32", one_pixel), ("float32", a_thousand_ulps), ("float32", nan_beside),
    ("float16", one_pixel), ("uint8", one_pixel), ("complex64", a_thousand_ulps),
    ("complex64", one_pixel),
]  # fmt: skip


@pytest.mark.parametrize(("hook", "spoilt"), cross(["direct", "separable", "box", "fft"], SPOILT))
def test_wrong_results_are_found(monkeypatch, hook, spoilt):
    dtype, change = spoilt
    family = {"direct": "direct, 3x3", "separable": "separable, rank 1", "box": "box",
              "fft": "fft"}[hook]  # fmt: skip
    some = cases(family, dtype)
    assert outcomes(run.run_cases("cpu", some)) == ["passed"] * len(some)
    spoil(monkeypatch, hook, change)
    rows = list(run.run_cases("cpu", some))
    assert outcomes(rows) == ["failed"] * len(some)
    assert all("elements of Y are wrong, the first at" in row.why for row in rows)


@pytest.mark.parametrize("instead", BOUNDARIES)
def test_another_border_is_found(monkeypatch, instead):
    right = CPU.direct
    monkeypatch.setattr(
        CPU, "direct", lambda problem, *arrays: right(replace(problem, boundary=instead), *arrays)
    )
    for dtype in ("uint8", "float16", "float32"):
        for row in run.run_cases("cpu", cases("direct, 3x3", dtype)):
            assert row.outcome == ("passed" if row.boundary == instead else "failed")


def test_wrong_bits_of_bfloat16_are_found(monkeypatch):
    some = cases("direct, 3x3", "bfloat16")
    assert outcomes(run.run_cases("cpu", some)) == ["passed"] * len(some)

    def two_ulps(out):
        out[..., 3, 4] += 2

    spoil(monkeypatch, "direct", two_ulps)
    assert outcomes(run.run_cases("cpu", some)) == ["failed"] * len(some)


def flush(problem, array):
    """An array of floats with 0 in place of what is subnormal."""
    tiny = np.finfo(array.dtype).smallest_normal
    return np.where(np.abs(array) < tiny, 0, array).astype(array.dtype)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64"])
def test_flushed_subnormals_are_found(monkeypatch, dtype):
    some = cases("subnormal pixels", dtype)
    for hook in ("direct", "separable", "box"):
        right = getattr(CPU, hook)
        monkeypatch.setattr(
            CPU, hook, lambda problem, x, *a, right=right: right(problem, flush(problem, x), *a)
        )
    assert outcomes(run.run_cases("cpu", some)) == ["failed"] * len(some)


def test_values_that_are_not_finite_must_stay_in_their_windows(monkeypatch):
    some = cases("NaN and infinite pixels", "float32")
    assert [case.method for case in some] == ["direct", "separable", "box", "fft"]
    assert outcomes(run.run_cases("cpu", some)) == ["passed"] * 4
    spoil(monkeypatch, "fft", nan_beside)
    assert outcomes(run.run_cases("cpu", some)) == ["passed", "passed", "passed", "failed"]
    monkeypatch.undo()
    spoil(monkeypatch, "direct", lambda out: np.nan_to_num(out, copy=False))
    assert outcomes(run.run_cases("cpu", some))[:2] == ["failed", "passed"]


@pytest.mark.parametrize(
    ("family", "hook"),
    [
        ("gradients", "weight_gradient"), ("nn.conv2d", "layer_forward"),
        ("nn.conv2d, gradients", "layer_weight_gradient"),
    ],
)  # fmt: skip
def test_wrong_gradients_and_layers_are_found(monkeypatch, family, hook):
    some = cases(family, "float32")
    assert outcomes(run.run_cases("cpu", some)) == ["passed"] * len(some)
    right = getattr(CPU, hook)
    monkeypatch.setattr(CPU, hook, lambda *a: right(*a) * np.float32(1.001))
    assert "failed" in outcomes(run.run_cases("cpu", some))


def test_another_dtype_or_shape_is_wrong():
    right = expected.Expected("Y", np.zeros((2, 3)), 0, "float32")
    assert expected.difference(np.zeros((2, 3), "f4"), right) == ""
    assert "dtype float64" in expected.difference(np.zeros((2, 3)), right)
    assert "shape (3, 2)" in expected.difference(np.zeros((3, 2), "f4"), right)


# --- errors --------------------------------------------------------------------------------------


def test_an_error_is_a_row_and_the_others_go_on(monkeypatch):
    right = CPU.direct

    def raising(problem, x, k, out):
        if problem.boundary == "wrap":
            raise RuntimeError("no such\nkernel")
        right(problem, x, k, out)

    monkeypatch.setattr(CPU, "direct", raising)
    rows = list(run.run_cases("cpu", cases("direct, 3x3", "uint8")))
    assert outcomes(rows) == ["passed"] * 4 + ["failed"]
    assert rows[-1].why == "RuntimeError: no such kernel"
    found = report.CheckReport(tuple(rows), "versions", 1.0)
    assert not found.passed
    text = str(found)
    assert "direct, 3x3                      4 passed, 1 failed (uint8)" in text
    assert "X (12, 21) and K (3, 3) of uint8, mode full, boundary symmetric" not in text
    assert "X (12, 21) and K (3, 3) of uint8, mode full, boundary wrap" in text
    assert "RuntimeError: no such kernel" in text
    assert "1 of 5 results are wrong" in text
    assert "issue tracker" in text


class LostDevice(places.Host):
    """A device that an error makes useless for the rest of the process."""

    failed = False

    def lost(self):
        return "cudaErrorIllegalAddress: an illegal memory access" if self.failed else None


def test_nothing_is_tried_on_a_device_that_is_lost(monkeypatch):
    device = LostDevice()
    monkeypatch.setitem(places.PLACES, "cpu", lambda: device)
    called = []

    def raising(problem, x, k, out):
        called.append(problem)
        if len(called) == 2:
            device.failed = True
        raise RuntimeError("illegal memory access")

    monkeypatch.setattr(CPU, "direct", raising)
    rows = list(run.run_cases("cpu", cases("direct, 3x3", "uint8")))
    assert outcomes(rows) == ["failed", "failed", "not reached", "not reached", "not reached"]
    assert len(called) == 2
    assert "illegal memory access" in rows[-1].why
    found = report.CheckReport(tuple(rows), "versions", 1.0)
    assert not found.passed
    assert "3 calls could not be tried" in str(found)
    assert (
        str(found).count("the device is lost") == 1
    )  # however many calls it keeps from being tried


@pytest.mark.needs("cupy")
def test_a_gpu_that_answers_no_more_is_lost(monkeypatch):
    import cupy

    class Device:
        id = 3
        error = None

        def synchronize(self):
            if Device.error is not None:
                raise Device.error

    monkeypatch.setattr(cupy.cuda, "Device", Device)
    gpu = places.Gpu()
    assert gpu.device == "cuda:3"
    assert gpu.lost() is None
    Device.error = cupy.cuda.runtime.CUDARuntimeError(700)
    assert "illegal" in gpu.lost().lower()


def test_what_the_hardware_lacks_is_skipped_and_says_so(monkeypatch):
    monkeypatch.setattr(CPU, "refuse", lambda problem, method: f"no {method} cores here")
    tensor = [replace(case, precision=None) for case in cases("tensor", "float16", EVERYTHING)]
    rows = list(run.run_cases("cpu", tensor))
    assert set(outcomes(rows)) == {"skipped"}
    found = report.CheckReport(tuple(rows), "versions", 1.0)
    assert found.passed
    assert "skipped: no tensor cores here" in str(found)


def test_only_some_failures_of_a_family_are_printed():
    row = report.CheckRow("cpu", "fft", "float32", "wrap", "this call", "failed", "wrong")
    text = str(report.CheckReport((row,) * 12, "versions", 1.0))
    assert text.count("this call:") == 5
    assert "and 7 more" in text


def test_unknown_and_unusable_backends(monkeypatch):
    with pytest.raises(ValueError, match="unknown backend 'reference'; allowed: 'cpu', 'cuda'"):
        gpuconv.check("reference")
    monkeypatch.setattr(CUDA, "unavailable", lambda: "no GPU; install one")
    with pytest.raises(gpuconv.BackendUnavailable, match="no GPU; install one"):
        gpuconv.check("cuda")
    monkeypatch.setattr(CPU, "unavailable", lambda: "no Numba; install it")
    with pytest.raises(gpuconv.BackendUnavailable, match=r"no Numba; install it.*no GPU"):
        gpuconv.check()


def test_by_default_every_usable_backend_is_checked(monkeypatch):
    monkeypatch.setattr(CUDA, "unavailable", lambda: None)
    monkeypatch.setattr(CUDA, "describe", lambda: {"device": "none"})
    monkeypatch.setitem(places.PLACES, "cuda", places.Host)
    started = []

    def record(backend, some):
        started.append(backend)
        return iter(())

    monkeypatch.setattr(sys.modules["gpuconv.checks"], "run_cases", record)
    gpuconv.check()
    assert started == ["cpu", "cuda"]


# --- samples -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [n for n in dtypes.NAMES if not dtypes.is_integer(n)])
def test_subnormal_pixels_are_subnormal(dtype):
    case = Case("subnormal pixels", dtype, pixels="subnormal")
    x = samples.pixels(case, samples.random_of(case))
    wide = dtypes.widen(x, dtype, "complex128" if dtypes.is_complex(dtype) else "float64")
    parts = np.stack([wide.real, wide.imag]) if dtypes.is_complex(dtype) else wide
    smallest = {"bfloat16": np.float64(2.0**-126)}.get(dtype)
    if smallest is None:
        smallest = np.finfo(dtype).smallest_normal
    assert (parts > 0).all()
    assert (parts < smallest).all()


@pytest.mark.parametrize(
    "view",
    [
        "transposed", "reversed", "cut out", "every other", "repeated", "out", "",
        "bytes swapped", "misaligned",
    ],
)  # fmt: skip
def test_views_hold_the_same_pixels(view):
    case = Case("views and out=", "float32", view=view, x_shape=(2, 5, 6))
    x = samples.pixels(case, samples.random_of(case))
    seen = samples.arrange(x, view, places.Host())
    np.testing.assert_array_equal(seen, x)
    plain = seen.flags.c_contiguous and seen.flags.aligned and seen.dtype.isnative
    assert plain == (view in ("out", ""))


# --- the CUDA kernels, emulated ------------------------------------------------------------------


@pytest.fixture
def without_numba(monkeypatch):
    """The CPU backend is not there, nor is Numba."""
    monkeypatch.setattr(CPU, "unavailable", lambda: "Numba is hidden")
    monkeypatch.setitem(sys.modules, "numba", None)


class EmulatedGpu(places.Gpu):
    """The stand-in for CuPy has no device that could be lost."""

    def lost(self):
        return None


_THROUGH = "host arrays through the device"
_SHORT = ("direct, 3x3", "tensor", "views and out=", "nn.conv2d", _THROUGH)


@pytest.mark.parametrize("family", always(list(FAMILIES), *_SHORT))
def test_the_emulated_gpu_without_numba(monkeypatch, without_numba, family):
    with contextlib.ExitStack() as stack:
        if family == _THROUGH:  # streams of the emulator have NumPy's arrays
            monkeypatch.setitem(places.PLACES, "cuda", places.Host)
            abilities = Abilities(CUDA.methods, True, False)
            launcher = stack.enter_context(emulated(specialised=False))
        else:
            monkeypatch.setitem(places.PLACES, "cuda", EmulatedGpu)
            cupy = stack.enter_context(installed())
            launcher = stack.enter_context(emulated(DeviceArraysLauncher(cupy), specialised=False))
            abilities = run.abilities_of("cuda")
            assert abilities == Abilities(CUDA.methods, True, True)
        some = [
            case
            for dtype in ("uint8", "float16", "bfloat16", "float32", "complex64")
            for case in FAMILIES[family](dtype)
            if abilities.takes(case)
        ]
        if family in _SHORT:
            some = some[::4]
        rows = list(run.run_cases("cuda", some))
        assert outcomes(rows) == ["passed"] * len(some), [row.why for row in rows]
        assert launcher.launched or not some


@pytest.mark.cuda
def test_everything_passes_on_the_gpu():
    found = gpuconv.check("cuda")
    assert found.passed, str(found)
