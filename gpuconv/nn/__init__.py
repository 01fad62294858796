"""Convolution layers with gradients: `conv2d`, `conv2d_vjp`, `Conv2D`."""

from __future__ import annotations

from .layers import Conv2D, conv2d, conv2d_vjp

__all__ = ["Conv2D", "conv2d", "conv2d_vjp"]
