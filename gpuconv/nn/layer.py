"""`Conv2D`: a convolution layer with parameters."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ..core import arrays, dtypes
from ..core.array_types import Array, ArrayLike
from ..core.options import Mode, Steps
from ..core.problem import pair
from .functions import conv2d, conv2d_vjp
from .geometry import check_bias, layer_geometry, read_pair
from .parameter_files import read_parameters, write_parameters

__all__ = ["Conv2D"]


def _refuse_tensor(array: object, name: str) -> None:
    if arrays.is_instance_of(array, "torch", "Tensor"):
        raise TypeError(
            f"{name} is a torch tensor, but gpuconv.nn.Conv2D keeps its parameters in NumPy or "
            "CuPy, outside torch's graph, where no optimizer finds them; use "
            f"gpuconv.adapters.torch.Conv2d, a torch.nn.Module, or pass {name}.numpy()"
        )


class Conv2D:
    """Convolution layer with parameters, in NumPy or CuPy.

    A `torch.nn.Module` that does the same for tensors is `gpuconv.adapters.torch.Conv2d`.

    Parameters
    ----------
    out_channels : int
        Kernels, and channels of the result.
    kernel_size : int or (int, int)
        Rows and columns of a kernel.
    in_channels : int, optional
        Channels of the input; read off the first input if left out.
    stride, padding, dilation, groups
        As in `conv2d`.
    bias : bool
        Whether the layer has a bias.
    dtype : dtype
        Of the parameters.
    rng : int or numpy.random.Generator, optional
        Where the parameters are drawn from: uniformly from ``±1/sqrt(C/groups * p * q)``, which is
        torch's start.

    Attributes
    ----------
    weight, bias : array or None
        The parameters; `weight` is None before the first input tells its channels.
    grad : dict
        Gradients by the names of `parameters`, as the last `backward` found them; empty before it
        and after `zero_grad`.

    Raises
    ------
    ValueError
        Sizes, strides or groups out of range; groups that do not divide the channels.
    TypeError
        Parameters of a dtype that is not a float; sizes that are not integers.

    Notes
    -----
    `forward` costs as much as `conv2d`, `backward` as much as `conv2d_vjp`.

    Examples
    --------
    >>> import numpy as np, gpuconv
    >>> layer = gpuconv.nn.Conv2D(8, 3, padding="same", rng=0)
    >>> layer(np.ones((2, 3, 16, 16), np.float32)).shape
    (2, 8, 16, 16)
    >>> layer.weight.shape
    (8, 3, 3, 3)
    >>> layer.zero_grad()
    >>> dx = layer.backward(np.ones((2, 8, 16, 16), np.float32))
    >>> for name, values in layer.parameters().items():
    ...     values -= 0.01 * layer.grad[name]
    """

    def __init__(
        self,
        out_channels: int,
        kernel_size: Steps,
        *,
        in_channels: int | None = None,
        stride: Steps = 1,
        padding: Mode = 0,
        dilation: Steps = 1,
        groups: int = 1,
        bias: bool = True,
        dtype: Any = "float32",
        rng: np.random.Generator | int | None = None,
    ) -> None:
        self.out_channels, _ = pair(out_channels, "out_channels", 1)
        self.kernel_size = read_pair(kernel_size, "kernel_size", 1)
        self.stride, self.padding, self.dilation = stride, padding, dilation
        self.groups, _ = pair(groups, "groups", 1)
        self.use_bias = bool(bias)
        self.dtype = dtypes.name_of(dtype, "dtype")
        if dtypes.is_integer(self.dtype) or dtypes.is_complex(self.dtype):
            raise TypeError(f"dtype {self.dtype}: layers work on floats")
        arrays.numpy_dtype(self.dtype)  # refuses a dtype that needs a package which is missing
        if self.out_channels % self.groups:
            raise ValueError(
                f"groups={self.groups} must divide the {self.out_channels} output channels"
            )
        layer_geometry(stride, padding, dilation, groups, self.kernel_size)
        self._rng = np.random.default_rng(rng)
        self.weight: Array = None
        self.bias: Array = None
        self.grad: dict[str, Array] = {}
        self._input: Array = None
        if in_channels is not None:
            self._start(pair(in_channels, "in_channels", 1)[0], np)

    def _start(self, in_channels: int, xp: ModuleType) -> None:
        if in_channels % self.groups:
            raise ValueError(f"groups={self.groups} must divide the {in_channels} input channels")
        p, q = self.kernel_size
        fan_in = in_channels // self.groups * p * q
        limit = 1 / np.sqrt(fan_in) if fan_in else 0.0
        kind = arrays.numpy_dtype(self.dtype)
        shape = (self.out_channels, in_channels // self.groups, p, q)
        self.weight = xp.asarray(self._rng.uniform(-limit, limit, shape).astype(kind))
        if self.use_bias:
            values = self._rng.uniform(-limit, limit, self.out_channels).astype(kind)
            self.bias = xp.asarray(values)

    @property
    def _keywords(self) -> dict[str, Any]:
        return dict(
            stride=self.stride, padding=self.padding, dilation=self.dilation, groups=self.groups
        )

    def forward(self, x: ArrayLike) -> Array:
        """Result of the layer, which remembers x for `backward`.

        Parameters
        ----------
        x : array, shape (N, C, h, w) or (C, h, w)
            As in `conv2d`, but no tensor; the first one tells the layer its channels.

        Returns
        -------
        array, shape (N, out_channels, r, s) or (out_channels, r, s)

        Raises
        ------
        ValueError, TypeError
            As `conv2d`; torch tensors, from which the layer would never learn.
        """
        _refuse_tensor(x, "x")
        if self.weight is None:
            shape = np.shape(x) if not hasattr(x, "shape") else tuple(x.shape)
            if len(shape) not in (3, 4):
                raise ValueError(
                    "x must have shape (N, C, h, w) or (C, h, w), got "
                    f"{len(shape)} dimensions: shape {shape}"
                )
            on_gpu = arrays.read(x, "x").device != arrays.HOST
            self._start(shape[-3], sys.modules["cupy"] if on_gpu else np)
        y = conv2d(x, self.weight, self.bias, **self._keywords)
        self._input = x
        return y

    __call__ = forward

    def backward(self, dy: ArrayLike) -> Array:
        """Gradient in the last input, from that in its result; sets `grad`.

        The gradients replace those of the call before; they are not added to them.

        Parameters
        ----------
        dy : array, shape (N, out_channels, r, s) or (out_channels, r, s)
            Gradient of a scalar in the result of the last `forward`.

        Returns
        -------
        array, shape (N, C, h, w) or (C, h, w)

        Raises
        ------
        RuntimeError
            Before any `forward`.
        ValueError
            A dy that does not have the result's shape.
        """
        if self._input is None:
            raise RuntimeError("backward() before forward(): there is no input to differentiate at")
        _refuse_tensor(dy, "dy")
        dx, dw, db = conv2d_vjp(self._input, self.weight, dy, **self._keywords)
        self.grad = {"weight": dw, "bias": db} if self.use_bias else {"weight": dw}
        return dx

    def zero_grad(self) -> None:
        """Forget the gradients: `grad` is empty until the next `backward`.

        No training loop needs it, since `backward` replaces gradients, but one that was written for
        torch may keep it.
        """
        self.grad = {}

    def parameters(self) -> dict[str, Array]:
        """Parameters by name; the arrays themselves, to be updated in place.

        Returns
        -------
        dict of str to array
            "weight" and, where the layer has one, "bias".

        Raises
        ------
        RuntimeError
            Before the layer knows its channels.
        """
        if self.weight is None:
            raise RuntimeError(
                "the layer has no parameters yet: pass in_channels=, or an input first"
            )
        return {"weight": self.weight, "bias": self.bias} if self.use_bias else {
            "weight": self.weight
        }  # fmt: skip

    def state_dict(self) -> dict[str, Array]:
        """Copies of the parameters on the host, by name.

        Returns
        -------
        dict of str to ndarray

        Raises
        ------
        RuntimeError
            As `parameters`.
        """
        return {
            name: np.array(value.get() if hasattr(value, "get") else value)
            for name, value in self.parameters().items()
        }

    def load_state_dict(self, state: Mapping[str, ArrayLike]) -> None:
        """Take parameters by name, converted to the layer's dtype.

        Parameters
        ----------
        state : dict of str to array
            As from `state_dict` of this layer or of one of torch.

        Raises
        ------
        ValueError
            Other names or shapes than the layer's; nothing is changed then.
        """
        names = {"weight", "bias"} if self.use_bias else {"weight"}
        if set(state) != names:
            raise ValueError(f"expected parameters {sorted(names)}, got {sorted(state)}")
        weight = _floats(state["weight"], "weight")
        bias = _floats(state["bias"], "bias") if self.use_bias else None
        p, q = self.kernel_size
        expected = (self.out_channels, "C/groups", p, q)
        if weight.ndim != 4 or (weight.shape[0], *weight.shape[2:]) != (self.out_channels, p, q):
            raise ValueError(f"weight must have shape {expected}, got {weight.shape}")
        if self.weight is not None and weight.shape != tuple(self.weight.shape):
            raise ValueError(
                f"weight must have shape {tuple(self.weight.shape)}, got {weight.shape}"
            )
        if bias is not None:
            check_bias(bias.shape, self.out_channels)
        on_gpu = self.weight is not None and not isinstance(self.weight, np.ndarray)
        xp = sys.modules["cupy"] if on_gpu else np
        kind = arrays.numpy_dtype(self.dtype)
        self.weight = xp.array(weight.astype(kind))
        if bias is not None:
            self.bias = xp.array(bias.astype(kind))

    def save(self, path: str | Path) -> None:
        """Write the parameters to a file, whole or not at all.

        Parameters
        ----------
        path : str or Path
            Ends in ``.npz`` or ``.safetensors``.

        Raises
        ------
        ValueError
            Another suffix.
        ImportError
            No package safetensors; the message names the extra.
        RuntimeError
            As `parameters`.
        """
        write_parameters(Path(path), self.state_dict())

    def load(self, path: str | Path) -> None:
        """Read parameters that `save` wrote; nothing in a file is executed.

        Parameters
        ----------
        path : str or Path
            Ends in ``.npz`` or ``.safetensors``.

        Raises
        ------
        ValueError, ImportError
            As `save` and `load_state_dict`.
        """
        self.load_state_dict(read_parameters(Path(path)))

    def __repr__(self) -> str:
        known = "?" if self.weight is None else self.weight.shape[1] * self.groups
        return (
            f"Conv2D({self.out_channels}, {self.kernel_size}, in_channels={known}, "
            f"stride={self.stride}, padding={self.padding!r}, dilation={self.dilation}, "
            f"groups={self.groups}, bias={self.use_bias}, dtype={self.dtype})"
        )


def _floats(values: ArrayLike, name: str) -> Array:
    """Host array of parameters in float64, which holds those of every dtype a layer has."""
    operand = arrays.read(values.detach() if hasattr(values, "detach") else values, name)
    array = operand.array.get() if operand.device != arrays.HOST else operand.array
    return dtypes.widen(array, operand.dtype, "float64")
