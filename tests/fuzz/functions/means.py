"""Normalised correlation: weighted means of the pixels that are there, in long doubles."""

import numpy as np

import gpuconv
from gpuconv.core import dtypes
from gpuconv.core.boundary import BOUNDARIES
from gpuconv.imaging import normalized_arrays
from gpuconv.imaging.normalized_one_pass import OnePass

from ..check import Failure, raised
from ..expect import converted
from .arrays import (
    KINDS,
    LAYOUTS,
    OUT_LAYOUTS,
    chosen,
    elements,
    often,
    patched,
    placed,
    storage,
    stored,
    wide,
)
from .results import Output, called, compare
from .windows import MODES, padded_sizes, view_windows

PLAIN = dict(
    x=(6, 7), k=(2, 3), x_dtype="float64", k_dtype="float64", x_kind="normal", k_kind="positive",
    missing=0.0, bad=False, mask=None, weights=None, weights_dtype="float64", nan_policy="omit",
    min_weight=0.0, undefined="nan", preserve_nan=False, normalize_kernel=True, flipped=False,
    mode="valid", boundary="constant", fillvalue=None, stride=(1, 1), dilation=(1, 1),
    method="auto", layout="C", dtype=None, out=None, blocks=False,
)  # fmt: skip
_KERNELS = ("positive", "equal", "product", "signed", "faint", "sparse")


def draw(rng, names):
    """Settings of a call."""
    x_dtype, k_dtype = (chosen(rng, names, dtypes.NAMES) for _ in range(2))
    if x_dtype is None:
        return None
    k_dtype = x_dtype if rng.random() < 0.5 else k_dtype
    reals = [name for name in names if not dtypes.is_complex(name)]
    p, q = rng.randint(1, 6), rng.randint(1, 6)
    if rng.random() < 0.1:
        p, q = rng.randint(7, 24), rng.randint(7, 24)
    dilation = (1, 1) if rng.random() < 0.7 else (rng.randint(1, 3), rng.randint(1, 3))
    span = (p - 1) * dilation[0] + 1, (q - 1) * dilation[1] + 1
    mode, flipped = rng.choice(MODES), rng.random() < 0.3
    h, w = (
        max(1, n - sum(pad)) + rng.randint(0, 20 if p < 7 else 50)
        for n, pad in zip(span, padded_sizes(span, mode, flipped), strict=True)
    )
    lead = rng.choice([((), ())] * 3 + [((), (3,)), ((2,), ()), ((2, 1), (3,)), ((0,), ())])
    boundary, k_kind = rng.choice(BOUNDARIES), often(rng, _KERNELS)
    methods = ["auto", "auto", "direct"]
    methods += ["separable"] * (k_kind in ("product", "equal")) + ["box"] * (k_kind == "equal")
    if not (dtypes.is_integer(x_dtype) and dtypes.is_integer(k_dtype)):
        methods.append("fft")
    weights = rng.choice((None, None, None, "own", "plane"))
    complex_ = dtypes.is_complex(x_dtype) or dtypes.is_complex(k_dtype)
    targets = [n for n in names if n != "bool" and (not complex_ or dtypes.is_complex(n))]
    return dict(
        x=(*lead[0], h, w),
        k=(*lead[1], p, q),
        x_dtype=x_dtype,
        k_dtype=k_dtype,
        x_kind=often(rng, KINDS),
        k_kind=k_kind,
        missing=rng.choice((0.0, 0.02, 0.3, 0.3, 0.9, 1.0)),
        bad=rng.random() < 0.15,
        mask=rng.choice((None, None, "own", "plane", "array")),
        weights=weights,
        weights_dtype=rng.choice(reals) if weights and reals else "float64",
        nan_policy=rng.choice(("omit",) * 4 + ("propagate", "raise")),
        min_weight=rng.choice((0.0, 0.0, 0.3, 0.9, 1.0)),
        undefined=rng.choice(("nan", "nan", "0", "-1.5")),
        preserve_nan=rng.random() < 0.2,
        normalize_kernel=rng.random() < 0.8,
        flipped=flipped,
        mode=mode,
        boundary=boundary,
        fillvalue=rng.choice((None, None, 0, 3)) if boundary == "constant" else None,
        stride=(1, 1) if rng.random() < 0.7 else (rng.randint(1, 3), rng.randint(1, 3)),
        dilation=dilation,
        method=rng.choice(methods),
        layout=often(rng, LAYOUTS),
        dtype=rng.choice(targets) if targets and rng.random() < 0.2 else None,
        out=rng.choice(OUT_LAYOUTS) if rng.random() < 0.2 else None,
        blocks=rng.random() < 0.2,
    )


