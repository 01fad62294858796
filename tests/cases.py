"""Cases that several test files run."""

import numpy as np

# Layers: shapes of x and weight, stride, padding, dilation, groups.
LAYERS = [
    ((2, 1, 9, 8), (1, 1, 3, 3), 1, 0, 1, 1),
    ((2, 3, 9, 8), (1, 3, 3, 2), 1, "same", 1, 1),
    ((1, 1, 9, 8), (5, 1, 2, 3), 2, 1, 1, 1),
    ((2, 5, 11, 9), (7, 5, 3, 3), 1, 1, 1, 1),
    ((2, 5, 11, 9), (7, 5, 3, 2), (2, 3), (2, 1), (1, 2), 1),
    ((2, 6, 10, 13), (8, 3, 4, 3), 2, ((1, 2), (0, 3)), (2, 1), 2),
    ((2, 4, 10, 9), (4, 1, 3, 3), 1, "same", 1, 4),
    ((2, 4, 10, 9), (8, 1, 3, 5), (2, 1), 2, 1, 4),
    ((3, 4, 5, 6), (6, 4, 1, 1), 1, 0, 1, 1),
    ((3, 4, 5, 6), (6, 4, 1, 1), 3, 1, 1, 1),
    ((1, 3, 7, 7), (4, 3, 7, 7), 1, "valid", 1, 1),
    ((1, 3, 4, 4), (4, 3, 2, 2), 3, 5, 4, 1),
    ((0, 3, 7, 7), (4, 3, 3, 3), 1, 1, 1, 1),
]

# Exponents of 10 up to which a number may be a pixel of a transform.
LARGEST_EXPONENTS = {
    "float16": 4, "bfloat16": 35, "float32": 35, "float64": 300, "complex64": 35, "complex128": 300,
}  # fmt: skip


def disc(side):
    """Weights of 1 in a circle and 0 in the corners around it."""
    line = (np.arange(side) - (side - 1) / 2) ** 2
    return (line[:, None] + line <= side * side / 4).astype("f4")


def misaligned(array):
    """A copy whose elements lie one byte beside where their type belongs."""
    memory = np.zeros(array.nbytes + 1, np.uint8)
    view = memory[1:].view(array.dtype).reshape(array.shape)
    view[...] = array
    assert not view.flags.aligned
    return view
