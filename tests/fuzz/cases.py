"""A case: one call of the package as plain JSON, and the arrays it stands for."""

import itertools
import json
import math
import random
from dataclasses import asdict, dataclass, replace

import numpy as np

from gpuconv.core import dtypes
from gpuconv.core.boundary import BOUNDARIES

LAYOUTS = ("C", "F", "roi", "flip", "step", "unaligned", "readonly", "broadcast", "swapped")
OUT_LAYOUTS = ("C", "F", "roi", "flip", "step", "unaligned")
FINITE = (
    "normal", "integers", "uneven", "limits", "zeros", "denormal", "huge", "hot", "lognormal",
    "tiles", "sparse", "constant", "nearmax", "mixed",
)  # fmt: skip
VALUES = (*FINITE, "nan", "inf")
# Kernels of a shape of their own: `values` makes them, whatever `rank` says.
SHAPED = ("cut", "disc", "ring", "gauss", "tap", "hollow", "symmetric", "antisymmetric")
# Of what a case is the call: corr2d or convolve2d, corr2d_vjp, nn.conv2d and its gradients, and
# corr2d or nn.conv2d of tensors with their gradients.
_CALLS = (("forward", 90), ("vjp", 5), ("layer", 2), ("torch", 2), ("torch layer", 1))
# Products of a pixel and a tap beyond which some outputs, drawn by the case, stand for all.
_ALL_OUTPUTS = 400_000
_KINDS = (("cpu", 96), ("reference", 4))
# One in so many cases runs the CUDA sources on the emulator: each may have to be compiled first.
_EMULATED_EVERY = 4096


