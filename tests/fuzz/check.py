"""Run a case and hold the result against everything that is promised of it."""

import contextlib
import warnings

import numpy as np

import gpuconv
from gpuconv import dtypes
from gpuconv.methods.kernel import Kernel
from gpuconv.problem import make_problem

from .cases import place, values
from .expect import converted, expected, widened


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


def _same(a, b):
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
    return case.method == "separable" and "has full rank" in str(error) and not exact


def check(case):
    """Raise `Failure` if a promise is broken; return whether the case ran (or was refused)."""
    with _setting(case.backend), warnings.catch_warnings():
        warnings.filterwarnings("error", category=RuntimeWarning)
        try:
            return _check(case)
        except Failure:
            raise
        except Exception as error:
            raise _raised(error) from error


def _check(case):
    x, x_base = place(values(case, "x"), case.x_layout, case.x_dtype)
    k, k_base = place(values(case, "k"), case.k_layout, case.k_dtype)
    before = x_base.tobytes(), k_base.tobytes()
    name = case.dtype or case.result
    out = out_base = None
    shape = _shape(case)
    if case.out is not None:
        empty = np.full((*shape, dtypes.storage(name).itemsize), 0x5A, np.uint8)
        out, out_base = place(empty.view(dtypes.storage(name))[..., 0], case.out, name)
    try:
        y = _call(case, x, k, out)
    except ValueError as error:
        if _refusal_is_right(case, error):
            return False
        raise _raised(error) from error
    if before != (x_base.tobytes(), k_base.tobytes()):
        raise Failure("inputs", "an input was written")
    if y.shape != shape:
        raise Failure("shape", f"{y.shape}, not {shape}")
    if y.dtype.name != name:
        raise Failure("dtype", f"{y.dtype}, not {name}")
    first = np.array(y)
    if out is not None:
        if y is not out:
            raise Failure("out", "another array was returned")
        # What `place` filled it with at first: all of it must be there again.
        _storage(out)[...] = np.frombuffer(b"\x5a" * 16, _storage(out).dtype)[0]
        _, untouched = place(empty.view(_storage(out).dtype)[..., 0], case.out, name)
        if out_base.tobytes() != untouched.tobytes():
            raise Failure("out", "memory beside out was written")
    _compare(case, _native(x), _native(k), first, name)
    if not _same(_call(case, x, k, out), first):
        raise Failure("repeat", "the second call gave other bits")
    _crop(case, x, k, first)
    return True


def _raised(error):
    # Shrinking must not run into another refusal.
    return Failure(f"raises {type(error).__name__} {str(error)[:25]}", repr(error))


def _shape(case):
    lead = np.broadcast_shapes(case.x[:-2], case.k[:-2])
    (h, w), (ph, pw), (sy, sx) = case.x[-2:], case.span, case.stride
    (top, bottom), (left, right) = case.pad
    return (*lead, (h + top + bottom - ph) // sy + 1, (w + left + right - pw) // sx + 1)


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
    factors = Kernel(problem, _flip(case, k)).factors()
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
        sums = expected(case, x, k, reach)
        if dtypes.is_integer(acc):
            exact = sums.sums.astype(np.longdouble)
            _inside(case, y, exact, exact, np.ones(y.shape, bool), name)
            return
        if y.size == 0:
            return
        info, c = np.finfo(acc), case.k[-1] * case.k[-2] + 8
        sizes = np.where(sums.touched, 0, sums.sizes)
        error = c * info.eps * sizes
        least = c * info.smallest_subnormal
        if method == "fft":
            # Tiles hold sums that are no results: of pixels that no window meets with that tap.
            taps = np.abs(np.nan_to_num(widened(k, case.k_dtype, acc), posinf=0, neginf=0))
            largest = sums.greatest * taps.astype(np.longdouble).sum(axis=(-1, -2)).max()
            error = np.full(sizes.shape, 64 * info.eps * largest, np.longdouble)
            # Where a spectrum underflows, what is lost is multiplied by the other's: up to all
            # elements of a tile of 64 times 64.
            least = least + 4096 * info.smallest_subnormal * (1 + sums.greatest + sums.weight)
        over = sizes * (1 + c * info.eps) >= info.max
        if method == "separable":
            least = least * (1 + sums.weight) * (1 + sums.greatest)
            over |= case.k[-2] * sums.greatest * 1.01 >= info.max
        error = error + least
        certain = ~sums.touched & ~over
        _compare_bad(case, y, sums, name)
        if sums.sums.dtype.kind == "c":
            for part in ("real", "imag"):
                exact = getattr(sums.sums, part)
                _inside(case, getattr(y, part), exact - error, exact + error, certain, name)
        else:
            _inside(case, y, sums.sums - error, sums.sums + error, certain, name)


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


def _inside(case, y, low, high, certain, name):
    """Whether results are between the conversions of the least and the greatest sum allowed."""
    real = name.startswith("complex") and y.dtype.kind == "c"
    if real:  # real sums asked for as complex numbers
        if (y.imag[certain] != 0).any():
            raise Failure("sums", "real sums got imaginary parts")
        y = y.real
    value = y.astype(np.float32) if name == "bfloat16" else y
    value = value.astype(np.longdouble)
    least, most = converted(low, name), converted(high, name)
    good = (value >= least) & (value <= most)
    wrong = certain & ~good
    if wrong.any():
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise Failure(
            "sums",
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
    if not _same(part, y[..., a:b, c:d]):
        raise Failure("crop", f"rows {top}:{bottom}, columns {left}:{right} give other bits")


@contextlib.contextmanager
def emulated():
    """The CUDA sources run on the CPU, in small blocks and by few specialisations."""
    import pytest

    from gpuconv.backends import cuda, cuda_plan

    from ..emulator.launcher import EmulatedLauncher

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda, "launcher", EmulatedLauncher())
        for name, value in dict(BLOCK=(8, 2), ROWS=2, THREADS=16, WINDOW_ROWS=2).items():
            patch.setattr(cuda_plan, name, value)
        patch.setattr(cuda, "_specialised", set())
        patch.setattr(cuda, "SPECIALISED_MOST", 0)
        cuda._prepare.cache_clear()
        yield
        cuda._prepare.cache_clear()


def _setting(backend):
    return emulated() if backend == "cuda" else contextlib.nullcontext()


__all__ = ["Failure", "check", "emulated"]