def check(s, seed):
    """Compare a call with the definition."""
    rng = np.random.default_rng(seed)
    x, k = elements(rng, s.x, s.x_dtype, s.x_kind), _kernel(rng, s)
    floats = not dtypes.is_integer(s.x_dtype)
    gone = rng.random(s.x) < s.missing
    mask = _mask(rng, s, gone)
    weights = _weights(rng, s)
    if floats:
        x[gone if s.mask is None else rng.random(s.x) < s.missing / 4] = np.nan
        if s.bad:
            x[rng.random(s.x) < 0.02] = np.inf
    (image, first), (kernel, second) = placed(x, s.layout), placed(k, "C")
    keywords = dict(
        mode=s.mode, boundary=s.boundary, stride=s.stride, dilation=s.dilation, method=s.method,
        nan_policy=s.nan_policy, min_weight=s.min_weight, undefined=float(s.undefined),
        preserve_nan=s.preserve_nan, normalize_kernel=s.normalize_kernel, weights=weights,
        fillvalue=s.fillvalue,
    )  # fmt: skip
    if s.mask == "array":
        image = np.ma.MaskedArray(image, mask)
    else:
        keywords["mask"] = mask
    kinds = [s.x_dtype, s.k_dtype] + ([] if weights is None else [s.weights_dtype])
    promoted = kinds[0]
    for kind in kinds[1:]:
        promoted = dtypes.promote(promoted, kind)
    whole = all(map(dtypes.is_integer, kinds))
    name = s.dtype or ("float64" if whole else promoted)
    function = gpuconv.normalized_convolve2d if s.flipped else gpuconv.normalized_corr2d
    exact = define(s, x, k, mask, weights, whole, dtypes.accumulator(promoted))
    out = None
    if s.out is None:
        keywords["dtype"] = s.dtype
    else:
        out = "out", Output(exact[0].shape, storage(name), s.out)
    limits = [(normalized_arrays, n, 1) for n in ("_HOST_BYTES", "_TRANSFORMED_BYTES")]
    limits.append((OnePass, "of", lambda *_: None))

    def call(image, kernel, **more):
        return function(image, kernel, **keywords, **more)

    with patched(*limits[: len(limits) * s.blocks]):
        if s.nan_policy == "raise" and _counts_nan(x, mask, weights) and exact[0].size:
            return _is_refused(call, image, kernel)
        found = called(call, (image, kernel), (first, second), out)
    means, error, certain, touched, undefined = exact
    compare(found, means, error, certain, name, touched)
    with np.errstate(all="ignore"):
        value = converted(np.longdouble(s.undefined), name)
    there = found[undefined].real.astype(np.float64)
    if not ((there == value) | (np.isnan(there) & np.isnan(value))).all():
        raise Failure("undefined", f"{there[:3]} where nothing is defined, not {value}")
    return True


def _counts_nan(x, mask, weights):
    """Whether a pixel is NaN that is neither masked nor without weight."""
    nan = np.isnan(wide(x))
    nan &= True if mask is None else ~mask
    return bool((nan & (True if weights is None else weights != 0)).any())


def _is_refused(call, image, kernel):
    """False, as the call is refused; `Failure` if it is not."""
    try:
        call(image, kernel)
    except ValueError as error:
        if "X holds NaN pixels" in str(error):
            return False
        raise raised(error) from error
    raise Failure("silent", "NaN pixels were not refused")


def _kernel(rng, s):
    """Kernels whose weights do not cancel."""
    positive = np.abs(elements(rng, s.k, "float64", "normal")) / 5 + 1
    if s.k_kind == "equal":
        k = np.full(s.k, 2.0)
    elif s.k_kind == "product":
        u, v = positive[..., :1], positive[..., :1, :]
        if s.method == "separable" or dtypes.is_integer(s.k_dtype):  # exactly of rank 1
            u, v = np.round(u), np.round(v)
        k = u * v
    elif s.k_kind == "signed":
        k = positive * np.where(rng.random(s.k) < 0.3, -1, 1)
        k[..., 0, 0] = 2 * np.abs(k).sum(axis=(-2, -1))
    elif s.k_kind == "faint":
        k = positive * 10.0 ** -rng.integers(0, 9, s.k)
        k[..., 0, 0] = 1
    elif s.k_kind == "sparse":
        k = positive * (rng.random(s.k) < 0.4)
        k[..., 0, 0] = 1
    else:
        k = positive
    if dtypes.is_complex(s.k_dtype):
        k = k * (1 + 0.5j)
    if s.k_dtype == "bool":
        k = k > (1e-3 if s.k_kind != "signed" else -np.inf)
        return k if s.k_kind != "product" else np.ones(s.k, bool)
    return stored(k, s.k_dtype)


