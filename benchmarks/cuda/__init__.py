"""Benchmarks of the CUDA backend: on a GPU (`run`), and of compiled code without one (`static`)."""
