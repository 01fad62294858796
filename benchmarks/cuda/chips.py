"""What a multiprocessor holds, how many blocks of a kernel fit, and what a whole chip can do."""

from __future__ import annotations

from dataclasses import dataclass, field

WARP = 32
REGISTERS = 65536  # of a multiprocessor, on every chip below
SCHEDULERS = 4  # each with a quarter of the registers, issuing one instruction a clock
_REGISTER_UNIT = 256  # registers are given to a warp in pieces of


@dataclass(frozen=True)
class Limits:
    """Of one multiprocessor: CUDA's technical specifications per compute capability."""

    threads: int
    blocks: int
    shared: int  # KiB
    block_shared: int  # KiB, the most that one block may ask for
    reserved: int  # bytes the system takes for every block
    shared_unit: int  # bytes shared memory is given in pieces of


LIMITS = {
    75: Limits(1024, 16, 64, 64, 0, 256),
    80: Limits(2048, 32, 164, 163, 1024, 128),
    86: Limits(1536, 16, 100, 99, 1024, 128),
    89: Limits(1536, 24, 100, 99, 1024, 128),
    90: Limits(2048, 32, 228, 227, 1024, 128),
    100: Limits(2048, 32, 228, 227, 1024, 128),
    120: Limits(1536, 24, 100, 99, 1024, 128),
}


@dataclass(frozen=True)
class Occupancy:
    blocks: int  # on one multiprocessor at a time
    share: float  # of the threads it can hold
    by: str  # what keeps more blocks out


def occupancy(arch: int, threads: int, registers: int, shared: int) -> Occupancy:
    """How many blocks of so many threads, registers a thread and bytes of shared memory fit."""
    if arch not in LIMITS:
        raise ValueError(f"no limits are known for sm_{arch}; there are {sorted(LIMITS)}")
    limits = LIMITS[arch]
    if shared > limits.block_shared * 1024:
        raise ValueError(
            f"{shared} bytes of shared memory are more than a block may have on sm_{arch}: "
            f"{limits.block_shared} KiB"
        )
    warps = -(-threads // WARP)
    of_warp = _up(registers * WARP, _REGISTER_UNIT)
    each = _up(shared + limits.reserved, limits.shared_unit)
    fits = {
        "threads": limits.threads // WARP // warps,
        "registers": REGISTERS // SCHEDULERS // of_warp * SCHEDULERS // warps,
        "shared memory": limits.shared * 1024 // each if each else limits.blocks,
        "blocks": limits.blocks,
    }
    by = min(fits, key=lambda name: fits[name])
    return Occupancy(fits[by], fits[by] * warps * WARP / limits.threads, by)


def _up(value: int, unit: int) -> int:
    return -(-value // unit) * unit


@dataclass(frozen=True)
class Chip:
    """A whole chip, for the model of `model.py`."""

    name: str
    arch: int
    multiprocessors: int
    ghz: float
    datasheet: float  # bytes a second
    copy: float  # bytes a second of a copy from device memory to device memory, as measured
    second_level: float  # bytes a second from the second level cache, as published measurements say
    # Multiply-adds a clock and multiprocessor, by what `sass.py` calls them; of tensor cores as the
    # datasheet has it, which instructions of a single warp do not reach.
    lanes: dict[str, int] = field(hash=False)

    def peak(self, kind: str) -> float:
        """Multiply-adds a second."""
        return self.multiprocessors * self.ghz * 1e9 * self.lanes[kind]

    @property
    def clocks(self) -> float:
        """Clocks a second of all multiprocessors together."""
        return self.multiprocessors * self.ghz * 1e9


H100 = Chip(
    "H100 SXM", 90, 132, 1.755, 3.35e12, 3.0e12, 5.5e12,
    {"FFMA": 128, "DFMA": 64, "IMAD": 64, "HFMA2": 256, "HMMA": 2048},
)  # fmt: skip
CHIPS = {chip.arch: chip for chip in (H100,)}
