"""torch tensors: autograd to second order, opcheck, compile, vmap, and a module that trains."""

from functools import partial

import numpy as np
import pytest

import gpuconv

torch = pytest.importorskip("torch")
from torch.autograd import gradcheck, gradgradcheck  # noqa: E402

CASES = [
    dict(),
    dict(mode="same", boundary="reflect"),
    dict(mode="full", boundary="wrap", stride=2),
    dict(mode=((1, 2), (0, 3)), fillvalue=1.5, stride=(1, 2), dilation=(2, 1)),
    dict(mode="same", boundary="symmetric", dilation=2, stride=3),
    dict(mode=3, boundary="edge", method="fft"),
]


def tensors(x_shape, k_shape, dtype=torch.float64, k_dtype=None):
    torch.manual_seed(3)
    return (
        torch.randn(x_shape, dtype=dtype, requires_grad=True),
        torch.randn(k_shape, dtype=k_dtype or dtype, requires_grad=True),
    )


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("function", [gpuconv.corr2d, gpuconv.convolve2d])
def test_gradients_of_both_orders(function, case):
    x, k = tensors((2, 6, 7), (3, 2))
    assert gradcheck(lambda x, k: function(x, k, **case), (x, k), fast_mode=True)
    assert gradgradcheck(lambda x, k: function(x, k, **case), (x, k), fast_mode=True)


@pytest.mark.parametrize("k_dtype", [torch.complex128, torch.float64])
@pytest.mark.parametrize("dtype", [torch.complex128, torch.float64])
@pytest.mark.parametrize("function", [gpuconv.corr2d, gpuconv.convolve2d])
def test_complex_gradients(function, dtype, k_dtype):
    x, k = tensors((5, 6), (2, 3), dtype, k_dtype)
    call = lambda x, k: function(x, k, mode="same", boundary="wrap")  # noqa: E731
    assert gradcheck(call, (x, k))
    assert gradgradcheck(call, (x, k))


@pytest.mark.parametrize(("x_lead", "k_lead"), [((), (3,)), ((2, 1), (3,)), ((3,), (3,))])
def test_broadcast_gradients(x_lead, k_lead):
    x, k = tensors((*x_lead, 5, 4), (*k_lead, 2, 2))
    assert gradcheck(gpuconv.corr2d, (x, k))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_opcheck(case):
    seen = []

    class Recorder(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if "gpuconv" in str(func):
                seen.append((func, args))
            return func(*args, **(kwargs or {}))

    x, k = tensors((3, 7, 8), (2, 3))
    with Recorder():
        gpuconv.corr2d(x, k, **case).sum().backward()
    assert len(seen) == 3
    for op, args in seen:
        fresh = tuple(
            a.detach().clone().requires_grad_() if isinstance(a, torch.Tensor) else a for a in args
        )
        torch.library.opcheck(op, fresh)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_values_and_dtypes(dtype):
    x, k = tensors((9, 8), (3, 3), dtype)
    y = gpuconv.corr2d(x, k, mode="same")
    assert y.dtype == dtype
    y.sum().backward()
    assert (x.grad.dtype, k.grad.dtype) == (dtype, dtype)
    expected = torch.nn.functional.conv2d(
        x.detach().double()[None, None], k.detach().double()[None, None], padding=1
    )[0, 0]
    size = {torch.float16: 2e-3, torch.bfloat16: 2e-2}.get(dtype, 1e-5)
    np.testing.assert_allclose(y.detach().double(), expected, atol=5 * size, rtol=size)
    assert gpuconv.corr2d(x, k, dtype=torch.float64).dtype == torch.float64


class Layer(torch.nn.Module):
    def __init__(self, kernel_size):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.rand(kernel_size))
        self.bias = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return gpuconv.corr2d(x, self.weight) + self.bias


def train(layer, steps=60):
    x = torch.ones(6, 8)
    x[:, 2:6] = 0
    y = gpuconv.corr2d(x, torch.tensor([[1.0, -1.0]]))
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.01, momentum=0.5)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = ((layer(x) - y) ** 2).sum()
        loss.backward()
        optimizer.step()
    return loss.item()


