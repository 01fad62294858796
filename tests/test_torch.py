"""torch tensors: autograd to second order, opcheck, compile, vmap, and a module that trains."""

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


def test_function_transforms_other_than_vmap_are_refused():
    x, k = (t.detach() for t in tensors((6, 7), (2, 3)))
    with pytest.raises(NotImplementedError, match=r"use torch\.autograd\.grad"):
        torch.func.grad(lambda x: gpuconv.corr2d(x, k).sum())(x)


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
