"""Template matching against its formulas in float64, and what must not happen to it."""

import contextlib
import itertools
import tracemalloc
import warnings

import numpy as np
import pytest

import gpuconv
from gpuconv.core.boundary import BOUNDARIES
from gpuconv.imaging import compiled_blocks, faint_windows, template_arrays
from gpuconv.imaging.template_values import METHODS

from ...emulator import device_arrays
from ...emulator.backend import emulated
from ...marks import always

RNG = np.random.default_rng(11)
WITHIN = 1e-5
# numpy.pad's names are ours.
PAD = ((2, 3), (1, 4))


def define(x, t, method, mask=None, mode="valid", boundary="constant", fillvalue=0):
    """The formulas, window by window, with the mask of OpenCV's meaning."""
    x, t = np.asarray(x, np.longdouble), np.asarray(t, np.longdouble)
    if mode != "valid":
        fill = {"constant_values": fillvalue} if boundary == "constant" else {}
        x = np.pad(x, mode, boundary, **fill)
    m = np.ones(t.shape) if mask is None else mask
    if m.dtype.kind in "bui":
        m = m != 0
    m = m.astype(np.longdouble)
    windows = np.lib.stride_tricks.sliding_window_view(x, t.shape)

    def total(values):
        return values.sum(axis=(-2, -1), keepdims=True)

    if method == "zncc":
        windows = windows - total(m * windows) / total(m)
        t = t - total(m * t) / total(m)
    with np.errstate(all="ignore"):
        norm = np.sqrt(total((m * windows) ** 2) * total((m * t) ** 2))
        if method in ("zncc", "ncc"):
            found = np.where(norm == 0, 0, total(m * windows * m * t) / norm)
        else:
            found = total((m * (windows - t)) ** 2)
            if method == "sqdiff_normed":
                found = found / norm
    return found[..., 0, 0].astype(np.float64)


def check(x, t, method, found, mask=None, **padding):
    expected = define(x, t, method, mask, **padding)
    assert found.shape == expected.shape
    scale = 1.0
    if method == "sqdiff":
        scale = max(float(np.abs(expected).max()), 1e-300)
    np.testing.assert_allclose(found, expected, rtol=WITHIN, atol=WITHIN * scale)
    if method in ("zncc", "ncc"):
        assert np.abs(found).max() <= 1 + 2 * np.finfo(found.dtype).eps


def image(kind, shape=(70, 61)):
    noise = RNG.standard_normal(shape)
    return {
        "unit": lambda: RNG.random(shape).astype("f4"),
        "offset": lambda: (1e6 + noise).astype("f4"),
        "offset, float64": lambda: 1e12 + noise,
        "half": lambda: noise.astype("f2"),
        "uint8": lambda: RNG.integers(0, 256, shape).astype("u1"),
        "faint uint16": lambda: RNG.integers(60000, 60003, shape).astype("u2"),
        "int64": lambda: RNG.integers(-(10**7), 10**7, shape),
        "bool": lambda: RNG.random(shape) > 0.5,
        "step": lambda: (np.where(np.arange(shape[1]) < 30, 0, 1e6) + noise).astype("f4"),
        "dark and bright": lambda: (noise * np.where(np.arange(shape[1]) < 30, 1e-3, 1e3)).astype(
            "f4"
        ),
    }[kind]()


KINDS = ("unit", "offset", "offset, float64", "half", "uint8", "faint uint16", "int64", "bool",
         "step", "dark and bright")  # fmt: skip


FORMULAS = list(itertools.product((True, False), KINDS, METHODS))


