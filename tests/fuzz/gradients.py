"""Cases of gradients, layers and tensors: what they must give, and what the package gives."""

import contextlib
import importlib.machinery
import sys
from dataclasses import dataclass

import numpy as np

import gpuconv
from gpuconv.core import dtypes

from .expect import _WIDE, position, widened, windows


@dataclass
class Bounded:
    """Exact values of a result and how far it may be from them."""

    what: str
    sums: np.ndarray
    error: np.ndarray
    certain: np.ndarray


class _Missing:
    """A finder of modules that does not find one package."""

    def __init__(self, name):
        self.name = name

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == self.name:
            return None
        return importlib.machinery.PathFinder.find_spec(name, path, target)

    def invalidate_caches(self):
        importlib.machinery.PathFinder.invalidate_caches()


@contextlib.contextmanager
def without(name):
    """While this lasts, a package cannot be imported, whether it was before or not."""
    if name is None:
        yield
        return
    finders, loaded = sys.meta_path, {}
    for module in [m for m in sys.modules if m.partition(".")[0] == name]:
        loaded[module] = sys.modules.pop(module)
    plain = importlib.machinery.PathFinder
    sys.meta_path = [_Missing(name) if f is plain else f for f in finders]
    try:
        yield
    finally:
        sys.meta_path = finders
        sys.modules.update(loaded)


# --- what is given -------------------------------------------------------------------------------


def run(case, x, k, dy):
    """Results of the package by name: "y" where there is one, "dx" and "dk"."""
    keywords = dict(stride=case.stride, dilation=case.dilation)
    if case.layer:
        keywords |= dict(padding=case.pad, groups=case.groups)
    else:
        keywords |= dict(mode=case.mode, boundary=case.boundary, method=case.method)
    if case.call.startswith("torch"):
        return _of_tensors(case, x, k, dy, keywords)
    if case.layer:
        dx, dk, _ = gpuconv.nn.conv2d_vjp(x, k, dy, **keywords)
        return {"y": gpuconv.nn.conv2d(x, k, **keywords), "dx": dx, "dk": dk}
    dx, dk = gpuconv.corr2d_vjp(x, k, dy, **keywords)
    return {"dx": dx, "dk": dk}


def _of_tensors(case, x, k, dy, keywords):
    import torch

    x, k, dy = (_tensor(torch, a, case.x_dtype) for a in (x, k, dy))
    x.requires_grad_()
    k.requires_grad_()
    function = gpuconv.nn.conv2d if case.layer else gpuconv.corr2d
    y = function(x, k, **keywords)
    y.backward(dy)
    return {"y": _array(torch, y), "dx": _array(torch, x.grad), "dk": _array(torch, k.grad)}


def _tensor(torch, array, name):
    tensor = torch.from_numpy(np.array(array.view(np.int16) if name == "bfloat16" else array))
    return tensor.view(torch.bfloat16) if name == "bfloat16" else tensor


def _array(torch, tensor):
    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:
        return tensor.contiguous().view(torch.int16).numpy().view(np.uint16)
    return tensor.numpy()


# --- what must be given --------------------------------------------------------------------------


