"""What torch's users import: functions of tensors and layers. It needs torch to be installed."""

from __future__ import annotations

from .torch_functions import conv2d, corr2d
from .torch_layers import Conv2d, LazyConv2d

__all__ = ["Conv2d", "LazyConv2d", "conv2d", "corr2d"]
