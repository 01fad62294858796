"""Reads what nvdisasm prints of a kernel: loops, multiply-adds, loads and stores by width."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

_FUNCTION = re.compile(r"^\.text\.(\S+):")
_LABEL = re.compile(r"^\s*(\.L\S*):")
_INSTRUCTION = re.compile(
    r"^\s*/\*([0-9a-f]+)\*/\s+\{?\s*(?:(@!?U?P\w)\s+)?([A-Z][\w.]*)\s*(.*?)\s*;"
)
_TARGET = re.compile(r"`\((\.L[^)]*)\)")
_TENSOR = re.compile(r"\.(16|8)(8)(4|8|16|32|64)\b")

# Multiply-adds of one thread in one instruction; the tensor cores' follow from their shape.
_ADDS = {"FFMA": 1, "FFMA2": 2, "DFMA": 1, "HFMA2": 2}
_TENSORS = ("HMMA", "IMMA", "DMMA")
_BYTES = {"U8": 1, "S8": 1, "U16": 2, "S16": 2, "64": 8, "128": 16, "256": 32}


@dataclass(frozen=True)
class Instruction:
    address: int
    opcode: str  # with its modifiers
    operands: str
    predicate: str = ""

    @cached_property
    def parts(self) -> list[str]:
        return self.opcode.split(".")

    @property
    def name(self) -> str:
        return self.parts[0]

    @cached_property
    def bytes(self) -> int:
        """Of one thread, for loads and stores."""
        if self.name == "LDSM":
            return 4 * int(self.parts[-1]) if self.parts[-1].isdigit() else 4
        return next((_BYTES[part] for part in self.parts if part in _BYTES), 4)

    def adds(self, kind: str) -> int:
        """Multiply-adds of one thread, of a kind (`KINDS`)."""
        if kind == "IMAD":
            # A product of 64 bits has one of these, whatever else it needs.
            return int(self.opcode == "IMAD.WIDE.U32")
        if kind == "HMMA":
            shape = _TENSOR.search(self.opcode) if self.name in _TENSORS else None
            return int(shape[1]) * int(shape[2]) * int(shape[3]) // 32 if shape else 0
        if self.name == "HFMA2" and "RZ, RZ" in self.operands:
            return 0  # how the compiler writes a constant into a register
        return _ADDS.get(self.name, 0) if self.name.startswith(kind) else 0


KINDS = ("HMMA", "DFMA", "FFMA", "HFMA2", "IMAD")


@dataclass(frozen=True)
class Region:
    """Instructions that run one after another, once or as the body of a loop."""

    instructions: tuple[Instruction, ...]
    loop: bool

    def __len__(self) -> int:
        return len(self.instructions)

    def adds(self, kind: str) -> int:
        """Multiply-adds of one thread.

        Every kernel computes addresses by IMAD: those count only beside loads from shared memory.
        """
        if kind == "IMAD" and not self.named("LDS"):
            return 0
        return sum(i.adds(kind) for i in self.instructions)

    def named(self, *names: str) -> list[Instruction]:
        return [i for i in self.instructions if i.name in names]

    def widths(self, *names: str) -> dict[int, int]:
        """How many loads or stores there are of each width in bytes."""
        return dict(sorted(Counter(i.bytes for i in self.named(*names)).items()))

    def operands(self, kind: str, pattern: str) -> int:
        """Multiply-adds with an operand of the constant bank, or of a uniform register."""
        found = re.compile(pattern)
        return sum(i.adds(kind) for i in self.instructions if found.search(i.operands))

    def wavefronts(self, *names: str) -> int:
        """Passes of a warp through shared memory, 128 bytes each, if no two threads collide."""
        return sum(max(1, i.bytes // 4) for i in self.named(*names))


CONSTANT, UNIFORM = r"\bc\[", r"\bUR\d"


@dataclass(frozen=True)
class Function:
    name: str
    instructions: tuple[Instruction, ...]
    labels: dict[str, int]

    @cached_property
    def loops(self) -> list[tuple[int, int]]:
        """First and last address of every loop, by its backward branches; inner ones first."""
        ends: dict[int, int] = {}
        for i in self.instructions:
            target = _TARGET.search(i.operands) if i.name in ("BRA", "BRX", "JMP") else None
            start = self.labels.get(target[1]) if target else None
            # A branch to itself is how code ends.
            if start is not None and start < i.address:
                ends[start] = max(i.address, ends.get(start, 0))
        return sorted(ends.items(), key=lambda pair: pair[1] - pair[0])

    @cached_property
    def regions(self) -> list[Region]:
        """Every loop's body without the loops in it, and last what is in no loop."""
        left = {i.address: i for i in self.instructions}
        found = []
        for start, end in self.loops:
            body = [a for a in left if start <= a <= end]
            found.append(Region(tuple(left.pop(a) for a in body), True))
        found.append(Region(tuple(left.values()), False))
        return [region for region in found if len(region)]

    @property
    def whole(self) -> Region:
        return Region(self.instructions, False)

    @cached_property
    def kind(self) -> str:
        """The multiply-adds that this function is about."""
        if any(i.adds("HMMA") for i in self.instructions):
            return "HMMA"
        counts = {kind: self.whole.adds(kind) for kind in KINDS}
        floats = {kind: n for kind, n in counts.items() if kind != "IMAD" and n}
        return max(floats, key=lambda kind: floats[kind]) if floats else "IMAD"

    def hot(self, kind: str | None = None) -> Region:
        """The region with most multiply-adds; the smaller of two that have as many."""
        kind = kind or self.kind
        return max(self.regions, key=lambda region: (region.adds(kind), -len(region)))

    def phases(self, number: int) -> list[Region]:
        """The hot regions between barriers, in order, if there are exactly so many; else the one.

        Code that goes through several stages has a barrier between them.
        """
        if number > 1:
            found = [part.hot(self.kind) for part in self._between_barriers()]
            found = [region for region in found if region.adds(self.kind)]
            if len(found) == number:
                return found
        return [self.hot()]

    def _between_barriers(self) -> Iterable[Function]:
        part: list[Instruction] = []
        for i in self.instructions:
            part.append(i)
            if i.name == "BAR":
                yield Function(self.name, tuple(part), self.labels)
                part = []
        yield Function(self.name, tuple(part), self.labels)

    def loading(self) -> Region | None:
        """The loop that loads a byte with fewest instructions, if any only loads.

        A kernel has several where it treats what lies beside the image apart; most tiles are inside
        and take the fastest. Loops with multiply-adds sum, unless they copy asynchronously: sums of
        integers use the instruction that computes addresses.
        """
        loads = [
            r for r in self.regions
            if r.loop and (r.named("LDGSTS") or (r.named("LDG") and not r.adds(self.kind)))
        ]  # fmt: skip
        return min(loads, key=per_byte, default=None)


def per_byte(region: Region) -> float:
    """Instructions of a loop for each byte that it loads from device memory."""
    return len(region) / sum(i.bytes for i in region.named("LDG", "LDGSTS"))


def parse(text: str) -> dict[str, Function]:
    """Functions by name, from ``nvdisasm -c``."""
    found: dict[str, Function] = {}
    name, waiting = "", list[str]()
    instructions: list[Instruction] = []
    labels: dict[str, int] = {}

    def finish() -> None:
        if name and instructions:
            found[name] = Function(name, tuple(instructions), dict(labels))

    for line in text.splitlines():
        if match := _FUNCTION.match(line):
            finish()
            name, waiting, instructions = match[1], [], []
            labels.clear()
        elif match := _LABEL.match(line):
            waiting.append(match[1])
        elif match := _INSTRUCTION.match(line):
            address = int(match[1], 16)
            labels.update(dict.fromkeys(waiting, address))
            waiting = []
            if match[3] == "NOP":
                continue  # what fills the last cache line
            instructions.append(Instruction(address, match[3], match[4], match[2] or ""))
    finish()
    return found
