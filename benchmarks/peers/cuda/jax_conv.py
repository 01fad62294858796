"""jax.lax.conv_general_dilated, compiled, at its highest precision; borders are zeros.

jax has streams of its own, so the host's clock measures it, over several calls in a row.
"""

from __future__ import annotations

import os
from typing import Any

from . import Contender, Set, failure

NAME = "jax"


def absent() -> str | None:
    # Before the import: jax would take three quarters of the memory for itself.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    reason = failure("jax")
    if reason is None:
        import jax

        try:
            jax.devices("gpu")
        except RuntimeError as error:
            reason = f"this jax has no CUDA ({str(error).splitlines()[0]})"
    return reason


def prepare(case: Any, sets: list[Set], k: Any, device: Any) -> list[Contender]:
    if case.channels_last or case.dtype == "complex64":
        return []
    import jax

    jax.config.update("jax_enable_x64", True)  # float64 would be made float32 otherwise
    shape = (-1, 1, *case.x_shape[-2:])
    device.synchronize()  # jax's streams do not wait for those that filled the arrays
    images = [jax.dlpack.from_dlpack(one.x).reshape(shape) for one in sets]
    weights = jax.dlpack.from_dlpack(device.upload(k)).reshape(1, 1, case.k, case.k)
    pad = [(case.k // 2, case.k // 2)] * 2

    @jax.jit
    def conv(image: Any, weights: Any) -> Any:
        return jax.lax.conv_general_dilated(
            image.astype(weights.dtype), weights, (1, 1), pad, precision=jax.lax.Precision.HIGHEST
        ).reshape(case.out_shape)

    return [
        Contender(
            "jax conv",
            lambda n: conv(images[n], weights),
            "constant",
            finish=lambda result: result.block_until_ready(),
        )
    ]
