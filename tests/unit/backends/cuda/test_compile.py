"""NVRTC builds every specialisation for every chip, without a GPU or a driver, and none spills."""

import itertools
import math

import pytest

from benchmarks.cuda import compiled
from gpuconv.backends.cuda import planning
from gpuconv.backends.cuda.chips import chip
from gpuconv.backends.cuda.launch import Layout
from gpuconv.backends.cuda.layers import LAYER_BLOCK
from gpuconv.backends.cuda.spec import LOOK, NO, YES, Spec
from gpuconv.backends.cuda.strided_planning import BLOCK, ROWS
from gpuconv.core import dtypes
from gpuconv.core.problem import make_problem

from ....marks import always, exhaustive
from ....nvrtc import ARCHS, FLOATS
from ....nvrtc import check_code as check

pytestmark = pytest.mark.needs("cupy")
ALIGNED, BESIDE = Layout(0, True, True), Layout(1, True, False)
ANYHOW = Layout()


def planned(
    name, size, kernel="direct", layout=ALIGNED, arch=90, k_name=None, dtype=None, **keywords
):
    """Specialisation for a large image."""
    pointer, general = keywords.pop("pointer", False), keywords.pop("general", False)
    mirror, rank = keywords.pop("mirror", (NO, NO)), keywords.pop("rank", 1)
    problem = make_problem(
        (4096, 4096), size, name, k_name or name, mode="same", boundary="reflect", dtype=dtype,
        **keywords,
    )  # fmt: skip
    target = chip(arch, 132)
    return planning.plan(problem, kernel, rank, pointer, layout, target, general, mirror).spec


@pytest.mark.parametrize("name", always(dtypes.NAMES, "uint8", "float32", "complex128"))
def test_every_dtype_on_hopper(name):
    check(planned(name, (7, 5), layout=ANYHOW), 90)
    check(planned(name, (5, 7), layout=ANYHOW, general=True), 90)
    check(planned(name, (3, 4), stride=5), 90)
    check(planned(name, (3, 4), stride=(2, 3), dilation=(3, 2), layout=BESIDE), 90)
    check(planned(name, (5, 5), "separable", BESIDE), 90)


@pytest.mark.parametrize("kernel", ["direct", "separable"])
@pytest.mark.parametrize(
    ("name", "most"), [("float32", 0), ("float64", 0), ("complex64", 0), ("float16", 40)]
)
def test_stores_are_not_assembled_from_bytes(kernel, name, most):
    """Moving bytes between registers took as many instructions as the sums of a 5x5 kernel."""
    spec = planned(name, (5, 5), kernel)
    _, code = compiled.build(spec.source(), kernel, 90)
    assert sum(line.opcode.startswith("PRMT") for line in code.instructions) <= most
    assert max(code.whole.widths("STG")) == (8 if name == "float16" else 16)


@pytest.mark.parametrize("size", always([3, 7, 9, 11, 15, 31], 3))
@pytest.mark.parametrize("name", ["float32", "float64"])
def test_every_size_on_hopper(name, size):
    check(planned(name, (size, size), layout=BESIDE), 90)
    check(planned(name, (size, size), "separable"), 90)


# Every size with the dtype that takes the most registers, every dtype with the longest lines.
LONG_LINES = [
    *itertools.product(((1, 33), (1, 50), (71, 1)), ("float32", "complex128")),
    *itertools.product(((1, 101), (128, 1)), FLOATS[2:]),
]


@pytest.mark.parametrize(
    ("size", "name"), always(LONG_LINES, ((1, 50), "float32"), ((1, 101), "float64"), rows=True)
)
def test_long_lines_of_taps_on_hopper(name, size):
    """A few registers may spill: with fewer rows a thread all were slower on an H200."""
    for order, layout in ((NO, BESIDE), (YES, BESIDE), (LOOK, ANYHOW)):
        mirror = order if size[0] > 1 else NO, order if size[1] > 1 else NO
        check(planned(name, size, layout=layout, mirror=mirror, pointer=order == LOOK), 90, 40)


# The largest of each method, and those whose taps are all written out.
MEANS = [
    *itertools.product(("direct",), (3, 7, 9, 32), ("float32",)),
    *itertools.product(("direct",), (5, 7, 32), ("float64",)),
    *(("separable", 64, "float32"), ("separable", 15, "float64"), ("separable", 64, "float64")),
]


@pytest.mark.parametrize(
    ("kernel", "size", "name"),
    always(MEANS, ("direct", 7, "float32"), ("separable", 15, "float64"), rows=True),
)
def test_means_on_hopper(kernel, size, name):
    problem = make_problem(
        (4096, 4096), (size, size), name, name, mode="same", boundary="reflect", fillvalue=math.nan
    )
    both = ((NO, NO), (YES, YES)) if kernel == "separable" else ((NO, NO),)
    for layout, mirror in itertools.product((ANYHOW, Layout(1, True, True)), both):
        spec = planning.plan(problem, kernel, layout=layout, mirror=mirror, means=True).spec
        assert spec.means
        check(spec, 90)


