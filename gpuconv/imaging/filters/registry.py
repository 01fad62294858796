"""Filters by the names that the command line uses."""

from __future__ import annotations

from collections.abc import Callable

from ...core.errors import unknown_name_error
from .arguments import Weights
from .bandpass import dog, gabor
from .derivatives import derivative, edge, laplacian, prewitt, scharr, second_derivative, sobel
from .radial import disk, moffat, ring
from .smoothing import box, gaussian, log, motion, sharpen

__all__ = ["by_name", "names"]

_FIXED: dict[str, Callable[[], Weights]] = {
    f"{name}-{letter}": (lambda maker=maker, axis=axis: maker(axis=axis))  # type: ignore[misc]
    for name, maker in (
        ("edge", edge),
        ("sobel", sobel),
        ("prewitt", prewitt),
        ("scharr", scharr),
        ("second-derivative", second_derivative),
    )
    for letter, axis in (("x", 1), ("y", 0))
}
_FIXED |= {"laplacian": laplacian, "laplacian-8": lambda: laplacian(8)}

# Filters that take numbers: the function, the type of the numbers, and their default values.
_PARAMETRIC: dict[str, tuple[Callable[..., Weights], type, tuple[float, ...]]] = {
    "box": (lambda size: box(int(size)), int, (3,)),
    "gaussian": (gaussian, float, (1.0,)),
    "log": (log, float, (1.0,)),
    "dog": (dog, float, (1.0, 1.6)),
    "disk": (disk, float, (3.0,)),
    "ring": (ring, float, (2.0, 4.0)),
    "moffat": (moffat, float, (2.0, 2.5)),
    "gabor": (gabor, float, (6.0, 0.0)),
    "sharpen": (sharpen, float, (1.0, 1.0)),
    "motion": (motion, float, (9.0, 0.0)),
    "derivative-x": (lambda order: derivative(int(order)), int, (1,)),
    "derivative-y": (lambda order: derivative(int(order), axis=0), int, (1,)),
}


def names() -> list[str]:
    """List the names that `by_name` understands; filters that take numbers have their default ones.

    Returns
    -------
    list of str

    Notes
    -----
    O(number of names).

    Examples
    --------
    >>> "sobel-x" in names()
    True
    """
    parametric = [
        "-".join([name, *(f"{value:g}" for value in defaults)])
        for name, (_, _, defaults) in _PARAMETRIC.items()
    ]
    return sorted([*_FIXED, *parametric])


def by_name(name: str) -> Weights:
    """Return the weights of a filter by its name on the command line, such as ``gaussian-2.5``.

    Parameters
    ----------
    name : str
        A name, followed by numbers after dashes where the filter takes them
        (``motion-15-45``, ``sharpen-0.5``).

    Returns
    -------
    ndarray

    Raises
    ------
    ValueError
        An unknown name (the nearest one is suggested), or numbers that the filter refuses.
    TypeError
        A name that is not a string.

    Notes
    -----
    Costs as much as the function of that filter.

    Examples
    --------
    >>> by_name("edge-x")
    array([[ 1, -1]])
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a string such as 'sobel-x' or 'gaussian-2', got {name!r}")
    if name in _FIXED:
        return _FIXED[name]()
    for stem, (maker, kind, defaults) in _PARAMETRIC.items():
        if name != stem and not name.startswith(f"{stem}-"):
            continue
        texts = name[len(stem) + 1 :].split("-") if name != stem else []
        if len(texts) > len(defaults):
            raise ValueError(f"filter {stem!r} takes at most {len(defaults)} numbers, got {name!r}")
        try:
            numbers = [kind(text) for text in texts]
        except ValueError:
            break
        return maker(*numbers, *defaults[len(numbers) :])
    raise unknown_name_error("filter", name, [*_FIXED, *_PARAMETRIC])
