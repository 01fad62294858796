import numpy as np
import pytest
from scipy import ndimage

import gpuconv
from gpuconv.imaging import filters
from gpuconv.imaging.filters import suggestions

X = np.random.default_rng(3).random((40, 50))


def same(weights):
    return gpuconv.corr2d(X, weights, mode="same", boundary="symmetric")


@pytest.mark.parametrize("order", [0, 1, 2, 3, (1, 0), (0, 1), (2, 1)])
def test_gaussian_is_ndimages(order):
    np.testing.assert_allclose(
        same(filters.gaussian((1.7, 2.2), order)),
        ndimage.gaussian_filter(X, (1.7, 2.2), order=order),
        atol=1e-13,
    )


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", ["sobel", "prewitt"])
def test_differences_are_ndimages(name, axis):
    np.testing.assert_allclose(
        same(getattr(filters, name)(axis)), getattr(ndimage, name)(X, axis), atol=1e-13
    )


def test_laplacian_and_log():
    np.testing.assert_allclose(same(filters.laplacian()), ndimage.laplace(X), atol=1e-13)
    np.testing.assert_allclose(same(filters.log(2.0)), ndimage.gaussian_laplace(X, 2.0), atol=2e-3)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("accuracy", [1, 2, 4])
@pytest.mark.parametrize("scheme", ["central", "forward", "backward"])
def test_derivative_is_exact_on_polynomials(order, accuracy, scheme):
    line = filters.derivative(order, accuracy, spacing=0.5, scheme=scheme)[0]
    assert line.size >= order + 1
    start = {"central": -(line.size // 2), "forward": 0, "backward": 1 - line.size}[scheme]
    t = (np.arange(line.size) + start) * 0.5
    for degree in range(order + accuracy):
        expected = 0.0 if degree != order else float(np.prod(np.arange(1, order + 1)))
        assert line @ t**degree == pytest.approx(expected, abs=1e-7)


def test_directional_derivative_of_a_plane():
    y, x = np.mgrid[0:9, 0:9].astype(float)
    v = np.array([3.0, 4.0])
    slope = gpuconv.corr2d(2 * y + 5 * x, filters.directional_derivative(v))
    np.testing.assert_allclose(slope, (2 * 3 + 5 * 4) / 5)


def test_sums():
    for weights in (
        filters.box((2, 5)), filters.gaussian(2), filters.motion(9, 30), filters.disk(3.5),
        filters.ring(2, 4), filters.moffat(1.5),
    ):  # fmt: skip
        assert weights.sum() == pytest.approx(1)
        assert (weights >= 0).all()
    assert filters.sharpen(0.7).sum() == pytest.approx(1)
    assert filters.second_derivative().sum() == 0


@pytest.mark.parametrize("ratio", [1.6, 3.0])
def test_dog_is_a_difference_of_blurs(ratio):
    narrow, wide = (
        ndimage.gaussian_filter(X, s, radius=(filters.dog(1.3, ratio).shape[0] - 1) // 2)
        for s in (1.3, 1.3 * ratio)
    )
    np.testing.assert_allclose(same(filters.dog(1.3, ratio)), narrow - wide, atol=1e-14)
    assert filters.dog((1, 2)).shape == (13, 27)


@pytest.mark.needs("astropy")
def test_radial_filters_are_astropys():
    from astropy.convolution import Moffat2DKernel, Ring2DKernel, Tophat2DKernel

    for ours, theirs in (
        (filters.disk(4), Tophat2DKernel(4)),
        (filters.ring(3, 5), Ring2DKernel(3, 2)),
        (filters.moffat(2.3, 3.0), Moffat2DKernel(2.3, 3.0)),
        (filters.moffat(1.5, 2.5, size=11), Moffat2DKernel(1.5, 2.5, x_size=11)),
    ):
        theirs.normalize()
        np.testing.assert_allclose(ours, trimmed(theirs.array), atol=1e-15)


def trimmed(array):
    """Without rows and columns of zeros around."""
    rows, columns = array.any(1).nonzero()[0], array.any(0).nonzero()[0]
    return array[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


@pytest.mark.needs("astropy")
def test_kernels_of_astropy():
    from astropy.convolution import Gaussian2DKernel, convolve

    kernel = Gaussian2DKernel(1.5)
    expected = convolve(X, kernel, boundary="wrap", normalize_kernel=False)
    for k in (kernel, kernel.array):
        found = gpuconv.convolve2d(X, k, mode="same", boundary="wrap")
        np.testing.assert_allclose(found, expected, atol=1e-14)


def test_disks_and_rings():
    for radius, count in ((0.5, 1), (1, 5), (1.5, 9), (2, 13), (2.9, 25)):
        assert (filters.disk(radius) > 0).sum() == count
    np.testing.assert_array_equal(filters.ring(1, 2) > 0, (filters.disk(2) > 0) ^ center(5))
    width = 2 * 30 * np.sqrt(2 ** (1 / 2.5) - 1)  # at half maximum
    line = filters.moffat(30.0, 2.5, size=201)[100, 100:]
    assert np.interp(width / 2, np.arange(101), line) == pytest.approx(line[0] / 2, 1e-3)


def center(n):
    middle = np.zeros((n, n), bool)
    middle[n // 2, n // 2] = True
    return middle


@pytest.mark.parametrize("angle", [0, 30, 90, 135])
def test_gabor_answers_to_its_own_waves(angle):
    def response(wavelength, at):
        """Largest sum of a wave that runs at this angle, over all phases."""
        y, x = np.mgrid[0:61, 0:61]
        u = x * np.cos(np.radians(at)) - y * np.sin(np.radians(at))
        waves = [f(2 * np.pi * u / wavelength) for f in (np.cos, np.sin)]
        return np.hypot(*(gpuconv.corr2d(wave, filters.gabor(6, angle)) for wave in waves)).max()

    best = response(6, angle)
    assert best > 0.45
    assert best > 1.5 * max(response(3, angle), response(12, angle), response(6, angle + 60))
    even, odd = filters.gabor(6, angle), filters.gabor(6, angle, phase=90)
    np.testing.assert_allclose(even, even[::-1, ::-1], atol=1e-16)
    np.testing.assert_allclose(odd, -odd[::-1, ::-1], atol=1e-16)
    assert filters.gabor(6, angle, sigma=2, aspect=0.5).shape == (25, 25)


def test_names():
    for name in filters.names():
        assert filters.by_name(name).ndim == 2
    np.testing.assert_array_equal(filters.by_name("box-5"), filters.box(5))
    np.testing.assert_array_equal(filters.by_name("motion-7-45"), filters.motion(7, 45))
    np.testing.assert_array_equal(filters.by_name("disk-2.5"), filters.disk(2.5))
    np.testing.assert_array_equal(filters.by_name("ring-1-3"), filters.ring(1, 3))
    np.testing.assert_array_equal(filters.by_name("gabor-5-45"), filters.gabor(5, 45))
    with pytest.raises(ValueError, match=r"unknown filter 'sobell-x'.*did you mean 'sobel-x'"):
        filters.by_name("sobell-x")


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("gaussian", filters.gaussian(1)),
        ("gaussian-2", filters.gaussian(2)),
        ("gaussian:2", filters.gaussian(2)),
        ("gaussian:sigma=2", filters.gaussian(2)),
        ("gaussian(2)", filters.gaussian(2)),
        ("Gaussian-5e-1", filters.gaussian(0.5)),
        ("blur-2", filters.gaussian(2)),
        ("box-blur-5", filters.box(5)),
        ("average", filters.box(3)),
        ("uniform-5", filters.box(5)),
        ("unsharp", filters.sharpen(1, 1)),
        ("mean:size=5", filters.box(5)),
        ("motion:angle=-45", filters.motion(9, -45)),
        ("motion-15--45", filters.motion(15, -45)),
        ("motion: length=15, angle=30", filters.motion(15, 30)),
        ("motion:9, 30", filters.motion(9, 30)),
        ("motion(9, 30)", filters.motion(9, 30)),
        ("motion (9 , -30 )", filters.motion(9, -30)),
        ("motion 9 30", filters.motion(9, 30)),
        ("gabor:6, 45", filters.gabor(6, 45)),
        ("gaussian: sigma = 2", filters.gaussian(2)),
        ("sharpen(0.5, sigma=3)", filters.sharpen(0.5, 3)),
        ("SOBEL_X", filters.sobel()),
        ("laplacian-8", filters.laplacian(8)),
        ("derivative-y-2", filters.derivative(2, axis=0)),
    ],
)
def test_ways_to_write_a_name(name, weights):
    np.testing.assert_array_equal(filters.by_name(name), weights)


def test_suggested_names_exist():
    for names in suggestions._KINDS.values():
        for name in names:
            filters.by_name(name)
    for kind in (*suggestions._KINDS, *suggestions._OTHERS):
        with pytest.raises(ValueError, match=r"did you mean|is no correlation"):
            filters.by_name(kind)


@pytest.mark.parametrize("place", sorted(set(suggestions._OTHERS.values())))
def test_functions_that_are_named_instead_exist(place):
    module, _, function = place.rpartition(".")
    assert hasattr(pytest.importorskip(module), function)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("box-3-4", r"box takes one number \(size\), got 2 in 'box-3-4'"),
        ("sobel-x-3", r"sobel-x takes no numbers, got 1"),
        ("box-2.5", r"box: size must be a whole number, got '2.5'; write for example box:size=3"),
        ("gaussian-wide", r"gaussian: sigma must be a number, got 'wide'"),
        ("gaussian-", r"gaussian: sigma must be a number, got ''"),
        ("gaussian:width=2", r"gaussian takes one number \(sigma\), not 'width'"),
        ("motion:9,length=8", r"motion: length is given twice"),
        ("sobel", r"needs a direction; did you mean 'sobel-x' .* or 'sobel-y'"),
        ("gausian-2", r"did you mean 'gaussian'"),
        ("", r"unknown filter ''"),
        ("gaus", r"did you mean 'gauss'\?"),
        ("sobelx", r"did you mean 'sobel-x'\?"),
        ("boxblur-5", r"did you mean 'box-blur-5'\?"),
        ("secondderivativex", r"did you mean 'second-derivative-x'\?"),
        ("box5x5", r"did you mean 'box'\?"),
        ("highpass", r"did you mean 'laplacian', 'dog' or 'sharpen'\?"),
        ("high-pass-3", r"did you mean 'laplacian', 'dog' or 'sharpen'\?"),
        ("low_pass filter", r"did you mean 'gaussian' or 'box'\?"),
        ("edges", r"did you mean 'sobel-x', 'sobel-y' or 'laplacian'\?"),
        ("edge detection", r"did you mean 'sobel-x', 'sobel-y' or 'laplacian'\?"),
        ("emboss", r"did you mean 'sobel-x' or 'sobel-y'\?"),
        ("sharp", r"did you mean 'sharpen'\?"),
        ("outline", r"did you mean 'sobel-x'"),
        ("mexican", r"unknown filter 'mexican'; allowed"),
        ("median", r"'median' is no correlation: .*; scipy.ndimage.median_filter computes it"),
        ("medianBlur-3", r"'medianBlur-3' is no correlation: .*median_filter"),
        ("bilateral filter", r"'bilateral filter' is no correlation: .*denoise_bilateral"),
    ],
)
def test_names_that_are_wrong(name, text):
    with pytest.raises(ValueError, match=text):
        filters.by_name(name)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: filters.gaussian(-1), "sigma must be a finite number > 0, got -1"),
        (lambda: filters.gaussian(1, order=-1), "order must be an integer >= 0"),
        (lambda: filters.box(0), "size must be an integer >= 1"),
        (lambda: filters.derivative(0), "order must be an integer >= 1"),
        (lambda: filters.derivative(1, scheme="centre"), "did you mean 'central'"),
        (lambda: filters.edge(2), "axis must be 0"),
        (lambda: filters.directional_derivative((0, 0)), "not both zero"),
        (lambda: filters.dog(1, 1), "ratio must be a number > 1, got 1"),
        (lambda: filters.disk(0), "radius must be a finite number > 0"),
        (lambda: filters.disk(1e9), r"at most 2\*\*28 weights"),
        (lambda: filters.ring(3, 2), "inner must be at most outer"),
        (lambda: filters.ring(1.1, 1.2), "centre of a pixel between them"),
        (lambda: filters.moffat(2, size=4), "size must be odd"),
        (lambda: filters.moffat(2, alpha=1e-9), r"at most 2\*\*28 weights"),
        (lambda: filters.gabor(6, angle=np.inf), "angle must be finite"),
        (lambda: filters.laplacian(6), "connectivity must be 4 or 8"),
    ],
)
def test_errors(call, text):
    with pytest.raises(ValueError, match=text):
        call()


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: filters.box(2.5), TypeError, "size must be an integer >= 1, got 2.5"),
        (lambda: filters.box(True), TypeError, "size must be an integer >= 1, got True"),
        (lambda: filters.disk("3"), TypeError, "radius must be a number > 0, got '3'"),
        (lambda: filters.box((1, 2, 3)), ValueError, r"one value or two .* got \(1, 2, 3\)"),
        (lambda: filters.gabor(6, angle="up"), TypeError, "a number of degrees, got 'up'"),
    ],
)
def test_arguments_of_other_types(call, error, text):
    with pytest.raises(error, match=text):
        call()
