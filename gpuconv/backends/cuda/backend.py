"""The CUDA backend: compiles the kernels with NVRTC through CuPy and launches them.

Work is queued on the caller's current stream and nothing waits for it. All that touches a device
goes through `launcher`, which the tests replace by one that runs the same sources on the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Any

import numpy as np

from ...core import arrays, dtypes
from ...core.accumulator import exact_accumulator, mirrored
from ...core.layout import byte_offsets, lead_strides
from ...core.problem import Problem
from ..base import Backend, Costs
from . import fft as cuda_fft
from . import planning
from . import tensor as cuda_tensor
from .planning import GRID_MAX, LEADS, LOOK, NO, TILES_MOST, YES, Chip, Launch, Spec

NAME = "cuda"
METHODS = frozenset({"direct", "separable", "fft", "tensor"})

_INSTALL = 'pip install "gpuconv[cuda12]" (or "gpuconv[cuda13]" with a CUDA 13 driver)'


class DeviceLauncher:
    """Compiles and launches on the current device and stream of CuPy."""

    def unavailable(self) -> str | None:
        """Say why no kernel can run here, and what mends it."""
        try:
            import cupy
        except ImportError as error:
            return f"CuPy cannot be imported ({error}); run: {_INSTALL}"
        try:
            count = cupy.cuda.runtime.getDeviceCount()
        except cupy.cuda.runtime.CUDARuntimeError as error:
            if "NoDevice" in str(error):
                return "there is an NVIDIA driver but no device; check: nvidia-smi"
            return (
                f"no usable NVIDIA driver ({error}); install the driver of your GPU and check: "
                "nvidia-smi"
            )
        if count == 0:
            return "there is an NVIDIA driver but no device; check: nvidia-smi"
        try:
            import cupy.cuda.nvrtc as nvrtc

            nvrtc.getVersion()
        except (ImportError, RuntimeError, OSError) as error:
            return f"NVRTC, the CUDA compiler library, is missing ({error}); run: {_INSTALL}"
        return None

    def chip(self) -> Chip:
        """Limits of the current device."""
        import cupy

        return _chip(cupy.cuda.runtime.getDevice())

    def launch(self, spec: Spec, grid: int, shared_bytes: int, arguments: tuple[Any, ...]) -> None:
        """Queue one kernel; structs are NumPy values, addresses unsigned integers."""
        import cupy

        function = _compiled(spec, cupy.cuda.runtime.getDevice(), shared_bytes)
        function((grid,), spec.block, arguments, shared_mem=shared_bytes)

    def upload(self, host: Any) -> Any:
        """Array of the same contents where the kernels can read it."""
        import cupy

        return cupy.asarray(host)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """New array where the kernels can write."""
        import cupy

        return cupy.empty(shape, dtype)

    def transform(self, source: Any, target: Any, inverse: bool) -> None:
        """Queue Fourier transforms of a batch of tiles, without a norm, into a given array."""
        from .fft_plans import transform

        transform(source, target, inverse)

    def link(self) -> Any:
        """What strips of host arrays go through: streams, buffers and transfers."""
        from .streaming import DeviceLink

        return DeviceLink()

    def is_page_locked(self, array: Any) -> bool:
        """Whether a contiguous host array can be transferred from and to where it lies."""
        from .streaming import is_page_locked

        return is_page_locked(array)

    def here(self) -> AbstractContextManager[Any]:
        """Device and allocator of this thread, as a context for another one."""
        import cupy

        return _there(int(cupy.cuda.Device().id), cupy.cuda.get_allocator())

    def free_bytes(self) -> int:
        """Device memory that may be taken now."""
        import cupy

        pool = cupy.get_default_memory_pool()
        return int(cupy.cuda.runtime.memGetInfo()[0]) + int(pool.free_bytes())


@contextmanager
def _there(device: int, allocator: Any) -> Iterator[None]:
    import cupy

    with cupy.cuda.Device(device), cupy.cuda.using_allocator(allocator):
        yield


launcher: Any = DeviceLauncher()


@cache
def _chip(device: int) -> Chip:
    import cupy

    properties = cupy.cuda.runtime.getDeviceProperties(device)
    known = planning.chip(
        10 * properties["major"] + properties["minor"], properties["multiProcessorCount"]
    )
    # What the driver says counts, and of a chip not in the table it is all there is.
    return replace(
        known,
        block_bytes=int(properties.get("sharedMemPerBlockOptin") or known.block_bytes),
        shared_bytes=int(properties.get("sharedMemPerMultiprocessor") or known.shared_bytes),
    )


@cache
def _compiled(spec: Spec, device: int, shared_bytes: int) -> Any:
    function = _loaded(spec, device)
    # More than this has to be asked for, on every chip.
    if shared_bytes > 48 << 10 and shared_bytes > function.max_dynamic_shared_size_bytes:
        function.max_dynamic_shared_size_bytes = shared_bytes
    return function


@cache
def _loaded(spec: Spec, device: int) -> Any:
    import cupy

    # One extern "C" function and no name_expressions: CuPy then finds it in its disk cache.
    module = cupy.RawModule(code=spec.source(), options=("-std=c++17",))
    return module.get_function(spec.kernel)


# A process compiles so many kernels for one size of taps each; more go to the one for any size,
# which gives the same bits.
SPECIALISED_MOST = 128
_specialised: set[Spec] = set()


def unavailable() -> str | None:
    """Return None where a kernel can run, otherwise the reason and what mends it."""
    reason = launcher.unavailable()
    return None if reason is None else str(reason)


def describe() -> dict[str, str]:
    """Versions and device for `show_config`."""
    import cupy

    properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
    return {
        "cupy": cupy.__version__,
        "device": properties["name"].decode(),
        "compute capability": f"{properties['major']}.{properties['minor']}",
        "driver": str(cupy.cuda.runtime.driverGetVersion()),
    }


def array_module() -> Any:
    """CuPy: the module of the arrays this backend works on."""
    import cupy

    return cupy


def place(
    problem: Problem, x: Any, out: Any, compute: Any, method: str, max_device_bytes: int | None
) -> None:
    """Run ``compute(problem, index, x, out)`` with x and out on the device, in strips if need be.

    `index` is the part of the batch where the problem is not the whole one.
    """
    if not isinstance(x, np.ndarray):
        compute(problem, (), x, out)
        return
    from .streaming import run_in_strips

    def workspace(part: Problem) -> int:
        return workspace_bytes(part, method)

    run_in_strips(launcher, problem, x, out, compute, workspace, max_device_bytes)


def workspace_bytes(problem: Problem, method: str) -> int:
    """Device memory that a method takes beside images and results where K lies on the host."""
    p, q = problem.p, problem.q
    taps = min(p, q) * (p + q) if method == "separable" else p * q
    weights = math.prod(problem.k_shape[:-2]) * taps * dtypes.storage(problem.acc_dtype).itemsize
    return weights + (cuda_fft.workspace_bytes(problem) if method == "fft" else 0)


def _place_of(array: Any) -> int:
    if isinstance(array, np.ndarray):
        return int(array.__array_interface__["data"][0])
    return int(array.data.ptr)


def _address(array: Any) -> Any:
    return np.uint64(_place_of(array))


def direct(problem: Problem, x: Any, k: Any, out: Any) -> None:
    """Fill `out` by summing over all taps."""
    on_host = isinstance(k, np.ndarray)
    weights = dtypes.widen(k, problem.k_dtype, problem.acc_dtype, np if on_host else array_module())
    if problem.conjugate:
        weights = weights.conj()
    if on_host and dtypes.is_integer(problem.acc_dtype):
        problem, (weights,) = _carried(problem, weights)
    _run("direct", problem, x, weights.reshape(-1, problem.p * problem.q), 1, out)


def separable(problem: Problem, x: Any, u: Any, v: Any, out: Any) -> None:
    """Fill `out` by columns of taps `u` (kernels, rank, p) and then rows `v` (kernels, rank, q)."""
    if dtypes.is_integer(problem.acc_dtype):
        problem, (v, u) = _carried(problem, v, u)
    weights = np.concatenate([u, v], axis=2)
    _run("separable", problem, x, weights.reshape(len(u), -1), u.shape[1], out)


def _carried(problem: Problem, *weights: Any) -> tuple[Problem, list[Any]]:
    """Sum integers in float32 where it holds every partial sum exactly: several times as fast."""
    if not _fit_float(problem, *((w.shape, w.tobytes()) for w in weights)):
        return problem, list(weights)
    return replace(problem, acc_dtype="float32"), [w.astype(np.float32) for w in weights]


@lru_cache(maxsize=64)
def _fit_float(problem: Problem, *weights: tuple[tuple[int, ...], bytes]) -> bool:
    arrays = [np.frombuffer(raw, problem.acc_dtype).reshape(shape) for shape, raw in weights]
    return exact_accumulator(problem, *arrays) == "float32"


def no_tensor_cores() -> str | None:
    """Say why the current device cannot run method 'tensor'; None where no device can be asked."""
    if launcher.unavailable() is not None:
        return None
    found, least = launcher.chip().capability, cuda_tensor.CAPABILITY
    if found >= least:
        return None
    return (
        f"it needs a GPU of compute capability {least // 10}.{least % 10} or newer, this one has "
        f"{found // 10}.{found % 10}"
    )


def tensor_work(problem: Problem) -> tuple[int, tuple[int, int]]:
    """Multiply-adds of an output by method 'tensor', and rows and columns that are summed whole."""
    size = dtypes.storage(problem.x_dtype).itemsize
    return cuda_tensor.work(problem.p, problem.q, size), cuda_tensor.LAYOUTS[size].tile


def tensor(problem: Problem, x: Any, k: Any, out: Any) -> None:
    """Fill `out` by matrix products on the tensor cores."""
    xp = np if isinstance(k, np.ndarray) else array_module()
    # As float32 whatever they are: all of these dtypes fit in, and are taken out again unchanged.
    weights = dtypes.widen(k, problem.k_dtype, problem.acc_dtype, xp)
    _run("tensor", problem, x, weights.reshape(-1, problem.p * problem.q), 1, out)


def transforms(problem: Problem) -> bool:
    """Whether `fft` takes this problem: all that the method does not refuse."""
    return True


def fft_work(problem: Problem) -> float:
    """What `fft` has to do, in units of `costs.Costs.fft`."""
    return cuda_fft.work(problem)


def fft_refusal(problem: Problem) -> str | None:
    """Why `fft` cannot compute this problem, or None."""
    return cuda_fft.refusal(problem)


def fft(problem: Problem, x: Any, weights: Any, out: Any, whole: bool = False) -> None:
    """Fill `out` by Fourier transforms of tiles; `weights` are K in the sums' dtype.

    With `whole` the sums are known to be integers that the transforms miss by less than a half, and
    are rounded to them.
    """
    xp = np if isinstance(weights, np.ndarray) else array_module()
    weights = xp.ascontiguousarray(weights)
    if xp is np:
        weights = launcher.upload(weights)
    cuda_fft.run(problem, x, weights, out, launcher, _address, whole)


def _kernel_strides(problem: Problem) -> tuple[int, ...]:
    """How many kernels further each leading dimension of the output steps."""
    lead = problem.k_shape[:-2]
    numbers = np.empty(lead, np.int8)  # its byte strides count elements
    return np.broadcast_to(numbers, problem.batch).strides


@dataclass(frozen=True)
class _Prepared:
    """A launch but for the addresses and weights."""

    launch: Launch
    grid: int
    geometry: Any
    fill: Any
    argument: Any  # dtype of weights by value
    offset: tuple[int, int, int]  # bytes of image and output, number of the first kernel


def _run(kernel: str, problem: Problem, x: Any, weights: Any, rank: int, out: Any) -> None:
    on_host = isinstance(weights, np.ndarray)
    x_address, out_address = _place_of(x), _place_of(out)
    steps = _prepare(
        kernel, problem, rank, not on_host or len(weights) > 1, x.shape, x.strides,
        out.strides, x_address % 16, out_address % 16, launcher.chip(),
        _mirror(kernel, problem, weights, rank),
    )  # fmt: skip
    keep = None
    for step in steps:
        argument: Any
        if step.argument is not None:
            argument = np.zeros((), step.argument)
            argument["at"][: step.launch.weights] = weights[0]
        else:
            if keep is None:
                # Flipped weights may be a view with negative strides even after reshape.
                keep = (
                    launcher.upload(np.ascontiguousarray(weights))
                    if on_host
                    else array_module().ascontiguousarray(weights)
                )
                base = int(_address(keep))
            itemsize = weights.dtype.itemsize
            argument = np.uint64(base + step.offset[2] * step.launch.weights * itemsize)
        launcher.launch(
            step.launch.spec,
            step.grid,
            step.launch.shared_bytes,
            (
                step.geometry,
                argument,
                step.fill,
                np.uint64(x_address + step.offset[0]),
                np.uint64(out_address + step.offset[1]),
            ),
        )


# Bytes of weights whose order of taps is remembered.
_LOOKED_AT = 1 << 14


def _mirror(kernel: str, problem: Problem, weights: Any, rank: int) -> tuple[int, int]:
    """Whether columns and rows of taps are summed in mirrored order."""
    p, q = problem.k_shape[-2:]
    if kernel == "tensor" or (kernel == "direct" and (p > 1) == (q > 1)):
        return NO, NO
    # Integers are exact in any order, also where floating-point numbers carry their sums.
    if dtypes.is_integer(problem.x_dtype) and dtypes.is_integer(problem.k_dtype):
        return NO, NO
    lone = (LOOK if p > 1 else NO, LOOK if q > 1 else NO)
    if not isinstance(weights, np.ndarray):
        return lone
    look = _mirrors if weights.nbytes <= _LOOKED_AT else _mirrors.__wrapped__
    return look(kernel, problem.acc_dtype, (len(weights), rank), (p, q), weights.tobytes())


@lru_cache(maxsize=256)
def _mirrors(
    kernel: str, acc: str, shape: tuple[int, int], taps: tuple[int, int], raw: bytes
) -> tuple[int, int]:
    weights = np.frombuffer(raw, acc).reshape(*shape, -1)
    p = taps[0]
    columns, rows = weights[..., :p], weights[..., p:]
    if kernel == "direct":
        columns, rows = (weights, weights[..., :1]) if p > 1 else (weights[..., :1], weights)
    return _known(mirrored(columns)), _known(mirrored(rows))


def _known(kernels: Any) -> int:
    """What is known of a bank's kernels."""
    return YES if len(kernels) and kernels.all() else LOOK if kernels.any() else NO