def expected(case, x, k, dy):
    """Exact results and their errors, for `run`; bfloat16 as its bits."""
    acc = case.acc
    x, k, dy = (widened(a, case.x_dtype, acc).astype(_WIDE[acc]) for a in (x, k, dy))
    shapes = x.shape, k.shape
    if case.layer:
        g, (n, c), (o, i) = case.groups, x.shape[:2], k.shape[:2]
        x = x.reshape(n, g, 1, c // g, *x.shape[2:])
        k = k.reshape(g, o // g, i, *k.shape[2:])
        dy = dy.reshape(n, g, o // g, 1, *dy.shape[2:])
    lead = np.broadcast_shapes(x.shape[:-2], k.shape[:-2])
    dy = np.broadcast_to(dy, (*lead, *dy.shape[-2:]))
    view = np.broadcast_to(windows(case, x, 0), (*lead, *dy.shape[-2:], *k.shape[-2:]))
    sizes = np.abs(view), np.abs(k), np.abs(dy)
    ones = tuple(np.ones(a.shape, np.longdouble) for a in (view, k, dy))
    found = []
    if case.call != "vjp":
        forward = [_forward(case, v, w, case.output) for v, w in zip(
            (view, sizes[0], ones[0]), (k.conj(), sizes[1], ones[1]), strict=True)]  # fmt: skip
        # Of corr2d by a transform: as far from the sum as the largest is.
        most = forward[1].max(axis=(-1, -2), keepdims=True) if forward[1].size else forward[1]
        found.append(_bounded(case, "y", *forward, most, sizes))
    filters = [_to_filters(v, d, k.shape, shapes[1]) for v, d in zip(
        (view, sizes[0], ones[0]), (dy.conj(), sizes[2], ones[2]), strict=True)]  # fmt: skip
    each = _sum_filters(sizes[0], sizes[2])
    most = each.max(axis=(-1, -2), keepdims=True) if each.size else each
    most = _reduced(np.broadcast_to(most, each.shape), k.shape).reshape(shapes[1])
    found.append(_bounded(case, "dk", *filters, most, sizes))
    images = [_to_image(case, w, d, x.shape).reshape(shapes[0]) for w, d in zip(
        (k, sizes[1], ones[1]), (dy, sizes[2], ones[2]), strict=True)]  # fmt: skip
    padded = _scattered(case, sizes[1], sizes[2])
    most = padded.max(axis=(-1, -2), keepdims=True) if padded.size else padded
    most = _folded(case, np.broadcast_to(most, padded.shape), x.shape).reshape(shapes[0])
    found.append(_bounded(case, "dx", *images, most, sizes))
    return found


def _bounded(case, what, sums, sizes, count, most, all_sizes):
    info = np.finfo(case.acc)
    error = (2 * count + 16) * info.eps * sizes
    least = (2 * count + 16) * info.smallest_subnormal
    if case.method == "auto":  # separable factors may have four times the weight
        error *= 4
    if case.method != "direct":
        error = np.maximum(error, 64 * info.eps * most)
        greatest = sum(float(a.max(initial=0)) for a in all_sizes)
        least = least * 4096 * (1 + greatest)
        zero = most == 0
    else:
        zero = sizes == 0
    error = np.where(zero, 0, error + least)
    certain = np.maximum(sizes, most) * (1 + 1e-3) < info.max
    return Bounded(what, sums, error, certain)


def _forward(case, view, k, shape):
    sums = np.einsum("...rspq,...pq->...rs", view, k)
    return sums.sum(axis=-3).reshape(shape) if case.layer else sums


def _reduced(array, shape):
    """Sum over the leading dimensions along which an operand of this shape was broadcast."""
    array = array.sum(axis=tuple(range(array.ndim - len(shape))))
    axes = tuple(n for n, size in enumerate(shape[:-2]) if size == 1)
    return array.sum(axis=axes, keepdims=True)


def _sum_filters(view, dy):
    return np.einsum("...rspq,...rs->...pq", view, dy)


def _to_filters(view, dy, shape, given):
    return _reduced(_sum_filters(view, dy), shape).reshape(given)


def _scattered(case, k, dy):
    """Gradient in each position of the padded image; those of a constant border are left out."""
    (top, bottom), (left, right) = case.pad
    h, w = case.x[-2:]
    (sy, sx), (r, s) = case.stride, dy.shape[-2:]
    full = np.zeros((*dy.shape[:-2], h + top + bottom, w + left + right), np.result_type(k, dy))
    for a in range(k.shape[-2]):
        for b in range(k.shape[-1]):
            y, x = a * case.dilation[0], b * case.dilation[1]
            full[..., y : y + (r - 1) * sy + 1 : sy, x : x + (s - 1) * sx + 1 : sx] += (
                k[..., a, b, None, None] * dy
            )
    if case.boundary == "constant":
        full[..., _beside(case, 0), :] = 0
        full[..., _beside(case, 1)] = 0
    return full


def _beside(case, axis):
    before, after = case.pad[axis]
    n = case.x[axis - 2]
    return position(np.arange(-before, n + after), n, case.boundary) < 0


def _folded(case, full, shape):
    """What fell on a border goes to the pixels that it was made of."""
    for axis in (0, 1):
        before, after = case.pad[axis]
        n = case.x[axis - 2]
        at = position(np.arange(-before, n + after), n, case.boundary)
        matrix = (np.arange(n)[:, None] == at).astype(np.longdouble)
        full = matrix @ full if axis == 0 else full @ matrix.T
    return _reduced(full, shape)


def _to_image(case, k, dy, shape):
    return _folded(case, _scattered(case, k, dy), shape)


def finite(case):
    """Whether all elements of a case are finite as they are drawn."""
    return not {case.x_values, case.k_values} & {"nan", "inf"} and not dtypes.is_integer(case.acc)
