"""Arguments that make no sense: what comes of them is a result or one clear error.

A call is a function's name and its arguments as Python expressions, so that it can be printed, run
again and made smaller. It must end in a result, or in a ValueError, a TypeError, a MemoryError or a
BackendUnavailable with a message, without a warning, in bounded work and memory.
"""

import inspect
import json
import random
import warnings
from dataclasses import dataclass, field, replace

import numpy as np

import gpuconv

from . import work
from .check import Failure

_NAMES = {"np": np, "gpuconv": gpuconv, "nan": float("nan"), "inf": float("inf")}

_VALUES = (
    "None", "True", "False", "0", "-1", "1", "2", "1.5", "1.0", "-0.0", "nan", "inf", "-inf",
    "1e300", "1j", "10**400", "-(10**400)", "2**31", "2**40", "2**62", "2**63", "2**64", "-(2**63)",
    "''", "'1'", "'same'", "'nonsense'", "b'valid'", "()", "[]", "(1,)", "(1, 2)", "(1, 2, 3)",
    "((1, 2), (3, 4))", "((1, 2), 3)", "((1,), (2,))", "[[1, 2], [3, 4]]", "(None, None)",
    "(1.5, 2)", "(True, 1)", "(2**40, 2**40)", "((2**62, 0), (0, 0))", "{}", "{1, 2}", "object()",
    "lambda: 0", "int", "...", "slice(3)", "range(2)", "np.int64(1)", "np.int8(-1)", "np.uint64(1)",
    "np.float32(1)", "np.bool_(True)", "np.array(1)", "np.array([1, 2])", "np.eye(2)",
    "np.array(nan)", "np.array(['a'])", "np.dtype('f4')", "'float32'", "'f2'", "'bool'", "'U3'",
    "'datetime64[s]'", "np.float32", "object", "'>f4'",
)  # fmt: skip
_ARRAYS = (
    "np.ones((5, 6))", "np.ones((3, 3))", "np.ones((1, 1))", "np.ones((0, 5, 6))",
    "np.ones((2, 0, 6))", "np.ones((5, 0))", "np.ones((0, 0))", "np.ones(4)", "np.ones(())",
    "np.ones((2, 3, 4, 5))",
    "np.ones((2, 5, 6), 'f2')", "np.ones((5, 6), '>f4')", "np.ones((5, 6), 'u1')",
    "np.ones((5, 6), bool)", "np.ones((5, 6), 'c8')", "np.ones((5, 6), object)",
    "np.ones((5, 6), 'g')", "np.zeros((5, 6), 'U3')", "np.zeros((5, 6), 'M8[s]')",
    "np.zeros((5, 6), 'f4,i4')", "np.full((5, 6), nan)", "np.ones((1,) * 62 + (2, 2))",
    "np.ones((1,) * 64)", "np.ma.ones((5, 6))", "np.broadcast_to(1.0, (5, 6))",
    "np.broadcast_to(1.0, (2**20, 2**20))", "np.ones((5, 6))[::-1, ::2]", "[[1, 2], [3]]", "[[]]",
    "[[1, 'a']]", "[[None]]", "[[10**400]]", "[[1.5, 2], [3, 4]]", "np.matrix([[1, 2], [3, 4]])",
    "memoryview(b'abcd')",
)  # fmt: skip
# Values that are no numbers of pixels, strides, dilations or groups, and must be refused.
_NEVER = {
    "stride": "True 1.0 1.5 nan inf '1' None 0 -1 (1,) (1,2,3) {} object() 1j [] (True,1)",
    "dilation": "True 1.0 1.5 nan inf '1' None 0 -1 (1,) (1,2,3) {} object() 1j [] (True,1)",
    "groups": "True 1.5 nan '1' None 0 -1 {} object()",
    "mode": "True 1.5 nan '' 'nonsense' None -1 (1,) (1,2,3) {} object() 1j [] ((1,),(2,))",
    "boundary": "True 1.5 nan '' 'nonsense' None -1 (1,) {} object() []",
    "fillvalue": "None '1' {} object() [] (1,) np.array([1,2])",
    "method": "True 1.5 nan '' 'nonsense' None -1 (1,) {} object() []",
    "backend": "True 1.5 nan '' 'nonsense' None -1 (1,) {} object() []",
}

