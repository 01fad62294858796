"""Gradients of `corr2d`: with respect to the image and with respect to the weights.

Both are correlations again. The input gradient correlates the output's gradient with the flipped
kernel, phase by phase of the stride, and adds what falls on a border to the pixels that the border
is made of. The weight gradient correlates the image with the output's gradient, a "kernel" as large
as an image, for which every backend has a hook of its own (`weight_gradient`).
"""

from .vjp import corr2d_vjp, correlation_gradients

__all__ = ["corr2d_vjp", "correlation_gradients"]
