"""The fuzzer: a short run of it, whether it finds what is wrong, and what it has found."""

import os
import random
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
import scipy.signal

import gpuconv
from gpuconv import call_cache
from gpuconv.backends.cpu.backend import CpuBackend

from ..marks import always
from . import cases, elements, expect, gradients, hostile
from .__main__ import main, parser
from .check import Failure
from .run import parse, run, watched
from .shrink import fails


@pytest.mark.parametrize("count", always([30, 300], 30))
def test_a_short_run(capsys, count):
    # Few dtypes: every pair of them is compiled first. All of them are in a run by hand.
    code = main(["--cases", str(count), "--seed", "20", "--dtypes", "float32,uint8"])
    printed = capsys.readouterr().out
    assert code == 0, printed
    assert f"{count} cases of seed 20, 0 failures" in printed


def test_a_short_run_of_the_cuda_sources(capsys):
    options = ["--backend", "cuda", "--cases", "6", "--seed", "1", "--dtypes", "float32"]
    code = main(options)
    assert code == 0, capsys.readouterr().out


@pytest.fixture
def planted(monkeypatch, calls_by_method):
    """A backend that takes one border for another."""
    right = CpuBackend.direct

    def wrong(self, problem, x, k, out):
        if problem.boundary == "reflect" and problem.pad[1][0] > 0:
            problem = replace(problem, boundary="symmetric")
        right(self, problem, x, k, out)

    monkeypatch.setattr(CpuBackend, "direct", wrong)
    return monkeypatch


def test_a_planted_bug_is_found_and_made_small(planted, capsys):
    options = ["--cases", "400", "--seed", "20", "--dtypes", "float32,uint8", "--failures", "1"]
    assert main(options) == 1
    printed = capsys.readouterr().out
    line = next(n for n in printed.splitlines() if "--case" in n)
    text = line.partition("'")[2].rstrip("'")
    small = cases.parse(text)
    assert small.boundary == "reflect"
    assert len(small.x) == len(small.k) == 2
    assert np.prod(small.x) <= 4
    assert np.prod(small.k) <= 4
    assert main(["--case", text]) == 1
    planted.undo()
    planted.setattr(call_cache, "_calls", {})
    assert main(["--case", text]) == 0


def test_a_written_input_and_a_written_margin_are_found(planted):
    right = CpuBackend.direct

    def writes(array):
        def wrong(self, problem, x, k, out):
            right(self, problem, x, k, out)
            target = x if array == "x" else out
            memory = np.lib.stride_tricks.as_strided(target[..., -1:], (2,), (target.itemsize,))
            memory[-1] = 3

        return wrong

    case = cases.Case(x=(4, 5), k=(2, 2), method="direct", out="roi")
    assert fails(case) is None
    planted.setattr(CpuBackend, "direct", writes("out"))
    assert fails(replace(case, stride=(3, 4))) == "out"
    planted.setattr(CpuBackend, "direct", writes("x"))
    assert fails(replace(case, out=None, x_layout="roi")) == "inputs"


def dies_at_first(options, job, first, share):
    share[0] = first
    if first == 0:
        os._exit(139)
    share[1] = 5


def test_a_crash_is_a_failure_and_the_rest_goes_on(capsys):
    options = parser().parse_args(["--jobs", "1", "--cases", "6"])
    assert watched(options, dies_at_first) == [6, 1]
    printed = capsys.readouterr().out
    assert "FAILS 0:0 ended its process (139)" in printed
    assert "--case 0:0" in printed


def test_cases_are_the_same_every_time():
    first = [cases.draw(3, index).text() for index in range(50)]
    assert first == [cases.draw(3, index).text() for index in range(50)]
    assert len(set(first)) == 50
    assert cases.parse("3:7") == cases.parse(first[7])


def test_what_is_expected_is_what_scipy_gives():
    rng = np.random.default_rng(0)
    borders = {"constant": "fill", "symmetric": "symm", "wrap": "wrap"}
    for flipped, theirs in ((False, scipy.signal.correlate2d), (True, scipy.signal.convolve2d)):
        for boundary, name in borders.items():
            for mode in ("valid", "same", "full"):
                for shape in ((3, 3), (2, 4)):
                    x, k = rng.standard_normal((7, 8)), rng.standard_normal(shape)
                    case = cases.Case(
                        x=x.shape, k=shape, x_dtype="float64", k_dtype="float64", mode=mode,
                        boundary=boundary, flipped=flipped,
                    )  # fmt: skip
                    sums = expect.expected(case, x, k).sums
                    np.testing.assert_allclose(
                        sums.astype("f8"), theirs(x, k, mode, name), atol=1e-12
                    )


