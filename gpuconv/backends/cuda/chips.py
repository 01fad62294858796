"""The properties of a GPU that plans depend on: compute capability, multiprocessors, memory."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Chip:
    """The limits of a GPU that tiles and launches depend on."""

    capability: int  # compute capability, 90 for 9.0
    multiprocessors: int
    block_bytes: int  # shared memory that a block may ask for
    shared_bytes: int  # shared memory of a multiprocessor


# Shared memory by compute capability, in KiB: the most for a block, and all of a multiprocessor
# (tables of the CUDA C++ Programming Guide). The runtime takes 1 KiB for each block.
_SHARED_KIB = {
    70: (96, 96), 72: (96, 96), 75: (64, 64), 80: (163, 164), 86: (99, 100), 87: (163, 164),
    89: (99, 100), 90: (227, 228), 100: (227, 228), 103: (227, 228), 110: (227, 228),
    120: (99, 100), 121: (99, 100),
}  # fmt: skip


def chip(capability: int, multiprocessors: int) -> Chip:
    """Return the limits of a GPU; one that is not in the table gets the smallest since sm_75."""
    block, whole = _SHARED_KIB.get(capability, (64, 64))
    return Chip(capability, multiprocessors, block << 10, whole << 10)


HOPPER = chip(90, 132)  # an H100
