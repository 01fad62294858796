"""`Backend`: every hook that a backend has or may have.

A backend is a class derived from `Backend` in a module or folder of its own, and a line in
`backends.BACKENDS`. It must define the hooks that have no body here; the others are for methods and
features that it may lack.

Hooks take arrays in their storage dtype (bfloat16 as uint16); the `Problem` names the dtypes. They
never write to the inputs, and are never called for empty results.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, ClassVar, Protocol

from ..core.array_types import Array
from ..core.layer import LayerGeometry
from ..core.problem import Index, Problem

# Computes a part of a problem: the part's problem and its place in the batch, image, result.
Compute = Callable[[Problem, Index, Any, Any], None]


@dataclass(frozen=True)
class Costs:
    """Seconds of one thread (of the whole device, for CUDA) for sums in float32."""

    call: float  # fixed cost of a call
    pixel: float  # reading an input pixel from memory and writing an output to it
    tap: float  # a multiply-add of direct summation
    tap_double: float  # the same in float64
    row: float  # what each row of taps costs an output, in addition to its multiply-adds
    separable: float  # a multiply-add of a separable pass
    fft_call: float  # fixed cost of the FFT method
    fft: float  # a unit of `Backend.fft_work`

    def of(self, acc: str) -> Costs:
        """Return the costs of sums in another dtype."""
        double = self.tap_double / self.tap
        factor = {"float32": 1.0, "float64": double, "int64": double, "uint64": double,
                  "complex64": 4.0, "complex128": 8.5}[acc]  # fmt: skip
        size = {"complex64": 2.0, "float32": 1.0, "complex128": 4.0}.get(acc, 2.0)
        return replace(
            self,
            pixel=self.pixel * size,
            tap=self.tap * factor,
            row=self.row * factor,
            separable=self.separable * factor,
            fft=self.fft * size,
        )


# Of image, kernel and result; see `Backend.repeated`.
Repeated = Callable[[Array, Array, Array], bool | None]


class Backend(Protocol):
    """Where and with what correlations are computed."""

    name: ClassVar[str]
    methods: ClassVar[frozenset[str]]  # that it has, by name
    costs: ClassVar[Costs]  # as shipped
    # Time of a multiply-add of the weight gradient, relative to one of direct sums.
    dot_cost: ClassVar[float] = 1.0
    # Whether compiled code on the host may search weights for factors first (`Weights.search`).
    compiled_look: ClassVar[bool] = False
    # Whether the price of a problem is the same on all devices of this backend.
    fixed_prices: ClassVar[bool] = False
    # Whether it computes on a device with memory of its own, to which host arrays go in strips.
    on_device: ClassVar[bool] = False

    def __hash__(self) -> int:
        """Hash by identity: prices of a problem are cached by backend."""
        return id(self)

    # --- what there is ---------------------------------------------------------------------------

    def unavailable(self) -> str | None:
        """Return None where this backend can compute, otherwise the reason and how to fix it."""

    def describe(self) -> dict[str, str]:
        """Versions and hardware, for `gpuconv.show_config`."""

    def array_module(self) -> ModuleType:
        """Module of the arrays that it computes on: NumPy or CuPy."""

    def threads(self) -> int:
        """Threads that a call uses at most."""
        return 1

    def elapsed(self, seconds: float) -> float:
        """Predict how long a call takes whose work takes `seconds` on one thread."""
        return seconds

    # --- what it takes, and at what cost ---------------------------------------------------------

    def takes(self, device: str) -> bool:
        """Whether it computes on arrays that lie on this device ("cpu", "cuda:0", ...)."""
        return device == "cpu"

    def refuse(self, problem: Problem, method: str) -> str | None:
        """Return why one of `methods` cannot compute a problem here, or None."""
        return None

    def direct_work(self, problem: Problem) -> float:
        """Multiply-adds of direct sums; other work counts as multiply-adds that take as long."""
        # With a stride, output rows share too few input rows to be summed together.
        taps = problem.p * problem.q * (2 if problem.stride[0] > 1 else 1)
        return float(math.prod(problem.out_shape) * taps)

    def pixels_read(self, problem: Problem) -> float:
        """Pixels of an image that direct sums read, by output."""
        outputs = math.prod(problem.out_shape)
        read = math.prod(problem.x_shape) / outputs if outputs else 1.0
        return min(read, float(problem.stride[0] * problem.stride[1]))

    def pixel_share(self, problem: Problem) -> float:
        """Part of `Costs.pixel` that a pixel takes: less than 1 where arrays stay in caches."""
        return 1.0

    def separable_pixel(self, problem: Problem) -> float:
        """What a pixel of separable sums takes, in times of one of direct sums."""
        return 1.2

    def separable_work(self, problem: Problem, rank: int) -> float:
        """Multiply-adds of separable sums; other work counts as multiply-adds that take as long."""
        return float(math.prod(problem.out_shape) * rank * (problem.p + problem.q))

    def fft_work(self, problem: Problem) -> float:
        """What method "fft" has to do, in units of `Costs.fft`; infinite where nothing fits."""
        raise NotImplementedError

    def box_work(self, problem: Problem) -> float:
        """What method "box" has to do, in units of `Costs.pixel`."""
        raise NotImplementedError

    def tensor_work(self, problem: Problem) -> tuple[int, tuple[int, int]]:
        """Multiply-adds of an output by method "tensor", and the sides of the tiles it sums."""
        raise NotImplementedError

    # --- residency -------------------------------------------------------------------------------

    def strips(
        self, problem: Problem, x: Array, out: Array, method: str, max_device_bytes: int | None
    ) -> Any:
        """Return None if the call runs on the arrays as they are, otherwise how to cut them.

        They are cut if image or result are on another device, or in a layout that the methods do
        not take.
        """
        return None

    def run_in_strips(
        self, problem: Problem, layout: Any, x: Array, out: Array, compute: Compute
    ) -> None:
        """Call `compute` on copies of parts of the arrays, cut as `strips` returned."""
        raise NotImplementedError

    # --- methods ---------------------------------------------------------------------------------

    def direct(self, problem: Problem, x: Array, k: Array, out: Array) -> None:
        """Fill `out` by summing over all taps of `k`, which is stored as it was given."""

    def repeated(
        self, problem: Problem, method: str, x: Array, k: Array, out: Array
    ) -> Repeated | None:
        """Return a function that repeats the call just computed with less overhead, or None.

        It is called with aligned arrays of the same shapes, dtypes and strides, and returns whether
        it has filled `out`. If not, the call is run as any other, and this method asked again; not
        so if it returns None, because the function does not serve these weights but may serve the
        next ones.
        """
        return None

    def separable(self, problem: Problem, x: Array, u: Array, v: Array, out: Array) -> None:
        """Fill `out` by columns of taps `u` (kernels, rank, p), then rows `v` (kernels, rank, q).

        Both are in the sums' dtype, and on the host.
        """
        raise NotImplementedError

    def fft(self, problem: Problem, x: Array, weights: Array, out: Array, whole: bool) -> None:
        """Fill `out` by Fourier transforms of tiles; `weights` are in the sums' dtype.

        With `whole` all sums are whole numbers, to which they are rounded.
        """
        raise NotImplementedError

    def box(self, problem: Problem, x: Array, k: Array, out: Array) -> None:
        """Fill `out` by kernels each of whose weights are all equal.

        `k` is on the host, and stored as it was given.
        """
        raise NotImplementedError

    def tensor(self, problem: Problem, x: Array, k: Array, out: Array) -> None:
        """Fill `out` by matrix products of half-precision numbers, with sums in float32."""
        raise NotImplementedError

    # --- gradients -------------------------------------------------------------------------------

    def input_gradient(self, problem: Problem, k: Array, dy: Array, dy_dtype: str) -> Array:
        """Return the gradient with respect to X, or None to have it computed by correlations."""
        return None

    def weight_gradient(self, problem: Problem, x: Array, dy: Array, dy_dtype: str) -> Array:
        """Return the gradient with respect to K, summed over all images that shared a kernel."""

    # --- layers of many channels -----------------------------------------------------------------

    def layer_forward(
        self,
        x: Array,
        x_dtype: str,
        w: Array,
        w_dtype: str,
        layer: LayerGeometry,
        size: tuple[int, int],
        acc: str,
    ) -> Array:
        """Return the sums (N, O, r, s) of a convolution layer, in the accumulator dtype.

        `size` is (r, s).
        """
        raise NotImplementedError

    def layer_input_gradient(
        self, dy: Array, dy_dtype: str, w: Array, w_dtype: str, layer: LayerGeometry,
        x_shape: tuple[int, ...], acc: str,
    ) -> Array:  # fmt: skip
        """Return its gradient with respect to x, in the accumulator dtype.

        None to have it computed by other layers.
        """
        return None

    def layer_weight_gradient(
        self, x: Array, x_dtype: str, dy: Array, dy_dtype: str, layer: LayerGeometry,
        w_shape: tuple[int, ...], w_dtype: str, acc: str,
    ) -> Array:  # fmt: skip
        """Return its gradient with respect to w, in its dtype, summed in a fixed order."""
        raise NotImplementedError