@lru_cache(maxsize=512)
def _prepare(
    kernel: str, problem: Problem, rank: int, pointer: bool, x_shape: tuple[int, ...],
    x_strides: tuple[int, ...], out_strides: tuple[int, ...], x_modulo: int, out_modulo: int,
    gpu: Chip, mirror: tuple[int, int],
) -> tuple[_Prepared, ...]:  # fmt: skip
    lead = len(problem.batch)
    x_steps = lead_strides(x_shape, x_strides, problem.batch)
    shape, strides = planning.merge_leads(
        problem.batch, x_steps, out_strides[:lead], _kernel_strides(problem)
    )
    # Strides of dimensions of length 1 are never stepped along.
    rows = problem.h > 1, problem.r > 1
    where = planning.layout(
        x_modulo,
        (*strides[0], x_strides[-2] * rows[0], x_strides[-1]),
        dtypes.storage(problem.x_dtype).itemsize,
        out_modulo,
        (*strides[1], out_strides[-2] * rows[1], out_strides[-1]),
        dtypes.storage(problem.out_dtype).itemsize,
    )
    if kernel == "tensor":
        launch = cuda_tensor.plan(problem, pointer)
    else:
        launch = planning.plan(problem, kernel, rank, pointer, where, gpu, mirror=mirror)
    if kernel == "direct" and launch.spec.taps != (0, 0) and launch.spec not in _specialised:
        if len(_specialised) >= SPECIALISED_MOST:
            launch = planning.plan(problem, kernel, rank, pointer, where, gpu, True, mirror)
        else:
            _specialised.add(launch.spec)
    argument = None
    if launch.spec.capacity:
        argument = np.dtype([("at", problem.acc_dtype, (launch.spec.capacity,))])
    fill = np.array(problem.fillvalue, problem.acc_dtype)
    return tuple(
        _Prepared(
            launch,
            min(math.prod(launch.tiles) * math.prod(part), launch.grid),
            planning.geometry(problem, launch, rank, part, steps, x_strides[-2:], out_strides[-2:]),
            fill,
            argument,
            offset,
        )
        for part, steps, offset in _parts(launch, shape, strides)
    )