def test_a_module_that_calls_corr2d_trains():
    torch.manual_seed(0)
    layer = Layer((1, 2))
    assert train(layer) < 1e-2
    np.testing.assert_allclose(layer.weight.detach(), [[1, -1]], atol=0.05)


@pytest.mark.parametrize("dynamic", [False, True])
def test_compile(dynamic):
    torch._dynamo.reset()

    def loss(x, k):
        return (gpuconv.corr2d(x, k, mode="same", boundary="edge") * 2).square().sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for size in (9, 12, 15):
        x, k = tensors((size, 8), (3, 3))
        ours = torch.autograd.grad(compiled(x, k), (x, k))
        for a, b in zip(ours, torch.autograd.grad(loss(x, k), (x, k)), strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("dims", [(0, None), (None, 0), (0, 0), (2, 1)])
def test_vmap(dims):
    x_shape, k_shape = [2, 6, 7], [2, 3]
    for shape, dim in ((x_shape, dims[0]), (k_shape, dims[1])):
        if dim is not None:
            shape.insert(dim, 4)
    x, k = tensors(x_shape, k_shape)

    def at(t, dim, n):
        return t if dim is None else t.select(dim, n)

    def call(x, k):
        return gpuconv.corr2d(x, k, mode="same")

    actual = torch.func.vmap(call, dims)(x, k)
    expected = torch.stack([call(at(x, dims[0], n), at(k, dims[1], n)) for n in range(4)])
    torch.testing.assert_close(actual, expected)

    x.grad = k.grad = None
    for a, b in zip(
        torch.autograd.grad(actual.square().sum(), (x, k)),
        torch.autograd.grad(expected.square().sum(), (x, k)),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("function", [gpuconv.corr2d, gpuconv.convolve2d])
@pytest.mark.parametrize("case", CASES[:5], ids=str)
def test_forward_mode(function, case):
    x, k = tensors((2, 6, 7), (3, 2))
    call = lambda x, k: function(x, k, **case)  # noqa: E731
    assert gradcheck(call, (x, k), check_forward_ad=True, check_backward_ad=False, fast_mode=True)
    # Forward over reverse.
    assert gradgradcheck(
        call, (x, k), check_fwd_over_rev=True, check_rev_over_rev=False,
        check_undefined_grad=False, fast_mode=True,
    )  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.complex128, torch.float64])
def test_complex_forward_mode(dtype):
    x, k = tensors((5, 6), (2, 3), dtype, torch.complex128)
    call = lambda x, k: gpuconv.corr2d(x, k, mode="same", boundary="wrap")  # noqa: E731
    assert gradcheck(call, (x, k), check_forward_ad=True, check_backward_ad=False)


func = torch.func
G = torch.rand(2, 5, 6, generator=torch.Generator().manual_seed(8), dtype=torch.float64)


def square(call):
    return lambda x: call(x).square().sum()


def tangent(call, x):
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, G)
        return torch.autograd.forward_ad.unpack_dual(call(dual)).tangent


# Transforms of `torch.func`, alone and in one another.
TRANSFORMS = {
    "grad": lambda call, x: func.grad(square(call))(x),
    "jvp": lambda call, x: func.jvp(call, (x,), (G,))[1],
    "vmap": lambda call, x: func.vmap(call)(x),
    "vmap of grad": lambda call, x: func.vmap(func.grad(square(call)))(x),
    "grad of vmap": lambda call, x: func.grad(square(func.vmap(call)))(x),
    "dual": tangent,
    "vjp, used afterwards": lambda call, x: func.vjp(call, x)[1](call(G))[0],
    "linearize": lambda call, x: func.linearize(call, x)[1](G),
    "jacrev": lambda call, x: func.jacrev(call)(x),
    "jacfwd": lambda call, x: func.jacfwd(call)(x),
    "hessian": lambda call, x: func.hessian(square(call))(x),
    "jacfwd of jacfwd": lambda call, x: func.jacfwd(func.jacfwd(square(call)))(x),
}
K = torch.tensor([[0.5, -1.0, 2.0], [1.5, 3.0, -0.25]], dtype=torch.float64)


