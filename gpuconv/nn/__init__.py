"""Convolution layers with gradients: `conv2d`, `conv2d_vjp`, `Conv2D`."""

from __future__ import annotations

from .functions import conv2d, conv2d_vjp
from .layer import Conv2D

__all__ = ["Conv2D", "conv2d", "conv2d_vjp"]