def _parts(
    launch: Launch, shape: tuple[int, ...], strides: list[tuple[int, ...]],
    offset: tuple[int, int, int] = (0, 0, 0),
) -> Iterator[tuple[tuple[int, ...], list[tuple[int, ...]], tuple[int, int, int]]]:  # fmt: skip
    """Cut a batch into what one launch can do: dimensions of the struct, tiles it can count."""
    tiles = math.prod(launch.tiles)
    if len(shape) <= LEADS and tiles * math.prod(shape) < TILES_MOST:
        yield shape, strides, offset
        return
    if not shape:
        raise ValueError(
            f"one image of {tiles} tiles is more than the {TILES_MOST - 1} of a launch; filter it "
            "in strips of rows"
        )
    some = 1
    if len(shape) <= LEADS:
        some = max(1, (TILES_MOST - 1) // (tiles * math.prod(shape[1:])))
    for first in range(0, shape[0], some):
        moved = tuple(o + first * s[0] for o, s in zip(offset, strides, strict=True))
        length = min(some, shape[0] - first)
        if length == 1:
            yield from _parts(launch, shape[1:], [s[1:] for s in strides], moved)  # type: ignore[arg-type]
        else:
            yield (length, *shape[1:]), strides, moved  # type: ignore[misc]


def weight_gradient(problem: Problem, x: Any, dy: Any, dy_dtype: str) -> Any:
    """Gradient with respect to K, summed over all images that shared a kernel.

    Host arrays are uploaded whole.
    """
    x, dy = (launcher.upload(a) if isinstance(a, np.ndarray) else a for a in (x, dy))
    out = launcher.empty(problem.k_shape, dtypes.storage(problem.k_dtype))
    launch, images, tasks, first = planning.plan_weights(
        problem, dy_dtype, planning.BLOCK, planning.ROWS
    )
    lead = len(problem.batch)
    x_lead = lead_strides(x.shape, x.strides, problem.batch)
    offsets = np.stack(
        [byte_offsets(problem.batch, x_lead), byte_offsets(problem.batch, dy.strides[:lead])],
        axis=1,
    )[images]
    geometry = planning.geometry(
        problem, launch, 1, (), [(), (), ()], x.strides[-2:], dy.strides[-2:]
    )
    wide = np.complex128 if dtypes.is_complex(problem.acc_dtype) else np.float64
    partial = launcher.empty((max(1, len(tasks)), launch.weights), wide)
    tables = [launcher.upload(np.ascontiguousarray(t)) for t in (tasks, offsets, first)]
    if len(tasks):
        launcher.launch(
            launch.spec,
            len(tasks),
            launch.shared_bytes,
            (
                geometry,
                np.array(problem.fillvalue, problem.acc_dtype),
                *map(_address, (x, dy, tables[0], tables[1], partial)),
            ),
        )
    spec = Spec("weights_sum", problem.x_dtype, problem.acc_dtype, problem.k_dtype, True, 0,
                launch.spec.block)  # fmt: skip
    _sum_tasks(partial, tables[2], len(first) - 1, launch.weights, out, spec)
    return out


# Images of one task of the gradient of a layer's weights: by the problem alone, not the chip.
_TASK_IMAGES = 4


def channels(
    x: Any, x_dtype: str, w: Any, w_dtype: str, g: Any, size: tuple[int, int], acc: str
) -> Any:
    """Result (N, O, r, s) of a convolution layer, in the accumulator dtype."""
    w = array_module().ascontiguousarray(w) if not isinstance(w, np.ndarray) else (
        launcher.upload(np.ascontiguousarray(w))
    )  # fmt: skip
    out = launcher.empty((x.shape[0], w.shape[0], *size), acc)
    if out.size:
        layer = planning.layer(x, w.shape, g, size)
        tiles = int(x.shape[0] * g.groups * layer["tiles_m"] * layer["tiles_n"])
        launcher.launch(
            Spec("channels", x_dtype, acc, w_dtype, True, 0, planning.LAYER_BLOCK),
            min(tiles, GRID_MAX),
            planning.layer_shared_bytes(acc),
            (layer, *map(_address, (x, w, out))),
        )
    return out


def channels_weights(
    x: Any,
    x_dtype: str,
    dy: Any,
    dy_dtype: str,
    g: Any,
    w_shape: tuple[int, ...],
    w_dtype: str,
    acc: str,
) -> Any:
    """Gradient of a convolution layer's weights, summed over the batch in a fixed order."""
    dy = array_module().ascontiguousarray(dy) if not isinstance(dy, np.ndarray) else (
        launcher.upload(np.ascontiguousarray(dy))
    )  # fmt: skip
    out = launcher.empty(w_shape, dtypes.storage(w_dtype))
    tasks = max(1, -(-x.shape[0] // _TASK_IMAGES))
    layer = planning.layer(x, w_shape, g, dy.shape[2:], tasks)
    each = math.prod(w_shape) // g.groups
    partial = launcher.empty((g.groups * tasks, each), np.float64)
    first = launcher.upload(np.arange(g.groups + 1, dtype=np.int64) * tasks)
    block = planning.LAYER_BLOCK
    launcher.launch(
        Spec("channels_weights", x_dtype, acc, dy_dtype, True, 0, block),
        min(int(g.groups * tasks * layer["tiles_m"] * layer["tiles_n"]), GRID_MAX),
        planning.layer_shared_bytes(acc),
        (layer, *map(_address, (x, dy, partial))),
    )
    _sum_tasks(partial, first, g.groups, each, out, Spec("weights_sum", x_dtype, acc, w_dtype,
                                                         True, 0, block))  # fmt: skip
    return out


def _sum_tasks(partial: Any, first: Any, kernels: int, taps: int, out: Any, spec: Spec) -> None:
    """Add what the tasks of each kernel left behind."""
    if not out.size:
        return
    launcher.launch(
        spec,
        min(-(-kernels * taps // (spec.block[0] * spec.block[1])), GRID_MAX),
        0,
        (_address(partial), _address(first), np.int64(kernels), np.int64(taps), _address(out)),
    )


class CudaBackend(Backend):
    """CUDA C++ through CuPy."""

    name = "cuda"
    methods = METHODS
    # A model of an H100, not measured yet: pixels at its copy's 3e12 bytes a second, direct sums at
    # 65 % of its 66.9 TFLOP/s, separable ones at 50 %, and transforms that move 2.4e12 bytes a
    # second, of which `fft.work` counts them.
    costs = Costs(
        call=1e-5, pixel=2.7e-12, tap=2 / (0.65 * 66.9e12), tap_double=4 / (0.65 * 66.9e12),
        row=0.0, separable=2 / (0.5 * 66.9e12), fft_call=1e-4, fft=1 / 2.4e12,
    )  # fmt: skip
    dot_cost = 4.0

    def unavailable(self) -> str | None:
        return unavailable()

    def describe(self) -> dict[str, str]:
        return describe()

    def array_module(self) -> Any:
        return array_module()

    def takes(self, device: str) -> bool:
        return True

    def refuse(self, problem: Problem, method: str) -> str | None:
        if method == "tensor":
            return no_tensor_cores()
        return fft_refusal(problem) if method == "fft" else None

    def fft_work(self, problem: Problem) -> float:
        return fft_work(problem)

    def tensor_work(self, problem: Problem) -> tuple[int, tuple[int, int]]:
        return tensor_work(problem)

    def strips(self, problem: Problem, x: Any, out: Any, method: str, max_device_bytes: Any) -> Any:
        return None if not isinstance(x, np.ndarray) else (method, max_device_bytes)

    def run_in_strips(self, problem: Problem, layout: Any, x: Any, out: Any, compute: Any) -> None:
        place(problem, arrays.native(x), out, compute, *layout)

    def direct(self, problem: Problem, x: Any, k: Any, out: Any) -> None:
        direct(problem, x, k, out)

    def separable(self, problem: Problem, x: Any, u: Any, v: Any, out: Any) -> None:
        separable(problem, x, u, v, out)

    def fft(self, problem: Problem, x: Any, weights: Any, out: Any, whole: bool) -> None:
        fft(problem, x, weights, out, whole)

    def tensor(self, problem: Problem, x: Any, k: Any, out: Any) -> None:
        tensor(problem, x, k, out)

    def weight_gradient(self, problem: Problem, x: Any, dy: Any, dy_dtype: str) -> Any:
        return weight_gradient(problem, x, dy, dy_dtype)

    def layer_forward(self, *arguments: Any) -> Any:
        return channels(*arguments)

    def layer_weight_gradient(self, *arguments: Any) -> Any:
        return channels_weights(*arguments)
