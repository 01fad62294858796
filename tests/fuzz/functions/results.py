"""What a call gives and leaves as it was, and whether that is right."""

import numpy as np

from ..check import Failure, check_kind, inside_parts, raised, same
from .arrays import placed


class Output:
    """An array to write to, and the memory around it."""

    def __init__(self, shape, dtype, layout):
        self.mark = np.frombuffer(b"\1" if dtype.kind == "b" else b"\x5a" * 16, dtype)[0]
        self.array, self.base = placed(np.full(shape, self.mark), layout)
        self.before = self.base.tobytes()

    def read(self, result):
        """A copy of the result, if it is in this array and nothing around it was written."""
        if result is not self.array:
            raise Failure("out", "another array was returned")
        found = result.copy()
        result[...] = self.mark
        if self.base.tobytes() != self.before:
            raise Failure("out", "memory beside out was written")
        return found


def called(call, inputs, bases, out=None):
    """A copy of what a call gives, which leaves its inputs alone and gives the same bits again."""
    before = [base.tobytes() for base in bases]
    found = []
    for _ in range(3):  # calls are prepared, kept, and then repeated
        try:
            result = call(*inputs, **({} if out is None else {out[0]: out[1].array}))
        except Exception as error:
            raise raised(error) from error
        if before != [base.tobytes() for base in bases]:
            raise Failure("inputs", "an input was written")
        found.append(np.array(result) if out is None else out[1].read(result))
    if not all(same(found[0], other) for other in found[1:]):
        raise Failure("repeat", "the same call gave other bits")
    return found[0]


def compare(found, exact, error, certain, name, touched=None):
    """Raise `Failure` unless results are within the errors, and not finite where `touched`."""
    check_kind(found, exact.shape, name)
    with np.errstate(all="ignore"):
        inside_parts(found, exact, error, certain, name, "values")
        if touched is not None and found.dtype.kind not in "biu":
            values = found.astype(np.float32) if name == "bfloat16" else found
            if np.isfinite(values)[touched].any():
                raise Failure("bad pixels", "a window with a NaN or Inf gave a finite number")
