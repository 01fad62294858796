"""The CUDA backend's pure planning: tiles, chunks, structs, big indices."""

import pytest

from gpuconv import dtypes
from gpuconv.backends import cuda_plan
from gpuconv.problem import make_problem


def plan(problem, kernel="direct", rank=1, pointer=False):
    return cuda_plan.plan(problem, kernel, rank, pointer, cuda_plan.BLOCK, cuda_plan.ROWS)


@pytest.mark.parametrize("kernel", ["direct", "separable"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128", "int64"])
@pytest.mark.parametrize(
    "size", [(1, 1), (3, 3), (27, 27), (64, 64), (1, 500), (500, 1), (300, 300)]
)
@pytest.mark.parametrize("stride", [1, 7])
def test_every_tile_fits_shared_memory(kernel, dtype, size, stride):
    problem = make_problem((900, 900), size, dtype, dtype, stride=stride)
    launch = plan(problem, kernel)
    assert 0 < launch.shared_bytes <= cuda_plan.SHARED_BYTES <= 48 * 1024
    assert 1 <= launch.chunk[0] <= size[0]
    assert 1 <= launch.chunk[1] <= size[1]
    itemsize = dtypes.storage(dtype).itemsize
    by_value = launch.weights * itemsize <= cuda_plan.PARAMETER_BYTES
    assert (launch.spec.capacity > 0) == by_value
    parameters = cuda_plan.GEOMETRY.itemsize + launch.spec.capacity * itemsize + itemsize + 16
    assert parameters <= 4096


def test_chunks_do_not_depend_on_the_image():
    shapes = [(200, 200), (5000, 300), (201, 9999)]
    plans = [plan(make_problem(s, (150, 99), "float32", "float32")) for s in shapes]
    assert len({(p.chunk, p.spec, p.shared_bytes) for p in plans}) == 1


def test_big_sizes_stay_64_bit():
    problem = make_problem((2**20, 2**17), (3, 3), "uint8", "float32", mode="same")
    launch = plan(problem)
    strides = (2**17, 1), (2**19, 4)
    g = cuda_plan.geometry(problem, launch, 1, (70000,), [(2**37,), (2**39,), (0,)], *strides)
    assert g["tiles"] == 70000 * launch.tiles[0] * launch.tiles[1] > 2**40
    assert g["x_lead"][0] == 2**37
    assert (g["h"], g["out_row"]) == (2**20, 2**19)


def test_leading_dimensions_merge():
    lead, strides = cuda_plan.merge_leads((2, 3, 4), (12, 4, 1), (48, 16, 4), (0, 0, 0))
    assert (lead, strides) == ((24,), [(1,), (4,), (0,)])
    lead, strides = cuda_plan.merge_leads((2, 1, 4), (4, 9, 1), (4, 9, 1), (1, 0, 0))
    assert (lead, strides) == ((2, 4), [(4, 1), (4, 1), (1, 0)])
    assert cuda_plan.merge_leads((), (), (), ()) == ((), [(), (), ()])
