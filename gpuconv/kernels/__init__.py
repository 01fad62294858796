"""Inner loops: Numba and CUDA C++. Nothing here imports anything of the package."""
