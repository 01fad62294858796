"""Applications of correlation to images: filters, receptive fields, learned kernels."""
