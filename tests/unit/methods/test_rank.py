"""What looking at the weights may cost, and what it finds: `methods.weights`, and who asks it."""

import itertools

import numpy as np
import pytest

import gpuconv
from gpuconv.backends import get_backend
from gpuconv.backends.cpu import planning, rank_one
from gpuconv.core.problem import make_problem
from gpuconv.methods import (
    first_searches,
    float_factors,
    integer_factors,
    operations,
    prices,
    separable,
)
from gpuconv.methods import rank as rank_search
from gpuconv.methods import weights as kernels
from gpuconv.methods.weights import Weights
from gpuconv.selection.choose import choose
from gpuconv.selection.costs import costs_of, seconds_per_operation

from ...marks import cross

RNG = np.random.default_rng(0)
PHOTO = (
    110 + 60 * np.sin(np.add.outer(np.arange(200) ** 1.3, np.arange(200)) / 9)
    + RNG.integers(0, 40, (200, 200))
).astype("u1")  # fmt: skip


@pytest.fixture(autouse=True)
def compiled_search(monkeypatch):
    """Search with compiled code from the first kernel on, on disk or not."""
    monkeypatch.setattr(first_searches, "may_search", lambda shape, acc: False)


def bell(side, sigma=0.2):
    return np.exp(-(np.linspace(-1, 1, side) ** 2) / (2 * sigma))


def gauss(side, sigma=0.2):
    return np.outer(bell(side, sigma), bell(side, sigma))


def whole(rank, p, q=None):
    """Whole numbers of a rank, or below."""
    factors = RNG.integers(-3, 4, (p, rank)), RNG.integers(-3, 4, (rank, q or p))
    return np.matmul(*factors).astype("i2")


def terms(rank, side):
    """Positive floats of a rank whose factors do not cancel."""
    found = np.abs(RNG.standard_normal((side, rank))) @ np.abs(RNG.standard_normal((rank, side)))
    return found.astype("f4")


KERNELS = {
    **{f"photo {n}": PHOTO[:n, :n] for n in (3, 4, 5, 7, 9, 12, 15, 21, 31, 40, 75, 121, 151)},
    **{f"photo of floats {n}": PHOTO[:n, :n].astype("f4") for n in (3, 5, 9, 15, 31, 75, 151)},
    **{f"bool {n}": RNG.random((n, n)) < 0.5 for n in (5, 31, 151)},
    **{f"noise {dt} {n}": RNG.random((n, n)).astype(dt)
       for dt in ("f4", "f8", "c8", "c16", "f2") for n in (3, 5, 15, 31, 201)},
    **{f"rank {r} of {n}": whole(r, n) for r, n in ((1, 9), (2, 9), (3, 15), (7, 31), (30, 121))},
    **{f"rank {r} of {n}, floats": terms(r, n) for r, n in ((1, 9), (2, 9), (3, 15), (7, 31))},
    "nearly of rank 1": (gauss(31) + 1e-5 * RNG.random((31, 31))).astype("f4"),
    "nearly of rank 2": gauss(31) + gauss(31, 0.5) + 1e-12 * RNG.random((31, 31)),
    "bank of noise": RNG.integers(0, 255, (64, 40, 40)).astype("u1"),
    "bank of floats": RNG.random((64, 9, 9)).astype("f4"),
    "bank of rank 1": np.stack([gauss(9, s) for s in np.linspace(0.1, 1, 300)]).astype("f4"),
    "bank with one of full rank": np.stack([gauss(15)] * 63 + [PHOTO[:15, :15]]).astype("f4"),
    "bank of whole numbers": np.stack([whole(2, 15) for _ in range(100)]),
    "tall": PHOTO[:151, :5],
    "zeros": np.zeros((9, 9), "f4"),
}  # fmt: skip


def asked(k, side=1000, x_dtype=None, **keywords):
    x = x_dtype or ("uint8" if k.dtype.kind in "iub" else k.dtype.name)
    return make_problem((side, side), k.shape, x, k.dtype.name, mode="same", **keywords)


def chosen(problem, k, backend="cpu"):
    return choose(problem, "cpu", "auto", backend, Weights(problem, k))


def remark(choice):
    return next(text for name, _, text in choice.rows if name == "separable")


