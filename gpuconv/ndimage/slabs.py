"""Parts of an array that fit in a cache, so that passes need no working memory of its size."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

__all__ = ["cut"]


def cut(shape: Sequence[int], whole: Sequence[bool], most: int) -> Iterator[tuple[slice, ...]]:
    """Cut an array into parts of at most so many elements, along the axes that are not `whole`.

    The first axes are cut first. Where the axes that stay whole are longer than that, each part is
    one line along them.

    Examples
    --------
    >>> list(cut((4, 5), (False, True), 10))
    [(slice(0, 2, None), slice(0, 5, None)), (slice(2, 4, None), slice(0, 5, None))]
    """
    lengths = list(shape)
    for axis, length in enumerate(shape):
        if whole[axis]:
            continue
        rest = math.prod(lengths) // length
        lengths[axis] = max(1, min(length, most // rest))
    ranges = (
        [slice(start, min(start + part, n)) for start in range(0, n, part)]
        for n, part in zip(shape, lengths, strict=True)
    )
    return itertools.product(*ranges)