@dataclass(frozen=True)
class Case:
    """Everything that says what is called; `seed` makes the elements."""

    x: tuple = (1, 1)
    k: tuple = (1, 1)
    x_dtype: str = "float32"
    k_dtype: str = "float32"
    x_layout: str = "C"
    k_layout: str = "C"
    x_values: str = "normal"
    k_values: str = "normal"
    rank: int = 0  # of a kernel made as a sum of so many products; 0 for no such sum
    mode: object = "valid"
    boundary: str = "constant"
    fill: str = "0"
    stride: tuple = (1, 1)
    dilation: tuple = (1, 1)
    method: str = "auto"
    backend: str = "cpu"
    flipped: bool = False
    dtype: str | None = None
    out: str | None = None  # layout of out=
    call: str = "forward"
    groups: int = 1  # of a layer
    without: str | None = None  # package that cannot be imported
    seed: int = 0

    @property
    def acc(self):
        """Dtype the sums are accumulated in."""
        return dtypes.accumulator(self.result)

    @property
    def result(self):
        """Dtype of the result without dtype=."""
        return dtypes.promote(self.x_dtype, self.k_dtype)

    @property
    def output(self):
        """Shape of the result."""
        if self.layer:
            lead = (self.x[0], self.k[0])
        else:
            lead = _together(self.x[:-2], self.k[:-2])
        sizes = zip(self.x[-2:], self.pad, self.span, self.stride, strict=True)
        return (*lead, *((n + sum(around) - span) // step + 1 for n, around, span, step in sizes))

    @property
    def layer(self):
        """Whether X is of images with channels, and K of filters."""
        return self.call.endswith("layer")

    @property
    def sampled(self):
        """Whether only some outputs are looked at."""
        padded = (n + sum(around) for n, around in zip(self.x[-2:], self.pad, strict=True))
        products = math.prod(self.output) * math.prod(self.k[-2:])
        return max(products, math.prod(padded) * math.prod(self.x[:-2])) > _ALL_OUTPUTS

    @property
    def span(self):
        """Rows and columns the dilated kernel covers."""
        return tuple((n - 1) * d + 1 for n, d in zip(self.k[-2:], self.dilation, strict=True))

    @property
    def pad(self):
        """((top, bottom), (left, right)), worked out here and not by the package."""
        if self.mode == "valid":
            return (0, 0), (0, 0)
        if self.mode == "full":
            return tuple((n - 1, n - 1) for n in self.span)
        if self.mode == "same":
            # As large as X, from the middle of "full": its element (n - 1) // 2 for a convolution.
            # A correlation is that of the images reversed, and so is what comes before and after.
            less = [((n - 1) // 2, n // 2) for n in self.span]
            return tuple(p[::-1] for p in less) if self.flipped else tuple(less)
        if isinstance(self.mode, int):
            return ((self.mode,) * 2,) * 2
        a, b = self.mode
        return ((a, a), (b, b)) if isinstance(a, int) else (tuple(a), tuple(b))

    @property
    def fillvalue(self):
        """The fill value as a number."""
        value = complex(self.fill)
        if value.imag:
            return value
        real = float(self.fill)
        return int(self.fill) if dtypes.is_integer(self.acc) else real

    def text(self):
        """One line of JSON, of what is not the default."""
        plain = asdict(Case())
        return json.dumps({k: v for k, v in asdict(self).items() if v != plain[k]})


def _together(a, b):
    """Leading dimensions of the result, of more than NumPy's function takes, too."""
    pairs = list(itertools.zip_longest(a[::-1], b[::-1], fillvalue=1))[::-1]
    return tuple(n if m == 1 else m for n, m in pairs)


def parse(text):
    """Case of a line of JSON, or of "seed:index"."""
    if not text.lstrip().startswith("{"):
        seed, _, index = text.partition(":")
        return draw(int(seed), int(index))
    return Case(**{k: _tuples(v) for k, v in json.loads(text).items()})


def _tuples(value):
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def draw(seed, index, names=dtypes.NAMES):
    """Case number `index` of a seed, of these dtypes; the same on every machine."""
    rng = random.Random(f"{seed}:{index}")
    backend = rng.choices(*zip(*_KINDS, strict=True))[0]
    if rng.randrange(_EMULATED_EVERY) == 0:
        backend = "cuda"
    return draw_for(backend, rng, names)


def draw_for(backend, rng, names=dtypes.NAMES):
    """Draw a case for one backend."""
    call = rng.choices(*zip(*_CALLS, strict=True))[0] if backend == "cpu" else "forward"
    if call != "forward":
        floats = [n for n in names if not dtypes.is_integer(n)]
        if call.endswith("layer"):
            floats = [n for n in floats if not dtypes.is_complex(n)]
        if floats:
            return _draw_gradient(rng, floats, call)
    x_dtype = rng.choice(names)
    k_dtype = x_dtype if rng.random() < 0.5 else rng.choice(names)
    case = Case(x_dtype=x_dtype, k_dtype=k_dtype, backend=backend, seed=rng.randrange(1 << 30))
    case = replace(case, method=_method(rng, case), flipped=rng.random() < 0.2)
    kind = rng.random()
    if backend == "cpu" and kind < 0.03:
        if rng.random() < 0.2 and {"uint8", "float32"} <= set(names):
            # Photos and whole weights, whose sums float32 holds.
            case = replace(case, x_dtype="uint8", k_dtype="float32", method="auto")
        case = _extreme(rng, case)
    else:
        case = _ordinary(rng, case)
    floats = ("0", "0", "1.5", "-3", "1e-40", "3e38", "1e300", "nan", "inf")
    fills = ("0", "0", "1", "7", "255") if dtypes.is_integer(case.acc) else floats
    if dtypes.is_complex(case.acc):
        fills = ("0", "1+2j", "1e300", "nan")
    dtype, out = _target(rng, case, names)
    x_values = _often(rng, VALUES)
    k_values = "normal" if rng.random() < 0.7 else rng.choice(VALUES + SHAPED)
    if max(case.k[-2:]) > 12 and (case.x_dtype, case.k_dtype) == ("uint8", "float32"):
        k_values = rng.choice(("integers", "disc", "ring"))
    if k_values == "antisymmetric" and rng.random() < 0.5:
        x_values = "constant"
    return replace(
        case,
        x_layout=_often(rng, LAYOUTS),
        k_layout=_often(rng, LAYOUTS),
        x_values=x_values,
        k_values=k_values,
        rank=_rank(case, k_values),
        boundary=rng.choice(BOUNDARIES),
        fill=rng.choice(fills),
        dtype=dtype,
        out=out,
    )


def _method(rng, case):
    """The method comes first: it says which kernels make sense."""
    if case.backend == "reference":
        return rng.choice(("auto", "direct"))
    if case.backend == "cuda":
        return rng.choice(("direct", "separable"))
    if dtypes.is_integer(case.acc):  # fft may refuse these
        return rng.choices(("auto", "direct", "separable", "fft"), (10, 10, 10, 1))[0]
    return rng.choice(("auto", "direct", "separable", "fft"))


def _rank(case, kind):
    """Rank of a kernel with elements of this kind; 0 where it is not known."""
    if kind in ("symmetric", "antisymmetric", "tap"):
        return int(min(case.k[-2:]) > 1)
    return 0 if kind in SHAPED else case.rank


def _ordinary(rng, case):
    """Small images and kernels, on every path at once."""
    p, q, h, w = _sizes(rng, case.backend)
    stride = (1, 1) if rng.random() < 0.6 else (rng.randint(1, 4), rng.randint(1, 4))
    dilation = (1, 1) if rng.random() < 0.7 else (rng.randint(1, 3), rng.randint(1, 3))
    rank = 0
    if min(p, q) > 1 and (case.method == "separable" or rng.random() < 0.2):
        rank = rng.randint(1, min(p, q, 4) - 1)
    case = replace(
        case, k=(p, q), stride=stride, dilation=dilation, mode=_mode(rng), rank=rank
    )  # fmt: skip
    case = replace(case, x=_fitting(case, (h, w)))
    x_lead, k_lead = _leads(rng)
    whole = replace(case, x=(*x_lead, *case.x), k=(*k_lead, p, q))
    limit = 150_000 if rng.random() < 0.02 else 20_000
    return case if math.prod(whole.output) * p * q > limit else whole


def _fitting(case, size):
    """Rows and columns of an image that holds at least one window."""
    sizes = zip(size, case.span, case.pad, strict=True)
    return tuple(max(n, span - sum(around), 1) for n, span, around in sizes)


def _extreme(rng, case):
    """What only large problems show: some of their outputs are looked at."""
    kind = rng.choice(("kernel", "kernel", "bank", "tiles", "long", "far", "far", "dimensions"))
    turn = rng.choice((1, -1))
    mode, stride, dilation, rank = rng.choice(("valid", "same", "full")), (1, 1), (1, 1), 0
    x_lead = k_lead = ()
    if kind == "kernel":  # of every size and rank
        p = q = int(math.exp(rng.uniform(math.log(12), math.log(150))))
        if rng.random() < 0.5:
            q = int(math.exp(rng.uniform(math.log(12), math.log(150))))
        h, w = p + rng.randint(0, 60), q + rng.randint(0, 60)
        mode = rng.choice(("valid", "valid", 2))
        rank = 0 if rng.random() < 0.5 else rng.randint(1, min(p, q))
    elif kind == "bank":
        p, q = rng.randint(8, 40), rng.randint(8, 40)
        h, w, k_lead = p + rng.randint(0, 4), q + rng.randint(0, 4), (rng.randint(2, 64),)
        mode = "valid"
        rank = 0 if rng.random() < 0.5 else rng.randint(1, min(p, q))
    elif kind == "tiles":  # several tiles of a transform, or strips
        p, q = rng.randint(2, 40), rng.randint(2, 40)
        h, w = (rng.randint(40, 700), rng.randint(40, 300))[::turn]
    elif kind == "long":
        taps, side = rng.randint(50, 3000), rng.randint(1, 2)
        length = int(math.exp(rng.uniform(math.log(5000), math.log(200_000))))
        (p, q), (h, w) = (taps, 1)[::turn], (length, side)[::turn]
        length = min(length, 60_000_000 // (taps * side))
        h, w = (max(length, taps), side)[::turn]
    elif kind == "far":  # paddings, strides and dilations larger than any image
        p, q, h, w = rng.randint(1, 5), rng.randint(1, 5), rng.randint(1, 9), rng.randint(1, 9)
        x_lead = (0,) if rng.random() < 0.1 else ()
        case, mode, stride, dilation = _far(rng, case, (p, q), (h, w), 12 if x_lead else 6)
    else:
        p, q, h, w = rng.randint(1, 3), rng.randint(1, 3), rng.randint(3, 5), rng.randint(3, 5)
        x_lead = (1,) * rng.randint(3, 60)
        k_lead = (1,) * rng.randint(0, 60)
    if case.method == "separable" and min(p, q) > 1 and kind != "dimensions" and rank == 0:
        rank = rng.randint(1, min(p, q) - 1) if rng.random() < 0.7 else 0
    case = replace(case, k=(p, q), stride=stride, dilation=dilation, mode=mode, rank=rank)
    h, w = _fitting(case, (h, w))
    return replace(case, x=(*x_lead, h, w), k=(*k_lead, p, q))


def _far(rng, case, k, x, most):
    """Padding and strides up to powers of ten with few outputs, most of them beside the image."""
    most = 2.5 if case.method == "fft" else most
    pads, strides, dilations = [], [], []
    for taps, n in zip(k, x, strict=True):
        far = int(10 ** rng.uniform(1, most))
        pad = (far, rng.choice((far, 0, rng.randint(0, far))))[:: rng.choice((1, -1))]
        dilation = 1
        if taps > 1 and rng.random() < 0.4:
            dilation = rng.randint(1, max(1, (n + sum(pad) - 1) // (taps - 1)))
        left = n + sum(pad) - (taps - 1) * dilation
        pads.append(pad)
        dilations.append(dilation)
        strides.append(max(1, left // rng.randint(1, 12)))
    return case, tuple(pads), tuple(strides), tuple(dilations)


def _draw_gradient(rng, names, call):
    """A case whose gradients are looked at as well; its elements are finite."""
    dtype = rng.choice(names)
    case = Case(
        x_dtype=dtype, k_dtype=dtype, call=call, seed=rng.randrange(1 << 30),
        method=rng.choice(("auto", "direct", "fft")), x_values=_often(rng, FINITE),
        k_values="normal" if rng.random() < 0.6 else rng.choice(FINITE + SHAPED),
        boundary=rng.choice(BOUNDARIES),
    )  # fmt: skip
    case = _ordinary(rng, case)
    if case.layer:
        n, groups, inner, outer = (rng.randint(1, m) for m in (3, 4, 3, 3))
        case = replace(
            case, method="auto", boundary="constant", rank=0, groups=groups, mode=case.pad,
            x=(n, groups * inner, *case.x[-2:]), k=(groups * outer, inner, *case.k[-2:]),
        )  # fmt: skip
        if math.prod(case.output) * math.prod(case.k[1:]) > 30_000:
            case = replace(case, x=(1, *case.x[1:-2], *case.span), mode="valid")
    if call.startswith("torch"):
        return replace(case, without=rng.choice((None, "ml_dtypes", "cupy", "dask")))
    return replace(
        case, x_layout=_often(rng, LAYOUTS), k_layout=_often(rng, LAYOUTS),
        without=rng.choice((None, None, "torch", "cupy")),
    )  # fmt: skip


def _often(rng, names):
    """The first of the names in a third of the cases."""
    return names[0] if rng.random() < 0.33 else rng.choice(names)


def _sizes(rng, backend):
    kind = rng.random()
    p, q = rng.randint(1, 6), rng.randint(1, 6)
    h, w = rng.randint(1, 14), rng.randint(1, 20)
    if backend == "cuda":
        return min(p, 4), min(q, 4), h, w
    if kind < 0.05:
        h = w = 1
    elif kind < 0.12:
        h, w = p, q
    elif kind < 0.16:
        p, q = (rng.randint(60, 80), rng.randint(1, 2))[:: rng.choice((1, -1))]
        h, w = p + rng.randint(0, 8), q + rng.randint(0, 8)
    elif kind < 0.24:
        h, w = rng.choice(((rng.randint(1, 3), rng.randint(60, 300)), (rng.randint(60, 300), 2)))
    elif kind < 0.28:
        p, q = rng.randint(8, 17), rng.randint(8, 17)
        h, w = p + rng.randint(0, 6), q + rng.randint(0, 6)
    elif kind < 0.30:
        h, w = rng.randint(50, 140), rng.randint(50, 140)
        p, q = rng.randint(1, 3), rng.randint(1, 3)
    return p, q, h, w


def _mode(rng):
    kind = rng.random()
    if kind < 0.6:
        return rng.choice(("valid", "same", "full"))
    most = 40 if rng.random() < 0.1 else 6
    if kind < 0.7:
        return rng.randint(0, 3)
    if kind < 0.8:
        return rng.randint(0, 6), rng.randint(0, 6)
    return tuple((rng.randint(0, most), rng.randint(0, most)) for _ in range(2))


def _leads(rng):
    if rng.random() < 0.6:
        return (), ()
    return rng.choice(
        [((2,), ()), ((3,), (3,)), ((1,), (4,)), ((), (3,)), ((2, 1), (3,)), ((2, 1, 2), (2, 1)),
         ((0,), ()), ((1, 1), ()), ((2, 2), (2, 1)), ((5,), (1,))]
    )  # fmt: skip


def _target(rng, case, names):
    kind = rng.random()
    dtype = None
    if kind < 0.4:
        names = [n for n in names if n != "bool"]
        if dtypes.is_complex(case.acc):
            names = ["complex64", "complex128"]
        dtype = rng.choice(names)
    return dtype, rng.choice(OUT_LAYOUTS) if rng.random() < 0.3 else None


def place(array, layout, name, fill=0xA5):
    """The elements in memory of a layout: the view, and the bytes all around it."""
    lead = array.shape[:-2]
    h, w = array.shape[-2:]
    kind = array.dtype
    if layout == "broadcast":
        row = np.ascontiguousarray(array[..., :1, :])
        return _named(np.broadcast_to(row, array.shape), name), row
    if layout == "swapped" and name != "bfloat16":
        base = array.astype(kind.newbyteorder())
        return base, base
    if layout == "F":
        base = _filled((*lead, w, h), kind, fill)
        view = base.swapaxes(-1, -2)
    elif layout == "roi":
        base = _filled((*lead, h + 3, w + 5), kind, fill)
        view = base[..., 1 : 1 + h, 3 : 3 + w]
    elif layout == "flip":
        base = _filled(array.shape, kind, fill)
        view = base[..., ::-1, ::-1]
    elif layout == "step":
        base = _filled((*lead, 2 * h, 3 * w), kind, fill)
        view = base[..., ::2, 1::3]
    elif layout == "unaligned":
        base = np.full(array.nbytes + 2, fill, np.uint8)
        view = base[1:-1].view(kind).reshape(array.shape)
    else:
        base = view = _filled(array.shape, kind, fill)
    view[...] = array
    view = _named(view, name)
    if layout == "readonly":
        view.flags.writeable = False
    return view, base


def _filled(shape, kind, fill):
    raw = np.full((*shape, kind.itemsize), 1 if kind.kind == "b" else fill, np.uint8)
    return raw.view(kind)[..., 0]


def _named(view, name):
    if name != "bfloat16":
        return view
    import ml_dtypes

    return view.view(ml_dtypes.bfloat16)
