"""NVRTC builds every specialisation for every chip, without a GPU or a driver, and none spills."""

import re

import pytest

from gpuconv import dtypes
from gpuconv.backends.cuda_plan import LAYER_BLOCK, Spec

ARCHS = (75, 80, 90, 100, 120)
_SPILLS = re.compile(r"(\d+) bytes spill stores, (\d+) bytes spill loads")


def compiled(spec, arch):
    """What NVRTC reports of a specialisation, and its code."""
    try:
        from cupy.cuda import nvrtc
    except ImportError as error:
        pytest.fail(f"NVRTC cannot be loaded ({error}); run: pip install -e '.[test]'")
    program = nvrtc.createProgram(spec.source(), f"{spec.kernel}.cu", (), ())
    try:
        options = (f"-arch=sm_{arch}", "-std=c++17", "--ptxas-options=-v")
        nvrtc.compileProgram(program, options)
    except nvrtc.NVRTCError:
        pytest.fail(nvrtc.getProgramLog(program))
    cubin = nvrtc.getCUBIN(program)
    assert len(cubin) > 1000
    return nvrtc.getProgramLog(program), cubin


def check(spec, arch):
    log, _ = compiled(spec, arch)
    spills = _SPILLS.findall(log)
    assert spills, f"no resource report for {spec}:\n{log}"
    assert set(spills) == {("0", "0")}, f"{spec} on sm_{arch} spills:\n{log}"


def specs(x, acc, out, kernels=("direct", "separable")):
    for kernel in kernels:
        for unit in (True, False):
            for capacity in (0, 3072 // dtypes.storage(acc).itemsize):
                yield Spec(kernel, x, acc, out, unit, capacity)


@pytest.mark.parametrize("name", dtypes.NAMES)
def test_every_dtype_on_hopper(name):
    result = dtypes.promote(name, name)
    for spec in specs(name, dtypes.accumulator(result), result):
        check(spec, 90)


@pytest.mark.parametrize(
    ("x", "acc", "out"),
    [
        ("uint8", "float32", "uint8"),
        ("int64", "int64", "bfloat16"),
        ("float32", "float32", "int64"),
        ("float64", "float64", "float16"),
        ("uint8", "uint64", "uint8"),
        ("bfloat16", "float64", "float64"),
        ("int32", "complex128", "complex64"),
    ],
)
def test_mixed_dtypes_on_hopper(x, acc, out):
    for spec in specs(x, acc, out, ("direct",)):
        check(spec, 90)


@pytest.mark.parametrize("arch", [a for a in ARCHS if a != 90])
@pytest.mark.parametrize("name", ["float32", "float16", "float64", "uint8", "complex64"])
def test_every_chip(arch, name):
    result = dtypes.promote(name, name)
    for spec in specs(name, dtypes.accumulator(result), result):
        check(spec, arch)


FLOATS = ["float16", "bfloat16", "float32", "float64", "complex64", "complex128"]


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("name", FLOATS)
def test_weight_gradients_on_every_chip(arch, name):
    acc = dtypes.accumulator(name)
    for unit in (True, False):
        check(Spec("weights", name, acc, name, unit, 0), arch)
    check(Spec("weights_sum", name, acc, name, True, 0), arch)


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("name", FLOATS[:4])
def test_layers_on_every_chip(arch, name):
    for kernel in ("channels", "channels_weights"):
        spec = Spec(kernel, name, dtypes.accumulator(name), name, True, 0, LAYER_BLOCK)
        check(spec, arch)
