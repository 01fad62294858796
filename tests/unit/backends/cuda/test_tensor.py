"""Method "tensor": its sums on the emulator, plans, refusals, and what NVRTC makes of it."""

import itertools
import re
from dataclasses import replace

import numpy as np
import pytest

import gpuconv
from benchmarks.cuda import compiled
from gpuconv import engine
from gpuconv.backends.cuda import fft_block_planning, streaming, strided_planning, sums
from gpuconv.backends.cuda import tensor as cuda_tensor
from gpuconv.backends.cuda.backend import workspace_bytes
from gpuconv.backends.cuda.launch import PARAMETER_BYTES
from gpuconv.backends.cuda.tensor import WarpTiling
from gpuconv.core import dtypes
from gpuconv.core.boundary import BOUNDARIES
from gpuconv.core.problem import make_problem

from .... import oracle, promises
from ....emulator.backend import SANITIZERS, TILINGS_OF_TRANSFORMS, cuda, reference
from ....emulator.launcher import PLAIN, THREAD, SanitizedLauncher
from ....marks import always, exhaustive
from ....nvrtc import check_code

RNG = np.random.default_rng(31)
EPS = float(np.finfo("f4").eps)


def sample(shape, name):
    """Values with all of their mantissa in use; TF32 drops some of it."""
    return oracle.sample(RNG, shape, name)


def problem_of(x, k, name, **keywords):
    precision = "tf32" if name == "float32" else None
    return oracle.problem_of(x, k, name, name, precision=precision, **keywords)


def compare(x, k, name, **keywords):
    """Every sum against the exact one; of TF32, of the rounded factors."""
    problem = problem_of(x, k, name, **dict(dtype="float32") | keywords)
    out = np.full(problem.out_shape, 7, dtypes.storage(problem.out_dtype))
    cuda.tensor(problem, x, k, out)
    promises.check(problem, x, k, out, "tensor")
    return out


NAMES = ("float16", "bfloat16", "float32")


@pytest.mark.parametrize(
    ("boundary", "name"),
    always(
        list(itertools.product(BOUNDARIES, NAMES)),
        ("constant", "float16"),
        ("edge", "float16"),
        ("reflect", "bfloat16"),
        ("wrap", "float32"),
        rows=True,
    ),
)
def test_borders(emulated, name, boundary):
    x, k = sample((17, 20), name), sample((3, 5), name)
    compare(x, k, name, mode=((40, 3), (2, 45)), boundary=boundary, fillvalue=2.5)
    compare(x, k, name, mode="same", boundary=boundary)


@pytest.mark.parametrize(
    ("size", "name"),
    always(
        list(
            itertools.product(
                [(1, 1), (9, 1), (2, 9), (11, 10), (5, 17), (7, 40)], ["float16", "float32"]
            )
        ),
        ((1, 1), "float32"),
        ((11, 10), "float16"),
        ((5, 17), "float32"),
        rows=True,
    ),
)
def test_kernel_sizes(emulated, name, size):
    x, k = sample((40, 61), name), sample(size, name)
    for left in (0, 5):  # other shifts of the band
        compare(x, k, name, mode=((0, 1), (left, 0)))


def test_rows_of_taps_in_chunks(emulated, monkeypatch):
    monkeypatch.setattr(cuda_tensor, "SHARED_BYTES", 5000)
    compare(sample((33, 45), "float16"), sample((23, 31), "float16"), "float16", mode="same")
    spec, _, shared = emulated.launched[0]
    assert not spec.whole
    assert shared <= 5000


@pytest.mark.parametrize("out", ["uint8", "complex128"])
def test_results_of_other_dtypes(emulated, out):
    x, k = sample((19, 40), "float16") * np.float16(40), sample((3, 3), "float16")
    problem = problem_of(x, k, "float16", dtype=out)
    found, expected = (np.empty(problem.out_shape, dtypes.storage(out)) for _ in range(2))
    cuda.tensor(problem, x, k, found)
    reference.direct(problem, x, k, expected)
    found, expected = (dtypes.widen(a, out, "complex128") for a in (found, expected))
    assert np.abs(found - expected).max() <= (1 if out == "uint8" else 1e-4)


@pytest.mark.parametrize("name", NAMES[:2])
def test_results_in_the_dtype_of_the_pixels(emulated, name):
    for shape in ((33, 64), (20, 47)):  # written in rows of 16 bytes, and pixel by pixel
        compare(sample(shape, name), sample((3, 5), name), name, dtype=name, mode="same")