# Of the short run: each kind once in compiled code, and one of each kind of sums without, by two of
# the methods; and a compiled one whose windows nearly cancel.
@pytest.mark.parametrize(
    ("compiled", "kind", "method"),
    always(
        FORMULAS,
        *(
            (compiled, kind, METHODS[(n + 2 * compiled) % 4])
            for compiled in (True, False)
            for n, kind in enumerate(KINDS)
            if compiled or kind in ("offset", "uint8", "int64", "dark and bright")
        ),
        (True, "step", "zncc"),
        rows=True,
    ),
)
def test_formulas(monkeypatch, kind, method, compiled):
    """In compiled code and without; a template from the image, and one of another brightness."""
    monkeypatch.setattr(template_arrays, "_COMPILED_LEAST", 0 if compiled else 1 << 62)
    x = image(kind, (50, 58))
    for p, q in ((3, 4), (17, 21)):
        t = x[20 : 20 + p, 31 : 31 + q]
        found = gpuconv.match_template(x, t, method=method)
        check(x, t, method, found)
        assert found.dtype == ("float32" if x.dtype.kind == "f" and x.itemsize < 8 else "float64")
        if method in ("zncc", "ncc"):
            assert found[20, 31] > 1 - WITHIN
        if method != "sqdiff":
            t = 0.3 * t.astype(found.dtype) + 7
            check(x, t, method, gpuconv.match_template(x, t, method=method))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("weights", ["bool", "uint8", "float32"])
@pytest.mark.parametrize("kind", ["offset", "uint8", "dark and bright"])
def test_masks(kind, method, weights):
    x = image(kind)
    t = x[20:31, 31:43]
    mask = RNG.random(t.shape) * (RNG.random(t.shape) > 0.4)
    mask = (mask > 0) * 7 if weights == "uint8" else mask
    mask = mask.astype(weights)
    check(x, t, method, gpuconv.match_template(x, t, mask=mask, method=method), mask)


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("kind", ["unit", "uint8"])
def test_padding(kind, boundary):
    x = image(kind)
    t = x[20:25, 31:38]
    fill = 9 if boundary == "constant" else 0
    padding = dict(mode=PAD, boundary=boundary, fillvalue=fill)
    for method in METHODS:
        found = gpuconv.match_template(x, t, method=method, **padding)
        check(x, t, method, found, **padding)
    wide = dict(mode=((150, 0), (0, 130)), boundary=boundary, fillvalue=fill)
    check(x, t, "zncc", gpuconv.match_template(x, t, **wide), **wide)
    same = gpuconv.match_template(x, t, mode="same", boundary=boundary, fillvalue=fill)
    assert same.shape == x.shape
    assert same[22, 34] == pytest.approx(1)


def test_a_fill_value_that_the_image_cannot_hold():
    x = image("uint8")
    t = x[20:25, 31:38]
    padding = dict(mode=2, fillvalue=300)
    check(x, t, "zncc", gpuconv.match_template(x, t, **padding), **padding)


def test_blocks_of_rows(monkeypatch):
    """Small blocks give the results of large ones, within rounding; a bank those of its members."""
    x = image("offset")
    bank = np.stack([x[a : a + 6, a : a + 9] for a in (0, 20, 40)])
    whole = [gpuconv.match_template(x, bank, method=method, mode=3) for method in METHODS]
    for compiled in (0, 1 << 62):
        monkeypatch.setattr(template_arrays, "_COMPILED_LEAST", compiled)
        for memory in ("_HOST_BYTES", "_COMPILED_BYTES"):
            monkeypatch.setattr(template_arrays, memory, 1)
        for method, expected in zip(METHODS, whole, strict=True):
            found = gpuconv.match_template(x, bank, method=method, mode=3)
            np.testing.assert_allclose(found, expected, WITHIN, WITHIN * max(1, expected.max()))
            for each, template in zip(found, bank, strict=True):
                alone = gpuconv.match_template(x, template, method=method, mode=3)
                np.testing.assert_allclose(each, alone, WITHIN, WITHIN * max(1, alone.max()))


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize(
    ("images", "templates"), [((3, 1), (2,)), ((2, 3), (3,)), ((), (2, 2)), ((4,), ()), ((0,), ())]
)
def test_batches(monkeypatch, compiled, images, templates):
    monkeypatch.setattr(template_arrays, "_COMPILED_LEAST", 0 if compiled else 1 << 62)
    x = RNG.random((*images, 21, 20)).astype("f4")
    t = RNG.random((*templates, 4, 3)).astype("f4")
    mask = RNG.random(t.shape) > 0.3
    lead = np.broadcast_shapes(images, templates)
    for m in (None, mask):
        found = gpuconv.match_template(x, t, mask=m)
        assert found.shape == (*lead, 18, 18)
        xs, ts = (np.broadcast_to(a, (*lead, *a.shape[-2:])) for a in (x, t))
        ms = np.broadcast_to(mask, ts.shape)
        for at in np.ndindex(lead):
            check(xs[at], ts[at], "zncc", found[at], None if m is None else ms[at])


