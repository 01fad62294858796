"""gpuconv.ndimage and gpuconv.signal against SciPy's functions, which use one thread."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.ndimage
import scipy.signal

from gpuconv import ndimage, signal

from .report import Cell, Check, ratio
from .timing import compare

HEAD = ("call", "ours ms", "SciPy ms", "SciPy / ours", "target")
SHAPES = ((2048, 2048), (512, 512, 512))
FILTERS = {
    "gaussian_filter": (1.0,),
    "uniform_filter": (5,),
    "sobel": (0,),
    "laplace": (),
}
TARGET = 3.0


def filter_calls(name: str, x):
    """Our call and SciPy's, which write to the same array."""
    output, arguments = np.zeros_like(x), FILTERS[name]
    return {
        "ours": lambda: getattr(ndimage, name)(x, *arguments, output=output),
        "SciPy": lambda: getattr(scipy.ndimage, name)(x, *arguments, output=output),
    }


def signal_calls(name: str, x, k):
    return {
        "ours": lambda: getattr(signal, name)(x, k, "same"),
        "SciPy": lambda: getattr(scipy.signal, name)(x, k, "same"),
    }


def list_calls(quick: bool):
    """Yield names of calls and of inputs, and the contenders."""
    rng = np.random.default_rng(0)
    for shape in ((40, 50),) if quick else SHAPES:
        for dtype in ("uint8", "float32"):
            x = (255 * rng.random(shape, np.float32)).astype(dtype)
            for name, arguments in FILTERS.items():
                call = f"{name}({', '.join(map(str, ('x', *arguments)))})"
                yield call, f"{'x'.join(map(str, shape))} {dtype}", filter_calls(name, x)
    x = rng.random((40, 50) if quick else (1024, 1024), np.float32)
    for name, side in (("convolve2d", 7), ("fftconvolve", 65), ("oaconvolve", 65)):
        k = rng.random((side, side), np.float32)
        shape = f"{'x'.join(map(str, x.shape))} float32"
        yield f"{name}(x, {side}x{side})", shape, signal_calls(name, x, k)


def cells(suite: str, quick: bool = False, threads: int = 2) -> Iterator[Cell]:
    hurry = {"rounds": 2, "seconds": 0.01} if quick else {}
    for call, shape, contenders in list_calls(quick):
        found = compare(contenders, **hurry)
        ours, theirs = found["ours"], found["SciPy"]
        times = ratio(theirs, ours)
        is_filter = call.startswith(tuple(FILTERS)) and not quick
        checks = (Check("SciPy / ours", times, TARGET),) if is_filter else ()
        verdict = "; ".join(map(str, checks))
        row = f"{call}, {shape}", str(ours), str(theirs), f"{times:.2f}", verdict
        yield Cell(row, checks)