def test_views_read_where_they_are(emulated):
    big, k = sample((40, 72), "float16"), sample((5, 7), "float16")
    views = (
        big[:, 3:70],  # rows that begin off the 16 bytes
        big[::-1, ::-1],
        big[1::2, ::2],
        np.asfortranarray(big),
        np.broadcast_to(big[:1], big.shape),
    )
    for view in views:
        found = compare(view, k, "float16", mode="same", boundary="reflect")
        copied = compare(view.copy(), k, "float16", mode="same", boundary="reflect")
        np.testing.assert_array_equal(found, copied)


def test_cells_that_are_copied_as_they_lie(emulated):
    """Tiles inside of images whose rows begin at 16 bytes; beside them cells are cut from two."""
    memory, k = sample((60, 272), "float16"), sample((5, 7), "float16")
    first = -memory.ctypes.data % 16 // 2
    for begin in (first, first + 3):
        x = memory[:, begin : begin + 256]
        np.testing.assert_array_equal(compare(x, k, "float16"), compare(x.copy(), k, "float16"))


def test_results_into_views(emulated):
    x, k = sample((30, 70), "float16"), sample((3, 3), "float16")
    problem = problem_of(x, k, "float16")
    expected = np.empty(problem.out_shape, "f2")
    cuda.tensor(problem, x, k, expected)
    big = np.full((60, 150), 7, "f2")
    for view in (big[:56:2, 8:76], big[27::-1, 1:69], big[:28, :136:2], big[:28, 67::-1]):
        big[...] = 7
        cuda.tensor(problem, x, k, view)
        np.testing.assert_array_equal(view, expected)
        assert (big == 7).sum() >= big.size - view.size


def test_batches_and_banks(emulated):
    x, k = sample((2, 1, 3, 20, 24), "float16")[..., ::-1, 1::2], sample((1, 4, 1, 3, 3), "float16")
    compare(x, k, "float16")
    compare(sample((3, 20, 33), "bfloat16"), sample((3, 2, 9), "bfloat16"), "bfloat16")


def test_more_leading_dimensions_than_the_struct_holds(emulated, monkeypatch):
    monkeypatch.setattr(sums, "LEADS", 2)
    x = sample((2,) * 4 + (5, 6), "float16")[::-1].transpose(3, 2, 1, 0, 4, 5)
    compare(x, sample((2, 1) * 2 + (2, 2), "float16"), "float16")
    assert len(emulated.launched) == 4


def test_weights_by_value_and_behind_a_pointer(emulated):
    x = sample((3, 30, 40), "float16")
    for size, kernels in (((7, 9), ()), ((7, 9), (3,)), ((28, 28), ())):
        compare(x, sample((*kernels, *size), "float16"), "float16")
    assert [spec.capacity for spec, *_ in emulated.launched] == [64, 0, 0]


def test_the_whole_layout(emulated, monkeypatch):
    monkeypatch.setattr(cuda_tensor, "TILINGS", {2: WarpTiling()})
    compare(sample((80, 150), "float16"), sample((7, 11), "float16"), "float16", mode="same")
    spec, grid, _ = emulated.launched[0]
    assert (spec.block, spec.width, spec.k_tiles, spec.whole, grid) == ((32, 4), 128, 3, True, 4)


NOT_FINITE = (np.nan, np.inf, -np.inf)


