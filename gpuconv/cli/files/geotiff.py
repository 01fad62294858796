"""Map coordinates of a GeoTIFF that follow its pixels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from .metadata import Geometry, Tag

__all__ = ["move_geotiff"]

_SCALE, _TIEPOINTS, _TRANSFORMATION, _KEYS, _RPC = 33550, 33922, 34264, 34735, 50844
_RASTER_TYPE, _POINT = 1025, 2


def move_geotiff(tags: tuple[Tag, ...], geometry: Geometry) -> tuple[tuple[Tag, ...], list[str]]:
    """Return the tags for outputs that lie as `geometry` says, and what is lost."""
    if geometry.is_identity:
        return tags, []
    moved, lost = [], []
    centre = 0.0 if _is_point(tags) else 0.5  # where a pixel's centre is in raster coordinates
    stride = geometry.stride
    down, across = geometry.offset

    def to_output(position: Any, offset: int) -> Any:
        return (position - centre - offset) / stride + centre

    for tag in tags:
        if tag.code == _SCALE:
            x, y, *rest = tag.value
            moved.append(replace(tag, value=(x * stride, y * stride, *rest)))
        elif tag.code == _TIEPOINTS:
            points = np.array(tag.value, np.float64).reshape(-1, 6)
            points[:, 0] = to_output(points[:, 0], across)
            points[:, 1] = to_output(points[:, 1], down)
            moved.append(replace(tag, value=tuple(points.ravel().tolist())))
        elif tag.code == _TRANSFORMATION:
            to_input = np.diag([stride, stride, 1.0, 1.0])
            to_input[0, 3] = centre + across - stride * centre
            to_input[1, 3] = centre + down - stride * centre
            matrix = np.array(tag.value, np.float64).reshape(4, 4) @ to_input
            moved.append(replace(tag, value=tuple(matrix.ravel().tolist())))
        elif tag.code == _RPC:
            lost.append("RPC coefficients")
        else:
            moved.append(tag)
    return tuple(moved), lost


def _is_point(tags: tuple[Tag, ...]) -> bool:
    for tag in tags:
        if tag.code == _KEYS:
            keys = np.array(tag.value, np.int64).reshape(-1, 4)
            return any(key[0] == _RASTER_TYPE and key[3] == _POINT for key in keys)
    return False