@pytest.mark.parametrize("dtype", ["f4", "f8", "u1", "u2", "f2"])
@pytest.mark.parametrize("method", ["zncc", "ncc"])
@pytest.mark.parametrize("masked", [False, True])
def test_windows_without_contrast(dtype, method, masked):
    """They are 0, beside noise and beside other plateaus."""
    for n, x in enumerate(plateaus(dtype)):
        t = RNG.integers(0, 50, (6, 7)).astype(dtype)
        mask = np.ones(t.shape, bool) if masked else None
        if masked:
            mask[2, 3] = False
        found = gpuconv.match_template(x, t, method=method, mask=mask)
        windows = np.lib.stride_tricks.sliding_window_view(x, t.shape)
        windows = windows.reshape(*windows.shape[:2], -1)
        flat = np.ptp(windows, axis=-1) == 0 if method == "zncc" else (windows == 0).all(axis=-1)
        assert flat.any() == (method == "zncc" or n == 0)
        assert not found[flat].any()
        assert np.isfinite(found).all()
        check(x, t, method, found, mask)


def plateaus(dtype):
    """Images with windows without contrast: zeros, a third at an odd place, many levels."""
    noise = RNG.integers(0, 100, (40, 45)).astype(dtype)
    noise[:, :20] = 0
    yield noise
    levels = np.repeat(np.repeat(RNG.integers(0, 250, (4, 5)), 10, 0), 9, 1) / 3
    yield levels.astype(dtype)


def test_a_window_of_zeros_has_no_normed_difference(monkeypatch):
    x, t = np.zeros((5, 5), "f4"), np.ones((2, 2), "f4")
    x[4, 4] = 1
    found = gpuconv.match_template(x, t, method="sqdiff_normed")
    assert np.isinf(found[0, 0])
    assert found[3, 3] == pytest.approx(3 / 2)
    for least in (0, 1 << 62):
        monkeypatch.setattr(template_arrays, "_COMPILED_LEAST", least)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            zero = gpuconv.match_template(x[:3], 0 * t, method="sqdiff_normed")
        assert (zero == 0).all()


def test_weights_of_a_mask_and_an_offset_that_float32_does_not_hold():
    for _ in range(20):
        x = 7e12 + RNG.standard_normal((27, 48))
        t = x[3:18, 7:12]
        mask = RNG.random(t.shape) * (RNG.random(t.shape) > 0.4)
        check(x, t, "zncc", gpuconv.match_template(x, t, mask=mask), mask)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dark_windows_in_an_image_with_bright_ones(monkeypatch, dtype, compiled):
    """Their differences are small beside those from the middle of all pixels."""
    monkeypatch.setattr(template_arrays, "_COMPILED_LEAST", 0 if compiled else 1 << 62)
    for bright in (10.0, 1e3, 1e6):
        x = RNG.standard_normal((40, 41)) * 1e-3 + bright * (np.arange(41) > 17)
        x = x.astype(dtype)
        for left in (2, 15, 30):
            t = x[5:15, left : left + 9]
            bank = np.stack([t, x[7:17, 12:21]])
            for mask in (None, RNG.random(t.shape) > 0.4):
                found = gpuconv.match_template(x, bank, method="sqdiff_normed", mask=mask)
                for each, template in zip(found, bank, strict=True):
                    check(x, template, "sqdiff_normed", each, mask)


