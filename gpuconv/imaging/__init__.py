"""What image people do with a correlation: filters, receptive fields, learned kernels."""
