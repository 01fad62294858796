"""Fourier transforms by SciPy."""
