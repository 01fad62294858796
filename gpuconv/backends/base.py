"""What a backend is: every hook once.

A backend is a class derived from `Backend` in a module or folder of its own, and a line in
`backends.BACKENDS`. The hooks without a body here must be there; the others are for methods and
features that a backend may lack.

Arrays that hooks are given hold elements in their storage dtype (bfloat16 as uint16); a `Problem`
says what they are. Hooks never write to the inputs. Nothing here is called with empty results.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, ClassVar, Protocol

from ..core.arrays import Array
from ..core.layer import LayerGeometry
from ..core.problem import Index, Problem

# Computes a part of a problem: the part's problem and its place in the batch, image, result.
Compute = Callable[[Problem, Index, Any, Any], None]


@dataclass(frozen=True)
class Costs:
    """Seconds of one thread (of the whole device, for CUDA) for sums in float32."""

    call: float  # fixed cost of a call
    pixel: float  # reading an input pixel and writing an output
    tap: float  # a multiply-add of direct summation
    tap_double: float  # the same in float64
    row: float  # what each row of taps costs an output beside its multiply-adds
    separable: float  # a multiply-add of a separable pass
    fft_call: float  # fixed cost of the FFT method
    fft: float  # a unit of `Backend.fft_work`

    def of(self, acc: str) -> Costs:
        """The same for sums in another dtype."""
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


Repeated = Callable[[Array, Array, Array], bool]  # of image, kernel and result


class Backend(Protocol):
    """Where and with what correlations are computed."""

    name: ClassVar[str]
    methods: ClassVar[frozenset[str]]  # that it has, by name
    costs: ClassVar[Costs]  # as shipped
    # A dot product of the weight gradient takes so many times what a tap of direct sums does.
    dot_cost: ClassVar[float] = 1.0
    # Whether compiled code on the host may look for factors of the weights first (see
    # `Weights.search`).
    compiled_look: ClassVar[bool] = False
    # Whether what a problem costs is always the same, not another on another device.
    fixed_prices: ClassVar[bool] = False
    # Whether it computes on a device with memory of its own, to which host arrays go in strips.
    on_device: ClassVar[bool] = False

    def __hash__(self) -> int:
        """Of its identity: prices of a problem are kept by backend."""
        return id(self)

    # --- what there is ---------------------------------------------------------------------------

    def unavailable(self) -> str | None:
        """Return None where this backend can compute, otherwise the reason and what mends it."""

    def describe(self) -> dict[str, str]:
        """Versions and hardware, for `gpuconv.show_config`."""

    def array_module(self) -> ModuleType:
        """Module of the arrays that it computes on: NumPy or CuPy."""

    def threads(self) -> int:
        """Threads that a call uses at most."""
        return 1

    def elapsed(self, seconds: float) -> float:
        """Predict how long a call takes whose work takes so many seconds on one thread."""
        return seconds

    # --- what it takes, and at what cost ---------------------------------------------------------

    def takes(self, device: str) -> bool:
        """Whether it computes on arrays that lie on this device ("cpu", "cuda:0", ...)."""
        return device == "cpu"

    def refuse(self, problem: Problem, method: str) -> str | None:
        """Return why one of `methods` cannot compute a problem here, or None."""
        return None

    def direct_work(self, problem: Problem) -> float:
        """Multiply-adds of direct sums, and whatever else takes as long as so many."""
        # With a stride, output rows share too few input rows to be summed together.
        taps = problem.p * problem.q * (2 if problem.stride[0] > 1 else 1)
        return float(math.prod(problem.out_shape) * taps)

    def pixels_read(self, problem: Problem) -> float:
        """Pixels that direct sums read of an image for each of its outputs."""
        outputs = math.prod(problem.out_shape)
        read = math.prod(problem.x_shape) / outputs if outputs else 1.0
        return min(read, float(problem.stride[0] * problem.stride[1]))

    def separable_work(self, problem: Problem, rank: int) -> float:
        """Multiply-adds of separable sums, and whatever else takes as long as so many."""
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
        """Return None if the call runs on the arrays as they are, or how they are cut otherwise.

        They are where image or result are on another device, or in a layout that the methods do
        not take.
        """
        return None

    def run_in_strips(
        self, problem: Problem, layout: Any, x: Array, out: Array, compute: Compute
    ) -> None:
        """Call `compute` on copies of parts of the arrays, cut as `strips` says."""
        raise NotImplementedError

    # --- methods ---------------------------------------------------------------------------------

    def direct(self, problem: Problem, x: Array, k: Array, out: Array) -> None:
        """Fill `out` by summing over all taps of `k`, which is stored as it was given."""

    def repeated(self, problem: Problem, x: Array, k: Array, out: Array) -> Repeated | None:
        """Return what makes direct sums like those just made, with less ado; None if nothing does.

        It is called with aligned arrays of the same shapes, dtypes and strides, and returns whether
        it has filled `out`. If not, the call is run as any other.
        """
        return None

    def separable(self, problem: Problem, x: Array, u: Array, v: Array, out: Array) -> None:
        """Fill `out` by columns of taps `u` (kernels, rank, p), then rows `v` (kernels, rank, q).

        Both are of the sums' dtype, and on the host.
        """
        raise NotImplementedError

    def fft(self, problem: Problem, x: Array, weights: Array, out: Array, whole: bool) -> None:
        """Fill `out` by Fourier transforms of tiles; `weights` are of the sums' dtype.

        With `whole` all sums are whole numbers, to which they are rounded.
        """
        raise NotImplementedError

    def box(self, problem: Problem, x: Array, k: Array, out: Array) -> None:
        """Fill `out` by kernels, on the host, each of which has one weight in all places.

        They are stored as they were given.
        """
        raise NotImplementedError

    def tensor(self, problem: Problem, x: Array, k: Array, out: Array) -> None:
        """Fill `out` by matrix products of half-precision numbers, with sums in float32."""
        raise NotImplementedError

    # --- gradients -------------------------------------------------------------------------------

    def input_gradient(self, problem: Problem, k: Array, dy: Array, dy_dtype: str) -> Any:
        """Return the gradient with respect to X, or None if it is to be made of correlations."""
        return None

    def weight_gradient(self, problem: Problem, x: Array, dy: Array, dy_dtype: str) -> Any:
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
    ) -> Any:
        """Return the sums (N, O, r, s) of a convolution layer, in the accumulator dtype.

        `size` is (r, s).
        """
        raise NotImplementedError

    def layer_input_gradient(
        self, dy: Array, dy_dtype: str, w: Array, w_dtype: str, layer: LayerGeometry,
        x_shape: tuple[int, ...], acc: str,
    ) -> Any:  # fmt: skip
        """Return its gradient with respect to x, in the accumulator dtype.

        None if it is to be made of other layers.
        """
        return None

    def layer_weight_gradient(
        self, x: Array, x_dtype: str, dy: Array, dy_dtype: str, layer: LayerGeometry,
        w_shape: tuple[int, ...], w_dtype: str, acc: str,
    ) -> Any:  # fmt: skip
        """Return its gradient with respect to w, in its dtype, summed in a fixed order."""
        raise NotImplementedError
