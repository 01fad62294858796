"""What is checked: families of calls, each for some dtypes and borders."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ..core import dtypes
from ..core.boundary import BOUNDARIES
from .case import BYTES_SWAPPED, Abilities, Case

__all__ = ["FAMILIES", "QUICK", "make_cases"]

# Dtypes for which little code has to be compiled, and that most arrays have.
QUICK = ("uint8", "float16", "float32")
# A dtype of every size, and an image of several tiles whose rows are aligned.
_OF_EVERY_SIZE = ("uint8", "float16", "float32", "float64")
_WIDE = (40, 400)
# Abilities a few dtypes stand for all.
_FEW = ("uint8", "float32", "complex64")
_VIEWS = (
    "transposed", "reversed", "cut out", "every other", "repeated", "misaligned", BYTES_SWAPPED,
    "out",
)  # fmt: skip
_UNEVEN = ((3, 7), (6, 2))  # padding

Make = Callable[[str], Iterator[Case]]
FAMILIES: dict[str, Make] = {}


def _family(name: str) -> Callable[[Callable[[str, str], Iterator[Case]]], None]:
    """Enter a function of a family's name and a dtype, which makes its cases, in `FAMILIES`."""

    def enter(make: Callable[[str, str], Iterator[Case]]) -> None:
        FAMILIES[name] = lambda dtype: make(name, dtype)

    return enter


def make_cases(abilities: Abilities, names: tuple[str, ...] = dtypes.NAMES) -> Iterator[Case]:
    """Make the cases of these dtypes, family by family."""
    for make in FAMILIES.values():
        for dtype in names:
            yield from (case for case in make(dtype) if abilities.takes(case))


def _fft_takes(dtype: str) -> bool:
    """Whether transforms are sure to be exact, or need not be."""
    return not dtypes.is_integer(dtype) or dtypes.storage(dtype).itemsize <= 2


def _tensor_precision(dtype: str) -> list[str | None]:
    """How tensor cores may multiply a dtype; nothing if they do not."""
    if dtypes.is_half(dtype):
        return [None]
    return ["tf32"] if dtype == "float32" else []


# Sizes, shapes and weights are the same in many families, because code is compiled for them.
_SEPARABLE = (7, 6)


def _methods(dtype: str) -> Iterator[dict[str, Any]]:
    """Keywords of the cases of every method that takes a dtype."""
    yield dict(method="direct")
    yield dict(method="separable", k_shape=_SEPARABLE, weights="rank 1")
    yield dict(method="box", weights="equal")
    if _fft_takes(dtype):
        yield dict(method="fft")
    for precision in _tensor_precision(dtype):
        yield dict(method="tensor", precision=precision)


# --- each method, every dtype and border ---------------------------------------------------------


@_family("direct, 3x3")
def _direct(name: str, dtype: str) -> Iterator[Case]:
    for border in BOUNDARIES:  # padded by more than a pixel, to tell all borders from each other
        yield Case(name, dtype, mode="full", boundary=border)


@_family("direct and separable, several tiles")
def _several_tiles(name: str, dtype: str) -> Iterator[Case]:
    if dtype in _OF_EVERY_SIZE:  # where tiles begin depends on how large elements are
        for border in BOUNDARIES[:2]:
            large: dict[str, Any] = dict(x_shape=_WIDE, boundary=border)
            yield Case(name, dtype, **large)
            yield Case(name, dtype, "separable", k_shape=_SEPARABLE, weights="rank 1", **large)


@_family("direct, 33x35")
def _direct_large(name: str, dtype: str) -> Iterator[Case]:
    for border in BOUNDARIES:  # padded by more than the image has
        yield Case(name, dtype, k_shape=(33, 35), boundary=border)


@_family("direct, a row or column")
def _direct_lines(name: str, dtype: str) -> Iterator[Case]:
    if dtypes.is_integer(dtype):
        return
    for border in BOUNDARIES:
        yield Case(name, dtype, k_shape=(1, 7), boundary=border, weights="symmetric")
        yield Case(name, dtype, k_shape=(7, 1), boundary=border, weights="symmetric")


