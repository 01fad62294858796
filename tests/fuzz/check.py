"""Run a case and hold the result against everything that is promised of it."""

import contextlib
import importlib.util
import math
import warnings
from dataclasses import replace

import numpy as np

import gpuconv
from gpuconv.core import dtypes
from gpuconv.core.problem import make_problem
from gpuconv.methods.weights import Weights

from . import gradients, work
from .cases import place
from .elements import values
from .expect import converted, expected, some, widened


class Failure(Exception):
    """A promise that was not kept; `kind` names it."""

    def __init__(self, kind, text):
        super().__init__(f"{kind}: {text}")
        self.kind = kind


def _call(case, x, k, out=None, **changes):
    keywords = dict(
        mode=case.mode, boundary=case.boundary, fillvalue=case.fillvalue, stride=case.stride,
        dilation=case.dilation, method=case.method, backend=case.backend, dtype=case.dtype,
    )  # fmt: skip
    keywords |= changes
    if out is not None:
        keywords |= dict(out=out, dtype=None)
    function = gpuconv.convolve2d if case.flipped else gpuconv.corr2d
    return function(x, k, **keywords)


def _storage(array):
    return array.view(np.uint16) if array.dtype.name == "bfloat16" else array


def _native(array):
    """A copy of the elements, in the machine's order of bytes."""
    array = _storage(np.array(array))
    return array.astype(array.dtype.newbyteorder("="))


def same(a, b):
    """Whether two results have the same bits."""
    return a.shape == b.shape and _bits(a) == _bits(b)


def _bits(array):
    """Bytes of an array, of all NaNs those of one: their signs and payloads are not promised."""
    array = np.array(array, order="C")
    if array.dtype.kind == "c":
        array = array.view(array.real.dtype)
    bad = np.isnan(array) if array.dtype.kind == "f" or array.dtype.name == "bfloat16" else None
    if bad is not None:
        array[bad] = np.nan
    return array.tobytes()


def _refusal_is_right(case, error):
    """Whether a kernel may be refused: of full rank, which small whole numbers show exactly."""
    exact = 0 < case.rank < min(case.k[-2:])
    exact &= case.k_values == "integers" or dtypes.is_integer(case.k_dtype)
    if case.method == "fft":  # of integers, unless a transform is sure to give the right ones
        return dtypes.is_integer(case.acc) and "integer sums" in str(error)
    if 0 in case.output and math.prod(n for n in case.output if n) > 2**56:
        return True  # a shape that no array of NumPy has
    if case.method == "separable" and "so near to full rank" in str(error):
        return min(case.k[-2:]) > 8
    return case.method == "separable" and "has full rank" in str(error) and not exact


def check(case):
    """Raise `Failure` if a promise is broken; return whether the case ran (or was refused)."""
    if case.call.startswith("torch") and importlib.util.find_spec("torch") is None:
        return False
    with _setting(case.backend), warnings.catch_warnings():
        warnings.filterwarnings("error", category=RuntimeWarning)
        warnings.filterwarnings("error", module=r"gpuconv(\.|$)")
        try:
            return _check(case) if case.call == "forward" else _check_gradients(case)
        except Failure:
            raise
        except work.TooMuchWork:
            raise Failure("work", f"more than {work.lines_of(case)} lines of Python") from None
        except Exception as error:
            raise raised(error) from error


def _check(case):
    x, x_base = place(values(case, "x"), case.x_layout, case.x_dtype)
    k, k_base = place(values(case, "k"), case.k_layout, case.k_dtype)
    before = x_base.tobytes(), k_base.tobytes()
    name = case.dtype or case.result
    out = out_base = None
    shape = case.output
    if case.out is not None:
        empty = np.full((*shape, dtypes.storage(name).itemsize), 0x5A, np.uint8)
        out, out_base = place(empty.view(dtypes.storage(name))[..., 0], case.out, name)
    try:
        with gradients.without(case.without):
            y = _measured(case, x, k, out)
    except MemoryError as error:
        if "the result of shape" in str(error) and 8 * math.prod(shape) > 2**32:
            return False
        raise raised(error) from error
    except ValueError as error:
        if _refusal_is_right(case, error):
            return False
        raise raised(error) from error
    if before != (x_base.tobytes(), k_base.tobytes()):
        raise Failure("inputs", "an input was written")
    check_kind(y, shape, name)
    first = np.array(y)
    if out is not None:
        if y is not out:
            raise Failure("out", "another array was returned")
        # What `place` filled it with at first: all of it must be there again.
        _storage(out)[...] = np.frombuffer(b"\x5a" * 16, _storage(out).dtype)[0]
        _, untouched = place(empty.view(_storage(out).dtype)[..., 0], case.out, name)
        if out_base.tobytes() != untouched.tobytes():
            raise Failure("out", "memory beside out was written")
    if 0 in shape:
        return True
    native = _native(x), _native(k)
    _compare(case, *native, first, name)
    for which in ("second", "third", "fourth"):  # calls are prepared, kept, and then repeated
        if not same(_call(case, x, k, out), first):
            raise Failure("repeat", f"the {which} call gave other bits")
    if before != (x_base.tobytes(), k_base.tobytes()):
        raise Failure("inputs", "an input was written by a repeated call")
    _crop(case, x, k, first)
    _mirrored(case, x, k, first, *native)
    return True