def test_faint_noise_on_plateaus():
    """The contrast of a window is a millionth of the distance to the block's other pixels."""
    x = np.repeat([0.0, 1e6, -3e7], 20)[None, :] + RNG.standard_normal((50, 60)) * 1e-2
    t = x[10:19, 5:13]
    for mask in (None, RNG.random(t.shape) > 0.3):
        check(x, t, "zncc", gpuconv.match_template(x, t, mask=mask), mask)


def test_windows_one_by_one(monkeypatch):
    """More plateaus than rounds: the rest is summed window by window."""
    monkeypatch.setattr(faint_windows, "_ROUNDS", 1)
    monkeypatch.setattr(faint_windows, "_GATHERED", 100)
    x = np.repeat([0.0, 1e6, -3e7], 10)[None, :] + RNG.standard_normal((20, 30)) * 1e-2
    t = x[10:14, 3:8]
    check(x, t, "zncc", gpuconv.match_template(x, t))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("compiled", [True, False])
def test_not_finite(monkeypatch, method, value, compiled):
    monkeypatch.setattr(template_arrays, "_COMPILED_LEAST", 0 if compiled else 1 << 62)
    x = image("unit")
    t = x[20:24, 31:37]
    x[40, 50] = value
    found = gpuconv.match_template(x, t, method=method)
    touched = np.zeros(found.shape, bool)
    touched[37:41, 45:51] = True
    infinite = method == "sqdiff" and value == np.inf
    assert np.isinf(found[touched]).all() if infinite else np.isnan(found[touched]).all()
    x[40, 50] = 0
    expected = define(x, t, method)
    np.testing.assert_allclose(found[~touched], expected[~touched], WITHIN, WITHIN)


def test_opencv_15215():
    found = gpuconv.match_template([[5, 1], [2, 8]], [[1, 5], [7, 1]], method="sqdiff_normed")
    assert found.shape == (1, 1)
    assert found[0, 0] == pytest.approx(1.2541, abs=5e-5)


def test_sums_of_integers_are_exact():
    x = RNG.integers(0, 1 << 16, (80, 70)).astype("u2")
    t = x[10:50, 10:40]
    expected = define(x, t, "sqdiff")
    np.testing.assert_array_equal(gpuconv.match_template(x, t, method="sqdiff"), expected)
    assert gpuconv.match_template(x, t, method="sqdiff")[10, 10] == 0


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize(
    ("dtype", "scales"), [("f4", (1e30, 1e18, 1e-18, 1e-30)), ("f8", (1e130, 1e80, 1e-80, 1e-130))]
)
def test_the_scale_of_pixels_does_not_matter(monkeypatch, dtype, scales, compiled):
    """Not even where their products leave the range of the dtype."""
    monkeypatch.setattr(template_arrays, "_COMPILED_LEAST", 0 if compiled else 1 << 62)
    noise = RNG.standard_normal((20, 22))
    bank = np.stack([noise[3:8, 4:10], 0.4 * noise[3:8, 4:10], np.zeros((5, 6))])
    for scale, method in itertools.product(scales, METHODS):
        x, t = ((a * scale).astype(dtype) for a in (noise, bank))
        with warnings.catch_warnings():
            warnings.filterwarnings("error", category=RuntimeWarning)
            warnings.filterwarnings("ignore", "the template .* is constant")
            found = gpuconv.match_template(x, t, method=method, dtype="f8")
        for each, template in zip(found[:2], t, strict=False):
            check(x, template, method, each)
        if method != "sqdiff":  # nothing is like a template of zeros
            assert (found[2] == (np.inf if method == "sqdiff_normed" else 0)).all()