@_family("direct, stride and dilation")
def _direct_strided(name: str, dtype: str) -> Iterator[Case]:
    steps: dict[str, Any] = dict(k_shape=(5, 4), mode=_UNEVEN, stride=(2, 1), dilation=(1, 3))
    for border in BOUNDARIES:
        yield Case(name, dtype, boundary=border, **steps)


@_family("direct, large stride")
def _direct_far(name: str, dtype: str) -> Iterator[Case]:
    steps: dict[str, Any] = dict(k_shape=(5, 4), mode=_UNEVEN, stride=(11, 1), dilation=(1, 3))
    for border in BOUNDARIES:
        yield Case(name, dtype, boundary=border, **steps)


@_family("separable, rank 1")
def _separable(name: str, dtype: str) -> Iterator[Case]:
    for border in BOUNDARIES:
        yield Case(name, dtype, "separable", k_shape=_SEPARABLE, boundary=border, weights="rank 1")


@_family("separable, rank 2")
def _separable_rank_two(name: str, dtype: str) -> Iterator[Case]:
    # Factors of integers are exact. Of others it depends on them how far sums may be off.
    if dtypes.is_integer(dtype) and dtype != "bool":
        for border in BOUNDARIES:
            yield Case(
                name, dtype, "separable", k_shape=_SEPARABLE, boundary=border, weights="rank 2"
            )


@_family("separable, stride and dilation")
def _separable_strided(name: str, dtype: str) -> Iterator[Case]:
    steps: dict[str, Any] = dict(k_shape=(5, 4), mode=_UNEVEN, stride=(1, 3), dilation=(2, 1))
    for border in BOUNDARIES:
        yield Case(name, dtype, "separable", boundary=border, weights="rank 1", **steps)


@_family("box")
def _box(name: str, dtype: str) -> Iterator[Case]:
    for border in BOUNDARIES:
        for shape in ((3, 3), (6, 9), (1, 7)):
            yield Case(
                name, dtype, "box", k_shape=shape, mode="full", boundary=border, weights="equal"
            )


@_family("box, stride and dilation")
def _box_strided(name: str, dtype: str) -> Iterator[Case]:
    steps: dict[str, Any] = dict(k_shape=(5, 4), mode=_UNEVEN, stride=(2, 1), dilation=(1, 3))
    for border in BOUNDARIES:
        yield Case(name, dtype, "box", boundary=border, weights="equal", **steps)


@_family("fft")
def _fft(name: str, dtype: str) -> Iterator[Case]:
    if _fft_takes(dtype):
        for border in BOUNDARIES:
            yield Case(name, dtype, "fft", k_shape=(5, 4), mode="full", boundary=border)
        # On a GPU by another library's transforms.
        yield Case(name, dtype, "fft", k_shape=(130, 3), mode="full")


@_family("fft, stride and dilation")
def _fft_strided(name: str, dtype: str) -> Iterator[Case]:
    if _fft_takes(dtype):
        steps: dict[str, Any] = dict(k_shape=(5, 4), mode=_UNEVEN, stride=(2, 1), dilation=(1, 3))
        for border in BOUNDARIES:
            yield Case(name, dtype, "fft", boundary=border, **steps)


@_family("tensor")
def _tensor(name: str, dtype: str) -> Iterator[Case]:
    for precision in _tensor_precision(dtype):
        for shape in ((3, 3), (7, 8)):
            for border in BOUNDARIES:
                yield Case(
                    name, dtype, "tensor", k_shape=shape, boundary=border, precision=precision
                )


# --- pixels and weights that are special ---------------------------------------------------------


@_family("NaN and infinite pixels")
def _not_finite(name: str, dtype: str) -> Iterator[Case]:
    if not dtypes.is_integer(dtype):
        for method in _methods(dtype):
            yield Case(name, dtype, pixels="not finite", boundary=BOUNDARIES[2], **method)


@_family("subnormal pixels")
def _subnormal(name: str, dtype: str) -> Iterator[Case]:
    if not dtypes.is_integer(dtype):
        for method in _methods(dtype):
            if method["method"] != "fft":  # errs relative to the largest sum of a tile
                yield Case(name, dtype, pixels="subnormal", **method)


