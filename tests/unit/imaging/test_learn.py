"""Learning a kernel as the chapter does."""

import numpy as np
import pytest

import gpuconv

X = np.ones((6, 8), np.float32)
X[:, 2:6] = 0
Y = gpuconv.corr2d(X, np.array([[1, -1]], np.float32))


def losses(start, momentum):
    found = [
        gpuconv.learn_kernel(X, Y, (1, 2), start=start, momentum=momentum, rng=seed)
        for seed in range(100)
    ]
    return np.array([f.losses[-1] for f in found]), [f.kernel for f in found]


@pytest.mark.parametrize("start", ["uniform", "normal", "small"])
def test_a_hundred_seeds(start):
    last, kernels = losses(start, 0.1)
    print(f"{start}: loss median {np.median(last):.2g}, largest {last.max():.2g}")
    assert last.max() < 0.2
    assert max(np.abs(k - [[1, -1]]).max() for k in kernels) < 0.1


def test_plain_descent_is_the_chapters():
    kernel = np.array([[0.3, 0.4]], np.float32)
    found = gpuconv.learn_kernel(X, Y, (1, 2), momentum=0, start=kernel)
    for loss in found.losses:
        error = gpuconv.corr2d(X, kernel) - Y
        assert loss == pytest.approx((error**2).sum(), rel=1e-4)
        gradient = [[2 * (error * X[:, b : b + 7]).sum() for b in (0, 1)]]
        kernel = kernel - 3e-2 * np.array(gradient, np.float32)
    small, _ = losses("small", 0)
    assert small.max() < 0.2


def test_callback_and_early_stop():
    seen = []
    found = gpuconv.learn_kernel(
        X, Y, (1, 2), steps=500, tolerance=1e-6, rng=1,
        callback=lambda step, loss, kernel: seen.append((step, loss, kernel.copy())),
    )  # fmt: skip
    assert found.stopped_early
    assert found.steps == len(seen) < 500
    assert [s[1] for s in seen] == found.losses[:-1]
    assert found.losses[-1] <= 1e-6


def test_a_large_kernel_and_a_border():
    x, k = np.random.default_rng(0).standard_normal((2, 40, 40)), gpuconv.filters.sobel()
    y = gpuconv.corr2d(x, k, mode="same", boundary="reflect")
    found = gpuconv.learn_kernel(
        x, y, 3, lr=1e-4, steps=200, momentum=0.5, mode="same", boundary="reflect", rng=0
    )
    np.testing.assert_allclose(found.kernel, k, atol=1e-3)


def test_divergence_is_said():
    with pytest.raises(
        gpuconv.Diverged, match=r"diverged; for this X it is stable below lr = 0\.033"
    ):
        gpuconv.learn_kernel(X, Y, (1, 2), lr=0.5, steps=200, momentum=0, rng=0)


def test_progress(capsys):
    gpuconv.learn_kernel(X, Y, (1, 2), progress=True)
    assert "10/10" in capsys.readouterr().err
    gpuconv.learn_kernel(X, Y, (1, 2), steps=1000)
    assert capsys.readouterr().err == ""


def test_torch_tensors():
    torch = pytest.importorskip("torch")
    found = gpuconv.learn_kernel(torch.from_numpy(X), torch.from_numpy(Y), (1, 2), rng=0)
    assert isinstance(found.kernel, torch.Tensor)


def test_errors():
    with pytest.raises(ValueError, match=r"Y has shape \(6, 7\), but .* has shape \(6, 6\)"):
        gpuconv.learn_kernel(X, Y, (1, 3))
    with pytest.raises(ValueError, match="X holds NaN or Inf"):
        gpuconv.learn_kernel(X * np.nan, Y, (1, 2))
    with pytest.raises(ValueError, match="lr must be a number"):
        gpuconv.learn_kernel(X, Y, (1, 2), lr=-1)
    with pytest.raises(ValueError, match="start must be"):
        gpuconv.learn_kernel(X, Y, (1, 2), start="zeros")
    with pytest.raises(ValueError, match=r"start must have shape \(1, 2\), got \(2, 1\)"):
        gpuconv.learn_kernel(X, Y, (1, 2), start=np.ones((2, 1)))
    with pytest.raises(TypeError, match="must be real"):
        gpuconv.learn_kernel(X * 1j, Y, (1, 2))
