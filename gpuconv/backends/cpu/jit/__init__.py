"""Compiled code of the CPU backend (Numba and LLVM); it imports only `core` and `vector_width`."""
