"""What must work, and what must be said, where packages are missing; run by test_optional_packages.

`python without_packages.py base NAME...` hides the packages one after the other, `numba` hides
Numba, and `torch` hides ml_dtypes and TBB and computes with tensors.
"""

import contextlib
import importlib.abc
import io
import sys
from pathlib import Path

import numpy as np

# What the error must tell to install where a package is asked for by name.
TOLD = {
    "cupy": "gpuconv[cuda12]",
    "ml_dtypes": "pip install ml_dtypes",
    "safetensors": "gpuconv[safetensors]",
    "torch": "gpuconv[torch]",
    "tqdm": "gpuconv[cli]",
    "PIL": "gpuconv[cli]",
    "tifffile": "gpuconv[cli]",
    "zarr": "gpuconv[cli]",
}


class Hidden(importlib.abc.MetaPathFinder):
    def __init__(self, *names):
        self.names = names

    def find_spec(self, name, path=None, target=None):
        if any(name == hidden or name.startswith(hidden + ".") for hidden in self.names):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None


def forget(*packages):
    """Have packages imported anew."""
    for name in list(sys.modules):
        if name.partition(".")[0] in packages:
            del sys.modules[name]


def battery(gpuconv):
    """Calls of every part that the base install must have."""
    x = np.arange(30, dtype=np.float32).reshape(5, 6)
    y = gpuconv.corr2d(x, gpuconv.filters.sobel(0), mode="same", boundary="reflect")
    assert np.array_equal(
        y, gpuconv.corr2d(x, gpuconv.filters.sobel(0), mode="same", boundary="reflect",
                          backend="reference"),
    )  # fmt: skip
    assert gpuconv.plan((64, 64), (15, 15)).backend == "cpu"
    np.testing.assert_allclose(
        gpuconv.corr2d(x, np.ones((3, 3), "f4"), method="fft"),
        gpuconv.convolve2d(x, np.ones((3, 3), "f4"), method="direct"), rtol=1e-4,
    )  # fmt: skip
    dx, dk = gpuconv.corr2d_vjp(x, np.ones((2, 2), "f4"), np.ones((4, 5), "f4"))
    assert (dx[1, 1], dk[0, 0]) == (4, x[:4, :5].sum())
    assert gpuconv.learn_kernel(x / 30, x[:, 1:] / 30, (1, 2), steps=2, rng=0).steps == 2
    for groups in (1, 4):  # many channels, and few
        layer = gpuconv.nn.Conv2D(8, 3, groups=groups, padding="same", rng=0)
        y = layer(np.ones((2, 4, 8, 8), "f4"))
        assert layer.backward(y).shape == (2, 4, 8, 8)
    with contextlib.redirect_stdout(io.StringIO()) as said:
        from gpuconv.cli import main

        assert main(["info"]) == 0
        assert main(["plan", "64x64", "3x3"]) == 0
        gpuconv.show_config()
    assert "runs: method 'direct'" in said.getvalue()


def ask_for(name, gpuconv):
    """Ask for what needs a package; return what is said."""
    x, k = np.ones((5, 6), "f4"), np.ones((2, 2), "f4")
    with contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            if name == "cupy":
                gpuconv.corr2d(x, k, backend="cuda")
            elif name == "ml_dtypes":
                gpuconv.corr2d(x, k, dtype="bfloat16")
            elif name == "safetensors":
                gpuconv.nn.Conv2D(1, 1, in_channels=1).save("layer.safetensors")
            elif name == "torch":
                import gpuconv.adapters.torch
            elif name == "tqdm":
                gpuconv.learn_kernel(x, x, 1, steps=1, progress=True)
            else:
                from gpuconv.cli import main

                suffix = {"PIL": "png", "tifffile": "tif", "zarr": "zarr"}[name]
                np.save("image.npy", x)
                code = main(["filter", "image.npy", f"new.{suffix}", "--filter", "sobel-x"])
                assert code != 0, f"written without {name}"
        except (ImportError, TypeError, RuntimeError) as error:
            return str(error)
    return said.getvalue()