def test_a_constant_template_says_what_is_returned():
    x = image("unit")
    bank = np.stack([np.full((3, 3), 0.1, "f4"), x[:3, :3]])
    with pytest.warns(UserWarning, match="constant.* returns 0 everywhere") as seen:
        found = gpuconv.match_template(x, bank)
    assert seen[0].filename == __file__
    assert not found[0].any()
    assert found[1, 0, 0] == pytest.approx(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gpuconv.match_template(x, bank, method="ncc")
        gpuconv.match_template(x, np.eye(3, dtype="f4"))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (dict(template=np.ones((9, 3))), ValueError, r"template of shape \(9, 3\) is larger than"),
        (dict(template=np.ones(3)), ValueError, "template must have at least 2 dimensions"),
        (dict(template=np.ones((0, 3))), ValueError, r"template of shape \(0, 3\) has no pixel"),
        (dict(template=np.ones((2, 2), complex)), TypeError, "template has dtype complex128"),
        (dict(method="zncz"), ValueError, "unknown method 'zncz'.*did you mean 'zncc'"),
        (dict(method=2), ValueError, "unknown method 2; allowed: .*'sqdiff_normed'$"),
        (dict(method="TM_CCOEFF_NORMED"), ValueError, "OpenCV's is 'zncc' here"),
        (dict(method="sqdiff_NORMED"), ValueError, "OpenCV's is 'sqdiff_normed' here"),
        (dict(method=5), ValueError, "unknown method 5; .* OpenCV's is 'zncc' here"),
        (
            dict(template=np.ones((5, 3, 3)), image=np.ones((2, 8, 6))),
            ValueError,
            r"dimensions of image \(2, 8, 6\) and template \(5, 3, 3\) do not broadcast",
        ),
        (
            dict(mask=np.ones((3, 3), complex)),
            TypeError,
            "mask must be bools or real .* complex128",
        ),
        (dict(boundary="wrapp"), ValueError, "did you mean 'wrap'"),
        (dict(mode="smae"), ValueError, "did you mean 'same'"),
        (dict(mask=np.ones((2, 2))), ValueError, r"mask has shape \(2, 2\).*\(3, 3\)"),
        (dict(mask=np.zeros((3, 3))), ValueError, "leaves no pixel"),
        (dict(mask=np.full((3, 3), -1.0)), ValueError, "finite and not negative"),
        (dict(dtype="bool"), TypeError, "bool"),
        (dict(out=np.empty((3, 3))), ValueError, "out has shape"),
        (dict(out=np.empty((6, 4)), dtype="f4"), TypeError, "contradicts"),
    ],
)
def test_refused(arguments, error, message):
    arguments = dict(image=RNG.random((8, 6)), template=np.eye(3)) | arguments
    with pytest.raises(error, match=message):
        gpuconv.match_template(**arguments)


def test_images_of_as_many_dimensions_as_arrays_have():
    x = image("unit", (20, 22))
    t = x[5:9, 6:11]
    found = gpuconv.match_template(x.reshape((1,) * 62 + x.shape), t)
    np.testing.assert_array_equal(found.squeeze(), gpuconv.match_template(x, t))


def test_out_axes_and_dtype():
    x = image("unit")
    t = x[20:24, 31:37]
    expected = gpuconv.match_template(x, t)
    out = np.full((67, 112), 9, "f4")[:, ::2]
    assert gpuconv.match_template(x, t, out=out) is out
    np.testing.assert_array_equal(out, expected)
    photo = np.stack([x, 2 * x, x], axis=-1)
    found = gpuconv.match_template(photo, t, axes=(0, 1))
    np.testing.assert_allclose(found[..., 1], expected, atol=WITHIN)
    half = gpuconv.match_template(x, t, dtype="float16")
    np.testing.assert_array_equal(half, expected.astype("f2"))
    with pytest.raises(ValueError, match="overlaps image"):
        gpuconv.match_template(x[:-1, :-1], t[:2, :2], out=x[:-2, :-2])


def test_inputs_are_not_written():
    x = image("unit")
    t, before = x[20:24, 31:37].copy(), x.copy()
    for method in METHODS:
        gpuconv.match_template(x, t, method=method)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("kind", ["unit", "uint8", "dark and bright"])
def test_threads_do_not_change_bits(monkeypatch, kind):
    monkeypatch.setattr(compiled_blocks, "_PARALLEL_LEAST", 0)
    x = image(kind, (150, 140))
    t = x[20:29, 31:37]
    found = gpuconv.match_template(x, t)
    with gpuconv.threads(1):
        np.testing.assert_array_equal(gpuconv.match_template(x, t), found)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "u4", "i8"])