@pytest.mark.parametrize("name", NAMES)
def test_a_pixel_that_is_not_finite_stays_in_its_windows(emulated, name):
    x = RNG.integers(1, 5, (40, 70)).astype("f4")  # sums of these are exact whatever the order
    for n, value in enumerate(NOT_FINITE):
        x[5 + 9 * n, 13 + 20 * n] = value
    x[-1, 0] = x[0, -1] = np.inf
    k = RNG.integers(-3, 4, (4, 9)).astype("f4")
    stored = [dtypes.finish(a, name) for a in (x, k)]
    for keywords in (dict(mode="same"), dict(mode="full", boundary="reflect"), dict(mode=3)):
        problem = problem_of(*stored, name, dtype="float32", **keywords)
        found, expected = (np.empty(problem.out_shape, "f4") for _ in range(2))
        cuda.tensor(problem, *stored, found)
        with np.errstate(invalid="ignore"):
            reference.direct(problem, *stored, expected)
        assert np.isfinite(expected).any()
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("chunked", [False, True])
def test_weights_and_fill_values_that_are_not_finite(emulated, chunked, monkeypatch):
    if chunked:
        monkeypatch.setattr(cuda_tensor, "SHARED_BYTES", 4200)
    x = RNG.integers(-2, 5, (30, 50)).astype("f2")
    x[9, 9] = np.nan
    k = RNG.integers(1, 4, (9, 23 if chunked else 5)).astype("f2")
    for value in (1, *NOT_FINITE):
        k[2, 3] = value
        problem = problem_of(x, k, "float16", mode="full", fillvalue=np.inf, dtype="float32")
        found, expected = (np.empty(problem.out_shape, "f4") for _ in range(2))
        cuda.tensor(problem, x, k, found)
        with np.errstate(invalid="ignore"):
            reference.direct(problem, x, k, expected)
        np.testing.assert_array_equal(found, expected)
    assert emulated.launched[0][0].whole is not chunked


def test_sums_made_anew_are_of_rounded_factors_too(emulated):
    x, k = sample((20, 40), "float32"), sample((3, 5), "float32")
    problem = problem_of(x, k, "float32")
    found, beside = (np.empty(problem.out_shape, "f4") for _ in range(2))
    cuda.tensor(problem, x, k, beside)
    x[10, 20] = np.nan
    cuda.tensor(problem, x, k, found)
    finite = np.isfinite(found)
    assert finite.sum() == found.size - k.size
    _, sizes = oracle.exact(problem, np.nan_to_num(x), k)
    assert (np.abs(found - beside) <= promises.bound(problem, "tensor", sizes))[finite].all()


def test_sums_beyond_float32_are_infinite(emulated):
    x = np.full((20, 40), 3e38, "f4")
    k = np.full((2, 3), 2, "f4")
    problem = problem_of(x, k, "float32")
    found = np.empty(problem.out_shape, "f4")
    cuda.tensor(problem, x, k, found)
    assert (found == np.inf).all()


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_strips_of_host_arrays_are_bitwise_the_whole(emulated, boundary):
    x, k = sample((2, 33, 30), "float16"), sample((5, 3), "float16")
    problem = problem_of(x, k, "float16", mode=((9, 7), (2, 1)), boundary=boundary)
    found, expected = (np.empty(problem.out_shape, "f2") for _ in range(2))

    def compute(small, index, x_part, out_part):
        cuda.tensor(small, x_part, k, out_part)

    def workspace(part):
        return workspace_bytes(part, "tensor")

    layout = streaming.layout_of(emulated, problem, workspace, 9000)
    streaming.run_in_strips(emulated, problem, layout, x, found, compute)
    assert len(emulated.launched) > 4
    cuda.tensor(problem, x, k, expected)
    np.testing.assert_array_equal(found, expected)


# --- under the sanitizers ------------------------------------------------------------------------


def sanitized(flags, change=None):
    """Launch under a sanitizer: aligned and other rows, some sums made anew. Returns its report."""
    launcher = SanitizedLauncher(flags, [], change)
    before = cuda.launcher, cuda_tensor.GRID_MAX
    cuda.launcher, cuda_tensor.GRID_MAX = launcher, 1  # one block, tile after tile
    try:
        # Rows that begin aligned, whose tile ends where they do without being so, and a border.
        for width, mode in ((80, "valid"), (41, "valid"), (41, "same")):
            x, k = launcher.upload(sample((36, width), "float16")), sample((5, 9), "float16")
            x[7, 9] = np.nan
            problem = problem_of(x, k, "float16", mode=mode, boundary="reflect")
            out = launcher.empty(problem.out_shape, "f2")
            cuda.tensor(problem, x, k, out)
            if launcher.code == 0:
                expected = np.empty_like(out)
                with np.errstate(invalid="ignore"):
                    reference.direct(problem, x, k, expected)
                np.testing.assert_allclose(out, expected, atol=1e-2, rtol=1e-2)
    finally:
        cuda.launcher, cuda_tensor.GRID_MAX = before
    return launcher


@exhaustive
@pytest.mark.parametrize("flags", SANITIZERS)
def test_sanitizers_are_silent(emulated, flags):
    launcher = sanitized(flags)
    assert launcher.code == 0, launcher.report


def without(text):
    return lambda source: source.replace(text, ";")