@pytest.fixture
def searches(monkeypatch):
    """What every search found, in order; none is known from before."""
    found, search = [], Weights.search

    def spy(*arguments):
        found.append(search(*arguments))
        return found[-1]

    monkeypatch.setattr(Weights, "search", spy)
    kernels._separate_within.cache_clear()
    yield found
    kernels._separate_within.cache_clear()


@pytest.mark.parametrize(("backend", "name"), cross(["cpu", "cuda"], list(KERNELS)))
def test_looking_takes_a_tenth_or_half_of_what_it_may_save(searches, name, backend):
    k, looked = KERNELS[name], 0
    for side, stride in itertools.product((16, 160, 500, 2000, 8000), (1, 3)):
        searches.clear()
        problem = asked(k, side, stride=stride)
        choice = chosen(problem, k, backend)
        others = {name: seconds for name, seconds, _ in choice.rows if name != "separable"}
        # Sums of integers may be taken in floats, which is quicker.
        accs = {problem.acc_dtype, "float32"} if k.dtype.kind in "iub" else {problem.acc_dtype}
        least = min(
            separable._seconds(problem, costs_of(backend, acc), get_backend(backend), 1)
            for acc in accs
        )
        saved = min((others | {"fft": 1.1 * others["fft"]}).values()) - least
        looked += len(searches)
        most = max(0.1 * min(others.values()), 0.5 * saved)
        first_look = Weights(problem, k).least_operations(compiled=backend == "cpu")
        if first_look * seconds_per_operation() <= 2 * saved:
            most = max(most, first_look * seconds_per_operation())
        for found in searches:
            assert found.operations * seconds_per_operation() <= most, side
    assert looked or backend == "cuda" or min(k.shape[-2:]) < 5 or k.shape[-1] > 200


class Counting(np.ndarray):
    """An array that counts what is done with it and with what comes of it."""

    calls = elements = 0

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **keywords):
        plain = [a.view(np.ndarray) if isinstance(a, Counting) else a for a in inputs]
        if out is not None:
            keywords["out"] = tuple(a.view(np.ndarray) for a in out)
        result = getattr(ufunc, method)(*plain, **keywords)
        Counting.calls += 1
        Counting.elements += max(np.size(a) for a in (*inputs, result))
        if out is not None:
            return out[0]
        return result.view(Counting) if isinstance(result, np.ndarray) else result


