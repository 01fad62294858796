"""The CPU backend: planning and threads here, compiled code in `jit`."""
