"""The CUDA backend: compiles the kernels with NVRTC through CuPy and launches them.

Work is queued on the caller's current stream and nothing waits for it. All that touches a device
goes through `launcher`, which the tests replace by one that runs the same sources on the CPU.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from .. import dtypes
from ..problem import Problem
from . import cuda_plan, cuda_tensor
from .cpu_jobs import byte_offsets
from .cuda_plan import GRID_MAX, LEADS, Launch, Spec

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

    def compute_capability(self) -> int:
        """Of the current device: 90 for 9.0."""
        import cupy

        return int(cupy.cuda.Device().compute_capability)

    def launch(self, spec: Any, grid: int, shared_bytes: int, arguments: tuple[Any, ...]) -> None:
        """Queue one kernel; structs are NumPy values, addresses unsigned integers."""
        import cupy

        function = _compiled(spec, cupy.cuda.Device().id)
        function((grid,), spec.block, arguments, shared_mem=shared_bytes)

    def upload(self, host: Any) -> Any:
        """Array of the same contents where the kernels can read it."""
        import cupy

        return cupy.asarray(host)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """New array where the kernels can write."""
        import cupy

        return cupy.empty(shape, dtype)

    def host_slot(self) -> Any:
        """One lane of the host streaming: a stream and its buffers."""
        from .cuda_host import DeviceSlot

        return DeviceSlot()

    def free_bytes(self) -> int:
        """Device memory that may be taken now."""
        import cupy

        pool = cupy.get_default_memory_pool()
        return int(cupy.cuda.runtime.memGetInfo()[0]) + int(pool.free_bytes())


launcher: Any = DeviceLauncher()


@cache
def _compiled(spec: Any, device: int) -> Any:
    import cupy

    # One extern "C" function and no name_expressions: CuPy then finds it in its disk cache.
    module = cupy.RawModule(code=spec.source(), options=("-std=c++17",))
    return module.get_function(spec.kernel)


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


def fft_module() -> Any:
    """`cupy.fft`, which keeps float32."""
    import cupy.fft

    return cupy.fft


def place(problem: Problem, x: Any, out: Any, compute: Any) -> None:
    """Run ``compute(problem, index, x, out)`` with x and out on the device, in strips if need be.

    `index` selects the kernel: all of them, or the one of a single output image.
    """
    if isinstance(x, np.ndarray) and isinstance(launcher, DeviceLauncher):
        from .cuda_host import run_in_strips

        run_in_strips(launcher, problem, x, out, compute)
    else:
        compute(problem, (), x, out)


def _address(array: Any) -> Any:
    if isinstance(array, np.ndarray):
        return np.uint64(array.__array_interface__["data"][0])
    return np.uint64(array.data.ptr)


def direct(problem: Problem, x: Any, k: Any, out: Any) -> None:
    """Fill `out` by summing over all taps."""
    xp = np if isinstance(k, np.ndarray) else array_module()
    weights = dtypes.widen(k, problem.k_dtype, problem.acc_dtype, xp)
    if problem.conjugate:
        weights = weights.conj()
    _run("direct", problem, x, weights.reshape(-1, problem.p * problem.q), 1, out)


def separable(problem: Problem, x: Any, u: Any, v: Any, out: Any) -> None:
    """Fill `out` by columns of taps `u` (kernels, rank, p) and then rows `v` (kernels, rank, q)."""
    weights = np.concatenate([u, v], axis=2)
    _run("separable", problem, x, weights.reshape(len(u), -1), u.shape[1], out)


def no_tensor_cores() -> str | None:
    """Say why the current device cannot run method 'tensor'; None where no device can be asked."""
    if launcher.unavailable() is not None:
        return None
    found, least = launcher.compute_capability(), cuda_tensor.CAPABILITY
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
    weights = xp.ascontiguousarray(dtypes.widen(k, problem.k_dtype, "float32", xp))
    weights = launcher.upload(weights) if xp is np else weights
    layout = cuda_tensor.LAYOUTS[dtypes.storage(problem.x_dtype).itemsize]
    launch = cuda_tensor.plan(problem, layout)
    lead = len(problem.batch)
    x_lead = (0,) * (lead - (x.ndim - 2)) + tuple(
        0 if n == 1 else s for n, s in zip(x.shape[:-2], x.strides[:-2], strict=True)
    )
    addresses = [int(_address(a)) for a in (x, out, weights)]
    for tiles, geometry, *offsets in cuda_tensor.launches(
        problem, launch, x_lead, out.strides[:lead], _kernel_strides(problem),
        x.strides[-2:], out.strides[-2:],
    ):  # fmt: skip
        at = [np.uint64(a + o) for a, o in zip(addresses, offsets, strict=True)]
        launcher.launch(
            launch.spec,
            min(tiles, GRID_MAX),
            launch.shared_bytes,
            (
                geometry,
                at[2],
                np.array(problem.fillvalue, np.float32),
                np.int32(launch.shift),
                at[0],
                at[1],
            ),
        )


def _kernel_strides(problem: Problem) -> tuple[int, ...]:
    """How many kernels further each leading dimension of the output steps."""
    lead = problem.k_shape[:-2]
    numbers = np.empty(lead, np.int8)  # its byte strides count elements
    return np.broadcast_to(numbers, problem.batch).strides


def _run(kernel: str, problem: Problem, x: Any, weights: Any, rank: int, out: Any) -> None:
    on_host = isinstance(weights, np.ndarray)
    launch = cuda_plan.plan(
        problem,
        kernel,
        rank,
        not on_host or len(weights) > 1,
        cuda_plan.BLOCK,
        cuda_plan.ROWS,
    )
    if launch.spec.capacity:
        argument = np.zeros((), [("at", problem.acc_dtype, (launch.spec.capacity,))])
        argument["at"][: launch.weights] = weights[0]
        keep = None
    else:
        # Flipped weights may be a view with negative strides even after reshape.
        keep = (
            launcher.upload(np.ascontiguousarray(weights))
            if on_host
            else array_module().ascontiguousarray(weights)
        )
        argument = _address(keep)
    lead = len(problem.batch)
    x_lead = (0,) * (lead - (x.ndim - 2)) + tuple(
        0 if n == 1 else s for n, s in zip(x.shape[:-2], x.strides[:-2], strict=True)
    )
    shape, strides = cuda_plan.merge_leads(
        problem.batch, x_lead, out.strides[:lead], _kernel_strides(problem)
    )
    _launch(problem, launch, rank, argument, x, out, shape, strides, (0, 0, 0))


def _launch(
    problem: Problem,
    launch: Launch,
    rank: int,
    weights: Any,
    x: Any,
    out: Any,
    lead: tuple[int, ...],
    strides: list[tuple[int, ...]],
    offset: tuple[int, int, int],
) -> None:
    if len(lead) > LEADS:
        # More dimensions than the struct has room for and none of them mergeable: loop here.
        for n in range(lead[0]):
            step = [o + n * s[0] for o, s in zip(offset, strides, strict=True)]
            rest = [s[1:] for s in strides]
            _launch(problem, launch, rank, weights, x, out, lead[1:], rest, tuple(step))  # type: ignore[arg-type]
        return
    geometry = cuda_plan.geometry(
        problem, launch, rank, lead, strides, x.strides[-2:], out.strides[-2:]
    )
    if offset[2]:
        itemsize = dtypes.storage(problem.acc_dtype).itemsize
        weights = weights + np.uint64(offset[2] * launch.weights * itemsize)
    tiles = math.prod(launch.tiles) * math.prod(lead)
    launcher.launch(
        launch.spec,
        min(tiles, GRID_MAX),
        launch.shared_bytes,
        (
            geometry,
            weights,
            np.array(problem.fillvalue, problem.acc_dtype),
            np.uint64(int(_address(x)) + offset[0]),
            np.uint64(int(_address(out)) + offset[1]),
        ),
    )


def weight_gradient(problem: Problem, x: Any, dy: Any, dy_dtype: str) -> Any:
    """Gradient with respect to K, summed over all images that shared a kernel.

    Host arrays are uploaded whole.
    """
    x, dy = (launcher.upload(a) if isinstance(a, np.ndarray) else a for a in (x, dy))
    out = launcher.empty(problem.k_shape, dtypes.storage(problem.k_dtype))
    launch, images, tasks, first = cuda_plan.plan_weights(
        problem, dy_dtype, cuda_plan.BLOCK, cuda_plan.ROWS
    )
    lead = len(problem.batch)
    x_lead = (0,) * (lead - (x.ndim - 2)) + tuple(
        0 if n == 1 else s for n, s in zip(x.shape[:-2], x.strides[:-2], strict=True)
    )
    offsets = np.stack(
        [byte_offsets(problem.batch, x_lead), byte_offsets(problem.batch, dy.strides[:lead])],
        axis=1,
    )[images]
    geometry = cuda_plan.geometry(
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
        layer = cuda_plan.layer(x, w.shape, g, size)
        tiles = int(x.shape[0] * g.groups * layer["tiles_m"] * layer["tiles_n"])
        launcher.launch(
            Spec("channels", x_dtype, acc, w_dtype, True, 0, cuda_plan.LAYER_BLOCK),
            min(tiles, GRID_MAX),
            cuda_plan.layer_shared_bytes(acc),
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
    layer = cuda_plan.layer(x, w_shape, g, dy.shape[2:], tasks)
    each = math.prod(w_shape) // g.groups
    partial = launcher.empty((g.groups * tasks, each), np.float64)
    first = launcher.upload(np.arange(g.groups + 1, dtype=np.int64) * tasks)
    block = cuda_plan.LAYER_BLOCK
    launcher.launch(
        Spec("channels_weights", x_dtype, acc, dy_dtype, True, 0, block),
        min(int(g.groups * tasks * layer["tiles_m"] * layer["tiles_n"]), GRID_MAX),
        cuda_plan.layer_shared_bytes(acc),
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
