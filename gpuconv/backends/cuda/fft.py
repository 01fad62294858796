"""Overlap-save on the GPU: which tiles, how many at once, and the launches that make them.

A chunk of tiles is gathered with the border's rule, transformed, multiplied by the spectrum of its
kernel, transformed back and stored, all within `WORKSPACE_BYTES`; tiles in which a sum is not
finite, or not shown to be as exact as the method promises (see src/fft/fft_store.cu), are summed
directly by a last launch. The host waits for nothing, so a call can be captured
in a CUDA graph, once an earlier call on the same stream has made its plans and K lies on the
device. As with all captured CuPy code the memory allocated meanwhile must outlive the graph:
capture under ``cupy.cuda.using_allocator(pool.malloc)`` with a pool of the graph's own.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from ...core import dtypes
from ...core.boundary import BOUNDARIES
from ...core.layout import lead_strides
from ...core.problem import Problem
from .planning import Spec, merge_leads

# Everything a call takes beside its operands: tiles, spectra and what cuFFT works in. At 16 bytes a
# pixel of a float32 tile this is 4 million pixels at once, about what a large chip's cache holds.
# Only for large kernels may a tile take more, and then as little as it must.
WORKSPACE_BYTES = 64 << 20
# Sides of tiles; those above 1024 are for kernels that need them.
SIDES = (32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
# Up to this side cuFFT is taken to read and write its data once for a dimension.
_ONE_PASS = 2048
# What a side that is no power of two costs more; cuFFT's documentation says these are fastest.
_ODD_SIDE = 1.1
# cuFFT's plans count the elements of a transform in 32 bits.
_LARGEST = 2**31 - 1

BLOCK = (32, 8)
ROWS = 4  # of a tile, for a thread
PRODUCT_RUN = 8  # as `RUN` in src/fft/fft_product.cu
# Blocks that look for flagged tiles: enough to fill a chip, few enough to cost nothing.
_REDO_BLOCKS = 2048
_LEADS = 8

# As struct Overlap in src/fft/fft_tiles.cuh.
OVERLAP = np.dtype(
    [
        *((name, "i8") for name in ("h", "w", "r", "s", "need_y", "need_x")),
        *((name, "i8") for name in ("x_row", "x_column", "out_row", "out_column")),
        *((name, "i8") for name in ("tiles_x", "tiles", "images", "kernel0", "first", "count")),
        *((name, "i8", (_LEADS,)) for name in ("lead", "x_lead", "out_lead")),
        *((name, "i8") for name in ("top", "left", "sy", "sx", "dy", "dx")),
        *((name, "i4") for name in ("boundary", "leads")),
        *((name, "i4") for name in ("p", "q", "ny", "nx", "kept_y", "kept_x", "fan", "parts")),
        *((name, "i4") for name in ("whole", "kernels")),
    ],
    align=True,
)
# Bytes of struct Size and struct Largest there, and numbers of a struct Norm.
_SIZE_BYTES, _LARGEST_BYTES, _NORM = 32, 24, 3


@dataclass(frozen=True)
class Plan:
    """Tiles of a problem and the working memory they go through."""

    sides: tuple[int, int]
    kept: tuple[int, int]  # outputs of a tile, down and across
    grid: tuple[int, int]  # tiles of an image, down and across
    kernels: int  # whose spectra are held at once
    sources: int  # tiles gathered at once
    shared: bool  # all kernels see the same images
    real: bool
    itemsize: int  # of a sum

    @property
    def fan(self) -> int:
        """Tiles of results for every tile gathered."""
        return self.kernels if self.shared else 1

    @property
    def targets(self) -> int:
        """Tiles of results at once."""
        return self.sources * self.fan

    @property
    def columns(self) -> int:
        """Columns of a spectrum."""
        return self.sides[1] // 2 + 1 if self.real else self.sides[1]

    @property
    def slabs(self) -> int:
        """Blocks that gather a tile."""
        return -(-self.sides[0] // (BLOCK[1] * ROWS))

    @property
    def planes(self) -> int:
        """Tiles there is room for; real kernels are spread in them too."""
        return max(self.targets, self.kernels) if self.real else self.targets

    @property
    def workspace_bytes(self) -> int:
        """All arrays, with a work area of cuFFT's as large as the spectra it makes or reads."""
        plane = math.prod(self.sides) * self.itemsize
        if not self.real:
            apart = 2 * self.sources * plane if self.shared else 0
            return 2 * (self.targets + self.kernels) * plane + apart + self._check_bytes
        spectrum = self.sides[0] * self.columns * 2 * self.itemsize
        spectra = 2 * (self.sources + self.kernels) + self.targets * (2 if self.shared else 1)
        return self.planes * plane + spectra * spectrum + self._check_bytes

    @property
    def _check_bytes(self) -> int:
        """What the tiles' errors are bounded by, and their flags."""
        norms = max(self.sources, self.kernels) * self.slabs * _NORM * self.itemsize
        sizes = (self.sources + self.kernels) * _SIZE_BYTES
        return norms + sizes + self.targets * (_LARGEST_BYTES + 4)