def check_kind(y, shape, name):
    """Raise `Failure` if a result has another shape or dtype."""
    if y.shape != shape:
        raise Failure("shape", f"{y.shape}, not {shape}")
    if y.dtype.name != name:
        raise Failure("dtype", f"{y.dtype}, not {name}")


def _measured(case, x, k, out):
    """The call, and whether it took no more work and memory than it may."""
    if case.backend != "cpu":
        return _call(case, x, k, out)
    # Memory of paddings that hardly any output reads: transforms pad their tiles.
    wanted = case.method != "fft" and max(map(sum, case.pad)) > 10_000
    if wanted:  # what is compiled takes memory, too
        near = replace(case, mode=tuple(case.k[-2:]), stride=(1, 1), dilation=(1, 1))
        _call(near, x, k)
    with work.lines(case), work.memory(wanted) as peak:
        y = _call(case, x, k, out)
    if peak.bytes > work.MEMORY + 8 * (x.nbytes + k.nbytes + 16 * y.size):
        raise Failure("memory", f"{peak.bytes >> 20} MiB at once")
    return y


def _check_gradients(case):
    elements = [values(case, which) for which in ("x", "k", "dy")]
    names = case.x_dtype, case.k_dtype, case.result
    if case.call.startswith("torch"):
        given, bases = elements, elements
    else:
        layouts = case.x_layout, case.k_layout, "C"
        placed = [place(*a) for a in zip(elements, layouts, names, strict=True)]
        given, bases = zip(*placed, strict=True)
    before = [base.tobytes() for base in bases]
    native = [_native(a) for a in given]
    with gradients.without(case.without), work.lines(case, 3):
        results = gradients.run(case, *given)
    if before != [base.tobytes() for base in bases]:
        raise Failure("inputs", "an input was written")
    with np.errstate(all="ignore"):
        for found in gradients.expected(case, *native):
            result = results[found.what]
            shape = {"y": case.output, "dx": case.x, "dk": case.k}[found.what]
            name = case.k_dtype if found.what == "dk" else case.x_dtype
            if result.dtype == np.uint16:  # bits of a tensor of bfloat16
                result = _named(result, name)
            check_kind(result, shape, name)
            inside_parts(result, found.sums, found.error, found.certain, name, found.what)
    return True


def raised(error):
    """The failure that an error is."""
    # Shrinking must not run into another refusal.
    return Failure(f"raises {type(error).__name__} {str(error)[:25]}", repr(error))


def _method(case, x, k):
    """Method that the call takes."""
    if case.method != "auto" or case.backend != "cpu":
        return "direct" if case.method == "auto" else case.method
    whole = gpuconv.plan(
        case.x, case.k, x_dtype=case.x_dtype, k_dtype=case.k_dtype, mode=case.pad,
        boundary=case.boundary, stride=case.stride, dilation=case.dilation, dtype=case.dtype,
        kernel=_flip(case, k), fillvalue=case.fillvalue,
    )  # fmt: skip
    return whole.method


def _flip(case, k):
    return k[..., ::-1, ::-1] if case.flipped else k


def _reach(case, k):
    """Absolute values of the factors' products, for those of the taps as they are summed."""
    problem = make_problem(
        case.x, case.k, case.x_dtype, case.k_dtype, mode=case.pad, stride=case.stride,
        dilation=case.dilation,
    )  # fmt: skip
    factors = Weights(problem, _flip(case, k)).factors()
    if factors.rank == 1:
        return None
    u, v = (np.abs(f).astype(np.longdouble) for f in (factors.u, factors.v))
    return np.einsum("ntp,ntq->npq", u, v).reshape(case.k)