@exhaustive
def test_a_missing_barrier_is_caught(emulated):
    launcher = sanitized(THREAD, without("__syncthreads();"))
    assert launcher.code != 0
    assert "data race" in launcher.report


def test_copies_that_are_not_waited_for_are_caught(emulated):
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        sanitized(PLAIN, without("await_copies<0>();"))


# --- asked for by name, or not ---------------------------------------------------------------


X, K = np.ones((20, 30), "f2"), np.ones((7, 7), "f2")
F4, F8 = (dict(X=X.astype(t), K=K.astype(t)) for t in ("f4", "f8"))
TENSOR, TF32 = dict(method="tensor"), dict(precision="tf32")
REFUSED = [
    (TENSOR | F4, r"float32 is not multiplied exactly by tensor cores.*precision='tf32'"),
    (TENSOR | F8, r"X and K both float16 or both bfloat16 .*, got float64 and float64"),
    (TENSOR | dict(K=K.astype("f4")), r"both float16 or both bfloat16 .*, got float16 and float32"),
    (
        TENSOR | dict(stride=2),
        r"stride 1 and dilation 1, got stride \(2, 2\) and dilation \(1, 1\)",
    ),
    (TENSOR | dict(dilation=(1, 2)), r"got stride \(1, 1\) and dilation \(1, 2\)"),
    (TENSOR | dict(mode="same", fillvalue=0.1), r"fillvalue 0.1 is not a float16, as the pixels"),
    (TENSOR | dict(mode="same", fillvalue=1e6), r"fillvalue 1000000.0 is not a float16"),
    (TF32, r"precision='tf32' is for X and K of float32, got float16 and float16"),
    (TF32 | F8, r"precision='tf32' is for X and K of float32, got float64 and float64"),
    (TF32 | F4 | dict(stride=2), r"method='tensor' cannot be used: it takes stride 1"),
    (TF32 | F4 | dict(method="direct"), r"is for method='tensor' \(or 'auto'\), got.*'direct'"),
    (TF32 | F4 | dict(backend="cpu"), r"backend 'cpu' has no tensor cores, which backend='cuda'"),
    (TF32 | F4 | dict(backend="auto"), r"precision='tf32' cannot be used: backend 'cpu' has no"),
    (dict(precision="half"), r"precision must be None .* or 'tf32', got 'half'"),
    (dict(precision=16), r"precision must be None .* or 'tf32', got 16"),
]


@pytest.mark.parametrize(("keywords", "text"), REFUSED, ids=[r[1][:40] for r in REFUSED])
def test_refusals(emulated, keywords, text):
    arguments = dict(X=X, K=K, backend="cuda") | keywords
    with pytest.raises(ValueError, match=text):
        gpuconv.corr2d(arguments.pop("X"), arguments.pop("K"), **arguments)
    assert not emulated.launched


def test_a_fill_value_that_is_never_read_may_be_anything(emulated):
    for keywords in (dict(fillvalue=0.1), dict(fillvalue=0.1, mode=3, boundary="edge")):
        gpuconv.corr2d(X, K, backend="cuda", method="tensor", **keywords)
    gpuconv.corr2d(**F4, **TF32, backend="cuda", fillvalue=0.1, mode=3)
    y = gpuconv.corr2d(X, K, backend="cuda", method="tensor", fillvalue=np.nan, mode=1)
    assert np.isnan(y).sum() == y.size - 14 * 24


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_other_backends_do_not_have_it(backend):
    with pytest.raises(ValueError, match=f"backend '{backend}' does not have it"):
        gpuconv.corr2d(X, K, method="tensor", backend=backend)


def test_older_chips_are_refused(emulated, monkeypatch):
    turing = replace(emulated.chip(), capability=75)
    monkeypatch.setattr(emulated, "chip", lambda: turing)
    text = "it needs a GPU of compute capability 8.0 or newer, this one has 7.5"
    with pytest.raises(ValueError, match=text):
        gpuconv.corr2d(X, K, method="tensor", backend="cuda")
    with pytest.raises(ValueError, match=text):
        gpuconv.corr2d(**F4, precision="tf32", backend="cuda")
    plan = gpuconv.plan((2048, 2048), (15, 15), x_dtype="float16", backend="cuda")
    assert plan.method != "tensor"
    assert text in str(plan)


