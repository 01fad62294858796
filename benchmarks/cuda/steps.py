"""Strides, dilations and missing pixels on the GPU.

Images are 8192 x 8192 and reflected at the border, several sets of them in rotation, together more
than three times the L2 cache; of a wrong answer no time is told. Calls are queued while the device
waits, so that CUDA events see the device alone; `*` marks times with the host's in them.

- Strided and dilated sums against torch's conv2d (cuDNN, without TF32), which knows borders of
  zeros alone, and against copying what they read and write.
- normalized_corr2d, where a twentieth of the pixels is missing (NaN) and where a small part of the
  image is, against corr2d, and against what it would take torch: two conv2d of float images that
  are there already, one of pixels and one of ones and zeros, and a division.

On a machine with an NVIDIA GPU: ``python -m benchmarks.cuda.steps --output FOLDER``
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import gpuconv

from .. import report
from ..peers.cuda import Contender
from ..report import Cell, Check, ratio, verdicts
from ..timing import commit
from .device import Device
from .timing import Budget, DeviceTimes, compare, rotation

SUITE = "cuda-steps"
SIDE = 8192
STEPS: tuple[tuple[int, dict[str, int]], ...] = (
    (3, {"stride": 2}), (5, {"stride": 2}), (9, {"stride": 2}), (3, {"stride": 4}),
    (3, {"dilation": 2}), (5, {"dilation": 2}), (9, {"dilation": 2}), (3, {"dilation": 7}),
)  # fmt: skip
MEANS = ((3, "direct"), (5, "direct"), (9, "direct"), (15, "direct"), (9, "separable"),
         (15, "separable"), (31, "separable"))  # fmt: skip
PEER_LEAST, CORR2D_MOST = 2.0, 2.2
_EPS = float(np.finfo("float32").eps)


def main() -> None:
    parser = argparse.ArgumentParser(description="Strides, dilations and missing pixels.")
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    parser.add_argument("--side", type=int, default=SIDE, help="rows and columns of the images")
    options = parser.parse_args()
    device = Device()
    lines = [f"# {SUITE}: {(__doc__ or '').strip()}", "", *(f"- {n}" for n in device.facts())]
    lines.append(f"- commit {commit()}")
    found: list[Cell] = []
    for head, cells in (
        (("sums", "gpuconv ms", "torch ms", "copy ms", "targets"), steps),
        (("means", "gpuconv ms", "few missing ms", "corr2d ms", "torch ms", "targets"), means),
    ):
        lines += ["", report.row(head), report.row("---" for _ in head)]
        for cell in cells(device, options.side):
            found.append(cell)
            lines.append(report.row(cell.row))
            print(lines[-1], flush=True)
    lines += ["", *(f"- {line}" for line in report.summary(found))]
    report.write(report.stem(options.output, SUITE), lines, [])


def steps(device: Device, side: int) -> Iterator[Cell]:
    xs = _images(device, side)
    conv2d = _conv2d()
    for k, given in STEPS:
        kernel = np.random.default_rng(k).standard_normal((k, k)).astype("f4")
        options: dict[str, Any] = dict(mode="same", **given)
        outs = [gpuconv.corr2d(x, kernel, **options) for x in xs]
        pad = (k - 1) * given.get("dilation", 1) // 2
        own = partial(_filter, gpuconv.corr2d, xs, outs, kernel, boundary="reflect", **options)
        peer = partial(conv2d, xs, device.upload(kernel), padding=pad, **given)
        half = (xs[0].size + outs[0].size) // 2
        flat = [x.reshape(-1)[:half] for x in xs]
        copies = device.copies(list(zip(flat, flat[1:] + flat[:1], strict=True)))
        inner = slice(k + 7, -k - 7)
        wrong = not _near(own(0)[inner, inner], peer(0)[inner, inner], np.abs(kernel).sum())
        times = _compare(device, len(xs), gpuconv=own, torch=peer, copy=copies["copy, kernel"])
        checks = (Check("torch", ratio(times["torch"], times["gpuconv"]), PEER_LEAST),)
        name = f"{k}x{k}, " + ", ".join(f"{n} {v}" for n, v in given.items())
        yield _cell(name, times, ("gpuconv", "torch", "copy"), checks, wrong)


def means(device: Device, side: int) -> Iterator[Cell]:
    xp = device.array_module()
    whole = _images(device, side)
    missing, few = [x.copy() for x in whole], [x.copy() for x in whole]
    for n, (x, y) in enumerate(zip(missing, few, strict=True)):
        x[xp.random.default_rng(n).random(x.shape, "float32") < 0.05] = np.nan
        y[side // 8 : side // 6, side // 4 : side // 3] = np.nan
    values = [xp.where(xp.isnan(x), np.float32(0), x) for x in missing[:2]]
    counts = [(~xp.isnan(x)).astype("f4") for x in missing[:2]]
    outs = [xp.empty_like(x) for x in whole]
    conv2d = _conv2d()
    for k, method in MEANS:
        rng = np.random.default_rng(k)
        kernel = np.outer(*(rng.random((2, k)) + 0.1)).astype("f4")
        options: dict[str, Any] = dict(mode="same", boundary="reflect", method=method)
        call = partial(_filter, gpuconv.normalized_corr2d, outs=outs, kernel=kernel, **options)
        weights = device.upload(kernel)

        def peer(n: int, weights: Any = weights, pad: int = k // 2) -> Any:
            sums = conv2d(values, weights, n % 2, padding=pad)
            return sums / conv2d(counts, weights, n % 2, padding=pad)

        plain = partial(_filter, gpuconv.corr2d, whole, outs, kernel, **options)
        inner = slice(k, -k)
        found = call(missing, n=0)[inner, inner].copy()
        wrong = not _near(found, peer(0)[inner, inner], 1.0)
        times = _compare(
            device, len(whole), gpuconv=lambda n, call=call: call(missing, n=n),
            few=lambda n, call=call: call(few, n=n), corr2d=plain, torch=peer,
        )  # fmt: skip
        checks = (
            Check("times corr2d", 1 / ratio(times["corr2d"], times["gpuconv"]), CORR2D_MOST,
                  at_most=True),
            Check("torch", ratio(times["torch"], times["gpuconv"]), PEER_LEAST),
        )  # fmt: skip
        yield _cell(
            f"{k}x{k}, {method}", times, ("gpuconv", "few", "corr2d", "torch"), checks, wrong
        )


def _images(device: Device, side: int) -> list[Any]:
    rng = device.array_module().random.default_rng(0)
    number_of_sets = rotation(device.l2_bytes, 4 * side * side)
    return [rng.random((side, side), "float32") + 1 for _ in range(number_of_sets)]


def _filter(
    function: Callable[..., Any], xs: list[Any], outs: list[Any], kernel: Any, n: int,
    **options: Any,
) -> Any:  # fmt: skip
    return function(xs[n], kernel, out=outs[n], **options)


def _conv2d() -> Callable[..., Any]:
    """torch's conv2d on arrays of CuPy."""
    import cupy
    import torch

    torch.backends.cudnn.allow_tf32 = False

    @torch.no_grad()
    def conv2d(xs: list[Any], kernel: Any, n: int, **options: Any) -> Any:
        x, w = (torch.from_dlpack(a)[None, None] for a in (xs[n], kernel))
        return cupy.from_dlpack(torch.nn.functional.conv2d(x, w, **options)[0, 0])

    return conv2d


def _near(found: Any, expected: Any, size: float) -> bool:
    return bool(abs(found - expected).max() <= 64 * _EPS * 2 * size)


def _compare(device: Device, sets: int, **calls: Callable[[int], Any]) -> dict[str, DeviceTimes]:
    contenders = [Contender(name, call) for name, call in calls.items()]
    return compare(device, contenders, sets, Budget(0.5), seconds=0.01)


def _cell(
    name: str, times: dict[str, DeviceTimes], shown: tuple[str, ...], checks: tuple[Check, ...],
    wrong: bool,
) -> Cell:  # fmt: skip
    told = [str(times[n]) for n in shown]
    row = name, "WRONG" if wrong else told[0], *told[1:], verdicts(checks)
    return Cell(row, checks, wrong=wrong)


if __name__ == "__main__":
    main()