def _compare(case, x, k, y, name):
    method, acc = _method(case, _named(x, case.x_dtype), _named(k, case.k_dtype)), case.acc
    with np.errstate(all="ignore"):
        reach = None
        if method == "separable" and case.rank != 1 and not dtypes.is_integer(acc):
            reach = _reach(case, k)
        sums = expected(case, x, k, reach, largest=method == "fft")
        if case.sampled:
            y = y.reshape(-1, *y.shape[-2:])[some(case)][:, None, None]
        y = y.reshape(sums.sums.shape)
        if dtypes.is_integer(acc):
            exact = sums.sums.astype(np.longdouble)
            _inside(y, exact, exact, np.ones(y.shape, bool), name)
            return
        if y.size == 0:
            return
        error, certain = _errors(case, k, method, sums)
        _compare_bad(case, y, sums, name)
        inside_parts(y, sums.sums, error, certain, name)


def _errors(case, k, method, sums):
    """How far each result may be from the exact sum, and for which of them that can be said."""
    info, c = np.finfo(case.acc), case.k[-1] * case.k[-2] + 8
    sizes = np.where(sums.touched, 0, sums.sizes)
    error = c * info.eps * sizes
    least = c * info.smallest_subnormal
    zero = sizes == 0
    if method == "fft":
        # By the largest sum of the image that a tile keeps: pixels that no output reads, or only
        # by weights of 0, do not count. Some tiles are summed directly.
        error, zero = error + 64 * info.eps * sums.largest, sums.largest == 0
    over = sizes * (1 + c * info.eps) >= info.max
    if method == "separable":
        least = least * (1 + sums.weight) * (1 + sums.greatest)
        over |= case.k[-2] * sums.greatest * 1.01 >= info.max
    error = np.where(zero, 0, error + least)
    if _whole(case, k):
        error = np.zeros_like(error)
    return error, ~sums.touched & ~over


def _whole(case, k):
    """Whether no sum of these whole weights and of any pixels can need rounding."""
    if not dtypes.is_integer(case.x_dtype) or case.method not in ("auto", "direct", "fft"):
        return False
    if dtypes.is_complex(case.acc) and case.method != "direct":
        return False
    weights = widened(k, case.k_dtype, case.acc)
    if not np.isfinite(weights).all() or case.x_dtype == "bool":
        return False
    info = np.iinfo(case.x_dtype)
    fill = abs(case.fillvalue)
    if case.boundary == "constant" and (fill != np.rint(abs(fill)) or not np.isfinite(fill)):
        return False
    most = max(info.max, -info.min, fill if case.boundary == "constant" else 0)
    parts = (weights.real, weights.imag) if weights.dtype.kind == "c" else (weights,)
    total = sum(np.abs(p).astype(np.longdouble).sum(axis=(-1, -2)).max(initial=0) for p in parts)
    if not all((p == np.rint(p)).all() for p in parts):
        return False
    if most * total >= 2 / np.finfo(case.acc).eps:
        return False
    # Transforms are exact where an error bound is below 1/4 ("Accuracy and reproducibility").
    sides = (max(1024, n + sum(pad)) for n, pad in zip(case.x[-2:], case.pad, strict=True))
    bits = sum(math.ceil(math.log2(side)) for side in sides)
    squares = sum(p.astype(np.float64) ** 2 for p in parts)
    norm = math.sqrt(float(squares.sum(axis=(-1, -2)).max(initial=0)))
    error = 26 * bits * 2.0**-53 * most * math.sqrt(2.0 * 2.0**bits) * norm
    return case.method == "direct" or error <= 0.25


def _named(array, name):
    if name != "bfloat16":
        return array
    import ml_dtypes

    return array.view(ml_dtypes.bfloat16)


def _compare_bad(case, y, sums, name):
    """Windows with a pixel that is not finite, and only they, are not finite."""
    if name in ("bool", "int8") or dtypes.is_integer(name):
        info = np.iinfo(name)
        marks = np.isin(y, np.array([0, info.min, info.max], y.dtype))
        if not marks[sums.touched].all():
            raise Failure("bad pixels", "a window with a NaN or Inf gave an ordinary number")
        return
    if np.isfinite(y.astype(np.float32) if name == "bfloat16" else y)[sums.touched].any():
        raise Failure("bad pixels", "a window with a NaN or Inf gave a finite number")


def inside_parts(y, sums, error, certain, name, what="sums"):
    """`_inside`, for the real and the imaginary parts each."""
    if sums.dtype.kind == "c":
        for part in ("real", "imag"):
            exact = getattr(sums, part)
            _inside(getattr(y, part), exact - error, exact + error, certain, name, what)
    else:
        _inside(y, sums - error, sums + error, certain, name, what)