@pytest.mark.parametrize("k", KERNELS.values(), ids=KERNELS)
def test_what_is_done_is_counted(k):
    problem = asked(k)
    bank = np.array(k.reshape(-1, *k.shape[-2:])).view(Counting)
    for limit in (1, 2, max(3, min(k.shape[-2:]) // 3)):
        Counting.calls = Counting.elements = 0
        found = rank_search.separate_within(bank, problem.k_dtype, problem.acc_dtype, limit, np.inf)
        assert Counting.calls >= (5 if k.any() else 1)
        assert Counting.calls * operations._CALL + Counting.elements <= found.operations


@pytest.mark.parametrize("k", KERNELS.values(), ids=KERNELS)
def test_compiled_code_finds_the_same(k):
    problem = asked(k)
    bank, names = k.reshape(-1, *k.shape[-2:]), (problem.k_dtype, problem.acc_dtype)
    if problem.acc_dtype.startswith("complex"):
        return
    found = rank_search.search_compiled(bank, *names, 1, 0)
    wanted = rank_search.separate_within(bank, *names, 1, np.inf)
    single = wanted.factors is not None
    assert (found.factors is not None) == single
    assert single or found.remark in (wanted.remark, operations.MORE)
    if single:
        for part in ("u", "v"):
            mine, theirs = getattr(found.factors, part), getattr(wanted.factors, part)
            assert (mine.tobytes(), mine.shape) == (theirs.tobytes(), theirs.shape)


def same_in_the_first_searches(bank, acc):
    """Assert that NumPy decides as compiled code does; return the verdict."""
    values = np.ascontiguousarray(bank, "f8")
    verdict, found = rank_one.find_rank_one_factors(values, acc)
    first, pairs = first_searches.find_rank_one_factors(values, acc)
    assert first is verdict
    if verdict is rank_one.Verdict.ACCURATE:
        u, v = rank_one.factors_of(found, acc, len(values), 1, *values.shape[1:])
        joined = rank_search._join(values.shape, pairs, acc)
        assert (joined.u.tobytes(), joined.v.tobytes()) == (u.tobytes(), v.tobytes())
    return verdict


@pytest.mark.parametrize("k", KERNELS.values(), ids=KERNELS)
def test_the_first_searches_find_the_same(k):
    if k.dtype.kind != "c":
        for acc in ("float32", "float64"):
            same_in_the_first_searches(k.reshape(-1, *k.shape[-2:]), acc)


def test_the_first_searches_decide_as_compiled_code_does():
    rng, found = np.random.default_rng(3), set()
    for acc, digits in itertools.product(("float32", "float64"), range(600)):
        n, p, q = rng.integers(1, 3), *rng.integers(2, 8, 2)
        u, v = rng.standard_normal((n, p, 1)), rng.standard_normal((n, 1, q))
        k = u * v * (1 + rng.standard_normal((n, p, q)) * 10.0 ** -(digits % 17))
        k *= 10.0 ** (rng.integers(-30, 30) if digits % 5 else rng.choice([-300, -280, 280, 300]))
        if digits % 11 == 0:
            k[:, rng.integers(p)] *= 10.0 ** rng.integers(-320, -200)
        if digits % 13 == 0:
            k[rng.integers(n), rng.integers(p), rng.integers(q)] = rng.choice([0, np.nan, np.inf])
        found.add(same_in_the_first_searches(k, acc))
    assert found == set(rank_one.Verdict)


def test_compiled_code_follows_the_first_searches(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(first_searches, "_taken", {})
    monkeypatch.setattr(rank_one, "must_compile", lambda acc: True)
    shape = 1, 15, 15
    searches = first_searches._MOST // operations.least_operations(*shape, "float32")
    assert all(first_searches.may_search(shape, "float32") for _ in range(searches))
    assert not first_searches.may_search(shape, "float32")
    assert first_searches.may_search(shape, "float64")
    assert not first_searches.may_search((1, 20_000, 20_000), "float64")
    monkeypatch.setattr(rank_one, "must_compile", lambda acc: False)  # it is on disk
    assert not first_searches.may_search(shape, "float64")


def test_compiled_code_finds_the_same_of_random_products():
    rng, found = np.random.default_rng(3), set()
    for acc, digits in itertools.product(("float32", "float64"), range(300)):
        p, q = rng.integers(2, 8, 2)
        k = np.outer(rng.standard_normal(p), rng.standard_normal(q))
        # From rounding errors, which tell whether a product will do, to what no product has.
        k *= 1 + rng.standard_normal((p, q)) * 10.0 ** -(digits % 17)
        k = (k * 10.0 ** rng.integers(-30, 30)).astype(acc)[None]
        mine = rank_search.search_compiled(k, acc, acc, 1, 0)
        theirs = rank_search.separate_within(k, acc, acc, 1, np.inf)
        assert (mine.factors is None) == (theirs.factors is None)
        assert mine.remark in (theirs.remark, operations.MORE)
        found.add(mine.remark)
        if mine.factors is not None:
            assert mine.factors.u.tobytes() == theirs.factors.u.tobytes()
    assert found == {"", operations.MORE, operations.CANCELS}


def radial(side, rng):
    """Sums of Gaussians: elements that only rounding tells apart."""
    steps = np.arange(side) - side // 2
    squares = np.add.outer(steps**2, steps**2)
    widths = rng.uniform(0.5, side / 2, rng.integers(2, 5))
    return np.sum([rng.uniform(0.2, 2) * np.exp(-squares / (2 * w * w)) for w in widths], axis=0)


def test_compiled_crosses_are_those_of_long_doubles():
    rng, found = np.random.default_rng(5), set()
    for number in range(400):
        p, q = rng.integers(3, 12, 2)
        if number % 3:
            factors = np.abs(rng.standard_normal((p, 3))), np.abs(rng.standard_normal((3, q)))
            k = np.matmul(*map(np.round, factors)) if number % 3 == 1 else np.matmul(*factors)
        else:
            k = radial(p, rng)
        k = (k * 2.0 ** rng.integers(-90, 90)).astype("f4")[None]
        limit = min(k.shape[1:]) - 1
        mine = rank_search.search_compiled(k, "float32", "float32", limit, 0)
        theirs = rank_search.separate_within(k, "float32", "float32", limit, np.inf)
        found.add((mine.remark, mine.rank))
        if mine.remark in (operations.MORE, operations.UNDECIDED):
            continue
        assert mine.remark == theirs.remark
        if mine.factors is not None:
            assert mine.factors.u.tobytes() == theirs.factors.u.tobytes()
            assert mine.factors.v.tobytes() == theirs.factors.v.tobytes()
    if np.finfo(np.longdouble).nmant == 63:
        assert {("", 2), ("", 3)} <= found
        # Two elements of one size, of which other digits make another the largest.
        assert (operations.MORE, 0) in found


@pytest.mark.parametrize(
    "k",
    [
        [[14, 16, 17, 0], [33, 30, 29, 0], [32, 24, 26, 0], [37, 22, 21, 0], [28, 32, 34, 0]],
        [[19, 30, 44, 28, 34, 29], [16, 24, 40, 28, 24, 16], [38, 64, 88, 55, 74, 68],
         [18, 29, 45, 31, 30, 23]],
    ],
)  # fmt: skip
def test_which_of_two_elements_is_larger_is_left_to_long_doubles(k):
    # After two crosses two elements are as large: which one is taken next is a rounding error's.
    k = np.array(k, "f4")
    assert (
        rank_search.search_compiled(k[None], "float32", "float32", 3, 0).remark == operations.MORE
    )
    found = Weights(asked(k), k).search(3, np.inf, True).factors
    wanted = rank_search.separate(k[None], "float32", "float32")
    assert (found.rank, found.u.tobytes()) == (3, wanted.u.tobytes())


@pytest.mark.parametrize("k", [radial(9, np.random.default_rng(n)).astype("f4") for n in range(4)])
def test_more_operations_find_nothing_else(k):
    kernel = Weights(asked(k), k)
    enough = kernel.search(8, np.inf, True)
    least = kernel.least_operations(True)
    assert kernel.search(8, least, True).remark == operations.TOO_LONG
    assert kernel.search(8, least + enough.operations, True).factors.rank == enough.factors.rank
    assert kernel.search(enough.factors.rank - 1, np.inf, True).factors is None


@pytest.mark.parametrize("x_dtype", ["uint8", "float32", "float64", "bfloat16"])
@pytest.mark.parametrize("k_dtype", ["bool", "int16", "int64", "float16", "float32", "float64"])
@pytest.mark.parametrize(
    "view", ["plain", "flipped", "transposed", "read-only", "subclass", "bank"]
)
def test_compiled_code_takes_any_array(x_dtype, k_dtype, view):
    k = np.outer(np.arange(1, 8), np.arange(3, 9)).astype(k_dtype)
    if view == "read-only":
        k.flags.writeable = False
    views = {"flipped": k[::-1, ::-1], "transposed": k.T, "bank": k[None]}
    k = k.view(Counting) if view == "subclass" else views.get(view, k)
    kernel = Weights(asked(k, x_dtype=x_dtype), k)
    found = kernel.search(1, np.inf, True)
    numpy = Weights(asked(k, x_dtype=x_dtype), k).search(1, np.inf, False)
    for mine, theirs in zip(found.factors[:2], numpy.factors[:2], strict=True):
        assert (mine.dtype, mine.tobytes()) == (theirs.dtype, theirs.tobytes())
    assert found.operations < numpy.operations


def test_quotients_are_rounded_as_long_doubles_are():
    rng, twice = np.random.default_rng(4), 0
    for pivot in rng.uniform(1, 3, 40) * rng.choice([-1, 1], 40) * 2.0 ** rng.integers(-20, 20, 40):
        column = 0.3 * pivot * rng.uniform(-1, 1, 5000) * 10.0 ** rng.integers(-30, 1, 5000)
        column[rng.integers(5000)] = pivot
        k = np.stack([column, np.zeros(5000)], axis=1)[None]
        wanted = (column.astype(np.longdouble) / np.longdouble(pivot)).astype(np.float64)
        np.testing.assert_array_equal(
            rank_search.search_compiled(k, "float64", "float64", 1, 0).factors.u[0, 0], wanted
        )
        twice += np.count_nonzero(wanted != column / pivot)
    assert twice or np.finfo(np.longdouble).nmant == 52


@pytest.mark.parametrize(
    "k",
    [
        np.outer([1.0, 2, 3], [1e-300, 3e-300, 1e-290]),
        np.outer([1e-300, 1], [1e300, 3]),
        np.outer([1, 3], [1 << 62, 1 << 61]).astype("u8"),
        np.full((3, 4), np.iinfo("i8").min),
    ],
)
def test_what_compiled_code_cannot_do_is_left_to_numpy(k):
    dtype = k.dtype.name
    assert rank_search.search_compiled(k[None], dtype, dtype, 1, 0).remark == operations.UNDECIDED
    kernel = Weights(asked(k), k)
    assert kernel.search(1, np.inf, True).factors.rank == 1


@pytest.mark.parametrize("k", KERNELS.values(), ids=KERNELS)
def test_what_is_found_is_what_the_weights_separate_into(k):
    problem = asked(k)
    bank, full = k.reshape(-1, *k.shape[-2:]), min(k.shape[-2:])
    names = problem.k_dtype, problem.acc_dtype
    best = rank_search.separate(bank, *names)
    kernels._separate_within.cache_clear()
    for limit, compiled in itertools.product(
        sorted({1, 2, 3, full // 3, full - 1} & set(range(1, full))), (False, True)
    ):
        found = Weights(problem, k).search(limit, np.inf, compiled).factors
        assert (found is not None) == (best.rank <= limit < full and best.accurate)
        if found is not None:
            assert found.rank == best.rank
            u, v = (part.conj() if problem.conjugate else part for part in (found.u, found.v))
            np.testing.assert_array_equal(u, best.u)
            np.testing.assert_array_equal(v, best.v)


def test_singular_values_are_asked_for_where_they_matter(monkeypatch):
    rng, ranks, decomposed = np.random.default_rng(2), [], []
    rank = float_factors.numerical_rank

    def spy(kernel, acc):
        decomposed.append(kernel)
        return rank(kernel, acc)

    for _ in range(400):
        side = int(rng.integers(3, 6))
        # Beside one product, as much as singular values may count and crosses need not.
        noise = 1 + rng.choice([0, 1, 3, 6]) * 1.2e-7 * rng.uniform(-1, 1, (side, side))
        k = (rng.uniform(0.5, 1, (side, 1)) * rng.uniform(0.5, 1, side) * noise)[None]
        best = rank_search.separate(k, "float64", "float32")
        with monkeypatch.context() as patch:
            patch.setattr(float_factors, "numerical_rank", spy)
            patch.setattr(operations, "_SVD", 10**6)
            decomposed.clear()
            found = rank_search.separate_within(k, "float64", "float32", side - 1, np.inf)
        assert (found.factors is not None) == (best.rank < side and best.accurate)
        if found.factors is not None:
            assert found.factors.rank == best.rank
        if decomposed:
            ranks.append(best.rank)
            assert found.operations > 10**6
    assert {1, 2} <= set(ranks)


LOW = {
    "gaussian": (gpuconv.filters.gaussian(2.0).astype("f4"), 1),
    "gaussian in float64": (gpuconv.filters.gaussian(2.0), 1),
    "box": (gpuconv.filters.box(11).astype("f4"), 1),
    "two gaussians": (gauss(11, 0.05) + gauss(11, 0.5), 2),
    "of complex numbers": (np.outer(bell(15) * 1j, bell(15) + 0.5j).astype("c8"), 1),
    "sobel, wide": (np.outer([1, 4, 6, 4, 1], [-1, -2, 0, 2, 1]).astype("i2"), 1),
    **{f"rank {r}": (whole(r, 21, 17), r) for r in (1, 2, 3)},
    "mask": (np.outer(np.arange(9) > 3, np.arange(9) < 7), 1),
    "bank": (np.stack([gauss(9, s) for s in (0.1, 0.2, 0.3)]).astype("f4"), 1),
    "bank of ranks 1 to 3": (np.stack([whole(r, 25) for r in (1, 2, 3)]), 3),
}


@pytest.mark.parametrize(("k", "rank"), LOW.values(), ids=LOW)
def test_low_rank_is_found(k, rank):
    problem = asked(k)
    kernel = Weights(problem, k)
    assert choose(problem, "cpu", "auto", "cpu", kernel).method == "separable"
    assert kernel.factors().rank == rank
    assert kernel.factors() is kernel.factors()


def test_sobel_is_found_where_it_helps():
    k = gpuconv.filters.by_name("sobel-x").astype("f4")
    assert remark(chosen(asked(k), k)) == "direct is cheaper even for a kernel of rank 1"
    assert chosen(asked(k, 3000, stride=(2, 1)), k).method == "separable"


@pytest.mark.parametrize("k", [RNG.integers(0, 256, (121, 121)).astype("u1"), PHOTO[:121, :121]])
def test_no_exact_factors_of_full_rank_are_looked_for(monkeypatch, k):
    def never(*_):
        raise AssertionError("divides")

    monkeypatch.setattr(integer_factors, "_factor_by_division", never)
    kernels._separate_within.cache_clear()
    kernels._separate.cache_clear()
    choice = chosen(asked(k, 700), k)
    assert choice.method == "fft"
    assert remark(choice).startswith("fft is cheaper")
    with pytest.raises(ValueError, match="full rank 121"):
        gpuconv.corr2d(PHOTO, k, method="separable")


# --- integers ------------------------------------------------------------------------------------

MODULAR = {
    # One product, if 3 * 2**62 is taken modulo 2**64.
    "beyond int64": (np.outer(np.array([1, 3], "u8"), np.array([1 << 62, 1], "u8")), 1),
    "powers of two": (np.array([[1 << 32, 0], [0, 1 << 40]]), 2),
    "one product that wraps": (np.outer([1 << 40, 1, 3], [1 << 30, 5, 7]).astype("i8"), 1),
    "least of all": (np.full((3, 4), np.iinfo("i8").min), 1),
    "least and others": (np.array([[np.iinfo("i8").min, 5], [3, np.iinfo("i8").min]]), 2),
    "even": (2 * whole(2, 12), 2),
    "rows of zeros": (np.vstack([np.zeros((4, 9), "i2"), whole(2, 5, 9)]), 2),
    "zeros": (np.zeros((4, 5), "i8"), 1),
    "large": (whole(5, 12).astype("i8") * 12_345_678_901_237, 5),
}


@pytest.mark.parametrize(("k", "rank"), MODULAR.values(), ids=MODULAR)
def test_integer_factors_are_exact_modulo_2_64(k, rank):
    acc = "uint64" if k.dtype.kind == "u" else "int64"
    factors = rank_search.separate(k[None], k.dtype.name, acc)
    product = np.einsum("ntp,ntq->npq", factors.u.view("u8"), factors.v.view("u8"))
    np.testing.assert_array_equal(product[0], k.astype(acc).view("u8"))
    assert factors.rank == rank
    assert factors.u.dtype == factors.v.dtype == acc


def test_random_integers_have_exact_factors():
    rng = np.random.default_rng(1)
    for _ in range(300):
        p, q = rng.integers(2, 12, 2)
        rank, most = int(rng.integers(1, 5)), int(rng.choice([2, 30, 1 << 20, 1 << 62]))
        u, v = rng.integers(-most, most, (p, rank)), rng.integers(-most, most, (rank, q))
        k = u @ v  # modulo 2**64
        factors = rank_search.separate(k[None], "int64", "int64")
        np.testing.assert_array_equal(factors.u[0].T @ factors.v[0], k)
        assert factors.rank <= max(1, rank)


def test_factors_of_small_integers_are_small():
    # So that their sums may be taken in floats, which is faster.
    for name in ("rank 1", "rank 2", "rank 3"):
        factors = rank_search.separate(LOW[name][0][None], "int16", "int64")
        assert max(np.abs(factors.u).max(), np.abs(factors.v).max()) < 1 << 20


# --- who asks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("compiled", [False, True])
def test_what_little_work_finds_does_not_stay(compiled):
    k = gauss(15).astype("f4")
    problem = asked(k, 2000)
    kernel = Weights(problem, k)
    for _ in range(3):
        least = kernel.least_operations(compiled)
        assert kernel.search(3, least - 1, compiled).remark == operations.TOO_LONG
        assert kernel.search(3, least, compiled).factors.rank == 1
    # Not even where the factors are known: results do not depend on what was called before.
    for _ in range(2):
        assert chosen(problem, k).method == "separable"
        small = chosen(asked(k, 12), k)
        assert small.method != "separable"
        assert "would take too much of direct's time" in remark(small)


def test_where_no_weights_are_looked_at_the_choice_is_the_same_for_all(searches):
    k = gauss(15).astype("f4")
    assert chosen(asked(k, 12), k).weight_independent
    assert not chosen(asked(k, 2000), k).weight_independent
    assert not chosen(asked(k, 2000), PHOTO[:15, :15].astype("f4")).weight_independent
    assert chosen(asked(k[:3, :3], 2000), k[:3, :3]).weight_independent
    assert len(searches) == 2


def test_a_call_that_looks_looks_once(searches):
    k = gauss(15).astype("f4")
    x = np.resize(PHOTO, (700, 700)).astype("f4")
    results = [gpuconv.corr2d(x, k) for _ in range(4)]
    assert len(searches) == 1
    for result in results:
        np.testing.assert_array_equal(result, gpuconv.corr2d(x, k, method="separable"))


@pytest.fixture
def same_prices(monkeypatch):
    """Prices that do not depend on the width of the processor's vectors."""
    monkeypatch.setattr(planning, "_far_tap", lambda: planning._FAR_TAP)
    prices.forget()
    yield
    prices.forget()


@pytest.mark.parametrize(
    ("k", "keywords", "text"),
    [
        # Too large for transforms to be exact.
        (
            PHOTO[:75, :75].astype("i8") << 40,
            dict(),
            "direct is cheaper, for the kernel's rank is above 20",
        ),
        (PHOTO[:9, :5], dict(stride=(4, 1)), "the kernel has full rank 5"),
        (PHOTO[:15, :15].astype("f4"), dict(side=20), "would take too much of direct's time"),
        (RNG.standard_normal((15, 15)).astype("f4"), dict(), "would cancel each other"),
        (np.full((15, 15), np.nan, "f4"), dict(), "the weights are not finite"),
        (gauss(3).astype("f4"), dict(), "direct is cheaper even for a kernel of rank 1"),
        (np.ones((1, 9), "f4"), dict(), "a single row or column of taps is as cheap direct"),
    ],
)
def test_plan_says_why_it_is_not_separable(same_prices, k, keywords, text):
    side = keywords.pop("side", 1000)
    plan = gpuconv.plan(
        (side, side), k.shape, x_dtype=k.dtype, kernel=k, mode="same", backend="cpu", **keywords
    )
    assert plan.method != "separable"
    assert text in str(plan)


def test_plan_of_a_method_asked_for():
    k = gauss(15).astype("f4")
    plan = gpuconv.plan((40, 40), k.shape, kernel=k, method="separable", backend="cpu")
    assert (plan.method, np.isfinite(plan.seconds)) == ("separable", True)
    plan = gpuconv.plan((2000, 2000), k.shape, kernel=k, method="direct", backend="cpu")
    assert plan.method == "direct"
    assert np.isfinite({name: seconds for name, seconds, _ in plan.choice.rows}["separable"])


def test_parts_of_a_bank_keep_its_factors(searches):
    k = np.stack([gauss(15, s) for s in (0.1, 0.2, 0.3)]).astype("f4")
    problem = make_problem((3, 700, 700), k.shape, "float32", "float32")
    part = make_problem((700, 700), k.shape[1:], "float32", "float32")
    kernel = Weights(problem, k)
    choose(problem, "cpu", "auto", "cpu", kernel)
    found = kernel.part(part, (1,)).factors()
    np.testing.assert_array_equal(found.u, kernel.factors().u[1:2])
    np.testing.assert_array_equal(found.v, kernel.factors().v[1:2])
    alone = Weights(problem, k).part(part, (2,)).factors()  # before anything is known of them
    np.testing.assert_array_equal(alone.u, kernel.factors().u[2:])


@pytest.mark.parametrize("dtype", ["int32", "float32", "float64", "complex128"])
def test_factors_that_miss_some_of_the_kernel_are_refused(dtype):
    """Or within what separable sums promise."""
    rng = np.random.default_rng(0)
    for size, rank in ((106, 105), (60, 58), (40, 39), (24, 20), (12, 9)):
        k = (rng.integers(-3, 4, (size, rank)) @ rng.integers(-3, 4, (rank, size))).astype(dtype)
        x = rng.standard_normal((size, size + 3))
        problem = make_problem(x.shape, k.shape, "float64", dtype, conjugate=True)
        if separable.refuse(problem, None, Weights(problem, k)):
            with pytest.raises(ValueError, match="near to full rank"):
                gpuconv.corr2d(x, k, method="separable")
            continue
        y = gpuconv.corr2d(x, k, method="separable")
        factors = Weights(problem, k).factors()
        reach = np.abs(factors.u[0]).T @ np.abs(factors.v[0])
        bound = (size * size + 8) * np.finfo("f8").eps * gpuconv.corr2d(np.abs(x), reach)
        assert (np.abs(y - gpuconv.corr2d(x, k, method="direct")) <= 2 * bound).all()
