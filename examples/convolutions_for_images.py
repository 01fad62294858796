# %% [markdown]
# # Convolutions for images
#
# The experiments of the chapter of that name in *Dive into Deep Learning*, in our own words and
# with `gpuconv`: a correlation by hand, a layer, edges, a kernel learned from data, correlation
# and convolution, receptive fields, and the chapter's exercises, each answered by code.
#
# As a script it writes its pictures to the folder in its argument, or to `examples/pictures`.

# %%
import sys
from pathlib import Path

import matplotlib

if "ipykernel" not in sys.modules:
    matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

import gpuconv
from gpuconv.imaging import filters

SCRIPT = "__file__" in globals()
FOLDER = Path(sys.argv[1]) if SCRIPT and len(sys.argv) > 1 else Path("examples/pictures")


def show(name, pictures, columns=4):
    """Draw titled arrays side by side, and save the figure if this runs as a script."""
    rows = -(-len(pictures) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(2.4 * columns, 2.6 * rows), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, (title, array) in zip(axes.flat, pictures.items(), strict=False):
        array = np.asarray(array, float)
        limit = np.abs(array).max() or 1
        signed = array.min() < 0
        axis.imshow(
            array,
            cmap="RdBu" if signed else "gray",
            vmin=-limit if signed else 0,
            vmax=limit,
            interpolation="nearest",
        )
        axis.set_title(title, fontsize=8)
    save_figure(figure, name)


def save_figure(figure, name):
    figure.tight_layout()
    if SCRIPT:
        FOLDER.mkdir(parents=True, exist_ok=True)
        figure.savefig(FOLDER / f"{name}.png", dpi=72)
        plt.close(figure)
    else:
        plt.show()


# %% [markdown]
# ## The operation
#
# The kernel is placed at every position of the image where it fits. The pixels under it are
# multiplied with it element by element, and the products are summed. A 2x2 kernel has 2x2 positions
# in a 3x3 image.

# %%
X = np.arange(9.0).reshape(3, 3)
K = np.arange(4.0).reshape(2, 2)
print(gpuconv.corr2d(X, K))
assert (gpuconv.corr2d(X, K) == [[19, 25], [37, 43]]).all()
# The first of them by hand:
assert (X[:2, :2] * K).sum() == 19

# %% [markdown]
# ## The layer
#
# A convolution layer correlates its input with a kernel and adds a bias. It learns both.

# %%
layer = gpuconv.nn.Conv2D(1, (2, 2), rng=0, dtype="float64")
Y = layer(X[None, None])  # images come as (batch, channels, rows, columns)
assert np.allclose(Y[0, 0], gpuconv.corr2d(X, layer.weight[0, 0]) + layer.bias[0])
print(layer, Y.shape)

# %% [markdown]
# ## Finding edges
#
# A white image with a black band. With `[1, -1]` equal neighbours cancel. Where the brightness
# falls the result is 1, and where it rises again it is -1. The transposed image has no edges that
# this kernel detects.

# %%
X = np.ones((6, 8))
X[:, 2:6] = 0
K = np.array([[1.0, -1.0]])
Y = gpuconv.corr2d(X, K)
print(Y)
assert (Y[:, 1] == 1).all()
assert (Y[:, 5] == -1).all()
assert np.count_nonzero(Y) == 12
assert not gpuconv.corr2d(X.T, K).any()
show(
    "edges",
    {"image": X, "its vertical edges": Y, "image.T": X.T, "sees nothing": gpuconv.corr2d(X.T, K)},
)

# %% [markdown]
# ## Learning the kernel
#
# The kernel `[1, -1]` need not be known. Given only the image and its edges, ten steps of gradient
# descent on the sum of squared errors find it.

# %%
found = gpuconv.learn_kernel(X, Y, (1, 2), lr=3e-2, steps=10, rng=0)
print("losses:", *(f"{loss:.3g}" for loss in found.losses))
print("kernel:", found.kernel)
assert found.losses[-1] < 0.2
assert np.abs(found.kernel - K).max() < 0.1

figure, axis = plt.subplots(figsize=(5, 3))
for momentum, style in ((0.1, "-"), (0.0, "--")):
    runs = [
        gpuconv.learn_kernel(X, Y, (1, 2), momentum=momentum, rng=seed).losses
        for seed in range(100)
    ]
    middle, low, high = (np.quantile(runs, q, axis=0) for q in (0.5, 0.0, 1.0))
    line = axis.semilogy(middle, style, label=f"momentum {momentum:g}, 100 starts")[0]
    axis.fill_between(range(len(middle)), low, high, alpha=0.15, color=line.get_color())
    last = np.array(runs)[:, -1]
    print(f"momentum {momentum:g}: {np.mean(last < 0.2):.0%} of 100 starts end under 0.2, "
          f"the worst at {last.max():.2g}")  # fmt: skip
axis.axhline(0.2, color="gray", linewidth=0.5)
axis.set_xlabel("step")
axis.set_ylabel("sum of squared errors")
axis.legend()
save_figure(figure, "learning")

# %% [markdown]
# Plain gradient descent (momentum 0, as in the chapter) overshoots along `[1, 1]`, the direction in
# which the loss is steepest: at this rate every step multiplies the error there by -0.8. A little
# momentum damps that oscillation.
#
# ## Correlation and convolution
#
# Convolution first flips the kernel in both axes. If the kernel is learned, that makes no
# difference: the flipped kernel is learned instead.

# %%
K = np.array([[1.0, 2.0], [3.0, 4.0]])
image = np.random.default_rng(0).random((5, 5))
assert np.allclose(gpuconv.convolve2d(image, K), gpuconv.corr2d(image, K[::-1, ::-1]))
flipped = gpuconv.learn_kernel(
    image, gpuconv.convolve2d(image, K), 2, lr=2e-2, steps=3000, momentum=0.9, rng=0
)
print(flipped.kernel.round(3))
assert np.allclose(flipped.kernel, K[::-1, ::-1], atol=1e-2)

# %% [markdown]
# ## Receptive fields
#
# An output of one layer depends on a window as large as the kernel. Each further layer enlarges it.

# %%
stack = [gpuconv.Layer(3), gpuconv.Layer(3, stride=2), gpuconv.Layer(2)]
field = gpuconv.receptive_field(stack)
print(field)
print(field.draw(0, 1, (9, 11)))
figure, axes = plt.subplots(1, len(stack) + 1, figsize=(9, 2.4))
for n, axis in enumerate(axes):
    part = gpuconv.receptive_field(stack[n:]) if n < len(stack) else None
    shape = gpuconv.receptive_field(stack[:n]).output_shape((9, 11)) if n else (9, 11)
    grid = np.zeros(shape)
    if part is None:
        grid[0, 1] = 1
    else:
        (top, bottom), (left, right) = part.window(0, 1, shape)
        grid[top:bottom, left:right] = 1
    axis.pcolormesh(grid[::-1], edgecolors="gray", linewidth=0.5, cmap="Oranges", vmin=0, vmax=1.5)
    axis.set_title("input" if n == 0 else f"layer {n}", fontsize=9)
    axis.set_aspect("equal")
    axis.axis("off")
save_figure(figure, "receptive_field")

# %% [markdown]
# ## Exercise 1: an image with a diagonal edge
#
# With `K = [[1, -1]]` the edge is found wherever a row crosses it. Transposing the image mirrors it
# about the diagonal, so the edge stays where it is and changes its sign. The transposed kernel
# compares each pixel with the one below it, with the same effect.

# %%
K = np.array([[1.0, -1.0]])
diagonal = np.triu(np.ones((8, 8)))
with_k = gpuconv.corr2d(diagonal, K)
of_transposed = gpuconv.corr2d(diagonal.T, K)
transposed_k = gpuconv.corr2d(diagonal, K.T)
show(
    "diagonal",
    {"diagonal edge": diagonal, "with K": with_k, "transposed, with K": of_transposed,
     "with K transposed": transposed_k},
)  # fmt: skip
assert set(np.unique(with_k)) == {-1, 0}
assert set(np.unique(of_transposed)) == {0, 1}
assert np.array_equal(transposed_k, of_transposed.T)

# %% [markdown]
# ## Exercise 2: kernels by hand
#
# **The edge orthogonal to a direction v.** The derivative along v, `v_y d/dy + v_x d/dx`, is
# largest where the brightness changes along v, which is at edges orthogonal to v.

# %%
rows, columns = np.mgrid[:48, :48] - 23.5
disc = (rows**2 + columns**2 < 15**2).astype(float)
disc = gpuconv.corr2d(
    disc, filters.gaussian(2), mode="same"
)  # smooth, so that the rim has a gradient
pictures = {"disc": disc}
for name, v in (("down", (1, 0)), ("right", (0, 1)), ("diagonal", (1, 1))):
    response = gpuconv.corr2d(disc, filters.directional_derivative(v), mode="same")
    pictures[f"along v = {v}"] = response
    strongest = np.argmax(np.abs(response))
    y, x = np.unravel_index(strongest, response.shape)
    outward = np.array([rows[y, x], columns[y, x]]) / np.hypot(rows[y, x], columns[y, x])
    assert abs(outward @ np.array(v)) / np.linalg.norm(v) > 0.8, name
show("directions", pictures)

# %% [markdown]
# **The second derivative** is zero for a constant and for a slope, and constant for a parabola. It
# has opposite signs on the two sides of an edge, and is largest at a line of one pixel.

# %%
second = filters.second_derivative()
t = np.arange(16.0)
profiles = {
    "constant": np.ones(16),
    "slope": t,
    "parabola": (t - 8) ** 2,
    "edge": (t > 7).astype(float),
    "line": (t == 8).astype(float),
}
for name, profile in profiles.items():
    response = gpuconv.corr2d(profile[None], second.reshape(1, -1))[0]
    print(f"{name:9}", response)
    if name in ("constant", "slope"):
        assert not response.any()
    elif name == "parabola":
        assert (response == 2).all()
    elif name == "edge":
        assert sorted(response[response != 0]) == [-1, 1]
    else:
        assert sorted(response[response != 0]) == [-2, 1, 1]

# %% [markdown]
# **Blur kernels.** Their weights are not negative and sum to 1: they are equal (box), bell-shaped
# (Gaussian), or lie along a line (motion). None changes a constant image; each reduces contrast.

# %%
board = ((rows // 6 + columns // 6) % 2 == 0).astype(float)
blurs = {
    "box 5": filters.box(5),
    "Gaussian, sigma 1.5": filters.gaussian(1.5),
    "motion 9": filters.motion(9),
}
pictures = {"image": board}
for name, kernel in blurs.items():
    assert np.isclose(kernel.sum(), 1)
    assert kernel.min() >= 0
    pictures[name] = gpuconv.corr2d(board, kernel, mode="same", boundary="symmetric")
    assert pictures[name].std() < board.std()
show("blur", pictures)

# %% [markdown]
# **The smallest kernel of a derivative of order d** has d + 1 taps. It must map all polynomials of
# a degree below d to 0, which is d independent conditions on the taps, and `t**d` to `d!`, which is
# one more. With d taps or fewer the first d conditions make all taps zero.

# %%
for d in range(1, 6):
    taps = filters.derivative(d, axis=1).ravel()
    least = d + 1
    t = np.arange(least) - d / 2
    conditions = np.vander(t, least, increasing=True).T
    wanted = np.zeros(least)
    wanted[d] = np.prod(np.arange(1, d + 1))
    smallest = np.linalg.solve(conditions, wanted)
    print(f"order {d}: {least} taps {smallest.round(3)}; filters.derivative has {taps.size}")
    assert taps.size >= least
    assert np.linalg.matrix_rank(np.vander(t[:d], d, increasing=True).T) == d

# %% [markdown]
# ## Exercise 3: differentiating your own layer
#
# Automatic differentiation needs the derivative of the operation itself. `gpuconv.corr2d_vjp`
# computes it for arrays; for torch tensors `gpuconv.corr2d` is part of the autograd graph. A
# comparison with finite differences:

# %%
rng = np.random.default_rng(1)
X, K, dY = rng.random((5, 6)), rng.random((2, 3)), rng.random((4, 4))
dX, dK = gpuconv.corr2d_vjp(X, K, dY)
step = 1e-6
nudged = K.copy()
nudged[1, 2] += step
slope = ((gpuconv.corr2d(X, nudged) - gpuconv.corr2d(X, K)) * dY).sum() / step
assert np.isclose(slope, dK[1, 2], atol=1e-5)

# %% [markdown]
# ## Exercise 4: correlation as a product of matrices
#
# The windows of the image, flattened to rows, form a matrix (im2col). Its product with the kernel,
# flattened to a column, is the correlation.

# %%
windows = np.lib.stride_tricks.sliding_window_view(X, K.shape)
matrix = windows.reshape(-1, K.size)
assert np.allclose((matrix @ K.ravel()).reshape(4, 4), gpuconv.corr2d(X, K))
print("All of it holds.")
