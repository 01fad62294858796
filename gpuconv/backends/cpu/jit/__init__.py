"""Compiled code of the CPU backend (Numba and LLVM). Imports `core` and `vector_width` alone."""