def without_each(names):
    for name in names:
        forget("gpuconv", name)
        sys.meta_path.insert(0, Hidden(name))
        import gpuconv

        try:
            battery(gpuconv)
            if name in TOLD:
                said = ask_for(name, gpuconv)
                assert TOLD[name] in said, f"without {name} it says: {said!r}"
        except BaseException as error:
            error.add_note(f"without {name}")
            raise
        sys.meta_path.pop(0)


def without_numba():
    sys.meta_path.insert(0, Hidden("numba"))
    import gpuconv

    x, k = np.arange(30.0).reshape(5, 6), np.ones((2, 2))
    assert gpuconv.corr2d(x, k, backend="reference")[0, 0] == 14
    dx, _ = gpuconv.corr2d_vjp(x, k, np.ones((4, 5)), backend="reference")
    assert dx[1, 1] == 4
    assert "pip install numba" in gpuconv.backends()["cpu"]
    for call in (
        lambda: gpuconv.corr2d(x, k),
        lambda: gpuconv.plan((5, 6), (2, 2)),
        lambda: gpuconv.check("cpu"),
        lambda: gpuconv.corr2d_vjp(x, k, np.ones((4, 5))),
        lambda: gpuconv.nn.conv2d(x[None, None], k[None, None]),
    ):
        try:
            call()
        except gpuconv.BackendUnavailable as error:
            assert "pip install numba" in str(error)  # noqa: PT017
        else:
            raise AssertionError("computed without Numba")
    on_a_gpu(gpuconv, x, k)


def on_a_gpu(gpuconv, x, k):
    """What a GPU, in emulation, computes where there is no Numba."""
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from tests.emulator.backend import emulated
    from tests.emulator.device_arrays import DeviceArraysLauncher, installed

    dy, expected = np.ones((4, 5)), gpuconv.corr2d(x, k, backend="reference")
    gradients = gpuconv.corr2d_vjp(x, k, dy, backend="reference")
    with emulated():  # of arrays of the host
        assert gpuconv.backends()["cuda"] is None
        for method in ("auto", "direct", "separable", "fft"):
            planned = gpuconv.plan((5, 6), (2, 2), x_dtype="f8", method=method, backend="cuda")
            assert planned.backend == "cuda" and "cuda" in str(planned)
            np.testing.assert_allclose(planned(x, k), expected)
            known = gpuconv.plan((5, 6), (2, 2), x_dtype="f8", kernel=k, backend="cuda")
            np.testing.assert_allclose(known(x, k, out=np.empty((4, 5))), expected)
            found = gpuconv.corr2d(x, k, method=method, backend="cuda")
            np.testing.assert_allclose(found, expected)
    with installed() as cupy, emulated(DeviceArraysLauncher(cupy)):
        on_device = [cupy.asarray(a) for a in (x, k, dy)]
        for kernel in (k, on_device[1]):
            for _ in range(2):  # and from the call cache
                y = gpuconv.corr2d(on_device[0], kernel)
                np.testing.assert_allclose(y.get(), expected)
        planned = gpuconv.plan((5, 6), (2, 2), x_dtype="f8", backend="cuda")
        np.testing.assert_allclose(planned(*on_device[:2]).get(), expected)
        for a, e in zip(gpuconv.corr2d_vjp(*on_device), gradients, strict=True):
            np.testing.assert_allclose(a.get(), e)
        images, weights = cupy.ones((2, 4, 5, 6)), cupy.ones((4, 4, 2, 2))
        assert float(gpuconv.nn.conv2d(images, weights).get().min()) == 16
        found = gpuconv.learn_kernel(on_device[0] * 0.01, on_device[0] * 0.01, 1, steps=2, rng=0)
        assert found.steps == 2