_CALLS = {
    "corr2d": dict(X="np.ones((5, 6))", K="np.ones((3, 3))"),
    "convolve2d": dict(X="np.ones((5, 6))", K="np.ones((3, 3))"),
    "corr2d_vjp": dict(X="np.ones((5, 6))", K="np.ones((3, 3))", dY="np.ones((3, 4))"),
    "plan": dict(x_shape="(5, 6)", k_shape="(3, 3)"),
    "nn.conv2d": dict(x="np.ones((1, 2, 5, 6))", weight="np.ones((3, 2, 3, 3))"),
    "nn.conv2d_vjp": dict(
        x="np.ones((1, 2, 5, 6))", weight="np.ones((3, 2, 3, 3))", dy="np.ones((1, 3, 3, 4))"
    ),
    "nn.Conv2D": dict(out_channels="3", kernel_size="3"),
}
_FILTERS = {
    "directional_derivative": dict(v="(1, 2)"), "box": dict(size="3"), "gaussian": dict(sigma="1"),
    "log": dict(sigma="1"), "motion": dict(length="5"), "by_name": dict(name="'sobel-x'"),
    "dog": dict(sigma="1"), "disk": dict(radius="2"), "ring": dict(inner="1", outer="2"),
    "moffat": dict(gamma="1"), "gabor": dict(wavelength="4"),
}  # fmt: skip


def _function(name):
    found = gpuconv
    for part in name.split("."):
        found = getattr(found, part)
    return found


def functions():
    """Names of the functions and the arguments with which each gives a result."""
    found = dict(_CALLS)
    for name in sorted(gpuconv.filters.__all__):
        function = getattr(gpuconv.filters, name)
        if inspect.isfunction(function) and inspect.signature(function).parameters:
            needed = {
                p.name for p in inspect.signature(function).parameters.values()
                if p.default is p.empty
            }  # fmt: skip
            plain = _FILTERS.get(name, {})
            if needed <= set(plain):
                found[f"filters.{name}"] = plain
    return found


@dataclass(frozen=True)
class Call:
    """A function and its arguments, as expressions."""

    function: str
    arguments: dict = field(default_factory=dict)

    method = "hostile"

    @property
    def call(self):
        """What is called, as of a case."""
        return self.function

    def __hash__(self):
        return hash(self.text())

    def text(self):
        """One line of JSON."""
        return json.dumps({"function": self.function, "arguments": self.arguments})


def parse(text):
    """Call of a line of JSON."""
    return Call(**json.loads(text))


def draw(rng: random.Random):
    """A function with one or two arguments of which anything may be wrong."""
    known = functions()
    name = rng.choice(list(known))
    arguments = dict(known[name])
    parameters = [
        p.name for p in inspect.signature(_function(name)).parameters.values()
        if p.kind is not p.VAR_KEYWORD
    ]  # fmt: skip
    for parameter in rng.choices(parameters, k=rng.choice((1, 1, 2))):
        array = parameter in ("X", "K", "dY", "x", "weight", "dy", "bias", "out", "kernel")
        several = array and rng.random() < 0.8
        arguments[parameter] = rng.choice(_ARRAYS if several else _VALUES)
    return Call(name, arguments)


def check(call):
    """Raise `Failure` if a call ends otherwise than it may; return whether it gave a result."""
    known = functions()[call.function]
    try:
        arguments = {k: eval(v, dict(_NAMES)) for k, v in call.arguments.items()}
    except Exception:  # an array that NumPy itself does not make
        return False
    with warnings.catch_warnings(), work.bounded():
        warnings.simplefilter("error")
        try:
            with work.counting(work.LINES):
                result = _function(call.function)(**arguments)
        except (ValueError, TypeError, MemoryError, gpuconv.BackendUnavailable) as error:
            if isinstance(error, MemoryError) and _empty(arguments):
                raise Failure("memory for nothing", repr(error)) from error
            if not str(error):
                raise Failure(f"silent {type(error).__name__}", repr(error)) from error
            return False
        except work.TooMuchWork:
            raise Failure("work", f"more than {work.LINES} lines of Python") from None
        except Exception as error:
            kind = f"raises {type(error).__name__} {str(error)[:25]}"
            raise Failure(kind, repr(error)) from error
    never = {n: _never(n, call.function) for n in call.arguments if n not in known}
    wrong = [n for n, values in never.items() if call.arguments[n] in values]
    if wrong:
        raise Failure("accepted", f"{wrong[0]}={call.arguments[wrong[0]]}: {result!r:.60}")
    return True


def _empty(arguments):
    """Whether X has no images, so that there is nothing to compute."""
    shape = getattr(arguments.get("X"), "shape", ())
    return len(shape) > 2 and 0 in shape[:-2]


def _never(name, function=""):
    values = _NEVER.get(name, "").split()
    if function.startswith("nn."):  # layers take one number for both axes so, as torch's do
        return [value for value in values if value != "(1,)"]
    return values


def shrink(call, kind):
    """The call with as few unusual arguments as fail alike."""
    plain = functions()[call.function]
    for name in list(call.arguments):
        less = {k: v for k, v in call.arguments.items() if k != name} | (
            {name: plain[name]} if name in plain else {}
        )
        other = replace(call, arguments=less)
        try:
            check(other)
        except Failure as failure:
            if failure.kind == kind:
                call = other
    return call
