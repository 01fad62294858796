"""Images, modes and dtypes with which filters are compared with SciPy's, and how closely."""

import numpy as np

RNG = np.random.default_rng(19)
MODES = (
    "reflect",
    "mirror",
    "nearest",
    "constant",
    "wrap",
    "grid-mirror",
    "grid-constant",
    "grid-wrap",
)
DTYPES = ("uint8", "int16", "uint32", "int64", "float32", "float64", "complex64")


def sample(shape, dtype):
    x = 100 * RNG.random(shape)
    return (x + 50j * RNG.random(shape) if dtype == "complex64" else x).astype(dtype)


def check(found, expected):
    assert type(found) is np.ndarray
    assert found.dtype == expected.dtype
    if found.dtype.kind in "iub":
        np.testing.assert_array_equal(found, expected)
    else:
        single = found.dtype in (np.float32, np.complex64)
        # What lies between passes is rounded to the output's dtype.
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=2e-4 if single else 1e-10)