def _smooth(n: int) -> int:
    """Return the least even number from n on with no prime factor above 7: fast for cuFFT."""
    n += n % 2
    while True:
        rest = n
        for prime in (2, 3, 5, 7):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 2


def _candidates(span: int, length: int, stride: int) -> list[int]:
    whole = _smooth((length - 1) * stride + span)
    return [side for side in SIDES if span <= side < whole] + [whole]


def _kept(side: int, span: int, length: int, stride: int) -> int:
    """Outputs of a tile along an axis."""
    kept = (side - span) // stride + 1
    if kept >= length:
        return length
    # Tiles then begin at whole sectors of memory; for a few outputs that would cost too many.
    return kept if kept < 64 else kept - kept % 8


def _grid(problem: Problem, sides: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    axes = list(zip(sides, problem.span, problem.out_shape[-2:], problem.stride, strict=True))
    down, across = (_kept(*axis) for axis in axes)
    return (down, across), (-(-problem.r // down), -(-problem.s // across))


def _kernels(problem: Problem) -> int:
    return math.prod(problem.k_shape[:-2])


def _is_shared(problem: Problem) -> bool:
    """Whether there are several kernels, and every image meets all of them."""
    lead = len(problem.batch)
    x, k = (
        (1,) * (lead - len(s) + 2) + s[:-2] for s in (problem.x_shape, problem.k_shape)
    )  # fmt: skip
    return _kernels(problem) > 1 and all(a == 1 for a, b in zip(x, k, strict=True) if b > 1)


def _traffic(problem: Problem, sides: tuple[int, int]) -> float:
    """Bytes read and written if sums were float32 (a complex sum counts as two of them)."""
    (ny, nx), (kept, grid) = sides, _grid(problem, sides)
    kernels = _kernels(problem)
    targets = problem.n * math.prod(grid)
    sources = targets // kernels if _is_shared(problem) else targets
    plane = 4.0 * ny * nx
    spectrum = plane if dtypes.is_complex(problem.acc_dtype) else 4.0 * ny * (nx + 2)
    down, across = (1 if side <= _ONE_PASS else 2 for side in sides)
    odd = math.prod(_ODD_SIDE for side in sides if side & (side - 1))
    transform = odd * (plane + (2 * across - 1 + 2 * down) * spectrum)
    stored = 4.0 * math.prod(kept) * math.prod(problem.stride)
    return (
        (sources + kernels) * (2 * plane + transform)
        + targets * (2 * spectrum + transform + stored)
        + 4.0 * math.prod(problem.out_shape)
    )


def _batch(problem: Problem, sides: tuple[int, int], budget: int) -> Plan:
    """As many tiles of these sides at once as the budget holds, one at least."""
    kept, grid = _grid(problem, sides)
    kernels, shared = max(1, _kernels(problem)), _is_shared(problem)
    real = not dtypes.is_complex(problem.acc_dtype)
    itemsize = dtypes.storage(problem.acc_dtype).itemsize

    def plan(group: int, sources: int) -> Plan:
        return Plan(sides, kept, grid, group, sources, shared, real, itemsize)

    one = plan(1, 1)
    spectrum = sides[0] * one.columns * itemsize * (2 if real else 1)
    group = min(kernels, max(1, budget // (8 * spectrum)))
    while group > 1 and plan(group, 1).workspace_bytes > budget:
        group -= 1
    # Groups of nearly the same size, and in them chunks: the last of each does little in vain.
    group = -(-kernels // -(-kernels // group))
    tiles = max(1, problem.n // kernels * math.prod(grid)) * (1 if shared else group)
    some, more = (plan(group, group + n).workspace_bytes for n in (0, 1))
    most = max(1, group + (budget - some) // (more - some))
    while most > 1 and plan(group, most).workspace_bytes > budget:
        most -= 1
    return plan(group, -(-tiles // -(-tiles // most)))


@lru_cache(maxsize=256)
def _plan(problem: Problem, offered: tuple[int, ...], budget: int) -> Plan:
    axes = zip(problem.span, problem.out_shape[-2:], problem.stride, strict=True)
    down, across = (_candidates(*axis) for axis in axes)
    plans = [_batch(problem, sides, budget) for sides in itertools.product(down, across)]

    def cost(plan: Plan) -> float:
        # Memory beyond the budget must halve the traffic, and save more the more it is.
        over = plan.workspace_bytes / budget
        return _traffic(problem, plan.sides) * (2 * over if over > 1 else 1)

    return min(plans, key=cost)


def plan_of(problem: Problem) -> Plan:
    """Tiles that move the fewest bytes by the model, and as many of them as the bound allows."""
    return _plan(problem, SIDES, WORKSPACE_BYTES)


def workspace_bytes(problem: Problem) -> int:
    """Device memory that a call takes beside its operands.

    At most `WORKSPACE_BYTES`, unless the kernel is so large (many hundred pixels a side) that a
    tile which needs more moves less than half the bytes. cuFFT's work areas, which its plans keep,
    are in it; their size is an estimate.
    """
    return plan_of(problem).workspace_bytes


def work(problem: Problem) -> float:
    """Bytes that the method moves, counted in float32: the unit of `costs.Costs.fft` here."""
    return _traffic(problem, plan_of(problem).sides)


def refusal(problem: Problem) -> str | None:
    """Say why the kernel is too large for any tile."""
    sides = tuple(_smooth(n) for n in problem.span)
    if math.prod(sides) <= _LARGEST:
        return None
    return (
        f"the kernel covers {problem.span[0]} x {problem.span[1]} pixels, more than the "
        f"{_LARGEST} elements that cuFFT transforms at once"
    )


def overlap(
    problem: Problem,
    plan: Plan,
    lead: tuple[int, ...],
    lead_strides: list[tuple[int, ...]],
    x_strides: tuple[int, int],
    out_strides: tuple[int, int],
) -> Any:
    """Fill the launches' by-value struct, but for what changes from chunk to chunk."""
    g = np.zeros((), OVERLAP)
    g["h"], g["w"], g["r"], g["s"] = problem.h, problem.w, problem.r, problem.s
    g["need_y"], g["need_x"] = (
        (n - 1) * stride + span
        for n, stride, span in zip(
            problem.out_shape[-2:], problem.stride, problem.span, strict=True
        )
    )
    g["x_row"], g["x_column"] = x_strides
    g["out_row"], g["out_column"] = out_strides
    g["tiles_x"], g["tiles"] = plan.grid[1], math.prod(plan.grid)
    for name, values in zip(("lead", "x_lead", "out_lead"), (lead, *lead_strides), strict=True):
        g[name][: len(lead)] = values
    (g["top"], _), (g["left"], _) = problem.pad
    g["boundary"], g["leads"] = BOUNDARIES.index(problem.boundary), len(lead)
    (g["sy"], g["sx"]), (g["dy"], g["dx"]) = problem.stride, problem.dilation
    g["p"], g["q"] = problem.p, problem.q
    (g["ny"], g["nx"]), (g["kept_y"], g["kept_x"]) = plan.sides, plan.kept
    return g


def run(
    problem: Problem,
    x: Any,
    weights: Any,
    out: Any,
    launcher: Any,
    address: Callable[[Any], Any],
    whole: bool = False,
) -> None:
    """Queue all that fills `out`; `weights` lie where `x` does, contiguous, in the sums' dtype.

    With `whole` the sums are known to be integers that the transforms miss by less than a half:
    they are rounded, and no tile is summed directly.
    """
    lead = len(problem.batch)
    x_lead = lead_strides(x.shape, x.strides, problem.batch)
    k_lead = (1,) * (lead - len(problem.k_shape) + 2) + problem.k_shape[:-2]
    k_strides = [math.prod(k_lead[d + 1 :]) if n > 1 else 0 for d, n in enumerate(k_lead)]
    # The kernels' own dimensions first: the images of one kernel then follow one another.
    order = sorted(range(lead), key=lambda d: k_strides[d] == 0)
    shape, strides = merge_leads(
        tuple(problem.batch[d] for d in order),
        *(tuple(row[d] for d in order) for row in (x_lead, out.strides, k_strides)),
    )
    _Call(problem, x, weights, out, launcher, address, whole).batch(shape, strides, (0, 0, 0))


class _Call:
    """One call: its operands, its working memory, its launches."""

    def __init__(
        self,
        problem: Problem,
        x: Any,
        weights: Any,
        out: Any,
        launcher: Any,
        address: Callable[[Any], Any],
        whole: bool,
    ) -> None:
        self.whole = whole
        self.problem, self.plan = problem, plan_of(problem)
        self.launcher, self.address = launcher, address
        self.x, self.weights, self.out = x, weights, out
        plan, acc, empty = self.plan, problem.acc_dtype, launcher.empty
        bins = {"float32": "complex64", "float64": "complex128"}.get(acc, acc)
        spectrum = plan.sides[0], plan.columns
        self.planes = empty((plan.planes, *plan.sides), acc)
        self.spectra = empty((plan.kernels, *spectrum), bins)
        apart = plan.real or plan.shared  # where a complex tile's transform takes its place
        self.gathered = empty((plan.sources, *spectrum), bins) if apart else self.planes
        both = plan.real and plan.shared
        self.multiplied = empty((plan.targets, *spectrum), bins) if both else (
            self.gathered if plan.real else self.planes
        )  # fmt: skip
        self.flags = empty((plan.targets,), np.int32)
        most = max(plan.sources, plan.kernels)
        self.norms = empty((most, plan.slabs, _NORM), self.spectra.real.dtype)
        self.sizes = empty((plan.kernels + plan.sources, _SIZE_BYTES // 8), np.int64)
        self.sizes.fill(0)  # slabs that are done; the launches leave them at 0
        self.largest = empty((plan.targets, _LARGEST_BYTES // 8), np.int64)
        self.fill = np.array(problem.fillvalue, acc)

    def batch(
        self, lead: tuple[int, ...], strides: list[tuple[int, ...]], offset: tuple[int, int, int]
    ) -> None:
        """Queue the images of these leading dimensions, from byte and kernel offsets on."""
        if len(lead) > _LEADS:
            # More dimensions than the struct has room for and none of them mergeable: loop here.
            for n in range(lead[0]):
                x, out, kernel = (o + n * s[0] for o, s in zip(offset, strides, strict=True))
                self.batch(lead[1:], [s[1:] for s in strides], (x, out, kernel))
            return
        plan, problem = self.plan, self.problem
        kernels = math.prod(n for n, step in zip(lead, strides[2], strict=True) if step)
        images = math.prod(lead) // kernels
        g = overlap(
            problem, plan, lead, strides[:2], self.x.strides[-2:], self.out.strides[-2:]
        )  # fmt: skip
        g["images"], g["whole"], g["kernels"] = images, self.whole, plan.kernels
        tap_bytes = problem.p * problem.q * self.weights.dtype.itemsize
        weights = self.address(self.weights) + np.uint64(offset[2] * tap_bytes)
        x_at, out_at = (
            np.uint64(int(self.address(array)) + bytes_on)
            for array, bytes_on in ((self.x, offset[0]), (self.out, offset[1]))
        )
        for kernel in range(0, kernels, plan.kernels):
            group = min(plan.kernels, kernels - kernel)
            g["kernel0"] = kernel
            self._spread(g, group, weights)
            g["fan"] = fan = group if plan.shared else 1
            tiles = images * math.prod(plan.grid) * (1 if plan.shared else group)
            for first in range(0, tiles, plan.sources):
                sources = min(plan.sources, tiles - first)
                g["first"], g["count"] = first * fan, sources * fan
                self._chunk(g, sources, sources * fan, x_at, weights, out_at)

    def _launch(self, name: str, tiles: int, rows: int, *arguments: Any) -> None:
        """Queue a kernel of which every tile takes blocks of `SLAB` rows."""
        slabs = -(-rows // (BLOCK[1] * ROWS))
        # A struct Norm for every thread is the most that a block's threads show each other.
        shared = BLOCK[0] * BLOCK[1] * _NORM * self.norms.dtype.itemsize
        self.launcher.launch(_spec(name, self.problem), tiles * slabs, shared, arguments)

    def _spread(self, g: Any, group: int, weights: Any) -> None:
        """Transform the kernels of a group."""
        plan = self.plan
        to = self.planes if plan.real else self.spectra
        places = map(self.address, (to, self.norms, self.sizes))
        self._launch("fft_spread", group, plan.sides[0], g, weights, *places)
        self.launcher.transform(to[: plan.kernels], self.spectra, False)

    def _chunk(self, g: Any, sources: int, targets: int, x: Any, weights: Any, out: Any) -> None:
        plan, address, problem = self.plan, self.address, self.problem
        flags = address(self.flags)
        # A last chunk that is not full is transformed with what an earlier one left behind it.
        gathered = self.planes[: plan.sources] if plan.real else self.gathered
        places = gathered, self.norms, self.sizes, self.largest
        self._launch(
            "fft_gather", sources, plan.sides[0], g, self.fill, x, flags, *map(address, places)
        )  # fmt: skip
        self.launcher.transform(gathered, self.gathered, False)
        threads = BLOCK[0] * BLOCK[1]
        length = self.spectra[0].nbytes // 16
        self.launcher.launch(
            _spec("fft_product", problem),
            -(-length // threads) * -(-targets // PRODUCT_RUN),
            0,
            (
                g,
                np.int64(length),
                np.array(1 / math.prod(plan.sides), self.spectra.real.dtype),
                *map(address, (self.spectra, self.gathered, self.multiplied, self.sizes)),
            ),
        )
        self.launcher.transform(self.multiplied, self.planes[: plan.targets], True)
        self._launch(
            "fft_store", targets, plan.kept[0], g, self.fill, weights, x,
            *map(address, (self.planes, self.sizes, self.largest)), flags, out,
        )  # fmt: skip
        if self.whole:
            return
        parts = -(-math.prod(plan.kept) // threads)
        g["parts"] = parts = max(1, min(parts, _REDO_BLOCKS // targets))
        self.launcher.launch(
            _spec("fft_redo", problem),
            targets * parts,
            0,
            (g, self.fill, weights, x, flags, out),
        )


def _spec(name: str, problem: Problem) -> Spec:
    """Specialise one of the kernels by the dtypes that matter to it."""
    acc = problem.acc_dtype
    reads = problem.x_dtype if name in ("fft_gather", "fft_store", "fft_redo") else acc
    writes = problem.out_dtype if name in ("fft_store", "fft_redo") else acc
    return Spec(name, reads, acc, writes, True, 0, BLOCK, ROWS)
