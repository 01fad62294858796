"""nn.conv2d against torch.nn.functional.conv2d (oneDNN), forward and backward, float32."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gpuconv import nn

from .limits import Sgemm
from .report import Cell, ratio
from .timing import compare, number

HEAD = ("layer", "pass", "ours ms", "torch ms", "ratio", "ours GFLOP/s")
CASES = {
    "depthwise 3x3, (8, 64, 56, 56)": ((8, 64, 56, 56), (64, 1, 3, 3), dict(padding=1, groups=64)),
    "depthwise 3x3, (1, 32, 224, 224)": (
        (1, 32, 224, 224), (32, 1, 3, 3), dict(padding=1, groups=32),
    ),
    "7x7/2 to 64, (8, 3, 224, 224)": ((8, 3, 224, 224), (64, 3, 7, 7), dict(padding=3, stride=2)),
    "3x3 to 64, (8, 64, 56, 56)": ((8, 64, 56, 56), (64, 64, 3, 3), dict(padding=1)),
    "1x1 to 256, (8, 64, 56, 56)": ((8, 64, 56, 56), (256, 64, 1, 1), {}),
}  # fmt: skip


def agree(a, b, tolerance=1e-3):
    """Raise unless two results are equal up to `tolerance` times the largest number."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape or not np.abs(a - b).max() <= tolerance * np.abs(b).max():
        raise AssertionError(f"results differ: shapes {a.shape}, {b.shape}")


def cells(suite: str, quick: bool = False, threads: int = 2) -> Iterator[Cell]:
    import torch

    hurry = {"rounds": 2, "seconds": 0.01} if quick else {}
    rng = np.random.default_rng(0)
    for name, (x_shape, w_shape, keywords) in list(CASES.items())[: 1 if quick else None]:
        x, w = (rng.standard_normal(s).astype("f4") for s in (x_shape, w_shape))
        tx, tw = torch.from_numpy(x), torch.from_numpy(w)
        y = nn.conv2d(x, w, **keywords)
        agree(y, torch.nn.functional.conv2d(tx, tw, **keywords))
        operations = 2 * y.size * w[0].size
        dy = rng.standard_normal(y.shape).astype("f4")
        tdy = torch.from_numpy(dy)

        def forward(tx=tx, tw=tw, keywords=keywords):
            with torch.no_grad():
                return torch.nn.functional.conv2d(tx, tw, **keywords)

        def backward(tx=tx, tw=tw, tdy=tdy, keywords=keywords):
            pair = [keywords.get(n, d) for n, d in (("stride", 1), ("padding", 0), ("dilation", 1))]
            pair = [[v, v] for v in pair]
            return torch.ops.aten.convolution_backward(
                tdy, tx, tw, [tw.shape[0]], *pair, False, [0, 0], keywords.get("groups", 1),
                [True, True, True],
            )  # fmt: skip

        for what, ours, theirs, times in (
            ("forward", lambda x=x, w=w, k=keywords: nn.conv2d(x, w, **k), forward, 1),
            (
                "backward",
                lambda x=x, w=w, d=dy, k=keywords: nn.conv2d_vjp(x, w, d, **k),
                backward,
                2,
            ),
        ):
            if what == "backward":
                for a, b in zip(ours(), theirs(), strict=True):
                    agree(a, b)
            found = compare({"ours": ours, "torch": theirs}, **hurry)
            a, b = found["ours"], found["torch"]
            yield Cell(
                (
                    name, what, str(a), str(b), f"{ratio(b, a):.2f}",
                    f"{times * operations / a.median / 1e6:.0f}",
                )
            )  # fmt: skip
    # One product for each image of the 3x3 layer.
    with Sgemm(threads, 64, 576, 3136, times=8) as sgemm:
        gflops = sgemm.gflops(2 if quick else 7)
    yield Cell(
        (
            "limit: NumPy's matmul of the 3x3 layer's shape", "",
            number(sgemm.operations / gflops / 1e6), "", "", f"{gflops:.0f}",
        )
    )  # fmt: skip
