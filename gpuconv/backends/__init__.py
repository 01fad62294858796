"""Where a problem is computed: one module a backend."""
