"""Plugin of pytest that puts gpuconv's functions in SciPy's place, under SciPy's own tests.

``python -m pytest -p tests.scipy_replaced --pyargs scipy.ndimage.tests.test_filters``
"""

import scipy.ndimage
import scipy.signal
from scipy._lib._array_api import xp_capabilities_table

import gpuconv


def _replace(theirs, ours):
    for name in ours.__all__:
        function = getattr(ours, name)
        # What SciPy's tests look up to know which libraries' arrays a function takes.
        xp_capabilities_table[function] = xp_capabilities_table[getattr(theirs, name)]
        setattr(theirs, name, function)


_replace(scipy.ndimage, gpuconv.ndimage)
_replace(scipy.signal, gpuconv.signal)
