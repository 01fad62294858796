"""What has to be copied first (foreign byte order, misaligned elements) is filtered in strips."""

import itertools

import numpy as np
import pytest

import gpuconv
from gpuconv.backends.cpu import backend
from gpuconv.backends.cpu.backend import CpuBackend

from ....cases import misaligned
from ....marks import always
from ....oracle import sample

SHAPES = [((3, 2, 40, 30), (2, 3, 3)), ((90, 40), (4, 3)), ((3, 1, 50, 20), (5, 1, 3, 5)[1:])]
OPTIONS = [
    dict(),
    dict(mode="full", boundary="reflect"),
    dict(mode=(30, 40), fillvalue=2),
    dict(stride=(2, 3), mode="same", boundary="wrap"),
]


@pytest.mark.parametrize(
    ("method", "dtype"),
    always(
        list(
            itertools.product(
                ["direct", "separable", "fft"], ["float32", "float64", "complex64", "int16"]
            )
        ),
        ("direct", "float32"),
        ("direct", "int16"),
        ("separable", "float64"),
        ("fft", "complex64"),
        rows=True,
    ),
)
def test_strips_of_copies(monkeypatch, dtype, method):
    if (method, dtype) == ("fft", "int16"):
        dtype = "complex128"  # integers have no fft
    monkeypatch.setattr(backend, "_COPIED_BYTES", 1 << 12)
    cut, runs = CpuBackend.run_in_strips, []
    monkeypatch.setattr(CpuBackend, "run_in_strips", lambda *a: (runs.append(1), cut(*a)))
    rng = np.random.default_rng(8)
    for shape, taps in SHAPES:
        x, k = sample(rng, shape, dtype), sample(rng, taps, dtype)
        k = k % 5 if dtype == "int16" else k
        if method == "separable":
            k = k[..., :1] * k[..., :1, :]
        for options in OPTIONS:
            for out_dtype in (None, "float16") if dtype == "float64" else (None,):
                options = options | dict(method=method, dtype=out_dtype)
                wanted = gpuconv.corr2d(x, k, **options)
                swapped = x.astype(x.dtype.newbyteorder("S"))
                shifted, out = misaligned(x), misaligned(wanted)
                for image, target in (
                    (swapped, None), (shifted, None), (x, out), (shifted, out), (swapped, out)
                ):  # fmt: skip
                    before = len(runs)
                    found = gpuconv.corr2d(image, k, out=target, **options)
                    assert len(runs) > before
                    if method == "fft":  # other tiles, other roundings
                        error = np.abs(found.astype("c16") - wanted).max()
                        scale = np.abs(wanted.astype("c16")).max()
                        assert error <= (1e-3 if out_dtype else 1e-5) * scale
                    else:
                        np.testing.assert_array_equal(found, wanted)
