"""How fast compiled code could be: what it must move, issue and read, against what a chip can.

Five times, and the largest is the prediction. Tiles that lie beside each other are worked on at
about the same time, so the pixels that they share come from device memory once and from the second
level cache as often as they are read. Nothing waits in this model: latencies, barriers,
bank conflicts and the last wave of blocks are left out, so it is what the code cannot exceed, not
what it will reach.
"""

from __future__ import annotations

from dataclasses import dataclass

from .chips import SCHEDULERS, WARP, Chip
from .sass import Function, per_byte


@dataclass(frozen=True)
class Work:
    """What a launch does in all, counted from the problem and its tiles."""

    outputs: int
    taps: int  # useful multiply-adds
    phases: tuple[int, ...]  # multiply-adds that the code does, stage by stage, whole tiles
    read: int  # bytes, each pixel once
    written: int
    loaded: int  # bytes of all tiles with their halos
    stored: int  # bytes of shared memory that they take


@dataclass(frozen=True)
class Prediction:
    """Seconds by what takes them, and shares of the chip's limits."""

    seconds: dict[str, float]
    copy: float  # share of the bandwidth of a copy, each pixel read and written once
    peak: float  # share of the multiply-adds a second

    @property
    def by(self) -> str:
        return max(self.seconds, key=lambda name: self.seconds[name])


def predict(work: Work, code: Function, chip: Chip) -> Prediction:
    kind, issued, wavefronts = code.kind, 0.0, work.stored / 128
    regions = code.phases(len(work.phases))
    adds = work.phases if len(regions) > 1 else (sum(work.phases),)
    for region, number in zip(regions, adds, strict=True):
        times = number / region.adds(kind) / WARP  # how often a warp runs it
        issued += times * len(region)
        wavefronts += times * region.wavefronts("LDS", "LDSM")
    loading = code.loading()
    if loading is not None:
        issued += work.loaded * per_byte(loading) / WARP
    seconds = {
        "memory": (work.read + work.written) / chip.copy,
        "second level": (work.loaded + work.written) / chip.second_level,
        "issue": issued / (SCHEDULERS * chip.clocks),
        "shared": wavefronts / chip.clocks,
        "multiply-adds": sum(work.phases) / chip.peak(kind),
    }
    most = max(seconds.values())
    return Prediction(
        seconds,
        (work.read + work.written) / chip.copy / most,
        work.taps / chip.peak(kind) / most,
    )
