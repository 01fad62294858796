"""Transforms on the emulator: what the tests of both ways to do them share.

cuFFT transforms tiles in global memory; `fft_block.cu` keeps a tile in a block's shared memory.
"""

import ctypes
from functools import partial

import numpy as np

from gpuconv.backends import get_backend
from gpuconv.backends.cuda import fft_block_planning, fft_planning
from gpuconv.backends.cuda.fft_block_planning import BlockPlan, Tiling
from gpuconv.core import dtypes
from gpuconv.methods import METHODS
from gpuconv.methods.weights import Weights

from .. import oracle, promises
from ..cases import disc
from .backend import cuda
from .launcher import EmulatedLauncher, SanitizedLauncher


class Launcher(EmulatedLauncher):
    """Hands out memory full of NaN, and counts it, transforms, and tiles done a second time."""

    def __init__(self):
        super().__init__()
        self.nbytes = self.transformed = self.redone = 0

    def run_kernel(self, spec, grid, shared_bytes, arguments):
        super().run_kernel(spec, grid, shared_bytes, arguments)
        if spec.kernel == "fft_redo":
            count, address = int(arguments[0]["count"]), int(arguments[4])
            self.redone += sum((ctypes.c_int * count).from_address(address))

    def empty(self, shape, dtype):
        array = super().empty(shape, dtype)
        array.view(np.uint8)[...] = 255
        self.nbytes += array.nbytes
        return array

    def transforms(self, source, target, inverse):
        queue = super().transforms(source, target, inverse)

        def queue_and_count():
            self.transformed += 1
            queue()

        return queue_and_count


def by_cufft(patch, budget=40_000):
    """Have cuFFT do all transforms, in small tiles and with memory for few of them at once."""
    launcher = Launcher()
    patch.setattr(cuda, "launcher", launcher)
    patch.setattr(fft_planning, "BLOCK", (8, 2))
    patch.setattr(fft_planning, "ROWS", 2)
    patch.setattr(fft_planning, "SIDES", (16, 32))
    patch.setattr(fft_planning, "WORKSPACE_BYTES", budget)
    patch.setattr(fft_planning, "WORKSPACE_MOST", 0)
    patch.setattr(fft_block_planning, "TILINGS", {})
    return launcher


def in_shared_memory(patch, sides=(16, 32), threads=16):
    """Have all transforms done in shared memory, in tiles of one size."""
    launcher = Launcher()
    patch.setattr(cuda, "launcher", launcher)
    patch.setattr(fft_planning, "BLOCK", (8, 2))
    offer_only(patch, sides, threads)
    return launcher


def offer_only(patch, sides, threads=16):
    """Offer one tiling, at no cost."""
    offered = (Tiling(sides, threads, 0.0),)
    patch.setattr(fft_block_planning, "TILINGS", {"float32": offered, "float64": offered})


problem_of = partial(oracle.problem_of, conjugate=True)


def run(problem, x, k, out=None):
    offered = bool(fft_block_planning.TILINGS)
    assert isinstance(
        fft_planning.chosen(problem), BlockPlan if offered else fft_planning.TransformPlan
    )
    if out is None:
        out = np.empty(problem.out_shape, dtypes.storage(problem.out_dtype))
    METHODS["fft"].run(problem, get_backend("cuda"), x, k, out, Weights(problem, k))
    return out


def compare(problem, x, k, out=None):
    """Hold every tile to the promise about transforms."""
    actual = run(problem, x, k, out)
    promises.check(problem, x, k, actual, "fft", fft_planning.chosen(problem).kept)
    return actual


def sanitized(flags, change=None):
    """Run under a sanitizer, and hold what comes of it to what comes without.

    Tiles are brought into range, and at least one of them is summed directly.
    """
    rng = np.random.default_rng(17)
    x, k = (oracle.sample(rng, shape, "float32") for shape in ((19, 70), (3, 4, 5)))
    x *= np.float32(1e-20)
    x[3, 4] = 1e9
    x[18, 29] = np.nan
    problem = problem_of(x, k, mode="same", boundary="reflect")
    out = np.full(problem.out_shape, 7, "f4")
    launcher = SanitizedLauncher(flags, [x, out], change)
    cuda.launcher, before = launcher, cuda.launcher
    try:
        run(problem, x, k, out)
    finally:
        cuda.launcher = before
    if launcher.code == 0:
        np.testing.assert_array_equal(out, run(problem, x, k))
    return launcher


def everyday_images(rng):
    y, x = np.mgrid[:66, :90] / 22
    noise = rng.standard_normal((66, 90))
    return {
        "normal": noise,
        "uniform": rng.random((66, 90)),
        "photo": 90 + 60 * np.sin(y) * np.cos(2 * x) + 50 * (x > y) + 3 * noise,
        "sky": 1000 + noise,
        "constant": np.full((66, 90), 7.0),
        "stars": 100 + noise + 500 * (rng.random((66, 90)) < 0.01),
        "small": 1e-30 * (5 + noise),
        "large": 1e25 * (5 + noise),
        "gradient": x,
    }


def everyday_kernels(rng):
    y, x = np.mgrid[-6:7, -6:7]
    gaussian = np.exp(-(x * x + y * y) / 8)
    laplacian = np.zeros((3, 3))
    laplacian[1], laplacian[:, 1], laplacian[1, 1] = 1, 1, -4
    log = (x * x + y * y - 8) * gaussian
    return {
        "normal": oracle.sample(rng, (9, 8), "float64"),
        "disc": disc(11),
        "gaussian": gaussian / gaussian.sum(),
        "derivative": x * gaussian,
        "log": log - log.mean(),
        "laplacian": laplacian,
        "tap": np.eye(7)[3:4],
    }


RANGES = ("one size", "kernels too", "half of the image", "few pixels")


def samples_of_range(problem, rng, of):
    """An image and a kernel as large or small as their dtype allows, in one of `RANGES`."""
    x = oracle.sample(rng, problem.x_shape, problem.x_dtype)
    k = oracle.sample(rng, problem.k_shape, problem.k_dtype)
    end = np.log10(float(np.finfo(x.dtype).max)) - 4
    if of == "one size":  # down to subnormal numbers
        x *= x.dtype.type(10.0 ** rng.uniform(-end - 6, end))
    elif of == "kernels too":
        x *= x.dtype.type(10.0 ** rng.uniform(-end - 3, end))
        k *= k.dtype.type(10.0 ** rng.uniform(-end - 3, 0))
    elif of == "half of the image":
        x[rng.integers(problem.h) :] *= x.dtype.type(10.0 ** rng.uniform(0, end))
    elif of == "few pixels":  # and nothing else
        sizes = 10.0 ** rng.uniform(-end, end, x.shape)
        x *= ((rng.random(x.shape) < 0.02) * sizes).astype(x.dtype)
    return x, k