def test_without_a_gpu_the_backend_is_what_is_missing():
    if gpuconv.backends()["cuda"] is None:
        pytest.skip("this machine has a GPU")
    for keywords in (dict(X=X, K=K, method="tensor"), dict(X=X, K=K), F4 | TF32):
        with pytest.raises(gpuconv.BackendUnavailable):
            gpuconv.corr2d(backend="cuda", **keywords)


def test_auto_takes_it_from_where_it_pays(emulated, monkeypatch):
    monkeypatch.setattr(fft_block_planning, "TILINGS", TILINGS_OF_TRANSFORMS)

    def method(size, dtype="float16", **keywords):
        return gpuconv.plan(
            (2048, 2048), (size, size), x_dtype=dtype, backend="cuda", **keywords
        ).method

    assert {size: method(size) for size in (3, 5, 7, 11, 15, 31)} == {
        3: "direct", 5: "direct", 7: "direct", 11: "direct", 15: "tensor", 31: "tensor"
    }  # fmt: skip
    assert method(15, "bfloat16") == "tensor"
    assert method(15, "float32") == "direct"
    assert method(15, stride=2) != "tensor"
    assert method(3, "float32", precision="tf32") == "tensor"
    small = gpuconv.plan((70000, 8, 8), (7, 7), x_dtype="float16", backend="cuda")
    assert small.method == "direct"  # tiles of 64 x 128 would be mostly empty


def test_plans_say_what_was_asked(emulated):
    plan = gpuconv.plan((20, 30), (7, 7), backend="cuda", precision="tf32")
    assert plan.problem.precision == "tf32"
    assert "* tensor" in str(plan)
    found = plan(F4["X"], F4["K"])
    np.testing.assert_array_equal(found, gpuconv.corr2d(**F4, backend="cuda", precision="tf32"))
    assert [spec.kernel for spec, *_ in emulated.launched] == ["tensor"] * 2
    plan = gpuconv.plan((2048, 2048), (15, 15), x_dtype="float16")
    assert "tensor    backend 'cpu' does not have it" in str(plan)


def test_public_calls(emulated):
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    for name, keywords in (("float16", TENSOR), (bfloat16, TENSOR), ("float32", TF32)):
        x, k = RNG.integers(-4, 5, (2, 40, 40)).astype(name), np.arange(-5, 58).reshape(9, 7)
        k = k.astype(name)
        for function in (gpuconv.corr2d, gpuconv.convolve2d):
            found = function(x, k, backend="cuda", mode="same", dtype="float32", **keywords)
            expected = function(x.astype("f8"), k.astype("f8"), backend="cpu", mode="same")
            np.testing.assert_array_equal(found, expected)
    assert {spec.kernel for spec, *_ in emulated.launched} == {"tensor"}


def test_gradients(emulated):
    x, k = (RNG.integers(-3, 4, shape).astype("f2") for shape in ((40, 50), (7, 9)))
    dy = RNG.integers(-3, 4, (34, 42)).astype("f2")
    expected, _ = gpuconv.corr2d_vjp(x, k, dy, wrt="X", backend="cpu")
    found, _ = gpuconv.corr2d_vjp(x, k, dy, wrt="X", backend="cuda", method="tensor")
    np.testing.assert_array_equal(found, expected)
    assert {spec.kernel for spec, *_ in emulated.launched} == {"tensor"}
    with pytest.raises(ValueError, match=r"'tensor'.* the kernel's gradient is not such a matrix"):
        gpuconv.corr2d_vjp(x, k, dy, backend="cuda", method="tensor")


def test_torch_gradients_are_those_without_lower_precision(monkeypatch):
    torch = pytest.importorskip("torch")
    from gpuconv.adapters import torch_ops

    x, k = (torch.ones(shape, requires_grad=True) for shape in ((8, 9), (3, 3)))
    for precision, text in (("", "got ''"), ("tf32", "backend 'cpu' has no tensor cores")):
        with pytest.raises(ValueError, match=text):
            gpuconv.corr2d(x, k, precision=precision)
    calls = []

    def correlate(x, k, **keywords):
        calls.append(("y", keywords.pop("method"), keywords.pop("precision", None)))
        return engine.correlate(x, k, **keywords)

    def vjp(x, k, dy, wrt, **keywords):
        calls.append((wrt, keywords["method"], keywords.get("precision")))
        return gpuconv.corr2d_vjp(x, k, dy, wrt=wrt, **keywords)

    monkeypatch.setattr(torch_ops, "correlate", correlate)
    monkeypatch.setattr(torch_ops.gradients, "correlation_gradients", vjp)
    for method in ("auto", "tensor"):
        calls.clear()
        y = gpuconv.corr2d(x, k, method=method, precision="tf32")
        first = torch.autograd.grad((y * y).sum(), (x, k), create_graph=True)
        torch.autograd.grad(first[0].sum() + first[1].sum(), (x, k))
        assert calls[0] == ("y", method, "tf32")
        assert set(calls[1:]) == {(kind, "auto", None) for kind in ("y", "X", "K")}