@pytest.mark.parametrize("name", ["float16", "float32", "bfloat16"])
def test_rounding(name):
    values = np.random.default_rng(1).standard_normal(5000) * 10.0 ** np.arange(-50, 50).repeat(50)
    kind = pytest.importorskip("ml_dtypes").bfloat16 if name == "bfloat16" else np.dtype(name)
    with np.errstate(over="ignore"):
        # ml_dtypes rounds twice from float64.
        values = values.astype("f4") if name == "bfloat16" else values
        theirs = values.astype(kind).astype("f8")
    ours = expect.rounded(values.astype(np.longdouble), name).astype("f8")
    np.testing.assert_array_equal(ours, theirs)


# What it has found.


@pytest.mark.parametrize("stride", [1, 2])
def test_uint64_pixels_beside_a_border_keep_all_bits(stride):
    x = np.array([[2**63 + 1, 2**64 - 1, 2**53 + 1]], np.uint64)
    keywords = dict(mode=1, boundary="symmetric", stride=stride)
    k = np.array([[1, -2, 3]])
    y = gpuconv.corr2d(x, k, **keywords)
    np.testing.assert_array_equal(y, gpuconv.corr2d(x, k, backend="reference", **keywords))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("shape", [(1, 3), (3, 1)])
def test_separable_rows_and_columns_keep_bad_weights(bad, shape):
    k = np.array([1.0, bad, 2.0]).reshape(shape)
    y = gpuconv.corr2d(np.ones((3, 3)), k, method="separable", mode="same")
    assert not np.isfinite(y).all()
    np.testing.assert_array_equal(
        y, gpuconv.corr2d(np.ones((3, 3)), k, method="direct", mode="same")
    )


def test_no_warnings_at_the_ends_of_the_range():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        huge = np.full((2, 2), 1.7e308)
        assert not np.isfinite(gpuconv.corr2d(huge, huge + 0j, method="auto")).any()
        gpuconv.plan((9, 9), (2, 2), x_dtype="complex128", kernel=huge + 1j * huge)
        ml = pytest.importorskip("ml_dtypes")
        y = gpuconv.corr2d(huge, np.ones((1, 1)), dtype=ml.bfloat16)
        assert np.isinf(y.astype("f4")).all()


def test_the_reference_adds_in_one_order_in_every_layout():
    rng = np.random.default_rng(0)
    x, k = rng.standard_normal((9, 8)).astype("f4"), rng.standard_normal((4, 3)).astype("f4")
    y = gpuconv.corr2d(x, k, backend="reference")
    for other in (np.asfortranarray(x), np.asfortranarray(x)[::-1][::-1]):
        z = gpuconv.corr2d(other, np.asfortranarray(k), backend="reference")
        np.testing.assert_array_equal(z, y)
        part = gpuconv.corr2d(other[2:, 1:], np.asfortranarray(k), backend="reference")
        np.testing.assert_array_equal(part, y[2:, 1:])


# What it knows of wide values, large kernels, gradients, work and memory.


@pytest.mark.parametrize("boundary", cases.BOUNDARIES)
def test_positions_beside_an_image_are_those_of_numpy_pad(boundary):
    for n in (1, 2, 3, 7):
        for before, after in ((0, 0), (1, 2), (9, 4), (30, 31)):
            at = expect.position(np.arange(-before, n + after), n, boundary)
            np.testing.assert_array_equal(at, expect._index(n, before, after, boundary))


