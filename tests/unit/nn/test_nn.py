"""Convolution layers: against the definition, torch, and their own promises."""

import numpy as np
import pytest

import gpuconv
from gpuconv import nn
from gpuconv.backends.cpu import layers as cpu_layers
from gpuconv.nn.geometry import check_shapes, layer_geometry

from ...cases import LAYERS as CASES

RNG = np.random.default_rng(31)


def arrays_of(case, dtype="float64"):
    x, w = (RNG.standard_normal(shape).astype(dtype) for shape in case[:2])
    return x, w, dict(zip(("stride", "padding", "dilation", "groups"), case[2:], strict=True))


def definition(x, w, g):
    n, o, r, s = check_shapes(x.shape, w.shape, g)
    padded = np.pad(x, ((0, 0), (0, 0), *g.pad))
    y = np.zeros((n, o, r, s), x.dtype)
    cg, og = w.shape[1], o // g.groups
    for k in range(o):
        first = k // og * cg
        for i in range(r):
            for j in range(s):
                top, left = i * g.stride[0], j * g.stride[1]
                rows = slice(top, top + (w.shape[2] - 1) * g.dilation[0] + 1, g.dilation[0])
                columns = slice(left, left + (w.shape[3] - 1) * g.dilation[1] + 1, g.dilation[1])
                window = padded[:, first : first + cg, rows, columns]
                y[:, k, i, j] = (window * w[k]).sum(axis=(1, 2, 3))
    return y


@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward_is_the_definition(case):
    x, w, keywords = arrays_of(case)
    b = RNG.standard_normal(w.shape[0])
    expected = definition(x, w, layer_geometry(**keywords, taps=w.shape[2:])) + b[:, None, None]
    y = nn.conv2d(x, w, b, **keywords)
    np.testing.assert_allclose(y, expected, atol=1e-12)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_backward_by_the_dot_test(case):
    x, w, keywords = arrays_of(case)
    dy = RNG.standard_normal(nn.conv2d(x, w, **keywords).shape)
    dx, dw, db = nn.conv2d_vjp(x, w, dy, **keywords)
    v, u = RNG.standard_normal(x.shape), RNG.standard_normal(w.shape)
    assert (nn.conv2d(v, w, **keywords) * dy).sum() == pytest.approx((v * dx).sum(), abs=1e-9)
    assert (nn.conv2d(x, u, **keywords) * dy).sum() == pytest.approx((u * dw).sum(), abs=1e-9)
    np.testing.assert_allclose(db, dy.sum((0, 2, 3)), atol=1e-12)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("case", [CASES[4], CASES[6]], ids=str)
def test_dtypes(case, dtype):
    import ml_dtypes

    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    x, w, keywords = arrays_of(case)
    x, w = x.astype(kind), w.astype(kind)
    y = nn.conv2d(x, w, **keywords)
    expected = nn.conv2d(x.astype("f8"), w.astype("f8"), **keywords)
    tolerance = {"float16": 2e-3, "bfloat16": 2e-2}.get(dtype, 2e-6)
    assert y.dtype == kind
    np.testing.assert_allclose(y.astype("f8"), expected, rtol=tolerance, atol=tolerance * 10)
    for gradient, like in zip(nn.conv2d_vjp(x, w, y, **keywords), (x, w), strict=False):
        assert (gradient.dtype, gradient.shape) == (kind, like.shape)