def _inside(y, low, high, certain, name, what="sums"):
    """Whether results are between the conversions of the least and the greatest sum allowed."""
    real = name.startswith("complex") and y.dtype.kind == "c"
    if real:  # real sums asked for as complex numbers
        if (y.imag[certain] != 0).any():
            raise Failure(what, "real sums got imaginary parts")
        y = y.real
    value = y.astype(np.float32) if name == "bfloat16" else y
    value = value.astype(np.longdouble)
    least, most = converted(low, name), converted(high, name)
    good = (value >= least) & (value <= most)
    wrong = certain & ~good
    if wrong.any():
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise Failure(
            what,
            f"{wrong.sum()} of {wrong.size} wrong, first at {at}: {value[at]!s}, "
            f"not in {least[at]!s}..{most[at]!s}",
        )


def _crop(case, x, k, y):
    """Part of the image gives part of the result, bit for bit (direct and separable)."""
    if case.method not in ("direct", "separable") or 0 in y.shape:
        return
    ends = []
    for n, size, (before, _), span, step in zip(
        case.x[-2:], y.shape[-2:], case.pad, case.span, case.stride, strict=True
    ):
        first = -(-before // step)
        last = min(size, (n + before - span) // step + 1)
        if last <= first:
            return
        first += (last - first) // 3
        last = max(first + 1, last - (last - first) // 4)
        ends.append((first, last, first * step - before, (last - 1) * step - before + span))
    (a, b, top, bottom), (c, d, left, right) = ends
    part = _call(case, x[..., top:bottom, left:right], k, mode="valid", dtype=y.dtype)
    if not same(part, y[..., a:b, c:d]):
        raise Failure("crop", f"rows {top}:{bottom}, columns {left}:{right} give other bits")


def _mirrored(case, x, k, y, x_native, k_native):
    """Weights that are the same, or the negative, when flipped treat both directions alike.

    Where sums are direct along one dimension, or separable: a derivative of a constant is 0, and
    the flipped image gives the flipped result, bit for bit.
    """
    if case.k_values not in ("symmetric", "antisymmetric") or 0 in y.shape or case.backend != "cpu":
        return
    if case.k_layout == "broadcast":  # of one row of them
        return
    method = _method(case, _named(x_native, case.x_dtype), _named(k_native, case.k_dtype))
    if not (method == "separable" or (method == "direct" and min(case.k[-2:]) == 1)):
        return
    _constant(case, y)
    for axis in (-2, -1):
        span, step = case.span[axis], case.stride[axis]
        if case.k[axis] == 1 or (case.x[axis] + sum(case.pad[axis]) - span) % step:
            continue
        pads = list(case.pad)
        pads[axis] = pads[axis][::-1]
        flipped = np.flip(_call(case, np.flip(x, axis), k, mode=tuple(pads), dtype=y.dtype), axis)
        negated = case.k_values == "antisymmetric" and not _unsigned(case)
        name = case.dtype or case.result
        if negated and (name.startswith("u") or (dtypes.is_integer(case.acc) and case.dtype)):
            continue  # results that were cut off, or wrapped, at the ends of the range
        if name == "bfloat16":
            flipped, y_here = flipped.astype(np.float32), y.astype(np.float32)
        else:
            y_here = y
        expected_here = -y_here if negated else y_here
        with np.errstate(all="ignore"):
            same = (flipped == expected_here) | (np.isnan(flipped) & np.isnan(expected_here))
        if negated and dtypes.is_integer(
            name
        ):  # the ends of the range are not each other's negation
            ends = np.iinfo(name).min, np.iinfo(name).max
            same |= np.isin(flipped, ends) & np.isin(y_here, ends)
        if not same.all():
            raise Failure("mirror", f"{(~same).sum()} of {same.size} differ along axis {axis}")


def _unsigned(case):
    return case.k_dtype.startswith("u") or case.k_dtype == "bool"


def _constant(case, y):
    """A derivative of a constant is 0 where no window reaches another fill value."""
    if case.k_values != "antisymmetric" or case.x_values != "constant" or _unsigned(case):
        return
    if max(case.k[-2:]) == 1 or (case.boundary == "constant" and max(map(sum, case.pad)) > 0):
        return
    if (y != 0).any():
        raise Failure("constant", f"{(y != 0).sum()} of {y.size} derivatives are not 0")


def _setting(backend):
    if backend != "cuda":
        return contextlib.nullcontext()
    from ..emulator.backend import emulated

    return emulated(specialised=False)


__all__ = ["Failure", "check", "check_kind", "inside_parts", "raised", "same"]