def test_tasks_of_integers_do_not_change_bits(monkeypatch, dtype, method):
    """Sums of integers are exact, so they may be split anywhere, into rows and columns."""
    x = RNG.integers(0, 120, (90, 75)).astype(dtype)
    if np.dtype(dtype).kind == "i":
        x -= 60
    t = x[20:29, 31:37]
    found = gpuconv.match_template(x, t, method=method)
    check(x, t, method, found)
    monkeypatch.setattr(compiled_blocks, "_PARALLEL_LEAST", 0)
    monkeypatch.setattr(compiled_blocks, "_SCRATCH", 1)
    monkeypatch.setattr(compiled_blocks, "_TASK_ROWS", 7)
    monkeypatch.setattr(compiled_blocks, "_TASK_HEIGHTS", 0)
    np.testing.assert_array_equal(gpuconv.match_template(x, t, method=method), found)
    monkeypatch.setattr(template_arrays, "_COMPILED_BYTES", 1 << 10)
    if method != "zncc":  # each block has a centre of its own, which sums of squares depend on
        np.testing.assert_array_equal(gpuconv.match_template(x, t, method=method), found)


@pytest.mark.parametrize("dtype", ["u1", "i4", "f4", "f8"])
def test_layouts_of_images(dtype):
    x = (RNG.random((90, 75)) * 200).astype(dtype)
    t = x[20:29, 31:37]
    found = gpuconv.match_template(x, t)
    wide = np.zeros((180, 150), dtype)
    wide[::2, ::2] = x
    fixed = x.copy()
    fixed.flags.writeable = False
    swapped = x.astype(x.dtype.newbyteorder(">"))
    backwards = np.ascontiguousarray(x[::-1, ::-1])[::-1, ::-1]
    unaligned = np.zeros(x.nbytes + 1, "u1")[1:].view(dtype).reshape(x.shape)
    unaligned[...] = x
    for image in (wide[::2, ::2], fixed, np.asfortranarray(x), swapped, backwards, unaligned):
        np.testing.assert_array_equal(gpuconv.match_template(image, t), found)


def test_border_that_the_dtype_of_the_image_does_not_hold():
    x = RNG.integers(0, 256, (70, 75)).astype("u1")
    t = x[20:29, 31:37]
    found = gpuconv.match_template(x, t, mode=PAD, fillvalue=1000)
    check(x, t, "zncc", found, mode=PAD, fillvalue=1000)


def test_memory_of_integers():
    """They are neither copied nor converted, however large the block is."""
    x = RNG.integers(0, 256, (1500, 400)).astype("u1")
    t, out = x[:9, :9].copy(), np.empty((1492, 392))
    gpuconv.match_template(x, t, out=out)
    tracemalloc.start()
    with contextlib.closing(contextlib.ExitStack()) as stack:
        stack.callback(tracemalloc.stop)
        gpuconv.match_template(x, t, out=out)
        most = tracemalloc.get_traced_memory()[1]
    assert most < 2 * x.nbytes  # a byte for each result says whether it is to be summed anew


