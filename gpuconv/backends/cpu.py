"""The CPU backend: arguments for the Numba sweeps, nothing else."""

from __future__ import annotations

import math
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache
from typing import Any

import numpy as np

from .. import dtypes
from ..boundary import index_map
from ..problem import Problem

NAME = "cpu"
METHODS = frozenset({"direct", "separable", "fft"})

# Columns of one task: with its ring of rows it should stay in the second-level cache.
_RING_BYTES = 256 * 1024
_STRIP_MIN, _STRIP_MAX = 256, 1024
# Padded rows of a band of the 3x3 kernel.
_BAND_BYTES = 128 * 1024
# Below this many multiply-adds starting threads costs more than it saves.
_SERIAL_OPERATIONS = 200_000

# Only used where Numba's threading layer aborts when two Python threads enter it at once.
_one_at_a_time = threading.Lock()


def unavailable() -> str | None:
    """Return None where Numba can be imported, otherwise the reason."""
    try:
        import numba  # noqa: F401
    except ImportError as error:
        return f"Numba cannot be imported ({error}); run: pip install numba"
    return None


def describe() -> dict[str, str]:
    """Versions and threads for `show_config`."""
    import numba
    import scipy

    return {
        "numba": numba.__version__,
        "scipy": scipy.__version__,
        "threads": str(numba.get_num_threads()),
        "threading layer": numba.config.THREADING_LAYER,  # type: ignore[attr-defined]
    }


def array_module() -> Any:
    """NumPy: the module of the arrays this backend works on."""
    return np


def fft_module() -> Any:
    """`scipy.fft`, which keeps float32 and uses threads."""
    import scipy.fft

    return scipy.fft


def threads() -> int:
    """Threads a parallel call would use."""
    import numba

    return int(numba.get_num_threads())


