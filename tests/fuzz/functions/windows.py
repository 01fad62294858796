"""Windows of padded images, by `numpy.pad`."""

import numpy as np

MODES = ("valid", "valid", "same", "full", 2, (0, 3), ((1, 0), (0, 4)), ((9, 2), (3, 12)))


def padded_sizes(span, mode, flipped):
    """((top, bottom), (left, right)) of a mode, as `scipy.signal` places the kernel."""
    if mode == "valid":
        return (0, 0), (0, 0)
    if mode == "full":
        return tuple((n - 1, n - 1) for n in span)
    if mode == "same":
        before = [(n // 2 if flipped else (n - 1) // 2) for n in span]
        return tuple((a, n - 1 - a) for a, n in zip(before, span, strict=True))
    if isinstance(mode, int):
        return ((mode, mode),) * 2
    return tuple((n, n) if isinstance(n, int) else tuple(n) for n in mode)


def view_windows(x, shape, padding, flipped=False):
    """Windows, shape (..., r, s, p, q), and the pixels that each output's is centred on, or -1.

    `padding` has the keywords mode, boundary, fillvalue, and maybe stride and dilation.
    """
    stride, dilation = padding.get("stride", (1, 1)), padding.get("dilation", (1, 1))
    span = tuple((n - 1) * d + 1 for n, d in zip(shape, dilation, strict=True))
    pads = padded_sizes(span, padding["mode"], flipped)
    whole, centres = x, []
    for axis, (before, after) in zip((-2, -1), pads, strict=True):
        n = x.shape[axis]
        constant = padding["boundary"] == "constant"
        keywords = {"constant_values": -1} if constant else {}
        index = np.pad(np.arange(n), (before, after), mode=padding["boundary"], **keywords)
        whole = np.take(whole, index, axis=axis)
        if constant:
            beside = index < 0
            beside = beside[:, None] if axis == -2 else beside
            whole = np.where(beside, np.asarray(padding["fillvalue"], whole.dtype), whole)
        middle = span[axis] // 2 if flipped else (span[axis] - 1) // 2
        outputs = (n + before + after - span[axis]) // stride[axis] + 1
        at = np.arange(outputs) * stride[axis] - before + middle
        centres.append(np.where((at >= 0) & (at < n), at, -1))
    view = np.lib.stride_tricks.sliding_window_view(whole, span, axis=(-2, -1))
    (sy, sx), (dy, dx) = stride, dilation
    return view[..., ::sy, ::sx, ::dy, ::dx], centres
