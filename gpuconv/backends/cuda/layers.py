"""Convolution layers as products of matrices, and the gradient of their weights.

The matrix of im2col is never laid out: each tile of it is gathered into shared memory when it is
needed (see src/layers/layer.cuh).
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from ...core import dtypes
from ...core.array_types import Array
from ...core.layer import LayerGeometry
from .kernels import ADDRESS, Kernel
from .launch import GRID_MAX
from .launcher import Launcher, addresses_of, on_device
from .spec import LAYER_DEPTH, LAYER_SIDE, Spec
from .structs import LAYER
from .weight_gradient import PreparedGradient, table_of_gradient, total_of_tasks

# Threads of a block (across, down), each of which computes a square of LAYER_SIDE outputs a side.
LAYER_BLOCK = (16, 16)
# Images of one task of the weight gradient: the same on all chips, so that the bits are, too.
TASK_IMAGES = 4


def layer_forward(
    launcher: Launcher, x: Array, x_dtype: str, w: Array, w_dtype: str, layer: LayerGeometry,
    size: tuple[int, int], acc: str,
) -> Array:  # fmt: skip
    """Return the sums (N, O, r, s) of a layer, in the accumulator dtype; `size` is (r, s)."""
    w = on_device(launcher, w)
    out = launcher.empty((x.shape[0], w.shape[0], *size), acc)
    if out.size:
        kernel = _prepare_forward(
            launcher, launcher.device(), x.shape, x.strides, x_dtype, w.shape, w_dtype, layer,
            size, acc,
        )  # fmt: skip
        launcher.launch(kernel, addresses_of(x, w, out))
    return out


@lru_cache(maxsize=256)
def _prepare_forward(
    launcher: Launcher, device: int, x_shape: tuple[int, ...], x_strides: tuple[int, ...],
    x_dtype: str, w_shape: tuple[int, ...], w_dtype: str, layer: LayerGeometry,
    size: tuple[int, int], acc: str,
) -> Kernel:  # fmt: skip
    g = _struct(x_shape, x_strides, w_shape, layer, size, 0)
    tiles = int(x_shape[0] * layer.groups * g["tiles_m"] * g["tiles_n"])
    spec = Spec("layer_forward", x_dtype, acc, w_dtype, True, 0, LAYER_BLOCK)
    blocks = min(tiles, GRID_MAX)
    return launcher.prepare(spec, blocks, _shared_bytes(acc), (g, *[ADDRESS] * 3))


def layer_weight_gradient(
    launcher: Launcher, x: Array, x_dtype: str, dy: Array, dy_dtype: str, layer: LayerGeometry,
    w_shape: tuple[int, ...], w_dtype: str, acc: str,
) -> Array:  # fmt: skip
    """Return the gradient of a layer's weights, summed over the batch in a fixed order."""
    dy = on_device(launcher, dy)
    out = launcher.empty(w_shape, dtypes.storage(w_dtype))
    device = launcher.device()
    prepared = _prepare_gradient(
        launcher, device, x.shape, x.strides, x_dtype, dy.shape, dy_dtype, layer, w_shape, w_dtype,
        acc,
    )  # fmt: skip
    prepared.launch(launcher, device, x, dy, out)
    return out


@lru_cache(maxsize=256)
def _prepare_gradient(
    launcher: Launcher, device: int, x_shape: tuple[int, ...], x_strides: tuple[int, ...],
    x_dtype: str, dy_shape: tuple[int, ...], dy_dtype: str, layer: LayerGeometry,
    w_shape: tuple[int, ...], w_dtype: str, acc: str,
) -> PreparedGradient:  # fmt: skip
    tasks = max(1, -(-x_shape[0] // TASK_IMAGES))
    g = _struct(x_shape, x_strides, w_shape, layer, dy_shape[2:], tasks)
    sums = launcher.prepare(
        Spec("layer_weight_gradient", x_dtype, acc, dy_dtype, True, 0, LAYER_BLOCK),
        min(int(layer.groups * tasks * g["tiles_m"] * g["tiles_n"]), GRID_MAX),
        _shared_bytes(acc),
        (g, *[ADDRESS] * 3),
    )
    weights = math.prod(w_shape) // layer.groups  # of one group
    spec = Spec("weight_gradient_sum", x_dtype, acc, w_dtype, True, 0, LAYER_BLOCK)
    first_tasks = np.arange(layer.groups + 1, dtype=np.int64) * tasks
    return PreparedGradient(
        sums,
        total_of_tasks(launcher, spec, layer.groups, weights),
        (layer.groups * tasks, weights),
        "float64",
        (),
        table_of_gradient(first_tasks),
    )


def _struct(
    x_shape: tuple[int, ...], x_strides: tuple[int, ...], w_shape: tuple[int, ...],
    layer: LayerGeometry, size: tuple[int, ...], tasks: int,
) -> Array:  # fmt: skip
    """Fill in struct Layer; `tasks` is above 0 for the gradient of the weights.

    The rows of either product are a group's outputs. Its columns are pixels or, for the gradient,
    terms (one for each channel and tap).
    """
    o, channels, p, q = w_shape
    outputs, terms, pixels = o // layer.groups, channels * p * q, size[0] * size[1]
    g = np.zeros((), LAYER)
    g["h"], g["w"] = x_shape[2:]
    g["r"], g["s"] = size
    g["images"] = x_shape[0]
    g["x_image"], g["x_channel"], g["x_row"], g["x_column"] = x_strides
    g["tiles_m"] = -(-outputs // (LAYER_BLOCK[1] * LAYER_SIDE))
    g["tiles_n"] = -(-(terms if tasks else pixels) // (LAYER_BLOCK[0] * LAYER_SIDE))
    g["tasks"] = tasks
    (g["top"], _), (g["left"], _) = layer.pad
    (g["sy"], g["sx"]), (g["dy"], g["dx"]) = layer.stride, layer.dilation
    g["p"], g["q"] = p, q
    g["channels"], g["outputs"], g["groups"] = channels, outputs, layer.groups
    return g


def _shared_bytes(acc_dtype: str) -> int:
    """Bytes of the two tiles of a product."""
    sides = (LAYER_BLOCK[0] + LAYER_BLOCK[1]) * LAYER_SIDE
    return LAYER_DEPTH * sides * dtypes.storage(acc_dtype).itemsize
