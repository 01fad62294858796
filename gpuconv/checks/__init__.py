"""`check`: is what this machine computes right?"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator

from ..backends import CHECKED, get_backend, require_backend
from ..config import config_text
from ..core.dtypes import NAMES
from ..core.errors import BackendUnavailable, unknown_name_error
from .cases import QUICK, make_cases
from .report import CheckReport, CheckRow, describe, summarise
from .run import abilities_of, run_cases

__all__ = ["CheckReport", "CheckRow", "check"]


def check(
    backend: str | None = None,
    *,
    quick: bool = False,
    show: Callable[[str], None] | None = None,
) -> CheckReport:
    """Compare what this machine computes with the reference: every method, dtype and border.

    What to run first on a new machine, above all on a new GPU. Integers must be exact and floats
    within the bounds of the page "Accuracy and reproducibility" of the documentation.

    Parameters
    ----------
    backend : {"cpu", "cuda"}, optional
        What to check; by default every backend that is usable here.
    quick : bool
        Only a few dtypes: less to compile where compiled code is not on disk yet.
    show : function of a str, optional
        Called with each line of the table as soon as it is known, such as `print`.

    Returns
    -------
    CheckReport
        Prints as a table. Has `passed`, and `rows` with the outcome of each call. A call that fails
        or raises is a row of its own; the others go on.

    Raises
    ------
    BackendUnavailable
        The backend is not usable here, or none is; the message says why and what to do
        about it.
    ValueError
        There is no such backend.

    Notes
    -----
    Takes some seconds for each backend. The first check on a machine, or after an update, compiles
    code for all dtypes before: about a minute for each backend, less than half of it with `quick`.

    Examples
    --------
    >>> import gpuconv
    >>> report = gpuconv.check("cpu", quick=True)
    >>> report.passed
    True
    >>> print(report)  # doctest: +ELLIPSIS
    gpuconv ...
    on backend 'cpu'
      direct, 3x3 ...
    """
    start, found = time.perf_counter(), []
    chosen = _chosen(backend)
    config = config_text()

    def rows() -> Iterator[CheckRow]:
        for name in chosen:
            for row in run_cases(name, make_cases(abilities_of(name), QUICK if quick else NAMES)):
                found.append(row)
                yield row

    for line in itertools.chain([config], describe(rows())):
        if show is not None:
            show(line)
    report = CheckReport(tuple(found), config, time.perf_counter() - start)
    if show is not None:
        for line in ("", *summarise(report)):
            show(line)
    return report


def _chosen(backend: str | None) -> list[str]:
    """Names of the backends to check: the one asked for, or all that are usable."""
    if backend is not None:
        if backend not in CHECKED:
            raise unknown_name_error("backend", backend, CHECKED)
        return [require_backend(backend).name]
    reasons = {name: get_backend(name).unavailable() for name in CHECKED}
    usable = [name for name, reason in reasons.items() if reason is None]
    if not usable:
        told = "; ".join(f"{name!r}: {reason}" for name, reason in reasons.items())
        raise BackendUnavailable(f"no backend can be used here. {told}")
    return usable
