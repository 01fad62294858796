"""``gpuconv demo``: small examples, then a photo filtered, with the methods, backends and times."""

from __future__ import annotations

import time
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np

import gpuconv

from .pictures import WriteError, read_picture, write_picture

__all__ = ["run"]


def _print_array(title: str, array: Any) -> None:
    print(f"{title}\n{np.array2string(array)}\n")


def _worked_examples(backend: str) -> None:
    image, kernel = np.arange(9).reshape(3, 3), np.arange(4).reshape(2, 2)
    _print_array(
        "corr2d of 0..8 with [[0, 1], [2, 3]]:", gpuconv.corr2d(image, kernel, backend=backend)
    )
    edges = np.ones((6, 8), int)
    edges[:, 2:6] = 0
    _print_array("A white image with a black band:", edges)
    _print_array(
        "its vertical edges:", gpuconv.corr2d(edges, gpuconv.filters.edge(), backend=backend)
    )


def run(folder: Path, backend: str) -> None:
    """Write the photo and three filtered pictures into `folder` and print a table."""
    _worked_examples(backend)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(f"{folder}: cannot be made: {error.strerror}") from error
    with as_file(files("gpuconv") / "data" / "photo.png") as path:
        photo = read_picture(path)
    write_picture(folder / "photo.png", photo)
    planes = np.ascontiguousarray(np.moveaxis(photo, -1, 0))
    filters = {
        "edge": gpuconv.filters.sobel(),
        "blur": gpuconv.filters.gaussian(4.0),
        "sharpen": gpuconv.filters.sharpen(2.0, 1.5),
    }
    row = "{:<9}{:>14}{:>9}  {:<11}{:<10}{:>11}{:>9}{:>11}"
    head = ("picture", "size", "kernel", "method", "backend", "first ms", "ms", "Mpixel/s")
    print(row.format(*head))
    for name, kernel in filters.items():
        keywords: dict[str, Any] = dict(mode="same", boundary="symmetric", backend=backend)
        plan = gpuconv.plan(
            planes.shape, kernel.shape, x_dtype=planes.dtype, kernel=kernel, **keywords
        )
        start = time.perf_counter()
        result = gpuconv.corr2d(planes, kernel, **keywords)
        first = time.perf_counter() - start
        times = []
        for _ in range(5 if first < 2 else 1):
            start = time.perf_counter()
            result = gpuconv.corr2d(planes, kernel, **keywords)
            times.append(time.perf_counter() - start)
        seconds = sorted(times)[len(times) // 2]
        picture = np.abs(result) if name == "edge" else result
        picture = np.clip(np.rint(picture), 0, 255).astype(np.uint8)
        write_picture(folder / f"{name}.png", np.ascontiguousarray(np.moveaxis(picture, 0, -1)))
        print(
            row.format(
                name,
                "x".join(map(str, planes.shape)),
                "x".join(map(str, kernel.shape)),
                plan.method,
                plan.backend,
                f"{first * 1e3:.1f}",
                f"{seconds * 1e3:.2f}",
                f"{planes.size / seconds / 1e6:.0f}",
            )
        )
    print(f"\nThe first call compiles; later processes find the code on disk. Pictures: {folder}")
