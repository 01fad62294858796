"""The CUDA backend: planning and launching here, CUDA C++ in `src`."""