@lru_cache(maxsize=256)
def _geometry(problem: Problem) -> tuple[Any, ...]:
    """Everything that depends on the problem alone: maps, tap order, task sizes."""
    (top, bottom), (left, right) = problem.pad
    rows = index_map(problem.h, top, bottom, problem.boundary)
    columns = index_map(problem.w, left, right, problem.boundary)
    (sy, sx), (dy, dx) = problem.stride, problem.dilation
    span = problem.span
    itemsize = dtypes.storage(problem.acc_dtype).itemsize
    strip = _RING_BYTES // ((span[0] + 1) * itemsize) - span[1]
    strip = min(max(strip // sx, _STRIP_MIN), _STRIP_MAX, problem.s)
    phase = strip + (span[1] - 1) // sx + 1
    reach = np.arange(problem.q, dtype=np.int64) * dx
    offsets = reach % sx * phase + reach // sx
    order = np.argsort(offsets, kind="stable")
    band = min(problem.r, max(16, 2 * span[0]))
    strips = -(-problem.s // strip)
    # Bands as tall as still leaves every thread several tasks: fewer rows are read twice.
    while band < problem.r and problem.n * strips * (problem.r // (2 * band)) >= 4 * threads():
        band *= 2
    serial = math.prod(problem.out_shape) * problem.p * problem.q < _SERIAL_OPERATIONS
    return (
        rows,
        columns,
        dtypes.storage(problem.acc_dtype).type(problem.fillvalue),
        (problem.r, problem.s),
        (sy, sx),
        dy,
        band,
        strip,
        phase * sx,
        offsets[order],
        order,
        serial,
    )


def byte_offsets(shape: tuple[int, ...], strides: tuple[int, ...]) -> Any:
    """Byte offset of each item of the leading dimensions, in C order."""
    total = np.zeros((), np.int64)
    for length, stride in zip(shape, strides, strict=True):
        total = total[..., None] + np.arange(length, dtype=np.int64) * stride
    return total.reshape(-1)


@cache
def _tag(name: str) -> Any:
    from ..kernels.memory import make_tag

    return make_tag(name)


def _aligned(array: Any) -> Any:
    return array if array.flags.aligned else array.copy()


def kernel_index(problem: Problem) -> Any:
    """Which kernel (in C order of K's leading dimensions) each output image uses."""
    lead = problem.k_shape[:-2]
    numbers = np.arange(math.prod(lead), dtype=np.int64).reshape(lead)
    return np.ascontiguousarray(np.broadcast_to(numbers, problem.batch)).reshape(-1)


def _sweep(name: str, problem: Problem, x: Any, weights: tuple[Any, ...], out: Any) -> None:
    from ..kernels import sweep

    *common, offsets, order, serial = _geometry(problem)
    wide = _wide_output(problem)
    target = np.empty(out.shape, problem.acc_dtype) if wide else out
    x = _aligned(x)
    images = np.broadcast_to(x, problem.batch + x.shape[-2:])
    lead = len(problem.batch)
    arguments = (
        _tag(problem.x_dtype),
        images.__array_interface__["data"][0],
        byte_offsets(problem.batch, images.strides[:lead]),
        (*images.strides[lead:], problem.pad[1][0], problem.w),
        _tag(problem.acc_dtype if wide else problem.out_dtype),
        target.__array_interface__["data"][0],
        byte_offsets(problem.batch, target.strides[:lead]),
        target.strides[lead:],
        kernel_index(problem),
        *weights[:-1],
        np.ascontiguousarray(weights[-1][..., order]),
        offsets,
        *common,
    )
    if name == "direct" and _is_three(problem, images, target):
        _three(problem, arguments, common, serial)
    elif serial:
        getattr(sweep, f"{name}_serial")(*arguments)
    else:
        run_parallel(getattr(sweep, f"{name}_parallel"), *arguments)
    if wide:
        out[...] = dtypes.finish(target, problem.out_dtype)


def _is_three(problem: Problem, images: Any, target: Any) -> bool:
    """Whether `kernels.planes` applies: 3x3 without stride, pixels side by side in memory."""
    return (
        (problem.p, problem.q) == (3, 3)
        and problem.unit
        and images.strides[-1] == images.itemsize
        and target.strides[-1] == target.itemsize
    )


def _three(problem: Problem, arguments: Any, common: Any, serial: bool) -> None:
    from ..kernels import planes

    xtag, x0, xoffsets, xstrides, otag, o0, ooffsets, ostrides, which, weights = arguments[:10]
    rows, columns, fill, size = common[:4]
    band = max(16, _BAND_BYTES // ((problem.s + 2) * fill.itemsize))
    bands = max(-(-problem.r // band), -(-4 * threads() // problem.n))
    band = max(16, -(-problem.r // bands))
    call = (
        xtag, x0, xoffsets, xstrides[0], problem.w, problem.pad[1][0], otag, o0, ooffsets,
        ostrides[0], which, weights, rows, columns, fill, type(fill)(0), size, min(band, problem.r),
    )  # fmt: skip
    if serial:
        planes.three_serial(*call)
    else:
        run_parallel(planes.three_parallel, *call)


def _wide_output(problem: Problem) -> bool:
    """16-bit floats are rounded in the kernels from float32 only; other sums take a detour."""
    return problem.out_dtype in ("float16", "bfloat16") and problem.acc_dtype != "float32"


def run_parallel(kernel: Any, *arguments: Any) -> None:
    """Call a parallel kernel, one at a time where the threading layer needs that."""
    if _must_serialise():
        with _one_at_a_time:
            kernel(*arguments)
    else:
        kernel(*arguments)


_pools: dict[int, Any] = {}


def share(kernel: Any, n: int, worthwhile: bool, *arguments: Any) -> None:
    """Call ``kernel(first, last, *arguments)`` on parts of ``range(n)``, a thread each.

    Threads that sleep in between, for work that alternates with calls of BLAS.
    """
    parts = min(threads(), n) if worthwhile else 1
    if parts < 2:
        kernel(0, n, *arguments)
        return
    process = os.getpid()
    if process not in _pools:  # a forked child has none of its parent's threads
        _pools.clear()
        _pools[process] = ThreadPoolExecutor(threads(), "gpuconv")
    ends = [n * part // parts for part in range(parts + 1)]
    others = [
        _pools[process].submit(kernel, *ends[part : part + 2], *arguments)
        for part in range(1, parts)
    ]
    kernel(ends[0], ends[1], *arguments)
    for other in others:
        other.result()


def _must_serialise() -> bool:
    import numba

    try:
        layer = numba.threading_layer()  # type: ignore[attr-defined]
    except ValueError:  # nothing has run in parallel yet: the layer is not known before
        return True
    return bool(layer == "workqueue")


def place(problem: Problem, x: Any, out: Any, compute: Any) -> None:
    """Run ``compute(problem, index, x, out)`` where the arrays are: on the host already."""
    compute(problem, (), x, out)


def direct(problem: Problem, x: Any, k: Any, out: Any) -> None:
    """Fill `out` by summing over all taps."""
    weights = dtypes.widen(k, problem.k_dtype, problem.acc_dtype)
    if problem.conjugate:
        weights = weights.conj()
    _sweep("direct", problem, x, (weights.reshape(-1, problem.p, problem.q),), out)


def separable(problem: Problem, x: Any, u: Any, v: Any, out: Any) -> None:
    """Fill `out` by columns of taps `u` (kernels, rank, p) and then rows `v` (kernels, rank, q)."""
    _sweep("separable", problem, x, (u, v), out)


# Multiply-adds of one task of the kernel's gradient: enough to be worth starting, and by the
# problem alone, so that the order of the sums does not depend on the number of threads.
_TASK_OPERATIONS = 1 << 22
_PARTIAL_BYTES = 32 << 20


@lru_cache(maxsize=64)
def _weight_tasks(problem: Problem, wide: int) -> tuple[Any, Any, Any, int]:
    """Units (image, first row), where each task begins among them, and each kernel's first task."""
    row = problem.s * problem.p * problem.q
    band = min(problem.r, max(2 * problem.span[0], 16, _TASK_OPERATIONS // row))
    which = kernel_index(problem)
    images = np.argsort(which, kind="stable")
    starts = np.arange(0, problem.r, band, dtype=np.int64)
    units = np.stack([np.repeat(images, len(starts)), np.tile(starts, len(images))], axis=1)
    of_unit = which[units[:, 0]]
    some = max(1, _TASK_OPERATIONS // (band * row))
    most = max(1, _PARTIAL_BYTES // (problem.p * problem.q * wide))
    some = max(some, -(-len(units) // most))
    tasks: list[int] = []
    first = []
    for kernel in range(math.prod(problem.k_shape[:-2])):
        begin, end = np.searchsorted(of_unit, [kernel, kernel + 1])
        first.append(len(tasks))
        tasks += range(begin, end, some)
    tasks.append(len(units))
    return units, np.array(tasks, np.int64), np.array(first, np.int64), band


def weight_gradient(problem: Problem, x: Any, dy: Any, dy_dtype: str) -> Any:
    """Gradient with respect to K, summed over all images that shared a kernel."""
    from ..kernels import weights

    wide = np.dtype("complex128" if dtypes.is_complex(problem.acc_dtype) else "float64")
    shape = (math.prod(problem.k_shape[:-2]), problem.p, problem.q)
    total = np.zeros(shape, wide)
    if problem.n:
        rows, columns, fill, size, stride, dil, _, strip, length, offsets, order, serial = (
            _geometry(problem)
        )
        units, tasks, first, band = _weight_tasks(problem, wide.itemsize)
        x, dy = _aligned(x), _aligned(dy)
        if dtypes.is_complex(dy_dtype):
            dy = dy.conj()
        images = np.broadcast_to(x, problem.batch + x.shape[-2:])
        lead = len(problem.batch)
        partial = np.empty((len(tasks) - 1, problem.p, problem.q), wide)
        arguments = (
            _tag(problem.x_dtype),
            images.__array_interface__["data"][0],
            byte_offsets(problem.batch, images.strides[:lead]),
            (*images.strides[lead:], problem.pad[1][0], problem.w),
            _tag(dy_dtype),
            dy.__array_interface__["data"][0],
            byte_offsets(problem.batch, dy.strides[:lead]),
            dy.strides[lead:],
            units,
            tasks,
            partial,
            np.empty(0, problem.acc_dtype),
            offsets,
            rows,
            columns,
            fill,
            size,
            stride,
            dil,
            band,
            strip,
            length,
        )
        if serial:
            weights.gradient_serial(*arguments)
        else:
            run_parallel(weights.gradient_parallel, *arguments)
        total[:, :, order] = np.add.reduceat(partial, first, axis=0)
    total = total.reshape(problem.k_shape)
    if total.dtype.kind == "c" and not dtypes.is_complex(problem.k_dtype):
        total = np.ascontiguousarray(total.real)
    return dtypes.finish(total, problem.k_dtype)
