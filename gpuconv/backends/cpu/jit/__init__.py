"""Compiled code of the CPU backend (Numba and LLVM). Imports nothing but `core`, `vector_width`."""