def ours(x, k=K):
    return gpuconv.corr2d(x, k, mode=1)


def theirs(x, k=K):
    y = torch.nn.functional.conv2d(x.reshape(-1, 1, *x.shape[-2:]), k[None, None], padding=1)
    return y.reshape(*x.shape[:-2], *y.shape[-2:])


@pytest.mark.parametrize("name", TRANSFORMS)
def test_function_transforms(name):
    transform, x = TRANSFORMS[name], G.flip(0) - 0.5
    torch.testing.assert_close(transform(ours, x), transform(theirs, x))
    if name in ("grad", "jacrev", "jacfwd", "hessian", "jacfwd of jacfwd"):  # in the kernel, too
        torch.testing.assert_close(*(transform(partial(call, G), K) for call in (ours, theirs)))


@pytest.mark.parametrize("name", ["grad", "jvp", "vmap of grad", "grad of vmap", "dual"])
def test_compiled_function_transforms(name):
    """Inside transforms the compiler leaves gpuconv's part as it is, or must say that it cannot."""
    torch._dynamo.reset()
    transform, x = partial(TRANSFORMS[name], ours), G.flip(0) - 0.5
    compiled = torch.compile(transform, backend="aot_eager")
    torch.testing.assert_close(compiled(x), transform(x))
    torch._dynamo.reset()
    whole = torch.compile(transform, fullgraph=True, backend="aot_eager")
    with pytest.raises(Exception, match="cannot take gpuconv's operators inside transforms"):
        whole(x)


def test_what_is_no_part_of_a_graph_refuses_tangents_too():
    x, k = (t.detach() for t in tensors((5, 6), (2, 2)))
    out = torch.empty(4, 5, dtype=torch.float64)
    text = "takes part in a transform of torch.func or in forward-mode AD, but this call cannot"
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, x)
        for call in (
            lambda: gpuconv.corr2d(dual, k, out=out),
            lambda: gpuconv.corr2d_vjp(dual, k, out),
            lambda: gpuconv.corr2d(x.numpy(), dual[:2, :2]),
            lambda: gpuconv.learn_kernel(dual, x, 1, steps=1),
        ):
            with pytest.raises(NotImplementedError, match=text):
                call()
        gpuconv.corr2d(x, k, out=out)
        with pytest.raises(TypeError, match="dtype=uint8 has no gradient"):
            gpuconv.corr2d(dual, k, dtype="uint8")
    for transform in (torch.func.vmap, torch.func.jacrev, torch.func.jacfwd):
        with pytest.raises(NotImplementedError, match=text):
            transform(lambda k: gpuconv.corr2d(x, k, out=out))(k[None])
    with pytest.raises(TypeError, match="dtype=uint8 has no gradient"):
        torch.func.grad(lambda x: gpuconv.corr2d(x, k, dtype="uint8").sum())(x)


@pytest.mark.parametrize("function", [gpuconv.corr2d, gpuconv.convolve2d])
def test_compile_with_kernels_that_are_no_tensors(function):
    torch._dynamo.reset()
    x = torch.rand(6, 7)
    for kernel in (gpuconv.filters.sobel(0), [[1, 2], [3, 4]]):

        def call(x, kernel=kernel):
            return function(x, kernel, mode="same")

        compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
        assert compiled(x).dtype == call(x).dtype
        torch.testing.assert_close(compiled(x), call(x))


def test_symbolic_trace():
    x = torch.rand(6, 7)

    def net(x):
        y = gpuconv.corr2d(x, np.ones((2, 3)), mode="same", dtype=np.float32)
        return gpuconv.convolve2d(y, y[:2, :2], stride=(1, 2), boundary="edge")

    traced = torch.fx.symbolic_trace(net)
    torch.testing.assert_close(traced(x), net(x))
    calls = [node for node in traced.graph.nodes if node.op == "call_function"]
    assert calls[0].target is gpuconv.corr2d
    assert calls[0].kwargs == {"mode": "same", "dtype": "float32"}


