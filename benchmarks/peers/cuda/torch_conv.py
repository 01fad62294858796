"""torch.nn.functional.conv2d (cuDNN), without gradients; borders are zeros.

cuDNN searches for its fastest algorithm (`benchmark`) among a few, and not where a call without
takes long: it would try slower ones for minutes. float32 takes part twice: with TF32, which rounds
the factors to 11 bits, and without.
"""

from __future__ import annotations

import time
from typing import Any

from . import Contender, Set, failure

NAME = "torch"
_TF32 = 2.0**-10
_SEARCH = 0.02  # seconds of a call without
_TRIED = 5  # algorithms that a search tries at most


def absent() -> str | None:
    reason = failure("torch")
    if reason is None:
        import torch

        if not torch.cuda.is_available():
            reason = "this torch has no CUDA"
    return reason


def prepare(case: Any, sets: list[Set], k: Any, device: Any) -> list[Contender]:
    import torch

    torch.backends.cudnn.benchmark_limit = _TRIED
    images = [_images(torch.from_dlpack(one.x), case) for one in sets]
    weights = torch.from_dlpack(device.upload(k.conj())).reshape(1, 1, case.k, case.k)
    kind = weights.dtype

    def entrant(tf32: bool) -> Contender:
        search = True

        @torch.no_grad()
        def conv2d(n: int) -> Any:
            torch.backends.cudnn.benchmark = search
            torch.backends.cudnn.allow_tf32 = tf32
            image = images[n].to(kind)  # a copy where the weights are of another dtype
            result = torch.nn.functional.conv2d(image, weights, padding=case.k // 2)
            return (
                result[:, 0].permute(1, 2, 0)
                if case.channels_last
                else result.reshape(case.out_shape)
            )

        def probe(n: int) -> Any:
            nonlocal search
            search = False
            start = time.perf_counter()
            result = conv2d(n)
            device.synchronize()
            search = time.perf_counter() - start < _SEARCH
            return result

        eps = _TF32 if tf32 else None
        name = "torch conv2d, TF32" if tf32 else "torch conv2d"
        return Contender(name, conv2d, "constant", probe=probe, eps=eps)

    # What the libraries load when they are first called is no part of any probe.
    torch.nn.functional.conv2d(images[0][:1, :, :64, :64].to(kind), weights, padding=case.k // 2)
    device.synchronize()
    return [entrant(tf32) for tf32 in ((False, True) if case.dtype == "float32" else (False,))]


def _images(tensor: Any, case: Any) -> Any:
    """Make a view (images, 1, rows, columns)."""
    if case.channels_last:
        return tensor.permute(2, 0, 1)[:, None]
    return tensor.reshape(-1, 1, *case.x_shape[-2:])