def test_some_outputs_are_expected_as_all_are(monkeypatch):
    for index in range(40):
        case = cases.draw(6, index, ["float32", "int16"])
        if case.call != "forward" or 0 in case.output or case.sampled:
            continue
        x, k = elements.values(case, "x"), elements.values(case, "k")
        with np.errstate(all="ignore"):
            whole = expect.expected(case, x, k)
            with monkeypatch.context() as patch:
                patch.setattr(cases, "_ALL_OUTPUTS", 0)
                part = expect.expected(case, x, k)
            at = expect.some(case)
        for name in ("sums", "sizes", "touched"):
            all_of_it = getattr(whole, name).reshape(-1, *case.output[-2:])[at]
            here = getattr(part, name)[:, 0, 0]
            np.testing.assert_allclose(here, all_of_it, rtol=1e-15, err_msg=name)
        if case.acc == "float32" and not whole.touched.any():
            # A bound of all images and kernels together, never less.
            assert (part.largest >= whole.sizes.max(initial=0) * (1 - 1e-9)).all()
            assert part.largest.max() <= whole.sizes.max(initial=0) * (1 + 1e-6) + 1e-30


@pytest.mark.parametrize("call", ["vjp", "layer"])
def test_gradients_are_expected_as_the_reference_has_them(call):
    rng = random.Random(4)
    for _ in range(12):
        case = cases._draw_gradient(rng, ["float64", "complex128"][: 1 + (call == "vjp")], call)
        case = replace(case, x_values="normal", k_values="normal", x_layout="C", k_layout="C")
        x, k, dy = (elements.values(case, which) for which in ("x", "k", "dy"))
        found = {f.what: f.sums for f in gradients.expected(case, x, k, dy)}
        if call == "layer":
            theirs = dict(zip(("dx", "dk"), gpuconv.nn.conv2d_vjp(
                x, k, dy, case.stride, case.pad, case.dilation, case.groups), strict=False
            ))  # fmt: skip
        else:
            theirs = dict(zip(("dx", "dk"), gpuconv.corr2d_vjp(
                x, k, dy, mode=case.mode, boundary=case.boundary, stride=case.stride,
                dilation=case.dilation, backend="reference",
            ), strict=True))  # fmt: skip
        for name, value in theirs.items():
            np.testing.assert_allclose(found[name].astype(value.dtype), value, atol=1e-11)


def test_a_package_cannot_be_imported_for_a_while():
    import ml_dtypes

    with gradients.without("ml_dtypes"), pytest.raises(ModuleNotFoundError):
        import ml_dtypes as again  # noqa: F401
    assert sys.modules["ml_dtypes"] is ml_dtypes


# Faults of kinds that it has found, put back: it must find them again.

_SLOW = """
def search(n):
    found = 0
    for i in range(n):
        found += i
    return found
"""


def _instead(patch, function):
    """Put `function(right, X, K, **keywords)` in the place of `corr2d`."""
    right = gpuconv.corr2d
    patch.setattr(gpuconv, "corr2d", lambda X, K, **keywords: function(right, X, K, **keywords))


def test_work_that_grows_with_the_kernel_is_found(monkeypatch):
    space = {}
    # Lines of a file of the package, as the counter sees them.
    exec(compile(_SLOW, os.path.join(os.path.dirname(gpuconv.__file__), "slow.py"), "exec"), space)

    def slow(right, X, K, **keywords):
        space["search"](K.shape[-1] ** 3)
        return right(X, K, **keywords)

    _instead(monkeypatch, slow)
    case = cases.Case(x=(50, 50), k=(46, 46), k_values="uneven", method="direct")
    assert fails(case) == "work"
    assert fails(replace(case, k=(11, 11))) is None


def test_pixels_that_no_output_reads_and_lost_zeros_are_found(planted):
    right = CpuBackend.fft

    def polluted(self, problem, x, weights, out, whole):
        right(self, problem, x, weights, out, whole)
        out += np.finfo(out.dtype).eps * np.abs(x).max()

    case = cases.Case(
        x=(9, 9), k=(3, 3), x_values="hot", k_values="tap", method="fft", stride=(3, 3), seed=0
    )
    planted.setattr(CpuBackend, "fft", polluted)
    assert fails(case) == "sums"

    def not_quite(self, problem, x, weights, out, whole):
        out[...] = 1e-11

    planted.setattr(CpuBackend, "fft", not_quite)
    nothing = cases.Case(x=(4, 1), k=(1, 2), mode="same", dilation=(1, 3), method="fft")
    assert fails(nothing) == "sums"


