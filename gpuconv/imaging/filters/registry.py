"""Filters by the names that people type: ``sobel-x``, ``gaussian-2``, ``gaussian:sigma=2``."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from .arguments import Weights
from .bandpass import dog, gabor
from .derivatives import derivative, edge, laplacian, prewitt, scharr, second_derivative, sobel
from .radial import disk, moffat, ring
from .smoothing import box, gaussian, log, motion, sharpen
from .suggestions import unknown_filter

__all__ = ["NamedFilter", "Parameter", "by_name", "find", "names"]


@dataclass(frozen=True)
class Parameter:
    """A number that a filter takes.

    Attributes
    ----------
    name : str
        Its name.
    default : float
        Its value if none is given; an integer for numbers that must be whole.
    meaning : str
        What it is, in a few words.
    """

    name: str
    default: float
    meaning: str

    def read(self, text: str, filter_name: str) -> float:
        """Read the number that was typed for it."""
        whole = isinstance(self.default, int)
        try:
            return int(text) if whole else float(text)
        except ValueError:
            kind = "a whole number" if whole else "a number"
            raise ValueError(
                f"{filter_name}: {self.name} must be {kind}, got {text!r}; "
                f"write for example {filter_name}:{self.name}={self.default:g}"
            ) from None


@dataclass(frozen=True)
class NamedFilter:
    """A filter of the command line.

    Attributes
    ----------
    name : str
        Its name without numbers.
    make : function
        Makes the weights of the numbers, in the order of `parameters`.
    parameters : tuple of Parameter
        The numbers it takes.
    about : str
        What it does, in a line.
    """

    name: str
    make: Callable[..., Weights]
    parameters: tuple[Parameter, ...]
    about: str

    @property
    def usage(self) -> str:
        """The name with the default numbers, such as ``sharpen-1-1``."""
        return "-".join([self.name, *(f"{one.default:g}" for one in self.parameters)])

    @property
    def takes(self) -> str:
        """Which numbers it takes, in words."""
        if not self.parameters:
            return "no numbers"
        count = {1: "one number", 2: "up to two numbers"}[len(self.parameters)]
        return f"{count} ({', '.join(one.name for one in self.parameters)})"


def _along_axes(
    name: str, function: Callable[..., Weights], about: str, *parameters: Parameter
) -> list[NamedFilter]:
    """Make the filters along x and along y of a function that has the keyword `axis`."""
    return [
        NamedFilter(
            f"{name}-{letter}", partial(function, axis=axis), parameters, f"{about} {where}"
        )
        for letter, axis, where in (("x", 1, "along the rows"), ("y", 0, "down the columns"))
    ]


_SIGMA = Parameter("sigma", 1.0, "standard deviation in pixels")

_FILTERS = {
    one.name: one
    for one in (
        NamedFilter("box", box, (Parameter("size", 3, "rows and columns"),), "mean over a square"),
        *_along_axes(
            "derivative",
            derivative,
            "derivative of any order, by central differences,",
            Parameter("order", 1, "1 for the slope, 2 for how the slope changes, and so on"),
        ),
        NamedFilter(
            "disk",
            disk,
            (Parameter("radius", 3.0, "pixels"),),
            "mean over a disc, as of a lens out of focus",
        ),
        NamedFilter(
            "dog",
            dog,
            (_SIGMA, Parameter("ratio", 1.6, "how many times wider the second Gaussian is")),
            "difference of two Gaussians: spots of a size",
        ),
        *_along_axes("edge", edge, "difference of neighbours"),
        NamedFilter(
            "gabor",
            gabor,
            (
                Parameter("wavelength", 6.0, "pixels from line to line"),
                Parameter("angle", 0.0, "degrees counter-clockwise from the horizontal"),
            ),
            "wave under a Gaussian: texture of one size and direction",
        ),
        NamedFilter("gaussian", gaussian, (_SIGMA,), "Gaussian blur"),
        NamedFilter("laplacian", laplacian, (), "how a pixel differs from its 4 neighbours"),
        NamedFilter(
            "laplacian-8", partial(laplacian, 8), (), "how a pixel differs from its 8 neighbours"
        ),
        NamedFilter("log", log, (_SIGMA,), "Laplacian of a Gaussian: spots and edges of a size"),
        NamedFilter(
            "motion",
            motion,
            (
                Parameter("length", 9.0, "pixels of the line"),
                Parameter("angle", 0.0, "degrees counter-clockwise from the horizontal"),
            ),
            "blur along a line, as of a moving camera",
        ),
        NamedFilter(
            "moffat",
            moffat,
            (
                Parameter("gamma", 2.0, "half the width in pixels"),
                Parameter("alpha", 2.5, "how fast the wings fall"),
            ),
            "image of a star through the atmosphere",
        ),
        *_along_axes("prewitt", prewitt, "slope, smoothed by 1 1 1 across,"),
        NamedFilter(
            "ring",
            ring,
            (
                Parameter("inner", 2.0, "pixels"),
                Parameter("outer", 4.0, "pixels"),
            ),
            "mean over a ring: the surroundings of a spot",
        ),
        *_along_axes("scharr", scharr, "slope, smoothed by 3 10 3 across,"),
        *_along_axes("second-derivative", second_derivative, "how the slope changes"),
        NamedFilter(
            "sharpen",
            sharpen,
            (
                Parameter("amount", 1.0, "strength"),
                Parameter("sigma", 1.0, "standard deviation of the blur in pixels"),
            ),
            "unsharp mask: adds what a blur takes away",
        ),
        *_along_axes("sobel", sobel, "slope, smoothed by 1 2 1 across,"),
    )
}

# Other names for the same.
_SYNONYMS = {
    "avg": "box",
    "blur": "gaussian",
    "box-blur": "box",
    "gauss": "gaussian",
    "gaussian-blur": "gaussian",
    "mean": "box",
    "average": "box",
    "gauss-blur": "gaussian",
    "laplace": "laplacian",
    "laplacian-of-gaussian": "log",
    "motion-blur": "motion",
    "uniform": "box",
    "unsharp": "sharpen",
    "unsharp-mask": "sharpen",
}


def find(name: str | None = None) -> list[NamedFilter]:
    """Return all filters, or the one that a name with or without numbers means.

    Parameters
    ----------
    name : str, optional
        As for `by_name`.

    Returns
    -------
    list of NamedFilter

    Raises
    ------
    ValueError
        An unknown name.

    Notes
    -----
    O(number of names).

    Examples
    --------
    >>> find("gaussian-2.5")[0].parameters[0].name
    'sigma'
    """
    return list(_FILTERS.values()) if name is None else [_split(name)[0]]


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
    return sorted(one.usage for one in _FILTERS.values())


def _split(name: str) -> tuple[NamedFilter, str]:
    """Find the filter that a name begins with, and return it with the text of its numbers."""
    # A space beside a comma, a colon or the like says nothing; elsewhere it stands for a dash.
    plain = re.sub(r"\s*([:,=()])\s*", r"\1", name.strip().lower())
    plain = re.sub(r"[\s_]+", "-", plain)
    stems = {**_FILTERS, **{other: _FILTERS[one] for other, one in _SYNONYMS.items()}}
    for stem in sorted(stems, key=len, reverse=True):
        rest = plain[len(stem) :]
        if plain.startswith(stem) and (not rest or rest[0] in "-:("):
            return stems[stem], rest
    if f"{plain}-x" in _FILTERS:
        raise ValueError(
            f"unknown filter {name!r}: it needs a direction; did you mean '{plain}-x' (along the "
            f"rows) or '{plain}-y' (down the columns)?"
        )
    allowed = ", ".join(map(repr, sorted(_FILTERS)))
    raise unknown_filter(name, plain, stems, _works, allowed)


def _works(name: str) -> bool:
    try:
        _read_numbers(*_split(name), name)
    except ValueError:
        return False
    return True


def _read_numbers(found: NamedFilter, text: str, name: str) -> dict[str, float]:
    """Read ``-2-45``, ``:2,45``, ``(2, 45)`` or ``:length=2,angle=45``."""
    if text.startswith("-"):
        # A dash before a number's own minus or after an e stays with the number.
        parts = re.findall(r"-(-?(?:e[+-]?|[^-])*)", text)
    else:
        parts = text.strip(":()").replace(")", "").split(",") if text else []
    known = {one.name: one for one in found.parameters}
    numbers: dict[str, float] = {}
    for place, part in enumerate(parts):
        key, equals, value = part.rpartition("=")
        key = key.strip("- ")
        if not equals and place < len(found.parameters):
            key = found.parameters[place].name
        elif not equals:
            raise ValueError(f"{found.name} takes {found.takes}, got {len(parts)} in {name!r}")
        if key not in known:
            raise ValueError(f"{found.name} takes {found.takes}, not {key!r}, in {name!r}")
        if key in numbers:
            raise ValueError(f"{found.name}: {key} is given twice in {name!r}")
        numbers[key] = known[key].read(value.strip(), found.name)
    return numbers


def by_name(name: str) -> Weights:
    """Return the weights of a filter by its name on the command line, such as ``gaussian-2.5``.

    Parameters
    ----------
    name : str
        A name, followed by numbers where the filter takes them: ``motion-15-45``,
        ``motion:15,45`` or ``motion:length=15,angle=45``.

    Returns
    -------
    ndarray of float64 or int64
        As from the function of that filter.

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
    >>> bool((by_name("gaussian-2") == by_name("gaussian:sigma=2")).all())
    True
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a string such as 'sobel-x' or 'gaussian-2', got {name!r}")
    found, text = _split(name)
    numbers = _read_numbers(found, text, name)
    return found.make(*(numbers.get(one.name, one.default) for one in found.parameters))
