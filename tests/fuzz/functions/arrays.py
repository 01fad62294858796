"""Arrays of any number of dimensions: their elements, and how they lie in memory."""

import contextlib

import numpy as np

from gpuconv.core import dtypes

KINDS = (
    "normal", "integers", "offset", "hot", "sparse", "constant", "plateaus", "zeros", "large",
    "small",
)  # fmt: skip
# How large "large" elements are, and one by it "small" ones.
_LARGE = {"float16": 50, "float32": 1e30, "complex64": 1e30, "bfloat16": 1e30}
LAYOUTS = ("C", "F", "inside", "reversed", "strided", "turned", "unaligned", "readonly", "swapped")
OUT_LAYOUTS = ("C", "F", "inside", "reversed", "strided", "turned", "unaligned")


def often(rng, names):
    """The first of the names in half of the cases."""
    return names[0] if rng.random() < 0.5 else rng.choice(names)


def chosen(rng, names, allowed):
    """One of the allowed dtypes that are asked for; None if there is none."""
    both = [name for name in allowed if name in names]
    return rng.choice(both) if both else None


def storage(name):
    """NumPy's dtype of a name."""
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


def elements(rng, shape, name, kind):
    """Elements of a kind, of a size at which no sum leaves the range of its dtype."""
    v = rng.standard_normal(shape) * 10
    if dtypes.is_complex(name):
        v = v + 10j * rng.standard_normal(shape)
    if kind == "integers":
        v = np.round(v)
    elif kind == "offset":
        v = v + {"float16": 500, "bfloat16": 500, "float32": 3e4}.get(name, 1e6)
    elif kind in ("large", "small") and not dtypes.is_integer(name):
        scale = _LARGE.get(name, 1e100)
        v = v * scale if kind == "large" else v / scale
    elif kind == "hot":
        v = np.where(rng.random(shape) < 0.05, v * (50 if dtypes.is_half(name) else 1e4), v)
    elif kind == "sparse":
        v = np.where(rng.random(shape) < 0.8, 0, v)
    elif kind == "constant":
        v = np.full(shape, v.flat[0] if v.size else 0)
    elif kind == "plateaus" and v.size:
        at = np.ix_(*(np.arange(n) // 4 * 4 for n in shape))
        v = v[at]
    elif kind == "zeros":
        v = np.zeros(shape)
    return stored(v, name)


def stored(values, name):
    """Numbers as a dtype holds them: whole numbers for integers, within their range."""
    if dtypes.is_integer(name):
        if name == "bool":
            return values > 0
        info = np.iinfo(name)
        values = np.rint(values) if info.min < 0 else np.abs(np.rint(values))
        return np.clip(values, max(info.min, -(2.0**40)), min(info.max, 2.0**40)).astype(name)
    return values.astype(storage(name))


def wide(array):
    """Elements as long doubles."""
    if array.dtype.kind not in "biufc":  # bfloat16
        array = array.astype(np.float32)
    return array.astype(np.clongdouble if array.dtype.kind == "c" else np.longdouble)


def placed(array, layout):
    """The elements in memory of a layout: the view, and the array that holds it."""
    shape = array.shape
    if layout == "swapped" and array.dtype.kind in "iufc":
        base = array.astype(array.dtype.newbyteorder())
        return base, base
    if layout == "unaligned":
        base = np.full(array.nbytes + 2, 0x5A, np.uint8)
        view = base[1 : 1 + array.nbytes].view(array.dtype).reshape(shape)
    else:
        view, base = _empty(shape, array.dtype, layout)
    view[...] = array
    if layout == "readonly":
        view.flags.writeable = False
    return view, base


def _empty(shape, dtype, layout):
    def filled(shape):
        raw = np.full((*shape, dtype.itemsize), 1 if dtype.kind == "b" else 0x5A, np.uint8)
        return raw.view(dtype)[..., 0]

    if layout == "F":
        base = filled(shape[::-1])
        return base.T, base
    if layout == "turned":  # the last axis is the outermost in memory
        base = filled(shape[-1:] + shape[:-1])
        return (np.moveaxis(base, 0, -1) if shape else base), base
    if layout == "reversed":
        base = filled(shape)
        return base[(slice(None, None, -1),) * len(shape)], base
    if layout == "strided":
        base = filled(tuple(2 * n + 1 for n in shape))
        return base[tuple(slice(1, 2 * n + 1, 2) for n in shape)], base
    if layout == "inside":
        base = filled(tuple(n + 3 for n in shape))
        return base[tuple(slice(1, n + 1) for n in shape)], base
    base = filled(shape)
    return base, base


@contextlib.contextmanager
def patched(*changes):
    """Replace attributes of modules for a while, given as (module, name, value)."""
    before = [(module, name, getattr(module, name)) for module, name, _ in changes]
    try:
        for module, name, value in changes:
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)