def _mask(rng, s, gone):
    if s.mask is None:
        return None
    return gone[(0,) * (gone.ndim - 2)] if s.mask == "plane" and gone.size else gone


def _weights(rng, s):
    if s.weights is None:
        return None
    shape = s.x if s.weights == "own" else s.x[-2:]
    values = rng.uniform(0.1, 3, shape) * (rng.random(shape) < 0.8)
    return stored(values, s.weights_dtype)


def define(s, x, k, mask, weights, whole, acc):
    """Means, their errors, and which are certain, not finite, or undefined."""
    pixels, taps = wide(x), wide(k)
    counted = np.ones(x.shape, np.longdouble)
    if weights is not None:
        counted = counted * wide(weights)
    if mask is not None:
        counted = np.where(mask, 0, counted)
    if s.nan_policy == "omit":
        counted = np.where(np.isnan(pixels), 0, counted)
    missing = counted == 0
    pixels = np.where(missing, 0, pixels)
    steps = dict(mode=s.mode, boundary=s.boundary, stride=s.stride, dilation=s.dilation)
    fill, border = (0, 0) if s.fillvalue is None else (s.fillvalue, 1)
    shape = k.shape[-2:]
    view, centres = view_windows(pixels, shape, steps | dict(fillvalue=fill), s.flipped)
    weight, _ = view_windows(counted, shape, steps | dict(fillvalue=border), s.flipped)
    taps = taps[..., ::-1, ::-1] if s.flipped else taps.conj()
    size = np.abs(taps)
    bad = ~np.isfinite(view)
    touched = (bad & (weight > 0)).any(axis=(-2, -1))
    view = np.where(bad, 0, view)

    def total(a, b):
        return np.einsum("...rspq,...pq->...rs", a, b)

    sums, shares = total(view * weight, taps), total(weight, taps)
    sizes, there = total(np.abs(view) * weight, size), total(weight, size)
    all_taps, all_sizes = (a.sum(axis=(-2, -1))[..., None, None] for a in (taps, size))
    info = np.finfo(storage("float64" if whole else acc))
    eps = info.eps * (k.shape[-2] * k.shape[-1] + 16)
    if whole:
        eps = 4 * info.eps
    error, share_error = eps * sizes, eps * there
    if s.method in ("auto", "fft") and not whole:
        # By the largest sums of the image, but where so little is there that windows are summed.
        most = weight.max(initial=0)
        plenty = there >= 0.99 / 64 * all_sizes * most
        error = np.where(plenty, error + 64 * info.eps * sizes.max(initial=0), error)
        share_error = share_error + plenty * 64 * info.eps * there.max(initial=0)
    nothing = there == 0
    low = s.min_weight * all_sizes
    undefined = nothing | (there < low * (1 - 4 * eps) - share_error)
    unsure = ~undefined & (s.min_weight > 0) & (there < low * (1 + 4 * eps) + share_error)
    if s.min_weight == 1:
        lacking = total((weight == 0).astype(float), (size != 0).astype(float)) > 0
        undefined, unsure = undefined | lacking, unsure & ~lacking & (weights is not None)
    with np.errstate(all="ignore"):
        means = sums / shares
        error = (error + np.abs(means) * share_error) / np.abs(shares) + 4 * info.eps * np.abs(
            means
        )
        if not s.normalize_kernel:
            means, error = means * all_taps, error * np.abs(all_taps) * (1 + eps)
    unsure = unsure | (~nothing & (np.abs(shares) <= 4 * share_error))
    means, error, touched, undefined, unsure = np.broadcast_arrays(
        means, error, touched, undefined, unsure
    )
    if s.preserve_nan:
        undefined = undefined | _centred(missing, centres, undefined.shape)
    clear = ~undefined & ~unsure
    return means, error, clear & ~touched, clear & touched, undefined & ~unsure


def _centred(missing, centres, shape):
    """Outputs whose windows are centred on a missing pixel."""
    rows, columns = centres
    found = missing[..., rows[:, None], columns] & (rows[:, None] >= 0) & (columns >= 0)
    return np.broadcast_to(found, shape)
