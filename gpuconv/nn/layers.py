"""Convolution layers: `conv2d` and its layer `Conv2D`, forward and backward."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ..core import arrays, dtypes
from ..core.problem import Pair, pair
from . import channel_sums
from .channel_sums import Geometry

__all__ = ["Conv2D", "conv2d", "conv2d_vjp"]


def _pair(value: Any, what: str, least: int) -> Pair:
    """Read ``int | (int,) | (int, int)``, as torch's functions do."""
    if isinstance(value, (tuple, list)) and len(value) == 1:
        (value,) = value
    return pair(value, what, least)


def _geometry(stride: Any, padding: Any, dilation: Any, groups: Any, taps: Pair) -> Geometry:
    strides, dilations = _pair(stride, "stride", 1), _pair(dilation, "dilation", 1)
    (number, _) = pair(groups, "groups", 1)
    if isinstance(padding, str):
        if padding == "valid":
            sides: Any = ((0, 0), (0, 0))
        elif padding == "same":
            if strides != (1, 1):
                raise ValueError(f"padding='same' needs stride 1, got stride {strides}")
            spans = [(k - 1) * d for k, d in zip(taps, dilations, strict=True)]
            sides = tuple((n // 2, n - n // 2) for n in spans)
        else:
            raise ValueError(
                f"padding must be an int, (rows, columns), ((top, bottom), (left, right)), 'same' "
                f"or 'valid', got {padding!r}"
            )
    elif isinstance(padding, (tuple, list)) and len(padding) == 2:
        sides = tuple(pair(side, "padding", 0) for side in padding)
    else:
        sides = (_pair(padding, "padding", 0),) * 2
        sides = tuple((side[n], side[n]) for n, side in enumerate(sides))
    return Geometry(sides, strides, dilations, number)


def _read(x: Any, weight: Any, *others: tuple[Any, str]) -> list[Any]:
    operands: list[Any] = [arrays.read(x, "x"), arrays.read(weight, "weight")]
    operands += [arrays.read(a, name) if a is not None else None for a, name in others]
    for operand, name in zip(operands, ("x", "weight", *(n for _, n in others)), strict=True):
        if operand is None:
            continue
        if dtypes.is_integer(operand.dtype) or dtypes.is_complex(operand.dtype):
            raise TypeError(f"{name} has dtype {operand.dtype}; layers work on floats")
        if operand.device != operands[0].device:
            raise ValueError(
                f"x is on {operands[0].device} and {name} on {operand.device}; "
                "all arrays of a layer must be on one device"
            )
    return operands


def _one(operand: arrays.Operand) -> bool:
    """Whether this is a single image; it is made a batch of one."""
    if operand.array.ndim != 3:
        return False
    operand.array = operand.array[None]
    return True


def conv2d(
    x: Any = None,
    weight: Any = None,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    input: Any = None,
) -> Any:
    """Convolution layer (a cross-correlation summed over channels), as torch defines it.

    ``y[n, o, i, j] = bias[o] + sum over c, a, b of x[n, g + c, i*s + a*d - t, j*s + b*d - l] *
    weight[o, c, a, b]`` with stride s, dilation d, padding t above and l to the left (zeros), and
    the first channel ``g = C/groups * (o // (O/groups))`` of o's group.

    Parameters
    ----------
    x : array, shape (N, C, h, w) or (C, h, w)
        Float images, or a single one: NumPy, CuPy or torch (then with autograd).
    weight : array, shape (O, C/groups, p, q)
        Kernels, on x's device.
    bias : array, shape (O,), optional
        Added to every pixel of its channel.
    stride, dilation : int, (int,) or (int, int)
        Rows and columns.
    padding : int, (int,), (int, int), ((top, bottom), (left, right)), "same" or "valid"
        Zeros around the image. "same" keeps its size (stride 1 only; the odd one goes after).
    groups : int
        Groups of channels that do not see each other; C of them is depthwise.
    input : array
        Torch's name of x; one of the two is given.

    Returns
    -------
    array, shape (N, O, r, s) or (O, r, s)
        In ``result_type(x, weight)``, of x's library and device. As in torch there are no output
        channels if C is 0. Tensors are in channels_last memory format if x or weight is, and
        `torch.autocast` decides on their dtype.

    Raises
    ------
    ValueError
        Shapes, channels or groups that do not match, with all of them named.
    TypeError
        Dtypes that are not floats; no x or no weight.

    Notes
    -----
    O(N r s O C/groups p q). Many channels are a product of matrices (BLAS on the CPU) on patches
    of some rows at a time, in a workspace of one padded image and 2**20 elements (or one row's).
    Sums in float32 for float16, bfloat16 and float32, in float64 for float64. Never TF32.

    Examples
    --------
    >>> import numpy as np, gpuconv
    >>> x = np.arange(9.0).reshape(1, 1, 3, 3)
    >>> gpuconv.nn.conv2d(x, np.ones((1, 1, 2, 2)), bias=np.array([0.5]))
    array([[[[ 8.5, 12.5],
             [20.5, 24.5]]]])
    """
    if x is not None and input is not None:
        raise TypeError("conv2d() got both x and input, which are the same")
    x = input if x is None else x
    if x is None or weight is None:
        raise TypeError(f"conv2d() needs {'x' if x is None else 'weight'}")
    if arrays.is_traced(x) or arrays.is_traced(weight):
        from ..adapters import torch as adapter

        return adapter.record(
            conv2d, x, weight, bias, stride=stride, padding=padding, dilation=dilation,
            groups=groups,
        )  # fmt: skip
    shape = np.shape(weight) if not hasattr(weight, "shape") else weight.shape
    taps = tuple(shape[-2:]) if len(shape) >= 2 else (1, 1)
    g = _geometry(stride, padding, dilation, groups, taps)
    if arrays.is_a(x, "torch", "Tensor"):
        from ..adapters import torch as adapter

        return adapter.conv2d(x, weight, bias, g)
    a, w, b = _read(x, weight, (bias, "bias"))
    one = _one(a)
    channel_sums.check_shapes(tuple(a.array.shape), tuple(w.array.shape), g)
    values = None
    if b is not None:
        channel_sums.check_bias(tuple(b.array.shape), w.array.shape[0])
        values = dtypes.widen(b.array, b.dtype, "float64", _module(b.array))
    with arrays.stream_of(a):
        y = channel_sums.forward(a, w, g, values)
    return arrays.wrap(y[0] if one else y, dtypes.promote(a.dtype, w.dtype), a)


def _module(array: Any) -> Any:
    return np if isinstance(array, np.ndarray) else sys.modules["cupy"]


@np.errstate(all="ignore")  # sums beyond the range are infinite, as in corr2d
def conv2d_vjp(
    x: Any,
    weight: Any,
    dy: Any,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> tuple[Any, Any, Any]:
    """Gradients of ``sum(dy * conv2d(x, weight, bias, ...))`` in x, weight and bias.

    Parameters
    ----------
    x, weight, stride, padding, dilation, groups
        As given to `conv2d`.
    dy : array, shape (N, O, r, s) or (O, r, s)
        Gradient in the result.

    Returns
    -------
    dx, dweight, dbias : array
        Of the shapes and dtypes of x and weight, and (O,) in weight's.

    Raises
    ------
    ValueError, TypeError
        As `conv2d`; a dy that does not have the result's shape.

    Notes
    -----
    As costly as two forward passes; workspace as there. Sums over the batch are taken in float64,
    in a fixed order.

    Examples
    --------
    >>> import numpy as np, gpuconv
    >>> x, w = np.ones((1, 1, 3, 3)), np.ones((2, 1, 2, 2))
    >>> dx, dw, db = gpuconv.nn.conv2d_vjp(x, w, np.ones((1, 2, 2, 2)))
    >>> dw[0, 0].tolist(), db.tolist()
    ([[4.0, 4.0], [4.0, 4.0]], [4.0, 4.0])
    """
    a, w, d = _read(x, weight, (dy, "dy"))
    taps = tuple(w.array.shape[-2:]) if w.array.ndim >= 2 else (1, 1)
    g = _geometry(stride, padding, dilation, groups, taps)
    one = _one(a)
    shape = channel_sums.check_shapes(tuple(a.array.shape), tuple(w.array.shape), g)
    if tuple(d.array.shape) != shape[one:]:
        raise ValueError(
            f"dy has shape {tuple(d.array.shape)}, but the result of conv2d has shape {shape[one:]}"
        )
    if one:
        d.array = d.array[None]
    with arrays.stream_of(a):
        dx = channel_sums.input_gradient(d, w, tuple(a.array.shape), a.dtype, g)
        dw = channel_sums.weight_gradient(a, d, tuple(w.array.shape), w.dtype, g)
        xp = _module(d.array)
        wide = dtypes.widen(d.array, d.dtype, dtypes.accumulator(d.dtype), xp)
        # By pairs within an image, which keeps the digits: sums in float64 take NumPy much longer.
        sums = wide.sum(axis=(2, 3)).sum(axis=0, dtype="float64")
        sums = sums if shape[1] else xp.zeros(w.array.shape[0])
        db = dtypes.finish(sums, w.dtype, xp)
    return (
        arrays.wrap(dx[0] if one else dx, a.dtype, a),
        arrays.wrap(dw, w.dtype, w),
        arrays.wrap(db, w.dtype, w),
    )


def _refuse_tensor(array: Any, name: str) -> None:
    if arrays.is_a(array, "torch", "Tensor"):
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
        kernel_size: Any,
        *,
        in_channels: int | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        dtype: Any = "float32",
        rng: Any = None,
    ) -> None:
        self.out_channels, _ = pair(out_channels, "out_channels", 1)
        self.kernel_size = _pair(kernel_size, "kernel_size", 1)
        self.stride, self.padding, self.dilation = stride, padding, dilation
        self.groups, _ = pair(groups, "groups", 1)
        self.use_bias = bool(bias)
        self.dtype = dtypes.name_of(dtype, "dtype")
        if dtypes.is_integer(self.dtype) or dtypes.is_complex(self.dtype):
            raise TypeError(f"dtype {self.dtype}: layers work on floats")
        if self.dtype == "bfloat16":
            arrays.bfloat16()
        if self.out_channels % self.groups:
            raise ValueError(
                f"groups={self.groups} must divide the {self.out_channels} output channels"
            )
        _geometry(stride, padding, dilation, groups, self.kernel_size)
        self._rng = np.random.default_rng(rng)
        self.weight: Any = None
        self.bias: Any = None
        self.grad: dict[str, Any] = {}
        self._input: Any = None
        if in_channels is not None:
            self._start(pair(in_channels, "in_channels", 1)[0], np)

    def _start(self, in_channels: int, xp: Any) -> None:
        if in_channels % self.groups:
            raise ValueError(f"groups={self.groups} must divide the {in_channels} input channels")
        p, q = self.kernel_size
        fan_in = in_channels // self.groups * p * q
        limit = 1 / np.sqrt(fan_in) if fan_in else 0.0
        kind = arrays.bfloat16() if self.dtype == "bfloat16" else np.dtype(self.dtype)
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

    def forward(self, x: Any) -> Any:
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

    def backward(self, dy: Any) -> Any:
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

    def parameters(self) -> dict[str, Any]:
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

    def state_dict(self) -> dict[str, Any]:
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

    def load_state_dict(self, state: Any) -> None:
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
            channel_sums.check_bias(bias.shape, self.out_channels)
        on_gpu = self.weight is not None and not isinstance(self.weight, np.ndarray)
        xp = sys.modules["cupy"] if on_gpu else np
        kind = arrays.bfloat16() if self.dtype == "bfloat16" else np.dtype(self.dtype)
        self.weight = xp.array(weight.astype(kind))
        if bias is not None:
            self.bias = xp.array(bias.astype(kind))

    def save(self, path: Any) -> None:
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
        path = Path(path)
        state = self.state_dict()
        partial = path.with_name(path.name + ".partial")
        try:
            if path.suffix == ".safetensors":
                _safetensors().save_file(state, str(partial))
            elif path.suffix == ".npz":
                with partial.open("wb") as file:
                    np.savez(file, **state)
            else:
                raise ValueError(f"{path}: the name must end in .npz or .safetensors")
            partial.replace(path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                partial.unlink()

    def load(self, path: Any) -> None:
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
        path = Path(path)
        if path.suffix == ".safetensors":
            self.load_state_dict(_safetensors().load_file(str(path)))
        elif path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                self.load_state_dict(dict(file))
        else:
            raise ValueError(f"{path}: the name must end in .npz or .safetensors")

    def __repr__(self) -> str:
        known = "?" if self.weight is None else self.weight.shape[1] * self.groups
        return (
            f"Conv2D({self.out_channels}, {self.kernel_size}, in_channels={known}, "
            f"stride={self.stride}, padding={self.padding!r}, dilation={self.dilation}, "
            f"groups={self.groups}, bias={self.use_bias}, dtype={self.dtype})"
        )


def _floats(values: Any, name: str) -> Any:
    """Host array of parameters in float64, which holds those of every dtype a layer has."""
    operand = arrays.read(values.detach() if hasattr(values, "detach") else values, name)
    array = operand.array.get() if operand.device != arrays.HOST else operand.array
    return dtypes.widen(array, operand.dtype, "float64")


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError:
        raise ImportError(
            "the .safetensors format needs the package safetensors; run: pip install "
            "'gpuconv[safetensors]', or use a name that ends in .npz"
        ) from None
    return safetensors.numpy
