"""The ways to compute that every test of `way` runs on: backends by methods."""

import contextlib
from dataclasses import dataclass

import numpy as np
import pytest

import gpuconv
from gpuconv.core import dtypes

from .. import oracle
from ..emulator.backend import emulated
from ..toy_backend import registered


@dataclass(frozen=True)
class Way:
    """A backend and a method; `name` tells an emulated backend from the real one."""

    name: str
    backend: str
    method: str

    def __str__(self):
        return f"{self.name}-{self.method}"

    def takes(self, dtype, stride=1):
        """Whether the method is for such images and weights."""
        if self.method == "fft":  # of wide integers a transform may not be exact
            return dtype not in ("int32", "uint32", "int64", "uint64")
        if self.method == "tensor":
            return dtype in ("float16", "bfloat16", "float32") and stride in (1, (1, 1))
        return True

    def weights(self, rng, shape, dtype):
        """Random weights, of rank 1 or all equal where the method wants that."""
        if self.method == "box":
            one = oracle.sample(rng, (*shape[:-2], 1, 1), dtype)
            return np.ascontiguousarray(np.broadcast_to(one, shape))
        if self.method != "separable":
            return oracle.sample(rng, shape, dtype)
        lead = shape[:-2]
        u, v = (rng.integers(1, 4, n) for n in ((*lead, shape[-2], 1), (*lead, 1, shape[-1])))
        values = (u * v).astype("f4")
        return dtypes.finish(values, dtype) if dtype == "bfloat16" else values.astype(dtype)

    def keywords(self, dtype):
        """What `corr2d` has to be told, so that it computes this way."""
        tf32 = self.method == "tensor" and dtype == "float32"
        return dict(
            backend=self.backend, method=self.method, precision="tf32" if tf32 else None
        )  # fmt: skip

    def call(self, x, k, dtype, /, **keywords):
        """Result for storage arrays of a dtype, as a storage array of its own."""
        x, k = (_as_user(a, dtype) for a in (x, k))
        if self.name == "cuda" and dtype != "bfloat16":  # which CuPy does not have
            import cupy

            x = cupy.asarray(x)
            # Of weights on a device the largest that their dtype holds are assumed.
            k = k if self.method == "fft" and dtypes.is_integer(dtype) else cupy.asarray(k)
        y = gpuconv.corr2d(x, k, **self.keywords(dtype), **keywords)
        if not isinstance(y, np.ndarray):
            y = y.get()
        return y.view(np.uint16) if y.dtype.name == "bfloat16" else y

    def problem(self, x, k, dtype, /, **keywords):
        precision = self.keywords(dtype)["precision"]
        return oracle.problem_of(
            x, k, dtype, dtype, conjugate=True, precision=precision, **keywords
        )  # fmt: skip


def _as_user(array, dtype):
    if dtype != "bfloat16":
        return array
    return array.view(pytest.importorskip("ml_dtypes").bfloat16)


_ON = {
    "reference": ("reference", ["direct"], []),
    "windows": ("windows", ["direct"], []),
    "cpu": ("cpu", ["direct", "separable", "box", "fft"], []),
    "emulated": ("cuda", ["direct", "separable", "box", "fft", "tensor"], []),
    "cuda": ("cuda", ["direct", "separable", "box", "fft", "tensor"], [pytest.mark.cuda]),
}
WAYS = [
    pytest.param(Way(name, backend, method), id=f"{name}-{method}", marks=marks)
    for name, (backend, methods, marks) in _ON.items()
    for method in methods
]


@pytest.fixture(params=WAYS)
def way(request):
    """A way to compute, on a backend that is ready for it."""
    found = request.param
    ready = {"emulated": lambda: emulated(specialised=False), "windows": registered}
    with ready.get(found.name, contextlib.nullcontext)():
        yield found
