import numpy as np
import pytest

import gpuconv
from gpuconv import Layer
from gpuconv.imaging.receptive_field import receptive_field


@pytest.mark.parametrize("seed", range(12))
def test_windows_by_brute_force(seed):
    rng = np.random.default_rng(seed)
    layers = [
        Layer(
            tuple(rng.integers(1, 4, 2)),
            tuple(rng.integers(1, 3, 2)),
            tuple(rng.integers(1, 3, 2)),
            tuple(rng.integers(0, 3, 2)),
        )
        for _ in range(rng.integers(1, 4))
    ]
    field, shape = receptive_field(layers), (23, 26)
    touched = {}
    for y in range(shape[0]):
        for x in range(shape[1]):
            image = np.zeros(shape)
            image[y, x] = np.nan
            for layer in layers:
                image = gpuconv.corr2d(
                    image,
                    np.ones(layer.kernel),
                    mode=tuple(map(int, layer.padding)),
                    stride=tuple(map(int, layer.stride)),
                    dilation=tuple(map(int, layer.dilation)),
                )
            for element in np.argwhere(np.isnan(image)):
                touched.setdefault(tuple(element), []).append((y, x))
                rows, columns = field.outputs_touching(y, x, shape)
                assert rows[0] <= element[0] < rows[1]
                assert columns[0] <= element[1] < columns[1]
    assert image.shape == field.output_shape(shape)
    for (i, j), pixels in touched.items():
        (y0, y1), (x0, x1) = field.window(i, j, shape)
        ys, xs = np.array(pixels).T
        assert y0 <= ys.min() and ys.max() < y1
        assert x0 <= xs.min() and xs.max() < x1
        full = field.window(i, j)
        if full == ((y0, y1), (x0, x1)):  # not clipped: the hull is exact
            assert ((ys.min(), ys.max() + 1), (xs.min(), xs.max() + 1)) == full


def test_text_and_errors():
    text = str(receptive_field([7, dict(kernel=3, stride=2, padding="same")]))
    assert text.splitlines()[-1].split() == ["2", "3x3", "2x2", "1x1", "9x9", "2x2", "-1,-1"]
    with pytest.raises(ValueError, match="layer 2: stride must be an integer >= 1, got 0"):
        receptive_field([3, Layer(3, stride=0)])
    with pytest.raises(ValueError, match="padding must be numbers, 'same' or 'valid', got 'full'"):
        receptive_field([dict(kernel=3, padding="full")])
    with pytest.raises(ValueError, match=r"padding must have two parts, got \(1, 2, 3\)"):
        receptive_field([dict(kernel=3, padding=(1, 2, 3))])
    assert receptive_field([dict(kernel=3, padding="valid")]) == receptive_field([3])
    assert receptive_field([3]).center == (1, 1)
    with pytest.raises(TypeError, match="layer 1: keys must be"):
        receptive_field([dict(size=3)])
    with pytest.raises(ValueError, match="layer 1 spans 9 pixels"):
        receptive_field([9]).output_shape((5, 20))


def test_drawings_show_what_the_gradient_touches():
    layers = [Layer(3, stride=2, padding=1), Layer((2, 3), dilation=(2, 1))]
    field = receptive_field(layers)
    text = field.draw(1, 2, (12, 14)).splitlines()
    marks = np.array([[c == "#" for c in line[:28:2].ljust(14)] for line in text[1:13]])
    # Ones everywhere: the gradient of one output is not zero exactly where it depends on the input.
    shape = gpuconv.corr2d(np.ones((12, 14)), np.ones((3, 3)), mode=1, stride=2).shape
    last = np.zeros(field.output_shape((12, 14)))
    last[1, 2] = 1
    dy, _ = gpuconv.corr2d_vjp(np.ones(shape), np.ones((2, 3)), last, dilation=(2, 1))
    dx, _ = gpuconv.corr2d_vjp(np.ones((12, 14)), np.ones((3, 3)), dy, mode=1, stride=2)
    rows, columns = np.nonzero(dx)
    box = np.zeros((12, 14), bool)
    box[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = True
    np.testing.assert_array_equal(marks, box)
    assert field.svg(1, 2, (12, 14)).startswith("<svg")
    with pytest.raises(ValueError, match=r"\(9, 0\) is outside the output"):
        field.draw(9, 0, (12, 14))
