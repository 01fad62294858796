"""How jit functions are compiled, whatever they compute."""

import gc

import pytest

from gpuconv.backends.cpu.jit.functions import load_or_compile


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
