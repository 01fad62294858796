"""Modules for torch, and `nn.conv2d` of tensors: the same as torch's own."""

import copy
import doctest
import pickle

import numpy as np
import pytest

from gpuconv import nn

torch = pytest.importorskip("torch")
from torch.nn import functional  # noqa: E402

from gpuconv.adapters import torch_layers  # noqa: E402
from gpuconv.adapters.torch import Conv2d, LazyConv2d  # noqa: E402

PADDED = [
    (mode, padding)
    for mode in ("zeros", "reflect", "replicate", "circular")
    for padding in (2, (1, 0), "same", "valid")
]
LAYERS = [
    ((3, 8, 3), dict()),
    ((3, 8, (2, 3)), dict(stride=2, padding=1)),
    ((4, 6, 3), dict(groups=2, dilation=(1, 2), bias=False)),
    ((4, 8, 3), dict(groups=4, stride=(2, 1), dtype=torch.float64)),
    ((1, 1, (1, 2)), dict()),
    *(((3, 5, 3), dict(padding=padding, padding_mode=mode)) for mode, padding in PADDED),
]


def pair(arguments, keywords):
    """Our layer and torch's with the same parameters."""
    torch.manual_seed(1)
    ours = Conv2d(*arguments, **keywords)
    torch.manual_seed(1)
    theirs = torch.nn.Conv2d(*arguments, **keywords)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)  # the same start
    return ours, theirs


@pytest.mark.parametrize(("arguments", "keywords"), LAYERS, ids=str)
@pytest.mark.parametrize("lead", [(2,), ()], ids=["batch", "single"])
def test_layers_are_those_of_torch(arguments, keywords, lead):
    ours, theirs = pair(arguments, keywords)
    x = torch.randn(*lead, arguments[0], 9, 8, dtype=keywords.get("dtype"), requires_grad=True)
    found = []
    for layer in (ours, theirs):
        y = layer(x)
        layer.zero_grad()
        found.append((y, *torch.autograd.grad(y.square().sum(), [x, *layer.parameters()])))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    assert repr(ours) == repr(theirs)
    assert isinstance(ours, torch.nn.Conv2d)


def test_the_cell_of_the_chapter():
    """As it stands there, but for the layer's name."""
    X = torch.ones((6, 8))
    X[:, 2:6] = 0
    Y = X[:, :-1] - X[:, 1:]
    torch.manual_seed(0)
    conv2d = LazyConv2d(1, kernel_size=(1, 2), bias=False)
    X, Y, lr = X.reshape((1, 1, 6, 8)), Y.reshape((1, 1, 6, 7)), 3e-2
    losses = []
    for _ in range(10):
        Y_hat = conv2d(X)
        l = (Y_hat - Y) ** 2  # noqa: E741
        conv2d.zero_grad()
        l.sum().backward()
        conv2d.weight.data[:] -= lr * conv2d.weight.grad
        losses.append(l.sum().item())
    assert losses[-1] < 0.2 < losses[0]
    np.testing.assert_allclose(conv2d.weight.data.reshape(1, 2), [[1, -1]], atol=0.2)


def test_state_goes_both_ways():
    ours, theirs = Conv2d(4, 6, 3, groups=2), torch.nn.Conv2d(4, 6, 3, groups=2)
    x = torch.randn(1, 4, 7, 7)
    theirs.load_state_dict(ours.state_dict())
    torch.testing.assert_close(ours(x), theirs(x))
    ours.load_state_dict(torch.nn.Conv2d(4, 6, 3, groups=2).state_dict())
    assert list(ours.state_dict()) == ["weight", "bias"]
    for lazy in (LazyConv2d(6, 3, groups=2), torch.nn.LazyConv2d(6, 3, groups=2)):
        lazy.load_state_dict(ours.state_dict())
        torch.testing.assert_close(lazy(x), ours(x))
    with pytest.raises(RuntimeError, match="Missing key"):
        ours.load_state_dict(torch.nn.Conv2d(4, 6, 3, groups=2, bias=False).state_dict())
    array = nn.Conv2D(6, 3, groups=2)
    array.load_state_dict(ours.to(torch.bfloat16).state_dict())
    np.testing.assert_array_equal(array.weight, ours.weight.detach().float())
    ours.load_state_dict({k: torch.from_numpy(v) for k, v in array.state_dict().items()})


