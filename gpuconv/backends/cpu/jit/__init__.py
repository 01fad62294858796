"""Compiled code of the CPU backend (Numba and LLVM). Imports nothing of the package but `core`."""
