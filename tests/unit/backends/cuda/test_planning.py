"""The CUDA backend's pure planning: tiles, chunks, structs, big indices."""

import itertools

import pytest

from gpuconv.backends.cuda import planning, strided_planning, structs
from gpuconv.backends.cuda.chips import chip as chip_of
from gpuconv.backends.cuda.geometry import geometry, merge_leads
from gpuconv.backends.cuda.launch import PARAMETER_BYTES, Layout, layout
from gpuconv.backends.cuda.spec import YES
from gpuconv.core import dtypes
from gpuconv.core.problem import make_problem

from ....marks import cross

PARAMETERS_MOST = 4096
CHIPS = [chip_of(c, 80) for c in (75, 80, 86, 90, 100, 120, 999)]
LAYOUTS = [Layout(0, True, True), Layout(3, True, False), Layout()]
SIZES = [(3, 3), (1, 1), (27, 27), (31, 31), (64, 64), (1, 500), (500, 1), (300, 300)]


@pytest.mark.parametrize(
    ("kernel", "dtype", "taps", "gpu"),
    cross(
        ["direct", "separable"],
        ["float32", "float64", "complex128", "int64"],
        list(itertools.product(SIZES, (1, 7))),
        CHIPS,
    ),
    ids=lambda value: str(getattr(value, "capability", value)),
)
def test_every_tile_fits_shared_memory(kernel, dtype, taps, gpu):
    size, stride = taps
    problem = make_problem((900, 900), size, dtype, dtype, stride=stride)
    itemsize = dtypes.storage(dtype).itemsize
    for where, general in itertools.product(LAYOUTS, (False, True)):
        launch = planning.plan(problem, kernel, 1, False, where, gpu, general)
        assert 0 < launch.shared_bytes <= gpu.block_bytes
        if launch.spec.kernel.endswith("strided"):
            assert launch.shared_bytes <= strided_planning.SHARED_BYTES <= 48 * 1024
        assert 1 <= launch.chunk[0] <= size[0]
        assert 1 <= launch.chunk[1] <= size[1]
        by_value = launch.weights * itemsize <= PARAMETER_BYTES
        assert (launch.spec.capacity > 0) == by_value
        parameters = structs.GEOMETRY.itemsize + launch.spec.capacity * itemsize + itemsize + 16
        assert parameters <= PARAMETERS_MOST
        width = launch.spec.width or launch.spec.block[0] * launch.spec.columns
        assert launch.tiles[0] * width >= problem.s > (launch.tiles[0] - 1) * width
        height = launch.spec.block[1] * launch.spec.rows
        assert launch.tiles[1] * height >= problem.r > (launch.tiles[1] - 1) * height


@pytest.mark.parametrize(
    ("shape", "k", "dtype", "chip", "expected"),
    [
        # (threads across, down), rows a thread, rows of taps written out, blocks a multiprocessor
        ((8192, 8192), 3, "float32", 90, ((32, 8), 8, 3, 4)),
        ((8192, 8192), 9, "float32", 90, ((32, 8), 8, 4, 3)),
        ((8192, 8192), 15, "float32", 90, ((32, 8), 8, 2, 3)),
        ((8192, 8192), 21, "float32", 90, ((32, 8), 8, 3, 2)),
        ((8192, 8192), 31, "float32", 90, ((32, 8), 8, 2, 3)),
        ((8192, 8192), 7, "float64", 90, ((32, 8), 4, 7, 4)),
        ((8192, 8192), 15, "float64", 90, ((32, 8), 4, 1, 4)),
        ((8192, 8192), 3, "float32", 75, ((32, 8), 4, 3, 3)),
        ((8192, 8192), 3, "float32", 86, ((32, 8), 8, 3, 2)),
        ((512, 512), 3, "float32", 90, ((32, 8), 2, 3, 4)),  # spread over the chip
        ((1000, 128, 128), 5, "float32", 90, ((32, 8), 8, 5, 4)),
        ((4096, 34, 34), 3, "float32", 90, ((8, 32), 1, 3, 4)),
        ((4096, 60, 60), 3, "float32", 90, ((16, 16), 4, 3, 4)),
    ],
)
def test_tiles(shape, k, dtype, chip, expected):
    problem = make_problem(shape, (k, k), dtype, dtype)
    spec = planning.plan(problem, "direct", chip=chip_of(chip, 132)).spec
    assert (spec.block, spec.rows, spec.tap_rows, spec.blocks_per_multiprocessor) == expected
    assert spec.taps == (k, k)


