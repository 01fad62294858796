"""Renders gpuconv/data/photo.png: a lake in the evening, made of noise and a few equations."""

from __future__ import annotations

import sys

import numpy as np
from PIL import Image

N = 512
rng = np.random.default_rng(7)


def noise(shape: tuple[int, int], octaves: int, roughness: float = 0.55) -> np.ndarray:
    total = np.zeros(shape)
    for k in range(octaves):
        cells = 2 ** (k + 1)
        grid = rng.random((cells + 2, cells + 2))
        y = np.linspace(0, cells, shape[0], endpoint=False)
        x = np.linspace(0, cells, shape[1], endpoint=False)
        i, j = y.astype(int)[:, None], x.astype(int)[None, :]
        fy, fx = (y % 1)[:, None], (x % 1)[None, :]
        fy, fx = fy * fy * (3 - 2 * fy), fx * fx * (3 - 2 * fx)
        total += roughness**k * (
            grid[i, j] * (1 - fy) * (1 - fx)
            + grid[i, j + 1] * (1 - fy) * fx
            + grid[i + 1, j] * fy * (1 - fx)
            + grid[i + 1, j + 1] * fy * fx
        )
    return (total - total.min()) / (total.max() - total.min())


def ridge(base: float, height: float, octaves: int) -> np.ndarray:
    return base - height * noise((1, N), octaves)[0]


def render() -> np.ndarray:
    shore = 330
    y, x = np.mgrid[0:N, 0:N].astype(float)
    t = np.clip(y / shore, 0, 1)[..., None]
    sky = (1 - t) * np.array([52, 84, 140]) + t * np.array([250, 196, 140])
    clouds = np.clip(noise((N, N), 7) - 0.45, 0, 1)[..., None] * (1 - 0.6 * t)
    sky = sky * (1 - clouds) + clouds * np.array([255, 226, 205]) * 1.05
    distance = np.hypot(y - 205, x - 350)
    sky += (255 - sky) * np.exp(-((distance / 70) ** 2))[..., None] * 0.75
    sky[distance < 22] = (255, 246, 220)
    image = sky
    layers = [
        (ridge(300, 150, 7), (122, 116, 140), 0.55),
        (ridge(315, 90, 8), (84, 88, 104), 0.75),
        (ridge(326, 40, 8), (38, 50, 46), 1.0),
    ]
    texture = noise((N, N), 9, 0.75)
    for top, colour, contrast in layers:
        mask = y >= top[None, :]
        slope = np.gradient(texture, axis=1) * 9
        shade = 1 + contrast * (0.5 * (texture - 0.5) - slope)
        snow = (y < top[None, :] + 26 * texture) & (top[None, :] < 215)
        tint = np.where(snow[..., None], (225, 222, 232), np.array(colour, float))
        image = np.where(mask[..., None], tint * shade[..., None], image)
    for _ in range(90):  # trees along the shore
        cx, size = rng.integers(0, N), rng.integers(10, 44)
        foot = shore - rng.integers(-2, 6)
        up = foot - y
        wide = (1 - up / size) * size * 0.2 * (0.75 + 0.25 * np.sign(np.sin(up * 1.4)))
        tree = (up >= 0) & (up < size) & (np.abs(x - cx) < wide)
        image = np.where(
            tree[..., None], np.array([18, 30, 24]) * (0.7 + texture[..., None]), image
        )
    depth = np.arange(N - shore)
    ripple = (2.5 + depth / 20)[:, None] * (noise((N - shore, N), 8, 0.8) - 0.5)
    source = np.clip(shore - 1 - depth[:, None] * 1.7 + ripple * 3, 0, shore - 1).astype(int)
    across = np.clip(np.arange(N)[None, :] + ripple * 2, 0, N - 1).astype(int)
    image[shore:] = image[source, across] * np.array([0.62, 0.7, 0.78]) + np.array([6, 12, 18])
    rocks = noise((N, N), 8, 0.7) - 0.75 + np.clip((y - 430) / 120, 0, 1) * 0.55
    mask = (rocks > 0.02) & (y > 400)
    light = 0.8 - np.gradient(rocks, axis=1) * 14 - np.gradient(rocks, axis=0) * 14
    image = np.where(mask[..., None], np.array([92, 84, 78]) * light[..., None], image)
    image += rng.normal(0, 2.0, image.shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


if __name__ == "__main__":
    Image.fromarray(render()).quantize(128, dither=Image.Dither.NONE).save(
        sys.argv[1] if len(sys.argv) > 1 else "gpuconv/data/photo.png", optimize=True
    )