def tensors_in_bfloat16():
    """Everything that takes tensors, in torch's own bfloat16."""
    sys.meta_path.insert(0, Hidden("ml_dtypes", "tbb", "numba.np.ufunc.tbbpool"))
    import torch

    import gpuconv

    battery(gpuconv)
    assert "tbb" not in gpuconv.backends() and "ml_dtypes" not in sys.modules
    torch.manual_seed(0)
    half = torch.bfloat16

    def same(ours, wide, scale=1.0):
        assert ours.dtype == half
        np.testing.assert_allclose(
            ours.detach().float(), wide.detach().float(), rtol=2e-2, atol=2e-2 * scale
        )

    def gradients(call, *tensors):
        """Compare values, gradients and gradients of those with the same in float64."""
        found = []
        for dtype in (half, torch.float64):
            here = [t.to(half).to(dtype).requires_grad_() for t in tensors]
            y = call(*here)
            first = torch.autograd.grad(y.square().sum(), here, create_graph=True)
            second = torch.autograd.grad(sum(g.sum() for g in first), here)
            found.append((y, *first, *second))
        for ours, wide in zip(*found, strict=True):
            same(ours, wide, scale=float(wide.detach().abs().max()))

    x, k = torch.randn(2, 9, 8), torch.randn(3, 2)
    for options in (
        dict(), dict(mode="full", boundary="wrap"), dict(stride=2, dilation=(1, 2)),
        dict(mode="same", method="fft"), dict(mode="same", boundary="edge", stride=3),
    ):  # fmt: skip
        gradients(lambda x, k, o=options: gpuconv.corr2d(x, k, **o), x, k)
        gradients(lambda x, k, o=options: gpuconv.convolve2d(x, k, **o), x, k)
    a, b = x.to(half), k.to(half)
    same(gpuconv.corr2d(a, b, out=torch.empty(2, 7, 7, dtype=half)), gpuconv.corr2d(a, b))
    same(gpuconv.corr2d(a.float(), b.float(), dtype=half), gpuconv.corr2d(a, b))
    assert gpuconv.corr2d(a, b, dtype=torch.float32).dtype == torch.float32
    assert gpuconv.corr2d(a, k).dtype == torch.float32  # and of different dtypes
    assert gpuconv.corr2d((a * 9).to(torch.uint8), b).dtype == half
    assert gpuconv.corr2d(x.numpy(), b).dtype == np.float32
    dx, dk = gpuconv.corr2d_vjp(a, b, gpuconv.corr2d(a, b))
    assert (dx.dtype, dk.dtype) == (half, half)
    assert gpuconv.learn_kernel(a[0], a[0], 1, steps=1).kernel.dtype == torch.float32
    torch.testing.assert_close(
        torch.func.vmap(lambda x: gpuconv.corr2d(x, b))(a), gpuconv.corr2d(a, b)
    )
    layers = [
        # channels, weight, groups: one channel, several, grouped, depthwise, one output
        (1, (3, 1, 3, 3), 1), (4, (6, 4, 3, 3), 1), (4, (6, 2, 3, 2), 2), (4, (4, 1, 3, 3), 4),
        (4, (8, 1, 2, 2), 4), (3, (1, 3, 3, 3), 1), (4, (5, 4, 1, 1), 1),
    ]  # fmt: skip
    for channels, shape, groups in layers:
        images, weight = torch.randn(2, channels, 7, 8), torch.randn(shape)
        bias = torch.randn(shape[0])
        for options in (dict(), dict(padding=1, stride=2), dict(dilation=2, padding="same")):

            def call(x, w, b, groups=groups, options=options):
                return gpuconv.nn.conv2d(x, w, b, groups=groups, **options)

            gradients(call, images, weight, bias)
            y = call(images.to(half), weight.to(half), bias.to(half))
            options = {**options, "groups": groups}
            found = gpuconv.nn.conv2d_vjp(images.to(half), weight.to(half), y, **options)
            assert {g.dtype for g in found} == {half}


if __name__ == "__main__":
    what, *names = sys.argv[1:]
    if what == "base":
        without_each(names)
    elif what == "numba":
        without_numba()
    else:
        tensors_in_bfloat16()
