"""Pixels and weights of a case, as storage arrays (see `core.dtypes`), and views of them."""

from __future__ import annotations

import zlib

import numpy as np

from ..core import dtypes
from ..core.array_types import Array
from .case import Case
from .places import Place

__all__ = ["arrange", "draw", "new_result", "pixels", "random_of", "weights"]


def random_of(case: Case) -> np.random.Generator:
    """Return random numbers that are the same whenever a case runs, on any machine."""
    return np.random.default_rng(zlib.crc32(str(case).encode()))


def pixels(case: Case, rng: np.random.Generator) -> Array:
    """Make the image X of a case."""
    if case.pixels == "subnormal":
        return _subnormal(rng, case.x_shape, case.dtype)
    if case.pixels == "constant":
        return _stored(np.full(case.x_shape, 0.1), case.dtype)
    x = draw(rng, case.x_shape, case.dtype)
    if case.view == "repeated":
        x[...] = x[..., :1, :].copy()
    if case.pixels == "not finite":
        special = _stored(np.array([np.nan, np.inf, -np.inf]), case.dtype)
        x[..., 3, 5], x[..., -1, 0], x[..., 7, 15] = special
    return x


def weights(case: Case, rng: np.random.Generator) -> Array:
    """Make the weights K of a case."""
    *lead, p, q = case.k_shape
    if case.weights in ("rank 1", "rank 2"):
        rank = 1 if case.weights == "rank 1" else 2
        u, v = _small(rng, (*lead, p, rank), case.dtype), _small(rng, (*lead, rank, q), case.dtype)
        if rank == 2:
            u[..., :2, :] = np.eye(2)
            v[..., :2] = np.eye(2)
        return _stored(u @ v, case.dtype)
    if case.weights == "equal":
        one = rng.integers(1, 2 if case.dtype == "bool" else 4, (*lead, 1, 1))
        return _stored(np.broadcast_to(one, case.k_shape).copy(), case.dtype)
    if case.weights == "random":
        if case.method == "fft" and dtypes.is_integer(case.dtype):
            return _stored(_small(rng, case.k_shape, case.dtype), case.dtype)
        return draw(rng, case.k_shape, case.dtype)
    sign = 1 if case.weights == "symmetric" else -1
    u, v = (_mirrored(rng, n, sign, case.dtype) for n in (p, q))
    return _stored(np.multiply.outer(u, v), case.dtype)


def draw(rng: np.random.Generator, shape: tuple[int, ...], name: str) -> Array:
    """Draw numbers: integers of all sizes, floats around 0."""
    if name == "bool":
        return rng.random(shape) < 0.5
    if dtypes.is_integer(name):
        info = np.iinfo(name)
        return rng.integers(info.min, info.max, shape, name, endpoint=True)
    values = rng.standard_normal(shape)
    if dtypes.is_complex(name):
        return (values + 1j * rng.standard_normal(shape)).astype(name)
    return _stored(values, name)


def _stored(values: Array, name: str) -> Array:
    """Round numbers to a dtype."""
    if dtypes.is_integer(name) or dtypes.is_complex(name):
        return values.astype(name)
    return dtypes.finish(values.astype(np.float64), name)


def _small(rng: np.random.Generator, shape: tuple[int, ...], name: str) -> Array:
    """Draw whole numbers whose products every dtype holds exactly."""
    if name == "bool":
        return rng.integers(0, 2, shape)
    return rng.integers(1 if name.startswith("u") else -3, 4, shape)


def _mirrored(rng: np.random.Generator, n: int, sign: int, name: str) -> Array:
    """Draw whole numbers that are their own mirror image, times `sign`; a single one is 1."""
    half = rng.integers(1, 4, n // 2)
    middle = [1 if n == 1 else 2] if n % 2 and (sign > 0 or n == 1) else [0] * (n % 2)
    return np.concatenate([half, middle, sign * half[::-1]])


def _subnormal(rng: np.random.Generator, shape: tuple[int, ...], name: str) -> Array:
    """Draw positive numbers below the smallest normal one: their exponent's bits are 0."""
    part = dtypes.part(name)
    bits = f"u{dtypes.storage(part).itemsize}"
    # The exponent of 1 ends in ones, its mantissa is 0: its lowest one is the exponent's last bit.
    one = int(_stored(np.ones(1), part).view(bits)[0])
    pair = (2,) if dtypes.is_complex(name) else ()
    drawn = rng.integers(1, one & -one, (*shape, *pair), bits)
    return drawn.view(dtypes.storage(name)).reshape(shape)


def arrange(x: Array, view: str, place: Place) -> Array:
    """Put an image where the backend computes, as a view that lies in memory in a certain way."""
    (*lead, h, w), put = x.shape, place.put
    if view == "transposed":
        return put(np.ascontiguousarray(x.swapaxes(-1, -2))).swapaxes(-1, -2)
    if view == "reversed":
        return put(np.ascontiguousarray(x[..., ::-1, ::-1]))[..., ::-1, ::-1]
    if view == "cut out":
        wide = np.zeros((*lead, h + 1, w + 3), x.dtype)
        wide[..., 1:, 3:] = x
        return put(wide)[..., 1:, 3:]
    if view == "every other":
        wide = np.zeros((*lead, 2 * h, 2 * w), x.dtype)
        wide[..., ::2, 1::2] = x
        return put(wide)[..., ::2, 1::2]
    if view == "repeated":  # all rows are one row in memory
        return place.module.broadcast_to(put(np.ascontiguousarray(x[..., :1, :])), x.shape)
    if view == "bytes swapped":
        return put(x.astype(x.dtype.newbyteorder()))
    if view == "misaligned":
        memory = np.zeros(x.nbytes + 1, np.uint8)
        memory[1:] = np.frombuffer(x.tobytes(), np.uint8)
        return put(memory)[1:].view(x.dtype).reshape(x.shape)
    return put(x)


def new_result(shape: tuple[int, ...], name: str, place: Place) -> Array:
    """Make an array for `out=` that is a view of every other column of a larger one."""
    wide = np.zeros((*shape[:-1], 2 * shape[-1]), dtypes.storage(name))
    return place.put(wide)[..., ::2]
