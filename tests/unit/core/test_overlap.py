"""Which arrays overlap, and which cannot overlap themselves."""

import numpy as np
import pytest

import gpuconv
from gpuconv.core.overlap import is_permuted


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        (lambda a: a, True),
        (lambda a: a.transpose(2, 0, 1), True),
        (lambda a: a[:1].transpose(1, 0, 2), True),  # one row: its stride does not matter
        (lambda a: a[:, ::2], False),
        (lambda a: a[::-1], False),
        (lambda a: np.broadcast_to(a[:1], a.shape), False),
        (lambda a: np.lib.stride_tricks.sliding_window_view(a[0, 0], 2), False),
    ],
)
def test_permuted(view, expected):
    assert is_permuted(view(np.zeros((4, 5, 6)))) is expected


def test_empty_arrays_overlap_nothing():
    x = np.zeros((0, 5, 6))
    out = x[:, :3, :4]
    assert gpuconv.corr2d(x, np.ones((3, 3)), out=out) is out
