"""cuFFT's plans: made once for each stream, cached within a bound, executed into given arrays.

CuPy's own cache gives the same plan, and with it the same work area, to every stream; calls on two
streams would overwrite each other's memory (cupy issue 8079). Here every stream has plans of its
own, and a plan that a CUDA graph has captured is kept for good, because the graph refers to its
work area.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock, get_ident
from typing import Any, NamedTuple

from ...core.array_types import Array

PLANS = 64
PLAN_BYTES = 256 << 20  # of work areas
_PER_THREAD_STREAM = 2  # CUDA's name for each thread's own default stream


class TransformLayout(NamedTuple):
    """A batch of two-dimensional transforms, contiguous in memory, with cuFFT's names."""

    shape: tuple[int, int]
    inembed: tuple[int, int]
    istride: int
    idist: int
    onembed: tuple[int, int]
    ostride: int
    odist: int
    kind: str
    batch: int
    last: int  # columns of the result


def layout(source: Array, target: Array, inverse: bool) -> TransformLayout:
    """Describe the transforms from one array of tiles to another; real spectra are half as wide.

    Examples
    --------
    >>> import numpy as np
    >>> layout(np.empty((7, 4, 6), "f4"), np.empty((7, 4, 4), "c8"), False).kind
    'R2C'
    """
    batch, *plane = (target if inverse else source).shape
    before, after = source.shape[1:], target.shape[1:]
    wide = source.dtype.name in ("float64", "complex128")
    letters = "DZ" if wide else "RC"
    kind = "2".join(letters[a.dtype.kind == "c"] for a in (source, target))
    return TransformLayout(
        (plane[0], plane[1]), before, 1, before[0] * before[1], after, 1, after[0] * after[1],
        kind, batch, after[1],
    )  # fmt: skip


class PlanCache:
    """Plans by key: the least recently used are dropped if there are too many or they are large."""

    def __init__(self, count: int, nbytes: int) -> None:
        self.count, self.nbytes = count, nbytes
        self._plans: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._captured: dict[Hashable, Any] = {}

    def __len__(self) -> int:
        return len(self._plans) + len(self._captured)

    def get(self, key: Hashable, make: Callable[[], tuple[Any, int]], captured: bool) -> Any:
        """Return the plan of a key; `make` returns a new one and the bytes it holds."""
        if key in self._captured:
            return self._captured[key]
        entry = self._plans.pop(key, None) or make()
        if captured:
            self._captured[key] = entry[0]
            return entry[0]
        self._plans[key] = entry
        while len(self._plans) > 1 and (
            len(self._plans) > self.count or sum(n for _, n in self._plans.values()) > self.nbytes
        ):
            self._plans.popitem(last=False)
        return entry[0]


_plans = PlanCache(PLANS, PLAN_BYTES)
_lock = Lock()  # a plan must not be executed by two threads at once


def transforms(source: Array, target: Array, inverse: bool) -> Callable[[], None]:
    """Return a function that queues unnormalised transforms on the stream that is current now.

    Both arrays are contiguous, `(tiles, rows, columns)`; complex ones may be the same. Transforms
    from complex to real overwrite `source`.
    """
    import cupy
    from cupy.cuda import cufft

    described = layout(source, target, inverse)

    def make() -> tuple[Any, int]:
        *placed, kind, batch, last = described
        size = None if kind in ("C2C", "Z2Z") else last
        plan = cufft.PlanNd(*placed, getattr(cufft, f"CUFFT_{kind}"), batch, "C", 2, size)
        return plan, plan.work_area.mem.size

    stream = cupy.cuda.get_current_stream()
    thread = get_ident() if stream.ptr == _PER_THREAD_STREAM else 0
    with _lock:
        key = cupy.cuda.Device().id, stream.ptr, thread, described
        plan = _plans.get(key, make, stream.is_capturing())
    direction = cufft.CUFFT_INVERSE if inverse else cufft.CUFFT_FORWARD

    def queue() -> None:
        with _lock:
            plan.fft(source, target, direction)

    return queue
