"""Make a failing case smaller: one simplification at a time, as long as it fails alike."""

from dataclasses import replace

from .cases import Case
from .check import Failure, check

_PLAIN = Case()
_OPTIONS = (
    "out", "dtype", "x_layout", "k_layout", "x_values", "k_values", "rank", "mode", "boundary",
    "fill", "stride", "dilation", "flipped", "method", "x_dtype", "k_dtype",
)  # fmt: skip


def fails(case):
    """Kind of failure of a case, or None. What cannot be called at all is no failure."""
    if any(n + a + b < s for n, (a, b), s in zip(case.x[-2:], case.pad, case.span, strict=True)):
        return None
    try:
        check(case)
    except Failure as failure:
        return failure.kind
    return None


def _smaller(case):
    for name in ("x", "k"):
        shape = getattr(case, name)
        if len(shape) > 2:
            yield replace(case, **{name: shape[1:]})
            yield replace(case, **{name: (1,) * (len(shape) - 2) + shape[-2:]})
    if len(case.x) > 2 or len(case.k) > 2:
        yield replace(case, x=case.x[-2:], k=case.k[-2:])
    for option in _OPTIONS:
        plain = getattr(_PLAIN, option)
        if getattr(case, option) != plain:
            yield replace(case, **{option: plain})
    for axis in (-2, -1):
        for names in (("x",), ("k",), ("x", "k")):
            for cut in (lambda n: n // 2, lambda n: n - 1):
                changed = {}
                for name in names:
                    shape = list(getattr(case, name))
                    shape[axis] = max(1, cut(shape[axis]))
                    changed[name] = tuple(shape)
                yield replace(case, **changed)
    if case.mode != "valid":
        (a, b), (c, d) = case.pad
        yield replace(case, mode=((a, b), (c, d)))
        for pads in (
            ((0, b), (c, d)), ((a, 0), (c, d)), ((a, b), (0, d)), ((a, b), (c, 0)),
            ((a // 2, b), (c, d)), ((a, b // 2), (c, d)), ((a, b), (c // 2, d)),
            ((a, b), (c, d // 2)),
        ):  # fmt: skip
            yield replace(case, mode=pads)
    for name in ("stride", "dilation"):
        pair = getattr(case, name)
        for n in (0, 1):
            yield replace(case, **{name: tuple(1 if n == m else v for m, v in enumerate(pair))})
    if case.rank > 1:
        yield replace(case, rank=1)
    for seed in range(3):
        yield replace(case, seed=seed)


def _weight(case):
    (a, b), (c, d) = case.pad
    size = sum(case.x) + sum(case.k) + a + b + c + d + sum(case.stride) + sum(case.dilation)
    options = sum(getattr(case, o) != getattr(_PLAIN, o) for o in _OPTIONS)
    return len(case.x) + len(case.k), options, size, case.seed > 2, case.seed


def shrink(case, kind, most=2000):
    """Smallest case found that fails with the same kind, in at most `most` trials."""
    tried = {case}
    progress = True
    while progress and most > 0:
        progress = False
        for other in _smaller(case):
            if other in tried or _weight(other) >= _weight(case):
                continue
            tried.add(other)
            most -= 1
            if fails(other) == kind:
                case, progress = other, True
                break
            if most <= 0:
                break
    return case