@pytest.mark.parametrize("function", [gpuconv.corr2d, gpuconv.convolve2d])
def test_shapes_are_checked_where_nothing_is_computed(function):
    cases = [
        ((5, 6), (7, 2), dict(), r"K of shape \(7, 2\) is larger than the padded image \(5, 6\)"),
        ((5, 6), (2, 3), dict(dilation=6), r"dilated to \(7, 13\)\) is larger than the padded"),
        ((2, 5, 6), (3, 2, 2), dict(), "leading dimensions of X .* do not broadcast"),
        ((5, 0), (1, 3), dict(), r"larger than the padded image \(5, 0\)"),
        ((5, 6), (3,), dict(), "K must have at least 2 dimensions"),
        ((5, 6), (2, 2), dict(mode="smae"), "unknown mode 'smae'"),
        ((5, 6), (2, 2), dict(boundary="egde"), "unknown boundary 'egde'"),
    ]
    for n, (x_shape, k_shape, options, text) in enumerate(cases):
        call, x, k = partial(function, **options), torch.rand(x_shape), torch.rand(k_shape)
        for a, b in ((x, k), (x.to("meta"), k.to("meta")), (x.numpy(), k.numpy())):
            with pytest.raises(ValueError, match=text):
                call(a, b)
        if n < 3:
            with pytest.raises(ValueError, match=text):
                torch.compile(call, backend="aot_eager")(x, k)


def test_only_the_kernel_requires_grad():
    x = torch.randint(0, 255, (8, 8), dtype=torch.uint8)
    k = torch.rand(3, 3, requires_grad=True)
    gpuconv.corr2d(x, k).sum().backward()
    expected = gpuconv.corr2d(x.float(), torch.ones(6, 6))
    torch.testing.assert_close(k.grad, expected)


def test_kernels_that_are_not_tensors():
    x = torch.rand(5, 6, requires_grad=True)
    y = gpuconv.corr2d(x, [[1.0, -1.0]])
    assert isinstance(y, torch.Tensor)
    kernel = np.array([[1.0, -1.0]])
    kernel.flags.writeable = False
    for same in (kernel, kernel[:, ::-1][:, ::-1], kernel.astype(">f8"), -kernel[:, ::-1]):
        torch.testing.assert_close(gpuconv.corr2d(x, same), y)
    y.sum().backward()
    assert x.grad[0, 0] == 1
    assert x.grad[0, 1] == 0


def test_errors():
    x, k = tensors((5, 6), (2, 2))
    with pytest.raises(NotImplementedError, match="K requires grad, but this call is not part"):
        gpuconv.corr2d(x, k, out=torch.empty(4, 5, dtype=torch.float64))
    with pytest.raises(TypeError, match="dtype=uint8 has no gradient"):
        gpuconv.corr2d(x, k, dtype="uint8")
    with torch.no_grad():
        assert gpuconv.corr2d(x, k, dtype="uint8").dtype == torch.uint8
    with pytest.raises(NotImplementedError, match="K requires grad"):
        gpuconv.corr2d(np.ones((5, 5)), k)
    with pytest.raises(ValueError, match=r"larger than the padded image"):
        gpuconv.corr2d(k, x)
    with pytest.raises(ValueError, match="unknown mode 'smae'"):
        gpuconv.corr2d(x, k, mode="smae")
    with pytest.raises(ValueError, match="at least 2 dimensions"):
        gpuconv.corr2d(x[0], k)


def test_axes():
    photo = torch.rand(20, 30, 3, dtype=torch.float64, requires_grad=True)
    k = torch.rand(3, 2, dtype=torch.float64, requires_grad=True)
    y = gpuconv.corr2d(photo, k, axes=(0, 1), mode="same")
    planes = gpuconv.corr2d(photo.detach().movedim((0, 1), (-2, -1)), k.detach(), mode="same")
    assert torch.equal(y, planes.movedim((-2, -1), (0, 1)))
    assert gradcheck(lambda a, b: gpuconv.corr2d(a, b, axes=(0, 1)), (photo[:5, :4], k))
