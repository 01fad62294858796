"""The hooks of the CPU backend. They plan in this folder and call compiled code in `jit`."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from types import ModuleType

import numpy as np

from ...core import arrays, dtypes
from ...core.array_types import Array
from ...core.errors import complete_rows_before
from ...core.layer import LayerGeometry
from ...core.layout import kernel_index
from ...core.problem import Problem, restate_for_one_image, slice_batch
from ..base import Backend, Compute, Repeated
from ..strips import StripLayout, cut_strips, row_steps, rows_before
from . import box, layers, numba_threads, planning, sums, threads, weight_gradient
from . import fft as own_fft
from .costs import shipped
from .scipy_fft import scipy_fft

# What must be copied first (see `CpuBackend.strips`) is copied in strips of this many bytes.
_COPIED_BYTES = 16 << 20
# Image and result of at most this many bytes stay in a server's last cache. A pixel there takes
# _CACHED_PIXEL of the time that one in memory does, and tiles of other images take _FAR_TILE.
_CACHED_BYTES, _CACHED_PIXEL, _FAR_TILE = 16 << 20, 0.45, 1.2
# What a pixel in memory takes separable sums, in times of direct ones.
_FAR_SEPARABLE = 1.7


class CpuBackend(Backend):
    """Numba on all cores."""

    name = "cpu"
    methods = frozenset({"direct", "separable", "box", "fft"})
    costs = shipped()
    dot_cost = 2.0
    compiled_look = True
    fixed_prices = True

    def unavailable(self) -> str | None:
        """Return None where Numba can be imported, otherwise the reason."""
        try:
            numba_threads.import_numba()
        except ImportError as error:
            return f"Numba cannot be imported ({error}); run: pip install numba"
        return None

    def describe(self) -> dict[str, str]:
        """Versions and threads for `show_config`."""
        import numba
        import scipy

        return {
            "numba": numba.__version__,
            "scipy": scipy.__version__,
            "threads": str(threads.thread_count()),
            "threading layer": numba_threads.threading_layer(),
        }

    def array_module(self) -> ModuleType:
        """NumPy."""
        return np

    def threads(self) -> int:
        """Threads that a parallel call would use."""
        return threads.thread_count()

    def elapsed(self, seconds: float) -> float:
        """Divide the time among threads, unless they save less than starting them takes."""
        return min(seconds, seconds / self.threads() + planning.START * 1e-9)

    def direct_work(self, problem: Problem) -> float:
        """Multiply-adds, including those that only fill up vectors."""
        return planning.direct_work(problem)

    def pixels_read(self, problem: Problem) -> float:
        """Pixels of an image that direct sums read, by output: none that a stride skips."""
        sides = zip(problem.stride, problem.span, strict=True)
        return min(super().pixels_read(problem), math.prod(min(side) for side in sides))

    def pixel_share(self, problem: Problem) -> float:
        """Less than half where image and result fit into the last cache together."""
        return _CACHED_PIXEL if _stays_in_cache(problem) else 1.0

    def separable_pixel(self, problem: Problem) -> float:
        """More where arrays are in memory, for which direct sums wait while they add."""
        return super().separable_pixel(problem) if _stays_in_cache(problem) else _FAR_SEPARABLE

    def separable_work(self, problem: Problem, rank: int) -> float:
        """Multiply-adds of columns of taps, also beside the outputs, and of rows of taps."""
        return planning.separable_work(problem, rank)

    def fft_work(self, problem: Problem) -> float:
        """Work of the package's own transforms or of SciPy's, whichever the problem goes to."""
        if not own_transforms(problem):
            return scipy_fft.work(problem)
        return own_fft.work(problem) * (1.0 if _stays_in_cache(problem) else _FAR_TILE)

    def box_work(self, problem: Problem) -> float:
        """Pixels and outputs, weighted by the time they take."""
        return box.work(problem)

    def strips(
        self, problem: Problem, x: Array, out: Array, method: str, max_device_bytes: int | None
    ) -> StripLayout | None:
        """Cut what compiled code cannot take as it is, to be copied a few rows at a time.

        That is: pixels in foreign byte order, arrays that are not aligned to their elements, and
        results in half precision of sums in anything but float32.
        """
        needs_conversion = _needs_conversion(problem) and method != "fft"
        if not needs_conversion and x.flags.aligned and out.flags.aligned and x.dtype.isnative:
            return None
        height = _rows_at_once(problem)
        if height:
            return StripLayout(axis=len(problem.batch), count=1, height=height, whole=False)
        # Small images: one copy of everything.
        count = problem.batch[0] if problem.batch else 1
        return StripLayout(axis=0, count=count, height=problem.r, whole=True)

    def run_in_strips(
        self, problem: Problem, layout: StripLayout, x: Array, out: Array, compute: Compute
    ) -> None:
        """Call `compute` on native, aligned copies of a few rows at a time."""
        wide = _needs_conversion(problem)
        for strip in cut_strips(problem, layout):
            image, target = (
                slice_batch(x, strip.index),
                out[strip.index][..., strip.first : strip.last, :],
            )
            rows = [
                np.broadcast_to(image[..., run.rows, :], (*image.shape[:-2], run.number, problem.w))
                for run in strip.runs
            ]
            part = strip.problem
            in_place = target.flags.aligned and not wide
            with complete_rows_before(rows_before(problem, strip), copied_later=not in_place):
                copied = arrays.to_native_order(np.concatenate(rows, axis=-2))
                if wide:
                    part = replace(part, out_dtype=part.acc_dtype)
                result = target
                if not in_place:
                    result = np.empty(target.shape, dtypes.storage(part.out_dtype))
                compute(part, strip.index, copied, result)
            if not in_place:
                target[...] = dtypes.finish(result, problem.out_dtype) if wide else result

    def direct(self, problem: Problem, x: Array, k: Array, out: Array) -> None:
        """Fill `out` by summing over all taps."""
        sums.direct(problem, x, k, out)

    def repeated(
        self, problem: Problem, method: str, x: Array, k: Array, out: Array
    ) -> Repeated | None:
        """Return a function that runs a cached plan of short sums or transforms, or None."""
        if method == "direct":
            return sums.repeated(problem, x, k, out)
        if method == "fft" and own_transforms(problem):
            return own_fft.repeated(problem, x, k, out)
        return None

    def separable(self, problem: Problem, x: Array, u: Array, v: Array, out: Array) -> None:
        """Fill `out` by columns of taps and then rows."""
        sums.separable(problem, x, u, v, out)

    def box(self, problem: Problem, x: Array, k: Array, out: Array) -> None:
        """Fill `out` by kernels of equal weights."""
        box.box(problem, x, k, out)

    def fft(self, problem: Problem, x: Array, weights: Array, out: Array, whole: bool) -> None:
        """Fill `out` by Fourier transforms of tiles."""
        weights = weights.reshape(-1, problem.p, problem.q)
        operands = problem, x, weights, kernel_index(problem), out, threads.thread_count(), whole
        if own_transforms(problem):
            own_fft.run(*operands)
        else:
            scipy_fft.run(*operands, sums.direct)

    def weight_gradient(self, problem: Problem, x: Array, dy: Array, dy_dtype: str) -> Array:
        """Gradient with respect to K."""
        return weight_gradient.weight_gradient(problem, x, dy, dy_dtype)

    def layer_forward(
        self, x: Array, x_dtype: str, w: Array, w_dtype: str, layer: LayerGeometry,
        size: tuple[int, int], acc: str,
    ) -> Array:  # fmt: skip
        """Sums of a convolution layer."""
        return layers.forward(x, x_dtype, w, w_dtype, layer, size, acc)

    def layer_input_gradient(
        self, dy: Array, dy_dtype: str, w: Array, w_dtype: str, layer: LayerGeometry,
        x_shape: tuple[int, ...], acc: str,
    ) -> Array:  # fmt: skip
        """Gradient of a convolution layer with respect to x."""
        return layers.input_gradient(dy, dy_dtype, w, w_dtype, layer, x_shape, acc)

    def layer_weight_gradient(
        self, x: Array, x_dtype: str, dy: Array, dy_dtype: str, layer: LayerGeometry,
        w_shape: tuple[int, ...], w_dtype: str, acc: str,
    ) -> Array:  # fmt: skip
        """Gradient of a convolution layer with respect to w."""
        return layers.weight_gradient(x, x_dtype, dy, dy_dtype, layer, w_shape, w_dtype, acc)


def _stays_in_cache(problem: Problem) -> bool:
    """Whether image and result fit into the last cache together."""
    x, out = (dtypes.storage(name).itemsize for name in (problem.x_dtype, problem.out_dtype))
    nbytes = math.prod(problem.x_shape) * x + math.prod(problem.out_shape) * out
    return nbytes <= _CACHED_BYTES


def _needs_conversion(problem: Problem) -> bool:
    """Whether compiled code cannot convert these sums to the result's dtype."""
    return problem.acc_dtype != "float32" and dtypes.is_half(problem.out_dtype)


def _rows_at_once(problem: Problem) -> int:
    """Output rows of a strip that is copied at once; 0 to copy everything at once."""
    item = dtypes.storage(problem.x_dtype).itemsize
    if math.prod(problem.x_shape) * item + math.prod(problem.out_shape) * 8 < _COPIED_BYTES:
        return 0
    x_row, out_row = problem.w * item, problem.s * 8
    stride, dilation = row_steps(problem, problem.r)
    span = (problem.p - 1) * dilation + 1
    fit = (_COPIED_BYTES // 4 - span * x_row) // (stride * x_row + out_row)
    # Several times as many as the input rows that two strips share.
    height = max(4 * span, fit)
    return height if problem.n > 1 or height < problem.r else 0


@lru_cache(maxsize=512)
def own_transforms(problem: Problem) -> bool:
    """Whether a problem goes to the package's own transforms, not to SciPy's.

    Decided for a single image, so that its bits do not depend on how many are in the batch.
    """
    if _needs_conversion(problem):
        return False
    one = restate_for_one_image(problem)
    return own_fft.work(one) <= scipy_fft.work(one)
