"""Blocks of the output, computed one by one, against the whole."""

import itertools

import numpy as np
import pytest

import gpuconv
from gpuconv.core.blocks import Axis, block_keywords, run_block
from gpuconv.core.boundary import BOUNDARIES
from gpuconv.core.problem import make_problem

X, K = np.random.default_rng(4).integers(0, 99, (11, 13)), np.arange(12).reshape(4, 3)


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("mode", ["same", ((0, 7), (20, 1))])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), ((2, 3), (1, 2))])
def test_blocks_are_parts_of_the_whole(mode, boundary, stride, dilation):
    options = dict(mode=mode, boundary=boundary, fillvalue=5, stride=stride, dilation=dilation)
    whole = gpuconv.corr2d(X, K, **options, backend="reference")
    problem = make_problem(X.shape, K.shape, "int64", "int64", **options)
    down, across = Axis.both(problem)
    for i, j in itertools.product(range(0, down.outputs, 3), range(0, across.outputs, 5)):
        rows = down.block_input(i, min(i + 3, down.outputs))
        columns = across.block_input(j, min(j + 5, across.outputs))
        tiles = [[X[slice(*a), slice(*b)] for b in columns.ranges] for a in rows.ranges]
        keywords = block_keywords(problem) | dict(backend="reference")
        block = run_block(gpuconv.corr2d, tiles, K, rows, columns, **keywords)
        np.testing.assert_array_equal(block, whole[i : i + 3, j : j + 5])


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("shape", [(1, 301), (301, 1), (90, 85)])
def test_blocks_of_kernels_many_times_the_image_read_its_pixels_once(boundary, shape):
    k = np.arange(np.prod(shape)).reshape(shape) % 7
    options = dict(mode="same", boundary=boundary)
    whole = gpuconv.corr2d(X, k, **options, backend="reference")
    problem = make_problem(X.shape, k.shape, "int64", "int64", **options)
    sizes = []

    def call(image, k, **keywords):
        sizes.append(image.size)
        return gpuconv.corr2d(image, k, backend="reference", **keywords)

    down, across = Axis.both(problem)
    for i, j in itertools.product(range(0, down.outputs, 4), range(0, across.outputs, 5)):
        rows = down.block_input(i, min(i + 4, down.outputs))
        columns = across.block_input(j, min(j + 5, across.outputs))
        tiles = [[X[slice(*a), slice(*b)] for b in columns.ranges] for a in rows.ranges]
        block = run_block(call, tiles, k, rows, columns, **block_keywords(problem))
        np.testing.assert_array_equal(block, whole[i : i + 4, j : j + 5])
    assert max(sizes) <= X.size


def test_blocks_keep_the_precision():
    problem = make_problem((9, 9), (3, 3), "float32", "float32", precision="tf32")
    assert block_keywords(problem)["precision"] == "tf32"
