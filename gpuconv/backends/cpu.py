"""The CPU backend: arguments for the Numba sweeps, nothing else."""

from __future__ import annotations

import math
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache, lru_cache
from typing import Any

import numpy as np

from .. import dtypes
from ..boundary import index_map
from ..problem import Problem
from . import cpu_fft
from .cpu_jobs import address, byte_offsets, carrier, kernel_index, tap_offsets, template

NAME = "cpu"
METHODS = frozenset({"direct", "separable", "fft"})

# Columns of one task: with its ring of rows it should stay in the second-level cache.
_RING_BYTES = 256 * 1024
_STRIP_MIN, _STRIP_MAX = 256, 1024
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
    (sy, sx), dy = problem.stride, problem.dilation[0]
    span = problem.span
    itemsize = dtypes.storage(problem.acc_dtype).itemsize
    strip = _RING_BYTES // ((span[0] + 1) * itemsize) - span[1]
    strip = min(max(strip // sx, _STRIP_MIN), _STRIP_MAX, problem.s)
    length, offsets, order = tap_offsets(problem, strip, 1, 1)
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
        length,
        offsets,
        order,
        serial,
    )


@cache
def _tag(name: str) -> Any:
    from ..kernels.memory import make_tag

    return make_tag(name)


def _aligned(array: Any) -> Any:
    return array if array.flags.aligned else array.copy()


@cache
def _sweeps() -> tuple[Any, Any]:
    from ..kernels import bands

    return bands.sweep_serial, bands.sweep_parallel


def _sweep(problem: Problem, x: Any, weights: Any, vertical: Any, out: Any) -> None:
    """Sums of direct (or, with `vertical`, separable) taps, of shape (kernels, down, q)."""
    acc = problem.acc_dtype
    if acc not in ("float32", "float64"):
        acc = carrier(problem, weights, vertical)
    target, out_dtype = out, problem.out_dtype
    wide = out_dtype in ("float16", "bfloat16") and acc != "float32"
    if wide or not out.flags.aligned:
        target = np.empty(out.shape, problem.acc_dtype)
        problem = replace(problem, out_dtype=problem.acc_dtype)
    x = _aligned(x)
    rank = 0 if vertical is None else vertical.shape[1]
    # `_kept` until the sweep has run: the cache may let go of what the job's addresses lead to.
    job, order, serial, _kept = template(problem, acc, rank, x.strides, target.strides)
    if order is not None:
        weights = weights[..., order]
    weights = np.ascontiguousarray(weights, acc)
    one, many = _sweeps()
    if rank:
        vertical = np.ascontiguousarray(vertical, acc)
    places = address(x), address(target), address(weights), address(vertical) if rank else 0
    if serial:
        one(job, *places)
    else:
        run_parallel(many, job, *places)
    if target is not out:
        out[...] = dtypes.finish(target, out_dtype)


def _sweep_complex(name: str, problem: Problem, x: Any, weights: tuple[Any, ...], out: Any) -> None:
    from ..kernels import sweep

    *common, offsets, order, serial = _geometry(problem)
    x = _aligned(x)
    images = np.broadcast_to(x, problem.batch + x.shape[-2:])
    lead = len(problem.batch)
    arguments = (
        _tag(problem.x_dtype),
        address(images),
        byte_offsets(problem.batch, images.strides[:lead]),
        (*images.strides[lead:], problem.pad[1][0], problem.w),
        _tag(problem.out_dtype),
        address(out),
        byte_offsets(problem.batch, out.strides[:lead]),
        out.strides[lead:],
        kernel_index(problem),
        *weights[:-1],
        np.ascontiguousarray(weights[-1][..., order]),
        offsets,
        *common,
    )
    if serial:
        getattr(sweep, f"{name}_serial")(*arguments)
    else:
        run_parallel(getattr(sweep, f"{name}_parallel"), *arguments)


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


_layer: str | None = None


def _must_serialise() -> bool:
    global _layer
    if _layer is None:
        import numba

        try:
            _layer = str(numba.threading_layer())  # type: ignore[attr-defined]
        except ValueError:  # nothing has run in parallel yet: the layer is not known before
            return True
    return _layer == "workqueue"


def place(
    problem: Problem, x: Any, out: Any, compute: Any, method: str, max_device_bytes: None
) -> None:
    """Run ``compute(problem, index, x, out)`` where the arrays are: on the host already."""
    compute(problem, (), x, out)


def direct(problem: Problem, x: Any, k: Any, out: Any) -> None:
    """Fill `out` by summing over all taps."""
    weights = k
    if problem.k_dtype != problem.acc_dtype:
        weights = dtypes.widen(k, problem.k_dtype, problem.acc_dtype)
    if problem.conjugate:
        weights = weights.conj()
    if dtypes.is_complex(problem.acc_dtype):
        weights = weights.reshape(-1, problem.p, problem.q)
        _sweep_complex("direct", problem, x, (weights,), out)
    else:
        _sweep(problem, x, weights, None, out)


def separable(problem: Problem, x: Any, u: Any, v: Any, out: Any) -> None:
    """Fill `out` by columns of taps `u` (kernels, rank, p) and then rows `v` (kernels, rank, q)."""
    if dtypes.is_complex(problem.acc_dtype):
        _sweep_complex("separable", problem, x, (u, v), out)
    else:
        _sweep(problem, x, v, u, out)


def transforms(problem: Problem) -> bool:
    """Whether `fft` takes this problem: real sums, and a kernel that fits its tiles."""
    real = problem.acc_dtype in ("float32", "float64")
    wide = problem.out_dtype in ("float16", "bfloat16") and problem.acc_dtype != "float32"
    return real and not wide and cpu_fft.sides(problem) is not None


def fft_work(problem: Problem) -> float:
    """What `fft` has to do, in units of `costs.Costs.fft`."""
    return cpu_fft.work(problem)


def fft(problem: Problem, x: Any, weights: Any, out: Any) -> None:
    """Fill `out` by Fourier transforms of tiles; `weights` in the sums' dtype."""
    weights = weights.reshape(-1, problem.p, problem.q)
    target = out if out.flags.aligned else np.empty(out.shape, out.dtype)
    cpu_fft.run(
        problem, _aligned(x), weights, kernel_index(problem), target, threads(), run_parallel
    )
    if target is not out:
        out[...] = target


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