def test_blocks_of_rows(monkeypatch):
    x, w, keywords = arrays_of(CASES[4])
    whole = nn.conv2d(x, w, **keywords)
    dy = RNG.standard_normal(whole.shape)
    gradients = nn.conv2d_vjp(x, w, dy, **keywords)
    monkeypatch.setattr(cpu_layers, "_BLOCK_ELEMENTS", 300)
    np.testing.assert_allclose(nn.conv2d(x, w, **keywords), whole, atol=1e-12)
    for a, b in zip(nn.conv2d_vjp(x, w, dy, **keywords), gradients, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


def test_workspace_is_bounded():
    import tracemalloc

    x, w = np.ones((4, 64, 200, 200), "f4"), np.ones((64, 64, 3, 3), "f4")
    nn.conv2d(x[:1, :, :20, :20], w, padding=1)
    tracemalloc.start()
    y = nn.conv2d(x, w, padding=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < y.nbytes + 64 * 202 * 202 * 4 + (12 << 20)  # im2col of all would be 369 MB


@pytest.mark.parametrize("case", CASES[:-1], ids=str)
def test_against_torch(case):
    torch = pytest.importorskip("torch")
    x, w, keywords = arrays_of(case)
    if isinstance(keywords["padding"], tuple) and isinstance(keywords["padding"][0], tuple):
        keywords["padding"] = 2
    b = RNG.standard_normal(w.shape[0])
    ours = [torch.from_numpy(a.copy()).requires_grad_() for a in (x, w, b)]
    theirs = [torch.from_numpy(a.copy()).requires_grad_() for a in (x, w, b)]
    y, expected = nn.conv2d(*ours, **keywords), torch.nn.functional.conv2d(*theirs, **keywords)
    torch.testing.assert_close(y, expected)
    dy = torch.randn_like(y)
    y.backward(dy)
    expected.backward(dy)
    for a, e in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, e.grad)


@pytest.mark.parametrize("case", [CASES[3], CASES[5], CASES[7]], ids=str)
def test_torch_gradients_of_both_orders(case):
    torch = pytest.importorskip("torch")
    x, w, keywords = arrays_of(case)
    x, w = (torch.from_numpy(a).requires_grad_() for a in (x, w))
    call = lambda x, w: nn.conv2d(x, w, **keywords)  # noqa: E731
    assert torch.autograd.gradcheck(call, (x, w), fast_mode=True)
    assert torch.autograd.gradgradcheck(call, (x, w), fast_mode=True)
    torch.library.opcheck(
        torch.ops.gpuconv.conv2d.default,
        (x, w, [1, 1, 1, 1], "constant", [0.0, 0.0], [1, 1], [1, 1], keywords["groups"], "auto",
         None, "auto", None),
    )  # fmt: skip
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, w), call(x, w))
    mapped = torch.func.vmap(call)(torch.stack([x, x + 1]), torch.stack([w, -w]))
    torch.testing.assert_close(mapped[1], call(x + 1, -w))


@pytest.mark.parametrize("case", [CASES[3], CASES[6]], ids=str)
def test_single_images(case):
    x, w, keywords = arrays_of(case)
    b = RNG.standard_normal(w.shape[0])
    y = nn.conv2d(x[:1], w, b, **keywords)
    np.testing.assert_array_equal(nn.conv2d(x[0], w, b, **keywords), y[0])
    expected = nn.conv2d_vjp(x[:1], w, y, **keywords)
    dx, dw, db = nn.conv2d_vjp(x[0], w, y[0], **keywords)
    np.testing.assert_array_equal(dx, expected[0][0])
    np.testing.assert_array_equal(dw, expected[1])
    np.testing.assert_array_equal(db, expected[2])
    layer = nn.Conv2D(w.shape[0], w.shape[2:], dtype="float64", rng=0, **keywords)
    y = layer(x[0])
    assert layer.backward(y).shape == x[0].shape
    with pytest.raises(ValueError, match="dy has shape"):
        layer.backward(y[None])


def test_arguments_as_torch_has_them():
    x, w, _ = arrays_of(CASES[3])
    np.testing.assert_array_equal(
        nn.conv2d(input=x, weight=w, stride=(2,), padding=[1], dilation=(2,)),
        nn.conv2d(x, w, stride=2, padding=1, dilation=2),
    )
    for bad, text in (
        (dict(x=x, input=x), "both x and input"), (dict(), "needs x"), (dict(input=x), "needs w"),
    ):  # fmt: skip
        with pytest.raises(TypeError, match=text):
            nn.conv2d(**bad, **({} if bad.keys() == {"input"} else {"weight": w}))


def test_gradients_are_replaced_and_forgotten():
    x = RNG.standard_normal((1, 2, 5, 5))
    layer = nn.Conv2D(3, 3, dtype="float64", rng=0)
    assert layer.grad == {}
    layer.zero_grad()
    y = layer(x)
    layer.backward(y)
    first = layer.grad
    layer.backward(y)
    np.testing.assert_array_equal(layer.grad["weight"], first["weight"])
    layer.zero_grad()
    assert layer.grad == {}
    layer.backward(y)
    np.testing.assert_array_equal(layer.grad["bias"], first["bias"])


def test_layer_learns():
    x = RNG.standard_normal((4, 2, 8, 8))
    teacher = nn.Conv2D(3, 3, in_channels=2, dtype="float64", rng=1)
    layer = nn.Conv2D(3, 3, dtype="float64", rng=2)
    y = teacher(x)
    losses = []
    for _ in range(150):
        error = layer(x) - y
        losses.append((error**2).sum())
        layer.backward(2 * error)
        for name, value in layer.parameters().items():
            value -= 2e-3 * layer.grad[name]
    assert losses[-1] < 1e-3 * losses[0]


