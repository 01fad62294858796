"""The costs that the package has for the CPU: which of them a processor gets."""

import pytest

from gpuconv.backends import get_backend
from gpuconv.backends.cpu import costs, vector_width
from gpuconv.backends.cpu.jit import vectors


def test_the_width_is_what_code_is_compiled_for():
    assert costs.vector_bytes() == vectors.vector_bytes()
    halves = vectors.vector_bytes() == 64 and vector_width.computes_in_halves()
    expected = costs.IN_HALVES if halves else costs.SHIPPED[vectors.vector_bytes()]
    assert get_backend("cpu").costs == expected


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
    monkeypatch.setattr(costs, "computes_in_halves", lambda: False)
    assert costs.vector_bytes() == expected
    assert costs.shipped() is costs.SHIPPED[expected]
    monkeypatch.setattr(costs, "computes_in_halves", lambda: True)
    assert (costs.shipped() is costs.IN_HALVES) == (expected == 64)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 17\n", True),
        ("processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 26\nmodel\t\t: 2\n", False),
        ("processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 143\n", False),
        ("AMD64 Family 25 Model 97 Stepping 2, AuthenticAMD", True),
        ("AMD64 Family 26 Model 68 Stepping 0, AuthenticAMD", False),
        ("Intel64 Family 6 Model 143 Stepping 8, GenuineIntel", False),
        ("", False),
    ],
)
def test_zen_4_is_known_by_its_family(monkeypatch, text, expected):
    monkeypatch.setattr(vector_width, "_describe_processor", lambda: text)
    vector_width.computes_in_halves.cache_clear()
    try:
        assert vector_width.computes_in_halves() is expected
    finally:
        vector_width.computes_in_halves.cache_clear()