@pytest.mark.parametrize(
    ("address", "strides", "left", "expected"),
    [
        (0, (4096, 4), 0, (0, True)),
        (0, (4096, 4), 1, (3, True)),
        (8, (4096, 4), 1, (1, True)),
        (0, (4096, 4), 5, (3, True)),
        (0, (4100, 4), 1, (0, False)),  # rows of different alignment
        (0, (-4096, 4), 0, (0, True)),
        (0, (4096, 8), 0, (0, False)),  # every other column
        (0, (100, 4096, 4), 0, (0, False)),  # images of different alignment
        (2, (4096, 4), 0, (0, False)),
    ],
)
def test_alignment(address, strides, left, expected):
    where = layout(address, strides, 4, 0, (4096, 4), 4)
    problem = make_problem(
        (64, 64), (3, 3), "float32", "float32", mode=((0, 0), (left, 0)), boundary="edge"
    )
    spec = planning.plan(problem, "direct", layout=where).spec
    assert (spec.shift, spec.aligned) == expected


def test_the_order_of_sums_depends_on_the_kernel_alone():
    """Column blocks of taps count; where pixels are gathered, row blocks too."""
    shapes = [(200, 300), (5000, 400), (301, 9999)]
    for size, stride in (((150, 99), 1), ((150, 290), 1), ((150, 99), 2)):
        plans = [
            planning.plan(
                make_problem(s, size, "float32", "float32", stride=stride), "direct", 1, False,
                where, gpu,
            )
            for s in shapes for where in LAYOUTS for gpu in CHIPS
        ]  # fmt: skip
        assert len({p.chunk[1] if stride == 1 else p.chunk for p in plans}) == 1


@pytest.mark.parametrize("dtype", ["uint8", "float32", "complex128"])
def test_code_for_one_stride_reaches_as_far_as_pixels_are_of_use(dtype):
    """Up to twice the kernel, whatever the chip: in fewer rows, then by fewer threads."""
    for stride, gpu in itertools.product((1, 2, 3, 4, 5, 6, 7), CHIPS):
        problem = make_problem((4000, 4000), (3, 3), dtype, dtype, stride=stride)
        launch = planning.plan(problem, "direct", chip=gpu)
        own = launch.spec.kernel == "direct"
        assert own == (stride <= 6)
        assert launch.shared_bytes <= gpu.block_bytes


def test_long_separable_kernels_have_large_blocks_where_there_are_tiles_for_all():
    def threads(side):
        problem = make_problem((side, side), (63, 63), "float32", "float32", mode="same")
        across, down = planning.plan(problem, "separable", mirror=(YES, YES)).spec.block
        return across * down

    assert [threads(side) for side in (512, 1024, 2048, 8192)] == [256, 256, 512, 512]


def test_big_sizes_stay_64_bit():
    problem = make_problem((2**20, 2**17), (3, 3), "uint8", "float32", mode="same")
    launch = planning.plan(problem, "direct")
    strides = (2**17, 1), (2**19, 4)
    g = geometry(problem, launch, 1, (70000,), [(2**37,), (2**39,), (0,)], *strides)
    assert g["tiles"] == 70000 * launch.tiles[0] * launch.tiles[1] > 2**40
    assert g["x_lead"][0] == 2**37
    assert (g["h"], g["out_row"]) == (2**20, 2**19)


def test_leading_dimensions_merge():
    lead, strides = merge_leads((2, 3, 4), (12, 4, 1), (48, 16, 4), (0, 0, 0))
    assert (lead, strides) == ((24,), [(1,), (4,), (0,)])
    lead, strides = merge_leads((2, 1, 4), (4, 9, 1), (4, 9, 1), (1, 0, 0))
    assert (lead, strides) == ((2, 4), [(4, 1), (4, 1), (1, 0)])
    assert merge_leads((), (), (), ()) == ((), [(), (), ()])


@pytest.mark.parametrize("size", [(2, 2), (31, 31), (300, 2), (2, 300)])
@pytest.mark.parametrize("name", ["float32", "float64", "complex128"])
def test_mirrored_sums_of_any_stride_fit_shared_memory(name, size):
    for stride in (1, 2):
        problem = make_problem((999, 999), size, name, name, stride=stride, dilation=2)
        launch = planning.plan(problem, "separable", 2, mirror=(YES, YES))
        assert launch.spec.kernel == "separable_strided"
        assert launch.shared_bytes <= 48 << 10


@pytest.mark.parametrize(
    ("x_dtype", "kernel", "size"),
    cross(
        dtypes.NAMES,
        ["direct", "separable"],
        [(3, 3), (5, 4), (9, 9), (1, 31), (31, 1), (40, 64)],
    ),
)
def test_panels_begin_at_whole_cells(kernel, x_dtype, size):
    """Wherever a tile is, its panel's cells are 16 aligned bytes of the image."""
    for k_dtype, columns, chip in itertools.product(("float32", x_dtype), (1, 40, 999), CHIPS):
        problem = make_problem((900, columns), size, x_dtype, k_dtype, mode="same")
        for where in (Layout(0, True, True), Layout(1, True, False)):
            launch = planning.plan(problem, kernel, layout=where, chip=chip)
            spec = launch.spec
            if not spec.aligned or spec.kernel.endswith("strided"):
                continue
            cell = 16 // dtypes.storage(spec.x_dtype if spec.raw else spec.acc_dtype).itemsize
            width = spec.width or spec.block[0] * spec.columns
            assert launch.tiles[0] == 1 or width % cell == 0