def test_layer_start_is_seeded_and_bounded():
    layers = [nn.Conv2D(16, 3, in_channels=4, rng=seed) for seed in (5, 5, 6)]
    np.testing.assert_array_equal(layers[0].weight, layers[1].weight)
    assert (layers[0].weight != layers[2].weight).any()
    limit = 1 / np.sqrt(4 * 9)
    for values in layers[0].parameters().values():
        assert np.abs(values).max() <= limit
        assert np.abs(values).max() > limit / 2


@pytest.mark.parametrize(
    "suffix", [".npz", pytest.param(".safetensors", marks=pytest.mark.needs("safetensors"))]
)
def test_save_and_load(tmp_path, suffix):
    layer = nn.Conv2D(4, (3, 2), in_channels=6, groups=2, rng=0)
    layer.save(tmp_path / f"layer{suffix}")
    assert [p.name for p in tmp_path.iterdir()] == [f"layer{suffix}"]
    other = nn.Conv2D(4, (3, 2), groups=2)
    other.load(tmp_path / f"layer{suffix}")
    for name, values in layer.parameters().items():
        np.testing.assert_array_equal(values, other.parameters()[name])


def test_errors(tmp_path):
    x, w = np.ones((1, 4, 5, 5)), np.ones((6, 4, 3, 3))
    with pytest.raises(ValueError, match=r"\(N, C, h, w\) or \(C, h, w\), got 2 dimensions"):
        nn.conv2d(x[0, 0], w)
    with pytest.raises(ValueError, match="weight must have shape"):
        nn.conv2d(x, w[0])
    with pytest.raises(
        ValueError, match=r"has 4 channels in 1 groups, 4 each, but weight .* for 3"
    ):
        nn.conv2d(x, w[:, :3])
    with pytest.raises(ValueError, match="groups=3 must divide the 4 input channels"):
        nn.conv2d(x, w, groups=3)
    with pytest.raises(ValueError, match="groups=3 must divide the 4 input channels"):
        nn.Conv2D(6, 3, groups=3, in_channels=4)
    with pytest.raises(ValueError, match=r"weight must not be empty, got shape \(0, 4, 3, 3\)"):
        nn.conv2d(x, w[:0])
    with pytest.raises(TypeError, match="dtype int32: layers work on floats"):
        nn.Conv2D(6, 3, dtype="int32")
    with pytest.raises(ValueError, match=r"x must have shape \(N, C, h, w\) or"):
        nn.Conv2D(6, 3)(x[0, 0])
    with pytest.raises(ValueError, match=r"bias must have shape \(6,\)"):
        nn.conv2d(x, w, np.ones(4))
    with pytest.raises(ValueError, match="larger than the padded image"):
        nn.conv2d(x, np.ones((1, 4, 9, 9)))
    with pytest.raises(ValueError, match="padding='same' needs stride 1"):
        nn.conv2d(x, w, stride=2, padding="same")
    with pytest.raises(ValueError, match=r"padding must be .* got 'smae'"):
        nn.conv2d(x, w, padding="smae")
    with pytest.raises(TypeError, match="x has dtype int64; layers work on floats"):
        nn.conv2d(x.astype(int), w)
    with pytest.raises(ValueError, match="dy has shape"):
        nn.conv2d_vjp(x, w, np.ones((1, 6, 3, 2)))
    layer = nn.Conv2D(6, 3, rng=0)
    with pytest.raises(RuntimeError, match=r"backward\(\) before forward\(\)"):
        layer.backward(np.ones((1, 6, 3, 3)))
    with pytest.raises(RuntimeError, match="no parameters yet"):
        layer.parameters()
    layer(x.astype("f4"))
    with pytest.raises(ValueError, match="dy has shape"):
        layer.backward(np.ones((1, 6, 9, 3), "f4"))
    with pytest.raises(ValueError, match="expected parameters"):
        layer.load_state_dict({"weight": layer.weight})
    with pytest.raises(ValueError, match="weight must have shape"):
        layer.load_state_dict({"weight": w[:, :2], "bias": np.ones(6)})
    with pytest.raises(ValueError, match=r"must end in \.npz"):
        layer.save(tmp_path / "layer.pt")
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="groups=4 must divide the 6 output channels"):
        nn.Conv2D(6, 3, groups=4)
    assert "in_channels=4" in repr(layer)
    assert isinstance(gpuconv.nn.Conv2D, type)
