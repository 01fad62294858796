"""A case: one call of corr2d or convolve2d as plain JSON, and the arrays it stands for."""

import json
import random
from dataclasses import asdict, dataclass, replace

import numpy as np

from gpuconv import dtypes
from gpuconv.boundary import BOUNDARIES

LAYOUTS = ("C", "F", "roi", "flip", "step", "unaligned", "readonly", "broadcast", "swapped")
OUT_LAYOUTS = ("C", "F", "roi", "flip", "step", "unaligned")
VALUES = ("normal", "integers", "uneven", "limits", "zeros", "denormal", "huge", "nan", "inf")
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
    x_dtype = rng.choice(names)
    k_dtype = x_dtype if rng.random() < 0.5 else rng.choice(names)
    case = Case(x_dtype=x_dtype, k_dtype=k_dtype, backend=backend, seed=rng.randrange(1 << 30))
    whole = dtypes.is_integer(case.acc)
    # The method first: it says which kernels make sense.
    methods = ["auto", "direct", "separable", "fft"]
    if backend == "reference":
        methods = ["auto", "direct"]
    elif backend == "cuda":
        methods = ["direct", "separable"]
    elif whole:
        methods.remove("fft")
    method = rng.choice(methods)
    p, q, h, w = _sizes(rng, backend)
    stride = (1, 1) if rng.random() < 0.6 else (rng.randint(1, 4), rng.randint(1, 4))
    dilation = (1, 1) if rng.random() < 0.7 else (rng.randint(1, 3), rng.randint(1, 3))
    mode = _mode(rng)
    rank = 0
    if min(p, q) > 1 and (method == "separable" or rng.random() < 0.2):
        rank = rng.randint(1, min(p, q, 4) - 1)
    case = replace(
        case, k=(p, q), stride=stride, dilation=dilation, mode=mode, method=method, rank=rank,
        flipped=rng.random() < 0.2, boundary=rng.choice(BOUNDARIES),
    )  # fmt: skip
    pad = case.pad
    h, w = (
        max(n, span - sum(around), 1)
        for n, span, around in zip((h, w), case.span, pad, strict=True)
    )
    x_lead, k_lead = _leads(rng)
    n = int(np.prod(np.broadcast_shapes(x_lead, k_lead)))
    limit = 150_000 if rng.random() < 0.02 else 20_000
    rows, columns = (
        (size + sum(around) - span) // step + 1
        for size, around, span, step in zip((h, w), pad, case.span, stride, strict=True)
    )
    if n * rows * columns * p * q > limit:
        x_lead = k_lead = ()
    floats = ("0", "0", "1.5", "-3", "1e-40", "3e38", "nan", "inf")
    fills = ("0", "0", "1", "7", "255") if whole else floats
    if dtypes.is_complex(case.acc):
        fills = ("0", "1+2j", "nan")
    dtype, out = _target(rng, case, names)
    return replace(
        case,
        x=(*x_lead, h, w),
        k=(*k_lead, p, q),
        x_layout=_often(rng, LAYOUTS),
        k_layout=_often(rng, LAYOUTS),
        x_values=_often(rng, VALUES),
        k_values="normal" if rng.random() < 0.8 else rng.choice(VALUES),
        fill=rng.choice(fills),
        dtype=dtype,
        out=out,
    )


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


def values(case, which):
    """Elements of X or K, in C order; bfloat16 as its bits."""
    shape, name, kind = (
        (case.x, case.x_dtype, case.x_values) if which == "x" else
        (case.k, case.k_dtype, case.k_values)
    )  # fmt: skip
    rng = np.random.default_rng([case.seed, which == "k"])
    if which == "k" and case.rank:
        return _products(rng, shape, name, case.rank, kind)
    if dtypes.is_integer(name):
        return _integers(rng, shape, name, kind)
    return _floats(rng, shape, name, kind)


def _products(rng, shape, name, rank, kind):
    """A kernel of low rank: exactly so, of small integers, or (uneven) of one product rounded."""
    low = 0 if name.startswith("u") or name == "bool" else -3
    high = 1 if name == "bool" else 3
    if kind != "integers" and rank == 1 and name in ("float32", "float64", "complex64"):
        u, v = (
            rng.standard_normal((*shape[:-1], 1)),
            rng.standard_normal((*shape[:-2], 1, shape[-1])),
        )
        if kind == "uneven":
            u = u * 10.0 ** rng.integers(-6, 6, u.shape)
        return (u * v).astype(name)
    total = np.zeros(shape)
    for _ in range(1 if name == "bool" else rank):
        u = rng.integers(low, high + 1, (*shape[:-1], 1))
        total += u * rng.integers(low, high + 1, (*shape[:-2], 1, shape[-1]))
    return _store(total, name)


def _store(array, name):
    if name == "bfloat16":
        return (array.astype("f4").view("u4") >> 16).astype("u2")
    with np.errstate(all="ignore"):
        return array.astype(name)


def _integers(rng, shape, name, kind):
    if kind == "zeros":
        return np.zeros(shape, name)
    if name == "bool":
        return rng.random(shape) < 0.5
    info = np.iinfo(name)
    if kind in ("limits", "huge"):
        return rng.choice(np.array([info.min, info.max, 0, 1, info.max - 1], name), shape)
    if kind == "uneven":
        return rng.integers(info.min, info.max, shape, name, endpoint=True)
    return rng.integers(max(info.min, -100), min(info.max, 100), shape, name)


def _floats(rng, shape, name, kind):
    size = {"float16": 4, "bfloat16": 30, "float32": 30, "complex64": 15}.get(name, 200)
    top, low = {"float16": (6e4, 1e-7), "float64": (1.7e308, 5e-324), "complex128": (1e308, 1e-320)
                }.get(name, (3.3e38, 1e-41))  # fmt: skip
    v = rng.standard_normal(shape)
    if name.startswith("complex"):
        v = v + 1j * rng.standard_normal(shape)
    some = rng.random(shape) < 0.1
    if kind == "integers":
        v = np.round(v * 3)
    elif kind == "uneven":
        v = v * 10.0 ** rng.integers(-(size // 4), size // 4 + 1, shape)
    elif kind == "limits":
        v = np.where(some, rng.choice([1, -1], shape) * top, v)
    elif kind == "zeros":
        v = rng.choice(np.array([0.0, -0.0]), shape)
    elif kind == "denormal":
        v = v * low * 10
    elif kind == "huge":
        v = np.clip(v.real, -1, 1) * top / 8
    elif kind == "nan":
        v = np.where(some, np.nan, v)
    elif kind == "inf":
        v = np.where(some, rng.choice([np.inf, -np.inf, np.nan, 1e4], shape), v)
    return _store(v, name)


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