def test_sums_that_are_no_mirror_images_are_found(monkeypatch):
    def leans(right, X, K, **keywords):
        y = right(X, K, **keywords)
        first = X[..., : y.shape[-2], : y.shape[-1]]
        return np.where(first > 0, np.nextafter(y, np.float32(9e9)), y)

    _instead(monkeypatch, leans)
    case = cases.Case(x=(2, 30), k=(1, 5), k_values="symmetric", method="direct")
    assert fails(case) == "mirror"
    constant = replace(case, k_values="antisymmetric", x_values="constant", seed=2)
    assert fails(constant) == "constant"


def test_integer_sums_by_floats_are_found(monkeypatch):
    def rounds(right, X, K, method="auto", **keywords):
        y = right(X, K, **keywords)
        return y + (method == "fft")

    _instead(monkeypatch, rounds)
    case = cases.Case(x=(9, 9), k=(3, 3), x_dtype="int16", k_dtype="int16", method="fft")
    assert fails(case) == "sums"


def test_inexact_sums_of_whole_numbers_are_found(monkeypatch):
    def inexact(right, X, K, **keywords):
        return right(X, K, **keywords) * np.float32(1 + 2e-7)

    _instead(monkeypatch, inexact)
    case = cases.Case(x=(9, 9), k=(3, 3), x_dtype="uint8", k_values="integers")
    assert fails(case) == "sums"


def test_memory_that_grows_with_the_padding_is_found(monkeypatch):
    def padded(right, X, K, **keywords):
        np.zeros(np.max(keywords["mode"]) * 10)
        return right(X, K, **keywords)

    _instead(monkeypatch, padded)
    far = ((0, 0), (10**6, 0))
    assert fails(cases.Case(x=(2, 2), k=(1, 1), mode=far, stride=(1, 10**6))) == "memory"


def test_warnings_are_found(monkeypatch):
    def warns(right, X, K, **keywords):
        np.float64(1e300).astype(np.float32)
        return right(X, K, **keywords)

    _instead(monkeypatch, warns)
    assert fails(cases.Case()).startswith("raises RuntimeWarning")


def test_tensors_that_need_a_missing_package_are_found(monkeypatch):
    pytest.importorskip("torch")

    def needs(right, X, K, **keywords):
        if keywords and str(X.dtype) == "torch.bfloat16":
            import ml_dtypes  # noqa: F401
        return right(X, K, **keywords)

    _instead(monkeypatch, needs)
    case = cases.Case(x_dtype="bfloat16", k_dtype="bfloat16", call="torch", without="ml_dtypes")
    assert fails(case).startswith("raises ModuleNotFoundError")


def test_wrong_gradients_are_found(monkeypatch):
    right = gpuconv.corr2d_vjp

    def wrong(*arguments, **keywords):
        dx, dk = right(*arguments, **keywords)
        return dx, dk * np.float32(1.01)

    monkeypatch.setattr(gpuconv, "corr2d_vjp", wrong)
    assert fails(cases.Case(x=(5, 6), k=(2, 2), call="vjp", seed=1)) == "dk"


def test_errors_that_say_nothing_and_values_that_pass_are_found(monkeypatch):
    def careless(right, X, K, stride=1, **keywords):
        if stride == 2**63:
            raise OverflowError("Python int too large to convert to C long")
        if stride == 2**40:
            raise MemoryError
        return right(X, K, stride=int(stride), **keywords)

    careless_call = hostile._CALLS["corr2d"]
    _instead(monkeypatch, careless)
    for value, kind in (
        ("2**63", "raises OverflowError"),
        ("2**40", "silent"),
        ("1.5", "accepted"),
    ):
        call = hostile.Call("corr2d", careless_call | {"stride": value, "dilation": "1"})
        with pytest.raises(Failure, match=kind) as failure:
            hostile.check(call)
        small = hostile.shrink(call, failure.value.kind)
        assert small.arguments == careless_call | {"stride": value}
        assert parse(small.text()) == small


