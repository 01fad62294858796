"""Normalised correlation of tensors that autograd follows, as operations of its graph."""

from __future__ import annotations

import math
from typing import Any

import torch

from ..adapters.torch_functions import as_tensor, corr2d
from ..core import arrays, blocks, dtypes
from ..core.array_types import ArrayLike
from ..core.options import Number
from .missing_pixels import (
    KernelSums,
    MissingRules,
    check_fits,
    check_mask_dtype,
    nan_error,
    weights_error,
)
from .normalized_call import NormalizedCall
from .normalized_prepared import prepare

__all__ = ["normalize"]


def normalize(
    X: ArrayLike, K: ArrayLike, mask: ArrayLike, weights: ArrayLike, rules: MissingRules,
    out: ArrayLike, flipped: bool, options: dict[str, Any],
) -> torch.Tensor:  # fmt: skip
    """`normalized_corr2d` (`normalized_convolve2d`, if `flipped`) as part of the autograd graph."""
    if out is not None:
        raise NotImplementedError(
            "out= cannot be given where X, K or weights require grad; leave it out, pass "
            ".detach(), or call inside torch.no_grad()"
        )
    x, k = (as_tensor(a, name) for a, name in ((X, "X"), (K, "K")))
    w = None if weights is None else as_tensor(weights, "weights").to(x.device)
    m = None if mask is None else as_tensor(mask, "mask").to(x.device)
    for tensor, name in ((m, "mask"), (w, "weights")):
        if tensor is not None:
            check_fits(tuple(tensor.shape), tuple(x.shape), name)
    if m is not None:
        check_mask_dtype(dtypes.name_of(m.dtype))
    call, values, _ = prepare(
        arrays.read(x.detach(), "X"), arrays.read(k.detach(), "K"),
        (tuple(x.shape), tuple(k.shape)), None if w is None else dtypes.name_of(w.dtype),
        rules, flipped, options,
    )  # fmt: skip
    kernel = KernelSums.of(values, call.problem.conjugate)
    acc = getattr(torch, call.problem.acc_dtype)
    missing = _find_missing(rules, x, m, w)
    pixels, pivot = _subtract_pivot(x.to(acc), missing, call)
    if missing is not None:
        pixels = torch.where(missing, torch.zeros((), dtype=acc, device=x.device), pixels)
    present = torch.ones_like(pixels.real) if missing is None else (~missing).to(pixels.real.dtype)
    if w is not None:
        present = present * w.to(present.dtype)
        pixels = pixels * present
    k = k.to(acc)
    sums = _correlate(call, pixels, k, call.problem.fillvalue)
    weight_sums = _correlate(call, present, k, call.border_weight)
    absent = weight_sums == 0
    if rules.min_weight > 0:
        sizes = _correlate(call, present, k.detach().abs(), call.border_weight)
        absent = absent | (sizes < call.least_share * as_tensor(kernel.size, "K").to(x.device))
    if rules.min_weight == 1:
        gone, used = (present == 0).to(present.dtype), (k.detach() != 0).to(present.dtype)
        absent = absent | (_correlate(call, gone, used, 1 - call.border_weight) > 0.5)
    y = sums / torch.where(absent, torch.ones_like(weight_sums), weight_sums) + pivot
    if not rules.normalize_kernel:
        total = (k.conj() if call.problem.conjugate else k).sum(dim=(-2, -1), keepdim=True)
        y = y * total.to(y.device)
    undefined = torch.tensor(rules.undefined, dtype=y.dtype, device=y.device)
    y = torch.where(absent, undefined, y)
    if rules.preserve_nan and missing is not None:
        y = _preserve(call, missing, undefined, y)
    return y.to(getattr(torch, call.problem.out_dtype))


def _correlate(
    call: NormalizedCall, image: torch.Tensor, k: torch.Tensor, fillvalue: Number
) -> torch.Tensor:
    problem = call.problem
    method = call.method if call.accurate else "direct"
    return corr2d(
        image, k, mode=problem.pad, boundary=problem.boundary, fillvalue=fillvalue,
        stride=problem.stride, dilation=problem.dilation, method=method, backend=call.backend,
        precision=None, dtype=None, flipped=call.flipped,
    )  # fmt: skip


def _find_missing(
    rules: MissingRules, x: torch.Tensor, mask: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    missing = mask
    if weights is not None:
        if not bool((weights.detach() >= 0).all() & torch.isfinite(weights.detach()).all()):
            raise weights_error()
        without = weights.detach() == 0
        missing = without if missing is None else missing | without
    if rules.nan_policy != "propagate" and (x.is_floating_point() or x.is_complex()):
        nan = torch.isnan(x.detach())
        if rules.nan_policy == "raise" and bool((nan if missing is None else nan & ~missing).any()):
            raise nan_error()
        missing = nan if missing is None else missing | nan
    return None if missing is None else missing.expand(x.shape)


def _subtract_pivot(
    x: torch.Tensor, missing: torch.Tensor, call: NormalizedCall
) -> tuple[torch.Tensor, torch.Tensor]:
    """Subtract from each image what is nearest to zero, if all have one sign; real images only."""
    padded = call.problem.boundary == "constant" and any(map(any, call.problem.pad))
    if x.is_complex() or not x.numel() or (padded and not call.missing_border):
        return x, 0
    values = x.detach()
    pivot = torch.zeros_like(values[..., :1, :1])
    for limit, reduce in ((math.inf, torch.amin), (-math.inf, torch.amax)):
        there = values if missing is None else values.masked_fill(missing, limit)
        extreme = reduce(there, dim=(-2, -1), keepdim=True)
        pivot = torch.where(torch.isfinite(extreme) & (extreme * limit > 0), extreme, pivot)
    return x - pivot, pivot


def _preserve(
    call: NormalizedCall, missing: torch.Tensor, undefined: torch.Tensor, y: torch.Tensor
) -> torch.Tensor:
    rows, columns = (
        axis.centres(call.flipped, 0, end)
        for axis, end in zip(blocks.Axis.both(call.problem), call.problem.out_shape[-2:],
                             strict=True)
    )  # fmt: skip
    lost = torch.zeros(y.shape, dtype=torch.bool, device=y.device)
    lost[..., rows.outputs, columns.outputs] = missing[..., rows.pixels, columns.pixels]
    return torch.where(lost, undefined, y)