def test_lazy_layers():
    lazy = LazyConv2d(6, 3, padding="same", groups=2)
    assert isinstance(lazy.weight, torch.nn.parameter.UninitializedParameter)
    copies = [lazy, copy.deepcopy(lazy), pickle.loads(pickle.dumps(lazy))]
    for layer in copies:
        layer.to(torch.float64)
        assert layer(torch.randn(4, 5, 5, dtype=torch.float64)).shape == (6, 5, 5)
        assert type(layer) is Conv2d
        assert (layer.in_channels, layer.weight.shape) == (4, (6, 2, 3, 3))
    with pytest.raises(ValueError, match="in_channels must be divisible by groups"):
        LazyConv2d(6, 3, groups=2)(torch.randn(3, 5, 5))
    with pytest.raises(TypeError, match="LazyConv2d reads it off"):
        Conv2d(None, 6, 3)
    made = copy.deepcopy(copies[0])
    torch.testing.assert_close(made.weight, copies[0].weight)
    pickle.loads(pickle.dumps(made))


def test_a_subclass_with_a_weight_of_its_own():
    class Standardised(Conv2d):
        def forward(self, x):
            return self._conv_forward(x, self.weight - self.weight.mean(), self.bias)

    y = Standardised(1, 1, 3, bias=False)(torch.ones(1, 1, 5, 5))
    torch.testing.assert_close(y, torch.zeros(1, 1, 3, 3), atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast(dtype):
    x, w, b = torch.randn(2, 4, 9, 8), torch.randn(6, 4, 3, 3), torch.randn(6)
    for tensors in ((x, w, b), (x.to(dtype), w, b), (x.double(), w.double(), b.double())):
        with torch.autocast("cpu", dtype):
            ours, theirs = nn.conv2d(*tensors), functional.conv2d(*tensors)
        assert ours.dtype == theirs.dtype
        torch.testing.assert_close(ours, theirs, rtol=2e-2, atol=5e-2)
    layer = Conv2d(4, 6, 3)
    with torch.autocast("cpu", dtype):
        y = layer(x)
        compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")(x)
        with torch.autocast("cpu", enabled=False):
            assert layer(x).dtype == torch.float32
    assert (y.dtype, compiled.dtype) == (dtype, dtype)
    torch.testing.assert_close(y, compiled)
    y.float().sum().backward()
    assert layer.weight.grad.dtype == torch.float32
    # Nothing but layers: what corr2d is given decides its dtype.
    import gpuconv

    with torch.autocast("cpu", dtype):
        assert gpuconv.corr2d(x, w[0]).dtype == torch.float32


def formats():
    last = torch.channels_last
    x, w = torch.randn(2, 4, 9, 8), torch.randn(6, 4, 3, 3)
    one, depth = torch.randn(2, 1, 9, 8), torch.randn(4, 1, 3, 3)
    yield x, w, 1
    yield x.to(memory_format=last), w, 1
    yield x, w.to(memory_format=last), 1
    yield x.to(memory_format=last)[:, :, ::2, 1:], w, 1
    yield x.to(memory_format=last), depth, 4
    yield x, depth.to(memory_format=last), 4
    yield one, w[:, :1], 1
    yield one.to(memory_format=last), w[:, :1], 1
    yield one.expand(-1, 4, -1, -1), w, 1
    yield x.to(memory_format=last)[0], w, 1


@pytest.mark.parametrize("case", list(formats()), ids=range(10))
def test_memory_format_is_that_of_torch(case):
    x, w, groups = case
    ours = nn.conv2d(x, w, groups=groups, padding=1)
    theirs = functional.conv2d(x, w, groups=groups, padding=1)
    assert (ours.shape, ours.stride()) == (theirs.shape, theirs.stride())
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    x = x.clone().requires_grad_()
    nn.conv2d(x, w, groups=groups).sum().backward()
    for layout in (torch.contiguous_format, torch.channels_last)[: x.ndim - 2]:
        assert x.grad.is_contiguous(memory_format=layout) == x.is_contiguous(memory_format=layout)


def test_arguments_as_torch_has_them():
    x, w, b = torch.randn(4, 9, 8), torch.randn(6, 4, 3, 3), torch.randn(6)
    for keywords in (
        dict(stride=(2,)), dict(padding=(1,)), dict(dilation=[2]), dict(stride=[2, 1]),
    ):  # fmt: skip
        torch.testing.assert_close(
            nn.conv2d(input=x, weight=w, bias=b, **keywords),
            functional.conv2d(input=x, weight=w, bias=b, **keywords),
            rtol=1e-4, atol=1e-4,
        )  # fmt: skip
    with pytest.raises(TypeError, match="got both x and input"):
        nn.conv2d(x, w, input=x)
    with pytest.raises(TypeError, match="needs x"):
        nn.conv2d(weight=w)
    with pytest.raises(TypeError, match="needs weight"):
        nn.conv2d(x)


@pytest.mark.parametrize(("n", "groups"), [(2, 1), (2, 2), (0, 1)])
def test_no_channels(n, groups):
    found = []
    for call in (nn.conv2d, functional.conv2d):
        torch.manual_seed(0)
        tensors = [torch.randn(s, requires_grad=True) for s in ((n, 0, 5, 6), (4, 0, 3, 3), (4,))]
        y = call(*tensors, groups=groups)
        y.sum().backward()
        found.append((y, *(t.grad for t in tensors)))
    for ours, theirs in zip(*found, strict=True):
        assert ours.shape == theirs.shape
        torch.testing.assert_close(ours, theirs)
    meta = nn.conv2d(*(t.detach().to("meta") for t in tensors), groups=groups)
    assert meta.shape == y.shape
    arrays = [t.detach().numpy() for t in tensors]
    assert nn.conv2d(*arrays, groups=groups).shape == y.shape
    gradients = nn.conv2d_vjp(*arrays[:2], y.detach().numpy(), groups=groups)
    assert [g.shape for g in gradients] == [t.shape for t in tensors]
    assert not gradients[2].any()


def test_transforms():
    """`torch.func`, and forward mode, against torch's own conv2d."""
    for groups, shape in ((1, (3, 4, 2, 2)), (4, (4, 1, 2, 2))):
        torch.manual_seed(2)
        x, w = torch.randn(2, 4, 4, 5).double(), torch.randn(shape).double()
        v, u = torch.randn_like(x), torch.randn_like(w)

        def results(call, x=x, w=w, v=v, u=u, groups=groups):
            def f(x, w):
                return call(x, w, stride=(1, 2), padding=1, groups=groups)

            def loss(x, w):
                return f(x, w).square().sum()

            func = torch.func
            yield from func.grad(loss, argnums=(0, 1))(x, w)
            yield from func.jvp(f, (x, w), (v, u))
            y, back = func.vjp(f, x, w)
            yield from back(y)
            yield from func.jacrev(f, argnums=(0, 1))(x, w)
            yield from func.jacfwd(f, argnums=(0, 1))(x, w)
            yield from func.hessian(loss, argnums=1)(x, w)
            xs, ws = torch.stack([x, v, x]), torch.stack([w, u, u], 2)
            yield func.vmap(f, (0, None))(xs, w)
            yield func.vmap(f, (None, 2))(x, ws)
            yield func.vmap(f, (0, 2))(xs, ws)
            yield from func.vmap(func.grad(loss, argnums=(0, 1)), (0, None))(xs, w)
            yield from func.vmap(func.grad(loss, argnums=(0, 1)), (0, 2))(xs, ws)
            yield func.grad(lambda x: func.vmap(loss, (0, None))(x, w).sum())(xs)
            last = xs.transpose(0, 1).contiguous(memory_format=torch.channels_last_3d)
            yield func.vmap(f, (1, None))(last, w)

        for n, (a, b) in enumerate(
            zip(results(nn.conv2d), results(functional.conv2d), strict=True)
        ):
            torch.testing.assert_close(a, b, msg=lambda m, n=n: f"result {n}: {m}")


@pytest.mark.parametrize("groups", [1, 2])
def test_opcheck(groups):
    seen = []

    class Recorder(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if "gpuconv" in str(function):
                seen.append((function, args))
            return function(*args, **(kwargs or {}))

    tensors = torch.randn(2, 4, 6, 5), torch.randn(4, 4 // groups, 3, 2)
    with Recorder():
        x, w = (t.clone().requires_grad_() for t in tensors)
        nn.conv2d(x, w, stride=(2, 1), padding=1, groups=groups).sum().backward()
    assert len(seen) == 3
    for op, args in seen:
        torch.library.opcheck(
            op, [a.clone().requires_grad_() if isinstance(a, torch.Tensor) else a for a in args]
        )


def test_gradients_of_single_items():
    """Per-sample gradients and ensembles, as `torch.func` makes them of modules."""
    ours, theirs = pair((3, 4, 3), dict(padding=1))
    x = torch.randn(5, 3, 6, 6)
    found = []
    for layer in (ours, theirs):
        parameters = {name: value.detach() for name, value in layer.named_parameters()}

        def loss(parameters, x, layer=layer):
            return torch.func.functional_call(layer, parameters, (x,)).square().sum()

        found.append(torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, x))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)
    layers = [Conv2d(3, 4, 3) for _ in range(3)]
    stacked, _ = torch.func.stack_module_state(layers)
    call = lambda parameters, x: torch.func.functional_call(layers[0], parameters, (x,))  # noqa: E731
    y = torch.func.vmap(call, (0, None))(stacked, x)
    torch.testing.assert_close(y[2], layers[2](x))


def test_symbolic_trace():
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first = Conv2d(3, 4, 3, padding=1, padding_mode="reflect")
            self.weight = torch.nn.Parameter(torch.randn(2, 4, 3, 3))

        def forward(self, x):
            return nn.conv2d(self.first(x).relu(), self.weight, stride=(2,), padding="valid")

    net, x = Net(), torch.randn(1, 3, 8, 8)
    traced = torch.fx.symbolic_trace(net)
    torch.testing.assert_close(traced(x), net(x))
    assert sum(node.target is nn.conv2d for node in traced.graph.nodes) == 2
    traced(x).sum().backward()
    assert net.weight.grad is not None


def test_errors():
    x = torch.randn(2, 3, 8, 9)
    for w in (torch.randn(4, 3, 11, 3), torch.randn(4, 3, 3, 10)):
        text = f"weight of shape {tuple(w.shape)} with dilation .* larger than the padded image"
        for convert in (lambda t: t, lambda t: t.to("meta")):
            with pytest.raises(ValueError, match=text.replace("(", r"\(").replace(")", r"\)")):
                nn.conv2d(convert(x), convert(w))
        with pytest.raises(ValueError, match="larger than the padded image"):
            torch.compile(nn.conv2d, backend="aot_eager")(x, w)
    layer = nn.Conv2D(4, 3, rng=0)
    with pytest.raises(TypeError, match=r"use gpuconv\.adapters\.torch\.Conv2d"):
        layer(x)
    layer(x.numpy())
    with pytest.raises(TypeError, match=r"dy is a torch tensor.*adapters\.torch\.Conv2d"):
        layer.backward(torch.ones(2, 4, 6, 7))
    with pytest.raises(ValueError, match=r"\(N, C, h, w\) or \(C, h, w\), got 2 dimensions"):
        Conv2d(3, 4, 3)(x[0, 0])
    with pytest.raises(TypeError, match="x has dtype uint8; layers work on floats"):
        Conv2d(3, 4, 3)(x.byte())


def test_examples():
    assert doctest.testmod(torch_layers).failed == 0