# --- plans ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["float16", "float32"])
@pytest.mark.parametrize("q", [1, 7, 9, 15, 31, 33, 34, 63, 500])
@pytest.mark.parametrize("p", [1, 15, 200])
def test_launches_fit(name, p, q):
    problem = make_problem((700, 700), (p, q), name, name, mode="same")
    size = 4 if name == "float32" else 2
    cell = 16 // size
    launch = cuda_tensor.plan(problem, False)
    assert 0 < launch.shared_bytes <= strided_planning.SHARED_BYTES
    cells = -(-(q + 7) // cell)
    passes = -(-cells // launch.spec.k_tiles)
    assert launch.spec.k_tiles <= cuda_tensor.TILINGS[size].k_tiles
    assert passes * launch.spec.k_tiles < cells + passes
    assert launch.spec.whole == (passes == 1 and launch.chunk[0] == p)
    # The shift aligns what is read, unless that takes another cell.
    assert 0 <= launch.shift < cell
    if launch.shift:
        assert (problem.pad[1][0] + launch.shift) % cell == 0
    assert -(-(q + 7 + launch.shift) // cell) == cells
    assert cuda_tensor.work(p, q, size) == p * cells * cell
    assert launch.spec.capacity >= p * q or p * q * 4 > PARAMETER_BYTES
    assert cuda_tensor.plan(problem, True).spec.capacity == 0


# --- what NVRTC makes of it ----------------------------------------------------------------------


@pytest.mark.needs("cupy")
@pytest.mark.parametrize(
    ("name", "size"),
    always(
        [
            *(("float16", (2, q)) for q in (1, 3, 11, 19, 27, 35, 70)),
            *(("bfloat16", (5, q)) for q in (3, 9)),
            *(("float32", (70, q)) for q in (1, 3, 7, 11, 15, 19, 40)),
        ],
        ("float16", (2, 3)),
        ("float32", (70, 1)),
        rows=True,
    ),
)
def test_every_number_of_k_tiles_is_compiled_rightly(name, size):
    """Factors that a loop carried along without a first value were mixed up by ptxas."""
    check_code(cuda_tensor.plan(make_problem((999, 999), size, name, name), False).spec, 90)


@pytest.mark.needs("cupy")
@pytest.mark.parametrize(
    ("arch", "name", "size"),
    always(
        [
            (80, "float16", 31),
            (80, "float32", 15),
            (90, "float16", 15),
            (90, "bfloat16", 31),
            (90, "float32", 127),
            (100, "bfloat16", 15),
            (120, "float16", 7),
            (120, "float32", 11),
        ],
        (90, "float16", 15),
        (120, "float32", 11),
        rows=True,
    ),
)
def test_compiled_code(arch, name, size):
    spec = cuda_tensor.plan(make_problem((999, 999), (size, size), name, name), False).spec
    report, code = compiled.build(spec.source(), "tensor", arch)
    assert (report.spills, report.stack) == (False, 0), report

    def of(pattern):
        return sum(bool(re.match(pattern, line.opcode)) for line in code.instructions)

    kind = {"float16": "", "bfloat16": r"\.BF16", "float32": r"\.TF32"}[name]
    products = spec.m_tiles * spec.n_tiles
    assert of(rf"HMMA\.\d+\.F32{kind}$") == of("HMMA") == products * -(-spec.k_tiles // 2)
    assert 1 <= of(r"LDSM\.16\.M88\.[24]$") <= spec.n_tiles * 2 + spec.k_tiles
    assert of("LDGSTS") == of(r"LDGSTS\.E\.BYPASS\.128") > 0
    assert of(r"LDG\.E\.128") > 0
    assert of(r"STG\.E\.128") > 0
    assert not of("LDL|STL")
