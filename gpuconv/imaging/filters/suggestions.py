"""What a name may mean that no filter has: another spelling, a kind, or what is no correlation."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection

__all__ = ["unknown_filter"]

_EDGES = ("sobel-x", "sobel-y", "laplacian")
# Names of kinds of filters, and the filters here that are of that kind.
_KINDS = {
    "airy": ("moffat", "disk"),
    "band-pass": ("dog", "gabor"),
    "bokeh": ("disk",),
    "contour": _EDGES,
    "deblur": ("sharpen",),
    "defocus": ("disk",),
    "detail": ("sharpen",),
    "edge-detect": _EDGES,
    "edge-detection": _EDGES,
    "edges": _EDGES,
    "emboss": ("sobel-x", "sobel-y"),
    "find-edges": _EDGES,
    "gradient": ("sobel-x", "sobel-y"),
    "high-pass": ("laplacian", "dog", "sharpen"),
    "identity": ("box-1",),
    "kirsch": _EDGES,
    "lens": ("disk",),
    "lens-blur": ("disk",),
    "low-pass": ("gaussian", "box"),
    "mexican-hat": ("log",),
    "outline": _EDGES,
    "psf": ("moffat", "gaussian"),
    "roberts": ("edge-x", "edge-y"),
    "sharp": ("sharpen",),
    "smooth": ("gaussian", "box"),
    "smoothing": ("gaussian", "box"),
}
# What is no weighted sum of pixels, and who has it.
_OTHERS = {
    "bilateral": "skimage.restoration.denoise_bilateral",
    "canny": "skimage.feature.canny",
    "closing": "scipy.ndimage.grey_closing",
    "denoise": "skimage.restoration.denoise_nl_means",
    "dilate": "scipy.ndimage.grey_dilation",
    "dilation": "scipy.ndimage.grey_dilation",
    "erode": "scipy.ndimage.grey_erosion",
    "erosion": "scipy.ndimage.grey_erosion",
    "max": "scipy.ndimage.maximum_filter",
    "maximum": "scipy.ndimage.maximum_filter",
    "median": "scipy.ndimage.median_filter",
    "min": "scipy.ndimage.minimum_filter",
    "minimum": "scipy.ndimage.minimum_filter",
    "opening": "scipy.ndimage.grey_opening",
    "percentile": "scipy.ndimage.percentile_filter",
    "rank": "scipy.ndimage.rank_filter",
    "threshold": "skimage.filters.threshold_otsu",
    "wiener": "scipy.signal.wiener",
}
_LEAST_LIKENESS = 0.75  # of spellings; below it names of other filters are alike by chance


def _squeeze(name: str) -> str:
    return name.replace("-", "")


def unknown_filter(
    name: str, plain: str, known: Collection[str], works: Callable[[str], bool], allowed: str
) -> ValueError:
    """Build the error for a name that no filter has.

    Parameters
    ----------
    name : str
        As it was typed.
    plain : str
        The same in small letters, with dashes for spaces.
    known : collection of str
        All names, other ones for the same filter too.
    works : function
        Whether a name with numbers would be understood.
    allowed : str
        The names to list.
    """
    stem = re.split(r"[-:=(]*[\d.]", plain, maxsplit=1)[0].strip("-")
    numbers = plain[len(stem) :].lstrip("-:=(")
    for word, function in _OTHERS.items():
        if _squeeze(stem) in (word, f"{word}filter", f"{word}blur"):
            return ValueError(
                f"{name!r} is no correlation: its results are no weighted sums of pixels, as those "
                f"of all filters here are; {function} computes it"
            )
    kinds = {_squeeze(kind): near for kind, near in _KINDS.items()}
    spellings = {_squeeze(one): one for one in known}
    near = kinds.get(_squeeze(stem).removesuffix("filter"), ())
    if not near and _squeeze(stem) in spellings:
        stem = spellings[_squeeze(stem)]
        whole = f"{stem}-{numbers}"
        near = (whole if numbers and works(whole) else stem,)
    if not near:
        near = tuple(difflib.get_close_matches(stem, known, n=2, cutoff=_LEAST_LIKENESS))
    *firsts, last = map(repr, near or [""])
    listed = f"{', '.join(firsts)} or {last}" if firsts else last
    hint = f"; did you mean {listed}?" if near else ""
    return ValueError(
        f"unknown filter {name!r}{hint}{' Allowed' if near else '; allowed'}: {allowed}"
    )
