"""How host arrays are cut into strips: every row once, what it is made from, and what it takes."""

import math
from dataclasses import replace

import numpy as np
import pytest

from gpuconv.backends import strips
from gpuconv.core.boundary import BOUNDARIES, index_map, sources
from gpuconv.core.problem import make_problem

from ...emulator.streaming import no_workspace

pytestmark = pytest.mark.usefixtures("exact_memory")


def layout_of(problem, bound):
    layout, _ = strips.plan_strips(problem, no_workspace, bound)
    return layout


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("height", [1, 4, 100])
@pytest.mark.parametrize("stride", [1, 3])
def test_strips_hold_the_rows_they_need(boundary, height, stride):
    problem = make_problem(
        (11, 5), (4, 2), "float32", "float32", mode=((13, 9), (0, 0)), boundary=boundary,
        stride=stride,
    )  # fmt: skip
    rows = index_map(problem.h, *problem.pad[0], boundary)
    image = np.arange(problem.h)
    layout = replace(layout_of(problem, 200), height=height)
    assert not layout.whole
    pieces = list(strips.cut_strips(problem, layout))
    assert [s.first for s in pieces] == list(range(0, problem.r, height))
    assert [s.last for s in pieces] == [*(s.first for s in pieces[1:]), problem.r]
    for strip in pieces:
        assert strip.problem.r == strip.last - strip.first
        parts = [np.broadcast_to(image[run.rows], run.number) for run in strip.runs]
        above, below = strip.problem.pad[0]
        padded = np.concatenate([np.full(above, -1), *parts, np.full(below, -1)])
        needed = rows[strip.first * stride : (strip.last - 1) * stride + problem.span[0]]
        np.testing.assert_array_equal(padded[: len(needed)], needed)
        assert sum(run.number for run in strip.runs) == strip.problem.h


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("height", [1, 2, 6, 100])
@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("dilation", [2, 7, 30, 10**9])
def test_strips_hold_no_rows_that_lie_between_taps(boundary, height, stride, dilation):
    problem = make_problem(
        (60, 5), (4, 2), "float32", "float32", mode=((13 + dilation, 2 * dilation), (0, 0)),
        boundary=boundary, stride=stride, dilation=(dilation, 1),
    )  # fmt: skip
    layout = strips.StripLayout(axis=0, count=1, height=height, whole=False)
    for strip in strips.cut_strips(problem, layout):
        parts = [np.broadcast_to(np.arange(60)[run.rows], run.number) for run in strip.runs]
        (above, below), n = strip.problem.pad[0], np.arange(strip.problem.r)[:, None]
        (sy, _), (dy, _) = strip.problem.stride, strip.problem.dilation
        assert dy % sy == dilation % stride or dy == 1 < sy == problem.p  # gathered windows
        taps = np.arange(problem.p)
        laid = n * sy + taps * dy - above
        found = sources(laid, strip.problem.h, "constant")  # -1: padding
        rows = np.where(found < 0, -1, np.concatenate(parts)[found])
        read = (strip.first + n) * stride + taps * dilation - problem.pad[0][0]
        np.testing.assert_array_equal(rows, sources(read, problem.h, boundary))
        assert laid.max() < strip.problem.h + below
        assert strip.problem.h <= problem.p * (max(2, (height - 1) * stride + 1) + stride - 1)
        assert boundary != "constant" or strip.problem.h <= problem.h


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_uploads_depend_on_no_dilation(boundary):
    def uploads(dilation):
        problem = make_problem(
            (600, 50), (3, 3), "float32", "float32", mode="same", boundary=boundary, fillvalue=1,
            dilation=dilation,
        )  # fmt: skip
        layout, least = strips.plan_strips(problem, no_workspace, 60_000)
        pieces = strips.cut_strips(problem, layout)
        return sum(piece.problem.h for piece in pieces), least, layout.height

    rows, _, height = uploads(60)
    assert height > 10 and rows <= 3 * 600
    for dilation in (200, 5000, 2**31 - 1):
        farther, _, height = uploads(dilation)
        assert height > 10 and farther <= 3 * 600
    assert uploads(5000)[1:] == uploads(2**31 - 1)[1:]


def test_rows_are_few_runs():
    rows = np.array([3, 2, 1, 0, 0, 1, 2, 2, 2, 2, 7, 9, 8, 0])
    runs = strips._find_runs(rows)
    found = [np.broadcast_to(np.arange(10)[run.rows], run.number) for run in runs]
    np.testing.assert_array_equal(np.concatenate(found), rows)
    assert len(runs) == 6


def test_layouts_stay_within_their_bounds():
    rng = np.random.default_rng(3)
    for _ in range(300):
        batch = tuple(int(n) for n in rng.integers(1, 6, rng.integers(0, 4)))
        x_lead = tuple(n if rng.random() < 0.7 else 1 for n in batch)
        p, q, h, w = (int(n) for n in rng.integers(1, 40, 4))
        problem = make_problem(
            (*x_lead, h + p, w + q), (*batch, p, q), "uint8", "float32",
            mode=int(rng.integers(0, 5)), stride=int(rng.integers(1, 4)),
        )  # fmt: skip
        bound = int(rng.integers(1, 60_000))
        layout, least = strips.plan_strips(problem, lambda part: part.h, bound)
        if layout is None:
            assert least > bound
            assert strips.plan_strips(problem, lambda part: part.h, least)[0] is not None
            continue
        assert layout.device_bytes <= bound
        covered = np.zeros(problem.out_shape[:-1], int)
        pieces = list(strips.cut_strips(problem, layout))
        assert len(pieces) == layout.count_strips(problem)
        for strip in pieces:
            assert strips.rows_before(problem, strip) == np.argmin(covered)
            covered[strip.index][..., strip.first : strip.last] += 1
            rows = covered.size if covered.all() else np.argmin(covered)
            assert strips.rows_up_to(problem, strip) == rows
            assert math.prod(strip.problem.x_shape) <= layout.x_bytes
            assert 4 * math.prod(strip.problem.out_shape) <= layout.out_bytes
        assert (covered == 1).all()


def test_memory_is_given_out_in_units(monkeypatch):
    monkeypatch.setattr(strips, "ALLOCATION", 512)
    problem = make_problem((100, 70), (3, 3), "float32", "float32")
    for bound in range(3000, 9000, 50):
        layout, _ = strips.plan_strips(problem, lambda part: 100, bound)
        buffers = [-(-n // 512) * 512 for n in (layout.x_bytes, layout.out_bytes)]
        assert 512 + layout.lanes * sum(buffers) == layout.device_bytes <= bound
    assert strips.plan_strips(problem, lambda part: 100, 1)[1] == 1024 + 512 + 512


def test_strips_have_a_good_size():
    big = make_problem((10**6, 10**5), (31, 31), "float32", "float32")
    layout = layout_of(big, 8 << 30)
    assert layout.lanes == 3
    assert 0.9 < (layout.x_bytes + layout.out_bytes) / (64 << 20) <= 1
    # So that the first one in and the last one out are a small part of a call.
    middling = make_problem((8192, 2048), (3, 3), "float32", "float32")
    assert layout_of(middling, 8 << 30).count_strips(middling) in (8, 9)
    small = make_problem((100, 30, 20), (3, 3), "float32", "float32")
    assert layout_of(small, 8 << 30).count_strips(small) == 1
    # Rather fewer strips at a time than strips that are mostly halo.
    tall = make_problem((10**4, 10**4), (301, 3), "float32", "float32")
    assert layout_of(tall, 40 << 20).lanes == 1
    assert layout_of(tall, 400 << 20).lanes == 3
