"""nn.conv2d against torch.nn.functional.conv2d (oneDNN), forward and backward, float32."""

from __future__ import annotations

import numpy as np
import torch

from gpuconv import nn

from .timing import agree, compare

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


def rows(quick=False):
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
            found = compare({"ours": ours, "torch": theirs})
            a, b = found["ours"], found["torch"]
            yield (
                name, what, f"{a[0]:.2f} ({a[1]:.2f}-{a[2]:.2f})",
                f"{b[0]:.2f} ({b[1]:.2f}-{b[2]:.2f})", f"{b[0] / a[0]:.2f}",
                f"{times * operations / a[0] / 1e6:.0f}",
            )  # fmt: skip
    a, b = (rng.standard_normal(s).astype("f4") for s in ((64, 576), (576, 3136)))
    found = compare({"sgemm": lambda: a @ b})["sgemm"]
    yield (
        "limit: NumPy's matmul of the 3x3 layer's shape", "", f"{8 * found[0]:.2f}", "", "",
        f"{2 * 64 * 576 * 3136 / found[0] / 1e6:.0f}",
    )  # fmt: skip
