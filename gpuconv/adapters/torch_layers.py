"""Convolution layers for torch: subclasses of torch's own that are computed by `gpuconv.nn`."""

from __future__ import annotations

import torch

from .. import nn
from ..core.options import Mode, Steps

__all__ = ["Conv2d", "LazyConv2d"]


class Conv2d(torch.nn.Conv2d):  # type: ignore[misc]
    """`torch.nn.Conv2d`, computed by `gpuconv.nn.conv2d`.

    Parameters, their initialisation, names in `state_dict` and attributes are those of
    `torch.nn.Conv2d`, so either layer loads the other's state and can replace it. Results are equal
    up to rounding: sums are those of `gpuconv.nn.conv2d`, never in TF32.

    Parameters
    ----------
    in_channels : int
        Channels of the input. `LazyConv2d` takes them from the first input.
    out_channels : int
        Channels of the result.
    kernel_size, stride, dilation : int or (int, int)
        Rows and columns.
    padding : int, (int, int), "same" or "valid"
        Pixels around the image; "same" keeps its size (stride 1 only).
    groups : int
        Groups of channels; outputs of a group depend on inputs of the same group only.
    bias : bool
        Whether the layer has a bias.
    padding_mode : {"zeros", "reflect", "replicate", "circular"}
        Which pixels the padding holds.
    device, dtype
        Of the parameters.

    Examples
    --------
    >>> import torch
    >>> from gpuconv.adapters.torch import Conv2d
    >>> layer = Conv2d(3, 8, 3, padding="same", padding_mode="reflect")
    >>> layer(torch.ones(2, 3, 16, 16)).shape
    torch.Size([2, 8, 16, 16])
    >>> theirs = torch.nn.Conv2d(3, 8, 3, padding="same", padding_mode="reflect")
    >>> theirs.load_state_dict(layer.state_dict())
    <All keys matched successfully>
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Steps,
        stride: Steps = 1,
        padding: Mode = 0,
        dilation: Steps = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if in_channels is None:
            raise TypeError(
                "in_channels must be an integer, got None; LazyConv2d reads it off the first input"
            )
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias,
            padding_mode, device=device, dtype=dtype,
        )  # fmt: skip

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Result for images of shape (N, C, h, w) or (C, h, w)."""
        result: torch.Tensor = self._conv_forward(input, self.weight, self.bias)
        return result

    # Under torch's name, because subclasses call it with weights that they compute.
    def _conv_forward(
        self, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
    ) -> torch.Tensor:
        padding = self.padding
        if self.padding_mode != "zeros":
            sides = self._reversed_padding_repeated_twice
            input = torch.nn.functional.pad(input, sides, mode=self.padding_mode)
            padding = 0
        return nn.conv2d(input, weight, bias, self.stride, padding, self.dilation, self.groups)


class LazyConv2d(torch.nn.LazyConv2d, Conv2d):  # type: ignore[misc]
    """`torch.nn.LazyConv2d`, computed by `gpuconv.nn.conv2d`.

    It takes its number of input channels from the first input and then becomes a `Conv2d`.

    Parameters
    ----------
    out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, device, dtype
        As in `Conv2d`.

    Examples
    --------
    The layer of the chapter "Convolutions for Images" of *Dive into Deep Learning*:

    >>> import torch
    >>> from gpuconv.adapters.torch import LazyConv2d
    >>> X = torch.ones(1, 1, 6, 8)
    >>> X[..., 2:6] = 0
    >>> Y = X[..., :-1] - X[..., 1:]
    >>> _ = torch.manual_seed(0)
    >>> conv2d = LazyConv2d(1, kernel_size=(1, 2), bias=False)
    >>> for _ in range(20):
    ...     loss = ((conv2d(X) - Y) ** 2).sum()
    ...     conv2d.zero_grad()
    ...     loss.backward()
    ...     conv2d.weight.data[:] -= 3e-2 * conv2d.weight.grad
    >>> (conv2d.weight.data.reshape(1, 2) - torch.tensor([[1.0, -1.0]])).abs().max() < 0.1
    tensor(True)
    """

    cls_to_become = Conv2d
