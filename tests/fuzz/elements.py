"""The elements of a case's arrays, made from its seed."""

import math

import numpy as np

from gpuconv.core import dtypes

from .cases import SHAPED

# Largest number and about the least above 0, and between which powers of ten elements vary freely.
_RANGES = {"float16": (65504.0, 6e-8), "bfloat16": (3.3e38, 9.2e-41), "float32": (3.4e38, 1.4e-45),
           "complex64": (3.4e38, 1.4e-45), "float64": (1.79e308, 5e-324),
           "complex128": (1.79e308, 5e-324)}  # fmt: skip
# Whole numbers up to which every one is an element of the dtype.
_WHOLE = {"float16": 2048, "bfloat16": 256, "bool": 1, "int8": 127, "uint8": 255}


def values(case, which):
    """Elements of X, K or dY ("dy"), in C order; bfloat16 as its bits."""
    if which == "dy":
        rng = np.random.default_rng([case.seed, 2])
        kind = rng.choice(("normal", "normal", "hot", "sparse", "lognormal", "zeros"))
        return _floats(rng, case.output, case.result, kind)
    shape, name, kind = (
        (case.x, case.x_dtype, case.x_values) if which == "x" else
        (case.k, case.k_dtype, case.k_values)
    )  # fmt: skip
    rng = np.random.default_rng([case.seed, which == "k"])
    if which == "k" and kind in SHAPED:
        return _shaped(case, rng, shape, name, kind)
    if which == "k" and case.rank:
        return _products(rng, shape, name, case.rank, kind)
    if dtypes.is_integer(name):
        return _integers(rng, shape, name, kind)
    return _floats(rng, shape, name, kind)