@pytest.mark.parametrize("masked", [False, True])
def test_memory(monkeypatch, masked):
    """Beside the result it takes blocks, however large the image is."""
    monkeypatch.setattr(template_arrays, "_HOST_BYTES", 1 << 18)
    monkeypatch.setattr(template_arrays, "_COMPILED_BYTES", 1 << 18)
    x = RNG.random((3000, 400)).astype("f4")
    t, mask = x[:9, :9].copy(), np.eye(9) if masked else None
    out = np.empty((2992, 392), "f4")
    gpuconv.match_template(x, t, mask=mask, out=out)
    tracemalloc.start()
    with contextlib.closing(contextlib.ExitStack()) as stack:
        stack.callback(tracemalloc.stop)
        gpuconv.match_template(x, t, mask=mask, out=out)
        most = tracemalloc.get_traced_memory()[1]
    assert most < 0.7 * x.nbytes


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["unit", "uint8", "step"])
def test_device_arrays(method, kind):
    x = image(kind, (24, 26))
    t = x[10:14, 8:13].copy()
    with device_arrays.installed() as cupy, emulated(device_arrays.DeviceArraysLauncher(cupy)):
        device = device_arrays.device_array(x)
        for template in (t, device_arrays.device_array(t)):
            found = gpuconv.match_template(device, template, method=method, mode="same",
                                           boundary="edge")  # fmt: skip
            assert type(found) is device_arrays.ndarray
            pad = ((1, 2), (2, 2))
            check(x, t, method, found.get(), mode=pad, boundary="edge")
        photos, bank = np.stack([x, x[::-1], x[:, ::-1]], -1), np.stack([t, t[::-1]])[:, None]
        out = device_arrays.device_array(np.zeros((2, 3, 21, 22), found.dtype))
        stack = device_arrays.device_array(np.ascontiguousarray(photos.transpose(2, 0, 1)))
        found = gpuconv.match_template(stack, bank, method=method, out=out)
        assert found is out
        along = gpuconv.match_template(
            device_arrays.device_array(photos), bank[0, 0], method=method, axes=(0, 1)
        )
        for c in range(3):
            check(photos[..., c], t, method, along.get()[..., c])
            for n in range(2):
                check(photos[..., c], bank[n, 0], method, out.get()[n, c])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("backend", ["reference", "cuda"])
def test_backends(emulated, method, backend):
    x = image("offset", (20, 22))
    t = x[10:14, 8:13]
    check(x, t, method, gpuconv.match_template(x, t, method=method, backend=backend))


@pytest.mark.needs("torch")
def test_torch():
    import torch

    x = image("unit")
    t = x[20:24, 31:37]
    found = gpuconv.match_template(torch.from_numpy(x), torch.from_numpy(t.copy()))
    assert type(found) is torch.Tensor
    np.testing.assert_array_equal(found, gpuconv.match_template(x, t))
    tracked = torch.from_numpy(x).requires_grad_()
    with pytest.raises(NotImplementedError, match=r"image requires grad.*image.detach\(\)"):
        gpuconv.match_template(tracked, t)
    half = torch.from_numpy(x).to(torch.bfloat16)
    found = gpuconv.match_template(half, half[20:24, 31:37])
    assert found.dtype == torch.float32
    check(half.float().numpy(), half[20:24, 31:37].float().numpy(), "zncc", found.numpy())


@pytest.mark.needs("skimage")
@pytest.mark.parametrize("shape", [(5, 7), (8, 6)])
def test_skimage(shape):
    from skimage.feature import match_template

    p, q = shape
    x = RNG.random((60, 50))
    t = x[20 : 20 + p, 31 : 31 + q]
    np.testing.assert_allclose(gpuconv.match_template(x, t), match_template(x, t), atol=1e-10)
    padded = match_template(x, t, pad_input=True, mode="edge")
    mode = ((p // 2, p - 1 - p // 2), (q // 2, q - 1 - q // 2))
    found = gpuconv.match_template(x, t, mode=mode, boundary="edge")
    np.testing.assert_allclose(found, padded, atol=1e-10)


@pytest.mark.needs("cv2")
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", ["u1", "f4"])
def test_opencv(dtype, masked):
    import cv2

    codes = dict(zncc="TM_CCOEFF_NORMED", ncc="TM_CCORR_NORMED", sqdiff="TM_SQDIFF",
                 sqdiff_normed="TM_SQDIFF_NORMED")  # fmt: skip
    x = RNG.integers(0, 256, (60, 50)).astype(dtype)
    t = x[20:28, 31:38].copy()
    mask = None
    if masked:
        mask = (RNG.random(t.shape) + 0.5 if dtype == "f4" else RNG.random(t.shape) > 0.4).astype(
            dtype
        )
    for method, code in codes.items():
        there = cv2.matchTemplate(x, t, getattr(cv2, code), mask=mask)
        here = gpuconv.match_template(x, t, method=method, mask=mask)
        np.testing.assert_allclose(here, there, rtol=1e-3, atol=1e-3 * max(1, here.max()))
