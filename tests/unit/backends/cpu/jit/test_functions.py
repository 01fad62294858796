"""How jit functions are compiled, whatever they compute."""

import gc

import numpy as np
import pytest
from numba import config

from gpuconv.backends.cpu.jit.drivers import compiled
from gpuconv.backends.cpu.jit.functions import load_or_compile
from gpuconv.backends.cpu.jit.weights import rank_one


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_collection_rests_while_code_is_compiled_and_is_then_as_it_was(enabled):
    was = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        assert load_or_compile(gc.isenabled) is False
        assert gc.isenabled() is enabled
        with pytest.raises(ZeroDivisionError):
            load_or_compile(divmod, 1, 0)
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if was else gc.disable)()


def test_code_that_is_not_on_disk_is_not_loaded(monkeypatch, tmp_path):
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))
    one, other = (compiled(rank_one._integer_rank_one_factors) for _ in range(2))
    arguments = np.ones((1, 2, 2), "i8"), 1, 2, 2, False, np.zeros(4, "i8")
    assert not one.load(*arguments)
    assert not one.code.overloads
    one.ready(*arguments)
    assert other.load(*arguments)
    assert other.code(*arguments) == one.code(*arguments) == 8
