"""Arrays of other libraries: torch tensors with autograd, lazy Dask arrays."""
