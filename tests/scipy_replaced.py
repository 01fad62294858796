"""Plugin of pytest that puts gpuconv's functions in SciPy's place, under SciPy's own tests.

``python -m pytest -p tests.scipy_replaced --pyargs scipy.ndimage.tests.test_filters``
"""

from collections import Counter
from typing import NamedTuple

import pytest
import scipy.ndimage
import scipy.signal
from scipy._lib._array_api import xp_capabilities_table

import gpuconv


class LeftOut(NamedTuple):
    """A test of SciPy's that is expected to fail, and how."""

    reason: str
    raises: type[BaseException] = NotImplementedError


_THREE_AXES = LeftOut("correlates along three axes")
LEFT_OUT = {
    "TestConvolve::test_input_swapping": _THREE_AXES,
    "TestCorrelateReal::test_method": _THREE_AXES,
    "TestCorrelateReal::test_rank3_valid": _THREE_AXES,
    "TestCorrelateReal::test_rank3_same": _THREE_AXES,
    "TestCorrelateReal::test_rank3_all": _THREE_AXES,
    "TestCorrelateComplex::test_rank3": _THREE_AXES,
    "test_convolve_longdtype_input": LeftOut("long double"),
    "TestFFTConvolve::test_fft_nan": LeftOut(
        "asks for the warning that a NaN spreads, but here it affects its own windows only",
        pytest.fail.Exception,
    ),
}
# These pass, too.
NOT_RUN = {"TestConvolve2d::test_large_array": "takes 4 GiB of memory"}
# Of 9730 pairs of lengths every 16th, in which each length occurs: all of them pass, in a minute.
EVERY = {"TestOAConvolve::test_real_manylens": 16}


def _replace(theirs, ours):
    for name in ours.__all__:
        function = getattr(ours, name)
        # What SciPy's tests look up to know which libraries' arrays a function takes.
        xp_capabilities_table[function] = xp_capabilities_table[getattr(theirs, name)]
        setattr(theirs, name, function)


def _name(item):
    return item.nodeid.partition("::")[2].partition("[")[0]


def pytest_collection_modifyitems(config, items):
    seen, kept, left = Counter(), [], []
    for item in items:
        name = _name(item)
        (left if seen[name] % EVERY.get(name, 1) else kept).append(item)
        seen[name] += 1
        if name in NOT_RUN:
            item.add_marker(pytest.mark.skip(reason=NOT_RUN[name]))
        if name in LEFT_OUT:
            reason, raises = LEFT_OUT[name]
            item.add_marker(pytest.mark.xfail(reason=reason, raises=raises, strict=True))
    config.hook.pytest_deselected(items=left)
    items[:] = kept


_replace(scipy.ndimage, gpuconv.ndimage)
_replace(scipy.signal, gpuconv.signal)
