"""jax.lax.conv_general_dilated, compiled; borders are zeros."""

from __future__ import annotations

from typing import Any

from ..cases import Case
from . import Contender, importable

NAME = "jax"


def available() -> bool:
    return importable("jax")


def prepare(case: Case, x: Any, k: Any, threads: int) -> list[Contender]:
    import jax

    jax.config.update("jax_enable_x64", True)  # float64 would be made float32 otherwise
    images = jax.numpy.asarray(x.reshape(-1, 1, *x.shape[-2:]))
    weights = jax.numpy.asarray(k.reshape(-1, 1, *k.shape[-2:]))
    if len(images) > 1 and len(weights) > 1:
        return []
    pad = [(n // 2, n // 2) for n in case.k_shape[-2:]]

    @jax.jit
    def conv(images: Any, weights: Any) -> Any:
        return jax.lax.conv_general_dilated(
            images.astype(case.out_dtype), weights, (case.stride, case.stride), pad,
            precision=jax.lax.Precision.HIGHEST,
        )  # fmt: skip

    def call() -> Any:
        return conv(images, weights).block_until_ready()

    return [Contender("jax conv", call, "constant", 2e-10 * case.taps)]
