"""Hypothesis's strategies: problems of every geometry."""

from hypothesis import strategies as st

from gpuconv.core.boundary import BOUNDARIES
from gpuconv.core.problem import make_problem


@st.composite
def problems(draw):
    p, q = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    span = [(n - 1) * d + 1 for n, d in zip((p, q), dilation, strict=True)]
    pad = tuple(draw(st.tuples(st.integers(0, 9), st.integers(0, 9))) for _ in range(2))
    h = max(1, span[0] - sum(pad[0])) + draw(st.integers(0, 20))
    w = max(1, span[1] - sum(pad[1])) + draw(st.integers(0, 40))
    dtype = draw(st.sampled_from(["float32", "float64"]))
    return make_problem(
        (h, w), (p, q), dtype, dtype, mode=pad, boundary=draw(st.sampled_from(BOUNDARIES)),
        fillvalue=draw(st.sampled_from([0, 1.5, -3])), dilation=dilation,
        stride=draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
    )  # fmt: skip
