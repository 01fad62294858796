"""What there is on this machine: versions, costs, backends."""

from __future__ import annotations

import numpy as np

# The subpackage is loaded before `gpuconv.backends` becomes the function: the first import of a
# subpackage binds its name in the package, and would take the function's place later.
from .backends import BACKENDS, get_backend
from .core.version import __version__
from .selection.costs import config_file, costs_of

__all__ = ["backends", "config_text", "show_config"]


def backends() -> dict[str, str | None]:
    """Backends by name: None where usable here, otherwise the reason and what mends it.

    Returns
    -------
    dict of str to str or None
        For "reference", "cpu" and "cuda". Nothing is compiled; CuPy is imported.

    Examples
    --------
    >>> import gpuconv
    >>> gpuconv.backends()["reference"] is None
    True
    """
    return {name: get_backend(name).unavailable() for name in BACKENDS}


def show_config() -> None:
    """Print versions, the machine, whose costs are used, and which backends are usable here.

    Examples
    --------
    >>> import gpuconv
    >>> gpuconv.show_config()  # doctest: +ELLIPSIS
    gpuconv ...
      reference  usable: numpy ...
    """
    print(config_text())


def config_text() -> str:
    """Return what `show_config` prints."""
    import platform

    path = config_file()
    try:
        costs_of("cpu", "float32")
        costs = f"calibrated, from {path}" if path.is_file() else "shipped"
    except ValueError as error:
        costs = f"not usable: {error}"
    lines = [
        f"gpuconv {__version__}, Python {platform.python_version()}, NumPy {np.__version__}",
        f"{platform.platform()}, {platform.machine()}",
        f"costs: {costs}",
    ]
    for name, reason in backends().items():
        if reason is None:
            facts = ", ".join(f"{k} {v}" for k, v in get_backend(name).describe().items())
            lines.append(f"  {name:<10} usable: {facts}")
        else:
            lines.append(f"  {name:<10} not usable: {reason}")
    return "\n".join(lines)
