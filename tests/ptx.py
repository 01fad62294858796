"""Reads PTX: which registers may be read before anything was written to them.

A loop that carries such a register from round to round is what ptxas has compiled wrongly: it took
the value of the round before for that of this one.
"""

import heapq
import re

_REGISTER = re.compile(r"%[a-z]+\d+")
_INSTRUCTION = re.compile(r"^(?:@!?(%p\d+) )?([\w.:]+)\s*(.*);$")
# Instructions whose operands are all read.
_WRITES_NOTHING = (
    "st.",
    "bar.",
    "bra",
    "ret",
    "cp.async",
    "red.",
    "membar",
    "exit",
    "call",
    "trap",
)


class _Block:
    def __init__(self):
        self.instructions = []  # of each: registers read, registers written for certain
        self.next = []  # labels, and the number of the block that follows


def _operands(opcode, text):
    """Registers that an instruction reads and those it writes."""
    if opcode.startswith(_WRITES_NOTHING) and not opcode.startswith("bar.red"):
        return set(_REGISTER.findall(text)), set()
    # What is written comes first: a register, a pair `p|q`, or a group in braces.
    end = text.find("}") + 1 if text.startswith("{") else text.find(",")
    first, rest = (text[:end], text[end:]) if end > 0 else (text, "")
    written = set(_REGISTER.findall(first))
    return set(_REGISTER.findall(rest)), written


def _statements(body):
    """Labels and instructions, without comments, declarations and the braces of calls."""
    for part in re.split(r"(?<=;)|(?<=:)\s*\n", re.sub(r"//[^\n]*", "", body)):
        line = " ".join(part.split()).lstrip("{} ")
        if line and not line.startswith("."):
            yield line


def _blocks(body):
    blocks, labels = [_Block()], {}
    for line in _statements(body):
        if line.endswith(":"):
            labels[line[:-1]] = len(blocks)
            blocks[-1].next.append(len(blocks))
            blocks.append(_Block())
            continue
        guard, opcode, text = _INSTRUCTION.match(line).groups()
        read, written = _operands(opcode, text)
        if guard:
            read, written = read | {guard}, set()  # it may not be executed
        blocks[-1].instructions.append((line, read, written))
        if opcode.startswith("bra"):
            blocks[-1].next.append(text.split()[-1])
        if guard and opcode.startswith("bra"):
            blocks[-1].next.append(len(blocks))
        if opcode.startswith(("bra", "ret", "exit")):
            blocks.append(_Block())
    for block in blocks:
        block.next = [n if isinstance(n, int) else labels[n] for n in block.next]
    return blocks


def _written_before(blocks):
    """Of each block, the registers that are written on every way to it; None if there is no way."""
    writes = [set().union(*(written for _, _, written in b.instructions)) for b in blocks]
    before = [None] * len(blocks)
    before[0] = set()
    waiting = [0]  # a heap: in the order of the text few blocks are looked at twice
    while waiting:
        number = heapq.heappop(waiting)
        after = before[number] | writes[number]
        for n in blocks[number].next:
            if n >= len(blocks) or (before[n] is not None and before[n] <= after):
                continue
            before[n] = after if before[n] is None else before[n] & after
            if n not in waiting:
                heapq.heappush(waiting, n)
    return before


def read_before_written(ptx):
    """Lines that read a register to which, on some way there, nothing was written."""
    found = []
    for body in re.findall(r"\.(?:entry|func)[^{;]*?\{(.*?)^\}", ptx, re.DOTALL | re.MULTILINE):
        blocks = _blocks(body)
        for block, before in zip(blocks, _written_before(blocks), strict=True):
            if before is None:
                continue
            have = set(before)
            for line, read, written in block.instructions:
                # Packs two registers, of which one may be for no one to read.
                packs = line.startswith("mov.b64") and line.endswith("};")
                if not read <= have and not packs:
                    found.append(line)
                have |= written
    return found
