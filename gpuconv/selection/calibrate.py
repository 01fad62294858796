"""Measures the costs of this machine's CPU, which `gpuconv calibrate` keeps with `costs.save`."""

from __future__ import annotations

import math
import platform
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..backends import get_backend
from ..backends.base import Costs
from ..core.problem import Problem, make_problem
from .costs import shipped

__all__ = ["about", "measure"]

_SIDE, _SMALL = 1024, 64
_DIRECT = (3, 7, 11, 15, 21)  # sides of the kernels that pixel, tap and row are fitted to
_ROUNDS_MIN = 3
_SMALL_CALLS = 20  # timed together: one alone is too short for the clock
# Other processes lengthen many calls, often more than half of them: the fastest tenth counts.
_UNDISTURBED = 0.1
# Measured costs are clipped to the shipped ones times these factors.
_LEAST, _MOST = 1e-2, 1e3


# `gpuconv.corr2d`, which is above this module.
Correlate = Callable[..., Any]


class _Timed:
    """A call that is timed repeatedly: its arrays, its problem, its times."""

    def __init__(
        self, correlate: Correlate, n: int, side: int, kernel: int, method: str,
        dtype: str = "float32",
    ) -> None:  # fmt: skip
        self.correlate = correlate
        rng = np.random.default_rng(0)
        self.x = rng.standard_normal((n, side, side)).astype(dtype)
        self.k = np.outer(*rng.uniform(0.5, 1.0, (2, kernel))).astype(dtype)
        self.problem: Problem = make_problem(self.x.shape, self.k.shape, dtype, dtype)
        self.out = np.empty(self.problem.out_shape, dtype)
        self.method, self.outputs = method, self.out.size
        self.repeats = _SMALL_CALLS if side == _SMALL else 1
        self.times: list[float] = []

    def run(self) -> None:
        """Call, and note how long it took."""
        start = time.perf_counter()
        for _ in range(self.repeats):
            self.correlate(self.x, self.k, method=self.method, backend="cpu", out=self.out)
        self.times.append((time.perf_counter() - start) / self.repeats)

    @property
    def seconds(self) -> float:
        """Time of an undisturbed call."""
        return float(np.quantile(self.times, _UNDISTURBED))


def measure(correlate: Correlate, *, seconds: float = 6.0) -> Costs:
    """Measure the CPU's costs on this machine.

    The calls of all kinds take turns, so that whatever else the machine does affects them alike. It
    should do little: where every core is busy, the costs come out too high.

    Parameters
    ----------
    correlate : callable
        What to time: `gpuconv.corr2d`.
    seconds : float
        How long to measure, after compilation. Every call is timed three times at least.

    Returns
    -------
    Costs
        Those of one thread for sums in float32, as `costs.save` takes them.

    Examples
    --------
    >>> import gpuconv
    >>> from gpuconv.selection.calibrate import measure
    >>> measure(gpuconv.corr2d).tap < 1e-9  # doctest: +SKIP
    True
    """
    from scipy.optimize import nnls

    if not 0 <= seconds < math.inf:
        raise ValueError(f"seconds must be a finite number from 0 on, got {seconds!r}")
    cpu = get_backend("cpu")
    workers, timed_call = cpu.threads(), partial(_Timed, correlate)
    # Enough for each thread, or starting threads would be taken for the pixels' cost.
    images = min(max(1, workers // 4), 16)
    direct = {side: timed_call(images, _SIDE, side, "direct") for side in _DIRECT}
    double = timed_call(images, _SIDE, 15, "direct", "float64")
    passes = timed_call(images, _SIDE, 31, "separable")
    tiles = timed_call(images, _SIDE, 31, "fft")
    small, small_tiles = timed_call(1, _SMALL, 3, "direct"), timed_call(1, _SMALL, 9, "fft")
    calls = [*direct.values(), double, passes, tiles, small, small_tiles]
    for timed in calls:  # compiles, and plans
        timed.run()
        timed.times.clear()
    end = time.perf_counter() + seconds
    while len(calls[0].times) < _ROUNDS_MIN or time.perf_counter() < end:
        for timed in calls:
            timed.run()
    if any(timed.seconds > 3 * min(timed.times) for timed in calls):
        warnings.warn("the machine was busy, the costs are too high; measure again", stacklevel=2)

    def an_output(timed: _Timed) -> float:
        return workers * timed.seconds / timed.outputs

    # An output's direct sum costs a pixel, its taps, and its rows of taps; errors are relative.
    found = np.array([an_output(timed) for timed in direct.values()])
    parts = np.array([
        (cpu.pixel_share(timed.problem), side * side, side) for side, timed in direct.items()
    ])  # fmt: skip
    solved = nnls(parts / found[:, None] * 1e-12, np.ones(len(found)))[0] * 1e-12  # well scaled
    costs = {name: _sane(name, x) for name, x in zip(("pixel", "tap", "row"), solved, strict=True)}
    pixel, tap, row = costs.values()

    def a_pixel(timed: _Timed) -> float:
        return pixel * cpu.pixel_share(timed.problem)

    # `Costs.of` lets a row of taps cost more in float64 by the factor its taps do.
    doubled = (an_output(double) - 2 * a_pixel(double)) / (15 * 15 + 15 * row / tap)
    costs["tap_double"] = _sane("tap_double", doubled)
    costs["separable"] = _sane("separable", (an_output(passes) - 2 * a_pixel(passes)) / (31 + 31))
    fft = _sane("fft", workers * tiles.seconds / cpu.fft_work(tiles.problem))
    # Calls this small run on one thread.
    call = small.seconds - small.outputs * (a_pixel(small) + 9 * tap + 3 * row)
    fft_call = small_tiles.seconds - fft * cpu.fft_work(small_tiles.problem)
    costs |= {"fft": fft, "call": _sane("call", call), "fft_call": _sane("fft_call", fft_call)}
    return Costs(**costs)


def _sane(name: str, value: float) -> float:
    expected = asdict(shipped())[name]
    return float(min(max(value, _LEAST * expected), _MOST * expected))


def about() -> dict[str, Any]:
    """Say what was measured, where and when: kept beside the costs for a reader."""
    import numba

    return {
        "machine": platform.platform(),
        "cpu": _cpu_name(),
        "threads": get_backend("cpu").threads(),
        "numpy": np.__version__,
        "numba": numba.__version__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(errors="replace").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
