"""Runs the cases on a backend, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ..api import convolve2d, corr2d
from ..backends import Backend, backend_for, require_backend
from ..core.array_types import Array
from ..core.arrays import HOST
from ..engine import read_problem
from ..gradients import corr2d_vjp
from ..nn import conv2d, conv2d_vjp
from . import samples
from .case import Abilities, Case
from .expected import CaseArrays, case_arrays, difference, expected
from .places import PLACES, Host, Place, argument
from .report import FAILED, NOT_REACHED, PASSED, SKIPPED, CheckRow

__all__ = ["Run", "abilities_of", "run_cases"]

# Bytes of device memory for host arrays: they go through in several strips.
_STRIPS_BYTES = 32 << 10


def place_of(backend: str) -> Place:
    """Return the memory that a backend computes on."""
    return PLACES.get(backend, Host)()


def abilities_of(backend: str) -> Abilities:
    """Say what a backend can do that not every backend can."""
    device = place_of(backend).device
    return Abilities(
        require_backend(backend).methods, device != HOST, backend_for(device, "auto") == backend
    )


def run_cases(backend: str, cases: Iterable[Case]) -> Iterator[CheckRow]:
    """Run cases on a backend and yield a row for each.

    An error is the outcome of its case. If the device is lost with it, the others are not tried.
    """
    place, lost = place_of(backend), ""
    for case in cases:
        outcome, why = NOT_REACHED, lost
        if not lost:
            outcome, why = _run(case, require_backend(backend), place)
            if outcome == FAILED:
                reason = place.lost()
                if reason:
                    lost = f"the device is lost to this process since the failure above: {reason}"
        yield CheckRow(backend, case.family, case.dtype, case.boundary, str(case), outcome, why)


def _run(case: Case, backend: Backend, place: Place) -> tuple[str, str]:
    """Compare one call with the reference; the outcome, and what there is to say."""
    try:
        refusal = _refusal(case, backend)
        if refusal:
            return SKIPPED, refusal
        given = case_arrays(case)
        results = _CALLS[case.call](case, backend.name, place, given)
        texts = [
            difference(place.get(result), right)
            for result, right in zip(results, expected(case, given), strict=True)
        ]
    except Exception as error:
        # Whatever it is, it is what there is to report, and the other cases go on.
        return FAILED, f"{type(error).__name__}: {' '.join(str(error).split())}"
    why = "; ".join(filter(None, texts))
    return (FAILED, why) if why else (PASSED, "")


def _refusal(case: Case, backend: Backend) -> str | None:
    """Return what this hardware lacks for the method of a case, or None."""
    if case.method != "tensor":
        return None
    problem = read_problem(
        case.x_shape, case.k_shape, case.dtype, case.dtype, precision=case.precision,
        **case.keywords,
    )  # fmt: skip
    return backend.refuse(problem, case.method)


def _correlate(case: Case, backend: str, place: Place, given: CaseArrays) -> list[Array]:
    keywords: dict[str, Any] = dict(
        backend=backend, method=case.method, precision=case.precision, **case.keywords
    )
    here: Place = Host() if case.x_on_host else place
    if case.x_on_host:
        keywords["max_device_bytes"] = _STRIPS_BYTES
    x = samples.arrange(given.x, case.view, here)
    x = argument(x, case.dtype, here.device)
    k_here: Place = Host() if case.k_on_host else place
    k = argument(k_here.put(given.k), case.dtype, k_here.device)
    if case.view == "out":
        problem = read_problem(case.x_shape, case.k_shape, case.dtype, case.dtype, **case.keywords)
        keywords["out"] = samples.new_result(problem.out_shape, problem.out_dtype, here)
    function = convolve2d if case.call == "convolve2d" else corr2d
    return [function(x, k, **keywords)]


def _on(place: Place, case: Case, *given: Array) -> list[Array]:
    return [argument(place.put(array), case.dtype, place.device) for array in given]


def _gradients(case: Case, backend: str, place: Place, given: CaseArrays) -> list[Array]:
    x, k, dy = _on(place, case, given.x, given.k, given.dy)
    return list(corr2d_vjp(x, k, dy, backend=backend, method=case.method, **case.keywords))


def _layer_keywords(case: Case) -> dict[str, Any]:
    return dict(padding=case.mode, stride=case.stride, dilation=case.dilation, groups=case.groups)


def _layer(case: Case, backend: str, place: Place, given: CaseArrays) -> list[Array]:
    x, weight = _on(place, case, given.x, given.k)
    return [conv2d(x, weight, **_layer_keywords(case))]


def _layer_gradients(case: Case, backend: str, place: Place, given: CaseArrays) -> list[Array]:
    x, weight, dy = _on(place, case, given.x, given.k, given.dy)
    return list(conv2d_vjp(x, weight, dy, **_layer_keywords(case)))


Run = Callable[[Case, str, Place, CaseArrays], list[Any]]
_CALLS: dict[str, Run] = {
    "corr2d": _correlate,
    "convolve2d": _correlate,
    "gradients": _gradients,
    "layer": _layer,
    "layer gradients": _layer_gradients,
}
