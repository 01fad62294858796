"""cupyx.scipy.ndimage.correlate, and gaussian_filter for a Gaussian."""

from __future__ import annotations

from typing import Any

from ...cases import GAUSSIAN
from . import Contender, Set, failure

NAME = "cupyx.scipy.ndimage"


def absent() -> str | None:
    return failure(NAME)


def prepare(case: Any, sets: list[Set], k: Any, device: Any) -> list[Contender]:
    from cupyx.scipy import ndimage

    # A stack, or channels, are filtered by a kernel that is one image deep.
    deep = (1,) * (len(case.x_shape) - 2)
    weights = device.upload(k.reshape(k.shape + deep if case.channels_last else deep + k.shape))

    def correlate(n: int) -> Any:
        ndimage.correlate(sets[n].x, weights, output=sets[n].out, mode="mirror")
        return sets[n].out

    def gaussian_filter(n: int) -> Any:
        # CuPy 13.4 does not take the radius itself.
        ndimage.gaussian_filter(
            sets[n].x, case.sigma, output=sets[n].out, mode="mirror",
            truncate=case.k // 2 / case.sigma,
        )  # fmt: skip
        return sets[n].out

    found = [Contender(f"{NAME}.correlate", correlate)]
    if case.weights == GAUSSIAN:
        found.append(Contender(f"{NAME}.gaussian_filter", gaussian_filter))
    return found