# What it found, each made small: README's table has them in words.
FOUND = (
    '{"x": [121, 121], "k": [121, 121], "x_dtype": "uint8", "k_dtype": "uint8", "k_values": "cut"}',
    '{"x": [151, 151], "k": [151, 151], "x_dtype": "uint8", "k_dtype": "uint8"}',
    '{"x": [40, 40], "k": [64, 40, 40], "x_dtype": "uint8", "k_dtype": "uint8"}',
    '{"x": [64, 64], "k": [33, 33], "x_values": "hot", "k_values": "hollow", "method": "fft",'
    ' "seed": 1}',
    '{"x": [512, 512], "k": [101, 101], "x_values": "hot", "k_values": "disc", "method": "fft"}',
    '{"x": [4, 1], "k": [1, 2], "mode": "same", "dilation": [1, 3], "method": "fft"}',
    '{"x": [4, 17], "k": [3, 1], "x_values": "uneven", "method": "fft", "call": "vjp", "seed": 2}',
    '{"x": [9, 10], "k": [3, 5], "x_dtype": "bfloat16", "k_dtype": "bfloat16", "call": "torch",'
    ' "without": "ml_dtypes"}',
    '{"x": [1, 2, 6, 5], "k": [2, 1, 6, 5], "x_dtype": "bfloat16", "k_dtype": "bfloat16",'
    ' "call": "torch layer", "groups": 2, "without": "ml_dtypes"}',
    '{"x": [2, 1], "k": [2, 1], "x_values": "constant", "k_values": "antisymmetric"}',
    '{"x": [1, 2], "k": [1, 2], "k_values": "symmetric"}',
    '{"x": [200, 200], "k": [31, 31], "x_dtype": "uint8", "k_values": "integers"}',
    '{"x": [1, 7], "k": [2, 3], "x_values": "huge", "mode": [[19, 19], [22, 61]],'
    ' "boundary": "wrap", "stride": [38, 70], "dilation": [1, 10], "method": "fft"}',
    '{"x": [5, 6], "k": [3, 3], "mode": 1000000, "stride": [1000000, 1000000]}',
    '{"stride": [34795, 86217]}',
    '{"x": [9, 9], "k": [3, 3], "mode": [[3000, 3000], [3000, 9000]], "stride": [3000, 4000]}',
    '{"x": [1, 6, 1, 1], "k": [4, 3, 1, 1], "x_values": "limits", "call": "layer", "groups": 2}',
    '{"x": [2, 7], "k": [3, 2, 3], "k_values": "limits", "call": "vjp", "seed": 17}',
    '{"x": [5, 1, 1], "x_values": "nearmax", "method": "fft", "call": "torch", "seed": 7}',
    '{"fill": "1e300"}',
    '{"x": [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,'
    " 1, 1, 1, 1, 1, 1]}",
    '{"function": "corr2d", "arguments": {"X": "np.ones((5, 6))", "K": "np.ones((3, 3))",'
    ' "fillvalue": "10**400"}}',
    '{"function": "corr2d", "arguments": {"X": "np.ones((5, 6))", "K": "np.ones((3, 3))",'
    ' "stride": "2**63"}}',
    '{"function": "corr2d", "arguments": {"X": "np.ones((5, 6))", "K": "np.ones((1, 1))",'
    ' "dilation": "2**63"}}',
    '{"function": "corr2d", "arguments": {"X": "np.ones((0, 5, 6))", "K": "np.ones((3, 3))",'
    ' "mode": "2**40"}}',
    '{"function": "nn.conv2d", "arguments": {"x": "np.ones((1, 2, 5, 6))",'
    ' "weight": "np.ones((3, 2, 3, 3))", "stride": "2**63"}}',
    '{"function": "filters.by_name", "arguments": {"name": "None"}}',
    '{"function": "filters.box", "arguments": {"size": "10**400"}}',
    '{"function": "filters.sharpen", "arguments": {"amount": "10**400"}}',
    '{"function": "filters.motion", "arguments": {"length": "5", "angle": "10**400"}}',
    '{"function": "filters.gaussian", "arguments": {"sigma": "1", "order": "2**63"}}',
    '{"function": "filters.log", "arguments": {"sigma": "1", "truncate": "2**62"}}',
    '{"function": "filters.directional_derivative", "arguments": {"v": "(1, 2)",'
    ' "accuracy": "2**31"}}',
)


@pytest.mark.parametrize("text", FOUND)
def test_what_it_found_is_mended(text):
    if '"torch' in text:
        pytest.importorskip("torch")
    run(parse(text))
