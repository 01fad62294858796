# %% [markdown]
# # Convolutions for images
#
# The experiments of the chapter of that name in *Dive into Deep Learning*, in our own words and
# with `gpuconv`: a correlation by hand, a layer, edges, a kernel learned from data, correlation
# against convolution, receptive fields, and the chapter's exercises, each answered by running it.
#
# Run as a script it writes its pictures to the folder given (`examples/pictures` if none is).

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
    """Draw titled arrays side by side, and keep the drawing if this runs as a script."""
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
    keep(figure, name)


def keep(figure, name):
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
# The kernel is laid on every place of the image where it fits; what lies under it is multiplied
# element by element and summed. A 3x3 image leaves 2x2 places for a 2x2 kernel.

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
# A convolution layer correlates its input with a kernel and adds a bias; both are what it learns.

# %%
layer = gpuconv.nn.Conv2D(1, (2, 2), rng=0, dtype="float64")
Y = layer(X[None, None])  # images come as (batch, channels, rows, columns)
assert np.allclose(Y[0, 0], gpuconv.corr2d(X, layer.weight[0, 0]) + layer.bias[0])
print(layer, Y.shape)

# %% [markdown]
# ## Finding edges
#
# A white image with a black band. Two neighbours that are equal cancel under `[1, -1]`; where the
# brightness falls the result is 1, where it rises again -1. Turned on its side the image has no
# edge this kernel could see.

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
# Nobody has to know `[1, -1]`. From the image and its edges alone, ten steps down the gradient of
# the sum of squared errors find it.

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
keep(figure, "learning")

# %% [markdown]
# Plain descent (momentum 0, as in the chapter) overshoots along `[1, 1]`, the direction in which
# the loss is steepest: at this rate every step leaves -0.8 of the error there. A little momentum
# damps that swing.
#
# ## Correlation and convolution
#
# Convolution turns the kernel half round first. For a learned kernel it makes no difference: what
# is learned is simply the turned kernel.

# %%
K = np.array([[1.0, 2.0], [3.0, 4.0]])
image = np.random.default_rng(0).random((5, 5))
assert np.allclose(gpuconv.convolve2d(image, K), gpuconv.corr2d(image, K[::-1, ::-1]))
turned = gpuconv.learn_kernel(
    image, gpuconv.convolve2d(image, K), 2, lr=2e-2, steps=3000, momentum=0.9, rng=0
)
print(turned.kernel.round(3))
assert np.allclose(turned.kernel, K[::-1, ::-1], atol=1e-2)

# %% [markdown]
# ## Receptive fields
#
# One output of one layer sees a window as large as the kernel; each further layer widens it.

# %%
stack = [gpuconv.Layer(3), gpuconv.Layer(3, stride=2), gpuconv.Layer(2)]
field = gpuconv.receptive_field(stack)
print(field)
print(field.draw(0, 1, (9, 11)))
figure, axes = plt.subplots(1, len(stack) + 1, figsize=(9, 2.4))
for n, axis in enumerate(axes):
    seen = gpuconv.receptive_field(stack[n:]) if n < len(stack) else None
    shape = gpuconv.receptive_field(stack[:n]).output_shape((9, 11)) if n else (9, 11)
    grid = np.zeros(shape)
    if seen is None:
        grid[0, 1] = 1
    else:
        (top, bottom), (left, right) = seen.window(0, 1, shape)
        grid[top:bottom, left:right] = 1
    axis.pcolormesh(grid[::-1], edgecolors="gray", linewidth=0.5, cmap="Oranges", vmin=0, vmax=1.5)
    axis.set_title("input" if n == 0 else f"layer {n}", fontsize=9)
    axis.set_aspect("equal")
    axis.axis("off")
keep(figure, "receptive_field")

# %% [markdown]
# ## Exercise 1: an image with a diagonal edge
#
# With `K = [[1, -1]]` the edge is found wherever a row crosses it. Transposing the image mirrors
# the edge about the diagonal, where it lies on itself: as strong as before, of the other sign.
# Transposing the kernel compares each pixel with the one below it instead, with the same outcome.

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
# largest where the brightness changes along v, which is at an edge orthogonal to it.

# %%
rows, columns = np.mgrid[:48, :48] - 23.5
disc = (rows**2 + columns**2 < 15**2).astype(float)
disc = gpuconv.corr2d(disc, filters.gaussian(2), mode="same")  # a soft rim has one direction
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
# **The second derivative**, and what answers to it: nothing on a constant or a slope, a steady
# value on a parabola, a pair of opposite signs on either side of an edge, and most of all a line
# one pixel wide.

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
# **Blur kernels.** Weights that are not negative and sum to 1: equal ones (box), falling off like
# a bell (Gaussian), or along a path (motion). None changes a constant image; each takes away
# contrast.

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
# **The smallest kernel of a derivative of order d** has d + 1 taps. It must turn every polynomial
# of a degree below d into 0, which is d independent conditions on the taps, and `t**d` into `d!`,
# which is one more: with d taps or fewer only zeros meet the first d.

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
# has it for arrays; torch tensors carry it along (`gpuconv.corr2d` of a tensor is part of its
# graph). Against finite differences:

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
# Laid out as rows, the windows of the image form a matrix; its product with the kernel, laid out
# as a column, is the correlation.

# %%
windows = np.lib.stride_tricks.sliding_window_view(X, K.shape)
matrix = windows.reshape(-1, K.size)
assert np.allclose((matrix @ K.ravel()).reshape(4, 4), gpuconv.corr2d(X, K))
print("All of it holds.")