@_family("derivatives of a constant")
def _cancelling(name: str, dtype: str) -> Iterator[Case]:
    if dtypes.is_integer(dtype):
        return
    # Of which an edge border makes a larger constant.
    common: dict[str, Any] = dict(
        pixels="constant", weights="antisymmetric", boundary=BOUNDARIES[1]
    )
    yield Case(name, dtype, k_shape=(1, 7), **common)
    yield Case(name, dtype, k_shape=(7, 1), **common)
    yield Case(name, dtype, "separable", k_shape=_SEPARABLE, **common)


# --- where arrays lie, and their shapes ----------------------------------------------------------


@_family("several tiles")
def _tiles(name: str, dtype: str) -> Iterator[Case]:
    if dtype in _FEW:
        for method in _methods(dtype):
            yield Case(name, dtype, x_shape=(70, 150), **method)


@_family("batches and banks")
def _batches(name: str, dtype: str) -> Iterator[Case]:
    if dtype not in _FEW:
        return
    for method in _methods(dtype):
        if not method.get("precision"):
            method["k_shape"] = (3, *method.get("k_shape", (3, 3)))
            yield Case(name, dtype, x_shape=(2, 1, 12, 21), **method)
    yield Case(name, dtype, x_shape=(3, 12, 21), k_shape=(3, 3, 3), boundary=BOUNDARIES[4])
    yield Case(name, dtype, x_shape=(3, 12, 21), boundary=BOUNDARIES[2])


@_family("views and out=")
def _views(name: str, dtype: str) -> Iterator[Case]:
    if dtype in _FEW:
        for view in _VIEWS:
            for method in _methods(dtype):
                yield Case(name, dtype, view=view, boundary=BOUNDARIES[1], **method)


@_family("convolve2d")
def _convolve(name: str, dtype: str) -> Iterator[Case]:
    if dtype in _FEW:
        yield Case(name, dtype, call="convolve2d", k_shape=(4, 5), boundary=BOUNDARIES[3])


@_family("weights on the device")
def _on_device(name: str, dtype: str) -> Iterator[Case]:
    if dtype in _FEW:
        for method in _methods(dtype):
            # Whether transforms of integers are exact depends on weights that the host can see.
            if method["method"] != "fft" or not dtypes.is_integer(dtype):
                yield Case(name, dtype, k_on_host=False, **method)
        yield Case(name, dtype, k_shape=(3, 3, 3), k_on_host=False)


@_family("host arrays through the device")
def _through(name: str, dtype: str) -> Iterator[Case]:
    if dtype in _FEW:
        for method in _methods(dtype):
            for border in BOUNDARIES:
                yield Case(
                    name, dtype, x_shape=(8, 12, 21), x_on_host=True, boundary=border, **method
                )


# --- gradients and layers ------------------------------------------------------------------------


@_family("gradients")
def _gradients(name: str, dtype: str) -> Iterator[Case]:
    if dtypes.is_integer(dtype):
        return
    for border in BOUNDARIES:
        yield Case(name, dtype, call="gradients", k_shape=(3, 4), boundary=border)
    steps: dict[str, Any] = dict(mode=_UNEVEN, stride=(2, 1), dilation=(1, 3))
    yield Case(name, dtype, call="gradients", x_shape=(2, 10, 11), k_shape=(3, 4), **steps)


def _layers(name: str, dtype: str, call: str) -> Iterator[Case]:
    if dtypes.is_integer(dtype) or dtypes.is_complex(dtype):
        return
    common: dict[str, Any] = dict(call=call, x_shape=(2, 4, 9, 8), mode=1)
    yield Case(name, dtype, k_shape=(5, 4, 3, 3), **common)
    yield Case(name, dtype, k_shape=(4, 1, 3, 2), groups=4, **common)
    common |= dict(stride=(2, 1), dilation=(1, 2))
    yield Case(name, dtype, k_shape=(6, 2, 3, 3), groups=2, **common)


@_family("nn.conv2d")
def _forward(name: str, dtype: str) -> Iterator[Case]:
    return _layers(name, dtype, "layer")


@_family("nn.conv2d, gradients")
def _backward(name: str, dtype: str) -> Iterator[Case]:
    return _layers(name, dtype, "layer gradients")
