"""The costs that the package has for the CPU: which of them a processor gets."""

import pytest

from gpuconv.backends import get_backend
from gpuconv.backends.cpu import costs
from gpuconv.backends.cpu.jit import vectors


def test_the_width_is_what_code_is_compiled_for():
    assert costs.vector_bytes() == vectors.vector_bytes()
    assert get_backend("cpu").costs == costs.SHIPPED[vectors.vector_bytes()]


@pytest.mark.parametrize(
    ("asked", "features", "expected"),
    [
        (None, {"AVX512F": True, "AVX": True}, 64),
        (None, {"AVX512F": False, "AVX": True}, 32),
        (None, {"NEON": True}, 16),
        ("+avx,+avx2,+fma", {"AVX512F": True, "AVX": True}, 32),
        ("+sse4.2", {"AVX512F": True, "AVX": True}, 16),
        ("+avx512f,+avx", {}, 64),
    ],
)
def test_widths(monkeypatch, asked, features, expected):
    monkeypatch.setattr(costs, "_features", lambda: features)
    monkeypatch.delenv("NUMBA_CPU_FEATURES", raising=False)
    if asked is not None:
        monkeypatch.setenv("NUMBA_CPU_FEATURES", asked)
    assert costs.vector_bytes() == expected
    assert costs.shipped() is costs.SHIPPED[expected]