@pytest.mark.parametrize(
    ("x", "k", "out"),
    [
        ("uint8", "float32", "uint8"),
        ("int64", "int64", "bfloat16"),
        ("float32", "float32", "int64"),
        ("float64", "float64", "float16"),
        ("uint8", "uint8", "uint8"),
        ("bfloat16", "float64", "float64"),
        ("int32", "complex128", "complex64"),
    ],
)
def test_mixed_dtypes_on_hopper(x, k, out):
    check(planned(x, (5, 5), k_name=k, dtype=out), 90)


# With what takes the most registers.
STEPS = [
    *itertools.product((3, 5), ("float32", "complex128"), (dict(stride=2), dict(dilation=2))),
    *itertools.product((3,), ("float32", "float64"), (dict(dilation=7), dict(stride=(1, 3)))),
    *itertools.product((7, 31), ("float32", "float64", "complex128"), (dict(stride=2),)),
    *itertools.product((3,), ("float32", "complex128"), (dict(stride=3), dict(stride=6))),
]


@pytest.mark.parametrize(
    ("size", "name", "steps"), always(STEPS, (3, "float32", dict(dilation=7)), rows=True)
)
def test_strides_and_dilations_on_hopper(size, name, steps):
    for layout in (ANYHOW, Layout(1, True, True)):
        check(planned(name, (size, size), layout=layout, **steps), 90)


@pytest.mark.parametrize("arch", [a for a in ARCHS if a != 90])
@pytest.mark.parametrize("name", always(["float32", "float64", "uint8"], "float32"))
def test_every_chip(arch, name):
    check(planned(name, (9, 9), layout=BESIDE, arch=arch), arch)
    check(planned(name, (31, 31), "separable", arch=arch), arch)
    check(planned(name, (40, 40), layout=ANYHOW, arch=arch), arch)


# The shortest and the longest of what takes the fewest registers and the most.
MIRRORED = [
    ("float32", 5), ("float32", 31), ("float64", 15), ("complex128", 5), ("complex128", 31)
]  # fmt: skip


@pytest.mark.parametrize(("name", "n"), always(MIRRORED, ("float32", 5), rows=True))
def test_mirrored_order(name, n):
    look = dict(pointer=True, layout=ANYHOW)
    for layout in (ALIGNED, BESIDE):
        check(planned(name, (n, n), "separable", layout, mirror=(YES, YES)), 90)
        check(planned(name, (1, n), layout=layout, mirror=(NO, YES)), 90)
        check(planned(name, (n, 1), layout=layout, mirror=(YES, NO)), 90)
    check(planned(name, (n, n), "separable", rank=2, mirror=(YES, YES)), 90)
    check(planned(name, (n, n), "separable", mirror=(LOOK, LOOK), **look), 90)
    check(planned(name, (n, n), "separable", mirror=(LOOK, LOOK), stride=2, **look), 90)
    for general in (False, True):
        check(planned(name, (1, n), mirror=(NO, LOOK), general=general, **look), 90)
        check(planned(name, (n, 1), mirror=(LOOK, NO), general=general, **look), 90)
    check(planned(name, (1, n), mirror=(NO, LOOK), stride=2, **look), 90)


@exhaustive
@pytest.mark.parametrize("arch", [a for a in ARCHS if a != 90])
@pytest.mark.parametrize("name", ["float32", "float64"])
def test_mirrored_order_on_every_chip(arch, name):
    check(planned(name, (31, 31), "separable", mirror=(YES, YES), arch=arch), arch)
    check(planned(name, (1, 31), layout=BESIDE, mirror=(NO, YES), arch=arch), arch)
    check(planned(name, (40, 1), layout=ANYHOW, mirror=(YES, NO), arch=arch), arch)


def on_every_chip(names, *some):
    """Rows of dtypes and chips: all dtypes on Hopper, some on all chips; one runs always."""
    others = itertools.product(some, [a for a in ARCHS if a != 90])
    return always([*((name, 90) for name in names), *others], ("float32", 90), rows=True)


@pytest.mark.parametrize(("name", "arch"), on_every_chip(FLOATS, "float32", "complex128"))
def test_weight_gradients(arch, name):
    acc = dtypes.accumulator(name)
    for unit in (True, False):
        check(Spec("weight_gradient", name, acc, name, unit, 0, BLOCK, ROWS), arch)
    check(Spec("weight_gradient_sum", name, acc, name, True, 0, BLOCK), arch)


@pytest.mark.parametrize(("name", "arch"), on_every_chip(FLOATS[:4], "float16", "float64"))
def test_layers(arch, name):
    for kernel in ("layer_forward", "layer_weight_gradient"):
        spec = Spec(kernel, name, dtypes.accumulator(name), name, True, 0, LAYER_BLOCK)
        check(spec, arch)
