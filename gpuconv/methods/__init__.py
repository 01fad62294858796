"""The methods by name. A new method is a new file with the same four names and a row here.

Each module has `NAME`, `refuse(problem, backend, kernel)` (None, or why this method cannot compute
the problem), `price(problem, costs, backend, kernel)` in seconds of one thread, and
`run(problem, backend, x, k, out, kernel)`.
"""

from __future__ import annotations

from types import ModuleType

from . import direct, fft, separable, tensor

METHODS: dict[str, ModuleType] = {m.NAME: m for m in (direct, separable, fft, tensor)}