def _products(rng, shape, name, rank, kind):
    """A kernel of low rank: exactly so, of small integers, or (uneven) of one product rounded."""
    if kind != "integers" and rank == 1 and name in ("float32", "float64", "complex64"):
        u, v = (
            rng.standard_normal((*shape[:-1], 1)),
            rng.standard_normal((*shape[:-2], 1, shape[-1])),
        )
        if kind == "uneven":
            u = u * 10.0 ** rng.integers(-6, 6, u.shape)
        return (u * v).astype(name)
    # No sum of the products may be beyond what the dtype holds exactly.
    most = _WHOLE.get(name, 1 << 15)
    rank = min(rank, most)
    high = min(3, math.isqrt(most // rank))
    low = 0 if name.startswith("u") or name == "bool" else -high
    u = rng.integers(low, high + 1, (*shape[:-1], rank)).astype(np.float64)
    v = rng.integers(low, high + 1, (*shape[:-2], rank, shape[-1])).astype(np.float64)
    return _store(u @ v, name)


def _shaped(case, rng, shape, name, kind):
    """A kernel as people make them; whole numbers for an integer dtype."""
    p, q = shape[-2:]
    if kind == "cut" and 0 not in case.x:
        return _cut(case, rng, shape, name)
    y, x = np.arange(p)[:, None] - (p - 1) / 2, np.arange(q) - (q - 1) / 2
    radius = np.hypot(y / max(p / 2, 1), x / max(q / 2, 1))
    if kind == "disc":
        k = (radius <= 1) * 1.0
    elif kind == "ring":
        k = ((radius <= 1) & (radius > 0.6)) * 1.0
    elif kind == "gauss":  # with corners of up to 15 powers of ten less
        k = np.exp(-(radius**2) * rng.uniform(0.5, 17))
        k = np.rint(100 * k) if dtypes.is_integer(name) else k
    elif kind == "tap":
        k = np.zeros((p, q))
        k[rng.choice((0, p - 1)), rng.choice((0, q - 1))] = 1
    elif kind == "hollow":  # nothing at a corner
        k = np.rint(rng.standard_normal((p, q)) * 9)
        k[rng.choice((0, p - 1)), rng.choice((0, q - 1))] = 0
    else:
        kind = "symmetric" if kind == "cut" else kind
        k = _mirrored(rng, p, name, kind)[:, None] * _mirrored(rng, q, name, kind)
    if name.startswith("u") or name == "bool":
        k = np.abs(k)
    if name == "bool":
        k = np.minimum(k, 1)
    return _store(np.broadcast_to(k, shape), name)


def _mirrored(rng, n, name, kind):
    """A line that is the same read backwards, or its negative; one element stays as it is."""
    if n == 1:
        return np.ones(1)
    if name in ("float32", "float64", "complex64", "complex128") and rng.random() < 0.5:
        line = rng.standard_normal(n)
    else:  # whose products every dtype holds
        line = rng.integers(1, 8, n).astype(np.float64)
    half = line[: n // 2]
    if kind == "symmetric":
        return np.concatenate([half, line[n // 2 :][: n % 2], half[::-1]])
    return np.concatenate([half, np.zeros(n % 2), -half[::-1]])


def _cut(case, rng, shape, name):
    """Part of the image, as a template is; repeated where the image is smaller."""
    x = values(case, "x")
    x = x[(0,) * (x.ndim - 2)]
    if case.x_dtype == "bfloat16":
        x = (x.astype(np.uint32) << 16).view(np.float32)
    rows, columns = (
        (int(rng.integers(0, max(1, n - m + 1))) + np.arange(m)) % n
        for n, m in zip(x.shape, shape[-2:], strict=True)
    )
    part = x[rows[:, None], columns]
    if dtypes.is_integer(name):
        return np.broadcast_to(_whole(part, name), shape).copy()
    if part.dtype.kind == "c" and not name.startswith("complex"):
        part = part.real
    return _store(np.broadcast_to(part, shape), name)


def _whole(part, name):
    if name == "bool":
        return part != 0
    info = np.iinfo(name)
    if part.dtype.kind in "biu":
        part = part.astype(np.int64) if part.dtype != np.uint64 else part
        return np.clip(part, max(info.min, -(2**63)), min(info.max, 2**63 - 1)).astype(name)
    part = np.nan_to_num(np.rint(part.real.astype(np.float64)))
    return np.clip(part, max(info.min, -100), 100).astype(name)


def _store(array, name):
    if name == "bfloat16":
        with np.errstate(all="ignore"):
            return (array.astype("f4").view("u4") >> 16).astype("u2")
    with np.errstate(all="ignore"):
        return array.astype(name)


def _integers(rng, shape, name, kind):
    if kind == "zeros":
        return np.zeros(shape, name)
    if name == "bool":
        return np.ones(shape, bool) if kind == "constant" else rng.random(shape) < 0.5
    info = np.iinfo(name)
    if kind in ("limits", "huge", "nearmax"):
        return rng.choice(np.array([info.min, info.max, 0, 1, info.max - 1], name), shape)
    if kind in ("uneven", "mixed"):
        return rng.integers(info.min, info.max, shape, name, endpoint=True)
    plain = rng.integers(max(info.min, -100), min(info.max, 100), shape, name)
    if kind == "hot":
        _heat(rng, plain, lambda: info.max)
    elif kind == "sparse":
        plain[rng.random(shape) < 0.97] = 0
    elif kind in ("constant", "tiles"):
        plain = _blocks(rng, shape, plain, kind)
    return plain


def _heat(rng, array, value):
    """Up to three pixels of other sizes; half of them in corners, which the fewest windows read."""
    h, w = array.shape[-2:]
    for _ in range(rng.integers(1, 4)):
        y, x = rng.integers(h), rng.integers(w)
        if rng.random() < 0.5:
            y, x = rng.choice((0, h - 1)), rng.choice((0, w - 1))
        array[..., y, x] = value()


def _blocks(rng, shape, values, kind):
    """One value everywhere, or one in each block of eight times eight."""
    n = 1 << 40 if kind == "constant" else 8
    rows, columns = np.arange(shape[-2]) // n * n, np.arange(shape[-1]) // n * n
    blocks = values[..., rows[:, None], columns] if values.size else values
    if kind == "constant" and blocks.size:
        blocks[...] = blocks[(0,) * blocks.ndim]
    return blocks


def _floats(rng, shape, name, kind):
    top, low = _RANGES[name]
    size = {"float16": 4, "bfloat16": 30, "float32": 30, "complex64": 15}.get(name, 200)
    v = rng.standard_normal(shape)
    if name.startswith("complex"):
        v = v + 1j * rng.standard_normal(shape)
    some = rng.random(shape) < 0.1
    if kind == "integers":
        v = np.round(v * 3)
    elif kind == "uneven":
        v = v * 10.0 ** rng.integers(-(size // 4), size // 4 + 1, shape)
    elif kind == "limits":
        v = np.where(some, rng.choice([1, -1], shape) * top, v)
    elif kind == "zeros":
        v = rng.choice(np.array([0.0, -0.0]), shape)
    elif kind == "denormal":
        v = v * low * 10
    elif kind == "mixed":  # subnormal numbers among others
        v = np.where(rng.random(shape) < 0.5, v * low * 10, v)
    elif kind == "huge":
        v = np.clip(v.real, -1, 1) * top / 8
    elif kind == "nearmax":  # sums that just stay in the range, or do not
        v = np.where(rng.random(shape) < 0.5, 1, -1) * rng.uniform(0.5, 1, shape) * top
    elif kind == "hot":
        _heat(rng, v, lambda: 10 ** rng.uniform(0, math.log10(top)))
    elif kind == "lognormal":
        spread = rng.uniform(1, math.log(top) / 4)
        v = v * np.exp(np.clip(rng.standard_normal(shape), -3, 3) * spread)
    elif kind == "sparse":
        v = np.where(rng.random(shape) < 0.03, 10 ** rng.uniform(0, math.log10(top), shape), 0)
    elif kind in ("constant", "tiles"):
        v = _blocks(rng, shape, v * 10 ** rng.uniform(-3, 3), kind)
    elif kind == "nan":
        v = np.where(some, np.nan, v)
    elif kind == "inf":
        v = np.where(some, rng.choice([np.inf, -np.inf, np.nan, 1e4], shape), v)
    return _store(v, name)
