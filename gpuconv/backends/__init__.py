"""Where a problem is computed: the backends by name.

A new backend is a class derived from `base.Backend` and a line in `BACKENDS`.
"""

from __future__ import annotations

import importlib
from functools import cache

from ..core.errors import BackendUnavailable, unknown_name_error
from .base import Backend

__all__ = ["BACKENDS", "CHECKED", "Backend", "backend_for", "get_backend", "require_backend"]

# Module and class by name: importing them waits until they are needed. ``backend="auto"`` takes the
# first one that computes on the image's device, but never the reference.
BACKENDS = {
    "reference": "gpuconv.backends.reference:ReferenceBackend",
    "cpu": "gpuconv.backends.cpu.backend:CpuBackend",
    "cuda": "gpuconv.backends.cuda.backend:CudaBackend",
}
# Those that `gpuconv.check` compares with the reference.
CHECKED = tuple(name for name in BACKENDS if name != "reference")


def get_backend(name: str) -> Backend:
    """Return the backend of this name, usable here or not, without importing anything heavy."""
    if name not in BACKENDS:
        raise unknown_name_error("backend", name, ("auto", *BACKENDS))
    return _instance(BACKENDS[name])


@cache
def _instance(path: str) -> Backend:
    module, _, name = path.partition(":")
    backend: Backend = getattr(importlib.import_module(module), name)()
    return backend


def require_backend(name: str) -> Backend:
    """Return the backend of this name, or raise `BackendUnavailable` with the reason."""
    backend = get_backend(name)
    reason = backend.unavailable()
    if reason is not None:
        raise BackendUnavailable(f"backend={name!r} cannot be used here: {reason}")
    return backend


def backend_for(device: str, backend: str) -> str:
    """Name of the backend for data on a device; an explicit one must be able to reach it."""
    if isinstance(backend, str) and backend == "auto":
        return next(n for n in BACKENDS if n != "reference" and get_backend(n).takes(device))
    if not isinstance(backend, str) or backend not in BACKENDS:
        raise unknown_name_error("backend", backend, ("auto", *BACKENDS))
    if not get_backend(backend).takes(device):
        raise ValueError(
            f"backend={backend!r} works on host arrays, but X is on {device}; "
            "copy it to the host first, or use backend='cuda'"
        )
    return backend
