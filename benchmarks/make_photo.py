"""Render gpuconv/data/photo.jpg: a game of Go by a window, by tracing paths of light.

``python benchmarks/make_photo.py`` takes some minutes. Nothing in it is a photograph: board and
stones are formulas, the wood is noise, and light is followed from the lens until it leaves the
room. So the picture is free to use, and it has what filters are tried on: straight lines, round
edges, textures, highlights, what is out of focus, noise.
"""

from __future__ import annotations

import math
import sys
from random import random, seed  # Numba compiles these

import numba
import numpy as np
from PIL import Image

WIDTH, HEIGHT, PATHS = 768, 512, 400
STONE_RADIUS, STONE_HEIGHT = 0.47, 0.21
BOARD, BOARD_HEIGHT = 5.0, 0.9

# Columns and rows on the board, then the colour: the beginning of a game on 9 x 9 lines.
STONES = np.array(
    [
        (2, 2, 0), (6, 2, 1), (4, 3, 1), (2, 6, 0), (6, 6, 1), (5, 4, 0), (4, 4, 1), (3, 5, 0),
        (4, 5, 0), (5, 3, 1), (6, 4, 0), (3, 3, 0), (7, 4, 1), (6, 5, 1), (5, 5, 0), (4, 2, 0),
        (2, 4, 0), (7, 3, 1), (5, 6, 1), (4, 6, 1), (1, 5, 1), (5, 7, 0), (7, 7, 1), (3, 1, 1),
    ],
    float,
)  # fmt: skip
# Placed by hand: not quite on the crossings.
STONES[:, :2] += np.random.default_rng(4).normal(0, 0.035, (len(STONES), 2)) - 4


@numba.njit
def hash_number(i, j, k):
    n = (i * 374761393 + j * 668265263 + k * 2147483647) & 0xFFFFFFFF
    n = ((n ^ (n >> 13)) * 1274126177) & 0xFFFFFFFF
    return ((n ^ (n >> 16)) & 0xFFFF) / 65535.0


@numba.njit
def noise(x, y, z):
    i, j, k = math.floor(x), math.floor(y), math.floor(z)
    u, v, w = x - i, y - j, z - k
    u, v, w = u * u * (3 - 2 * u), v * v * (3 - 2 * v), w * w * (3 - 2 * w)
    total = 0.0
    for a in range(2):
        for b in range(2):
            for c in range(2):
                weight = (u if a else 1 - u) * (v if b else 1 - v) * (w if c else 1 - w)
                total += weight * hash_number(int(i) + a, int(j) + b, int(k) + c)
    return total


@numba.njit
def wood(x, y, z, dark):
    """Colour of wood: slices of a bent, uneven trunk, with fine fibres."""
    bend = 1.6 * noise(0.18 * x, 0.9 * z, 3.0) + 0.5 * noise(0.7 * x, 2.3 * z, 7.0)
    ring = 0.5 + 0.5 * math.sin(2 * math.pi * (1.15 * z + 0.35 * y + bend))
    ring = ring**3
    fibre = noise(2.5 * x, 60 * z, 40 * y + 11.0)
    pores = max(0.0, noise(4 * x, 110 * z, 5.0) - 0.72) * 2.2
    shade = 1 - 0.20 * ring - 0.16 * (fibre - 0.5) - 0.5 * pores
    if dark:
        return 0.105 * shade, 0.055 * shade, 0.030 * shade
    return 0.72 * shade, 0.47 * shade**1.25, 0.215 * shade**1.5


@numba.njit
def board_colour(x, z):
    r, g, b = wood(x, 0.0, z, False)
    line = 0.0
    if abs(x) < 4.02 and abs(z) < 4.02:
        width = 0.020 + 0.006 * noise(3 * x, 3 * z, 1.0)
        distance = min(abs(x - round(x)), abs(z - round(z)))
        line = min(1.0, max(0.0, (width - distance) / 0.008 + 0.5))
        for u in (-2, 0, 2):
            for v in (-2, 0, 2):
                if abs(u) == abs(v):
                    dot = math.hypot(x - u, z - v)
                    line = max(line, min(1.0, max(0.0, (0.085 - dot) / 0.01 + 0.5)))
    ink = 1 - 0.93 * line
    return r * ink, g * ink, b * ink


@numba.njit
def sky(dx, dy, dz):
    """Light of the room: dim, warm, with a bright window of four panes and a lamp far behind."""
    up = max(0.0, dy)
    r, g, b = 0.20 + 0.22 * up, 0.18 + 0.21 * up, 0.17 + 0.20 * up
    if dx < -0.05:
        u, v = dz / -dx, dy / -dx
        if -0.75 < u < 0.55 and 0.55 < v < 1.75:
            pane = abs(u + 0.1) > 0.035 and abs(v - 1.15) > 0.035
            if pane:
                light = 15.0 * (0.8 + 0.3 * v)
                r, g, b = 0.86 * light, 0.96 * light, 1.10 * light
    if dx > 0.3 and dy > 0.35 and (dx - 0.62) ** 2 + (dz - 0.35) ** 2 < 0.02:
        r, g, b = 13.0, 8.5, 4.6
    return r, g, b


@numba.njit
def intersect(ox, oy, oz, dx, dy, dz, stones):
    """Return the distance, the thing (-1 nothing, -2 board, -3 table, else a stone), the normal."""
    best, thing, nx, ny, nz = 1e9, -1, 0.0, 1.0, 0.0
    if dy < -1e-9:
        t = (-BOARD_HEIGHT - oy) / dy
        if t > 1e-4:
            best, thing = t, -3
    near, far, axis = -1e9, 1e9, -1
    for a in range(3):
        o, d = (ox, oy, oz)[a], (dx, dy, dz)[a]
        low, high = (-BOARD_HEIGHT, 0.0) if a == 1 else (-BOARD, BOARD)
        if abs(d) < 1e-12:
            if o < low or o > high:
                far = -1e9
        else:
            t0, t1 = (low - o) / d, (high - o) / d
            if t0 > t1:
                t0, t1 = t1, t0
            if t0 > near:
                near, axis = t0, a
            far = min(far, t1)
    if near < far and 1e-4 < near < best:
        best, thing = near, -2
        nx = -math.copysign(1.0, dx) if axis == 0 else 0.0
        ny = -math.copysign(1.0, dy) if axis == 1 else 0.0
        nz = -math.copysign(1.0, dz) if axis == 2 else 0.0
    sx, sy = 1 / STONE_RADIUS, 1 / STONE_HEIGHT
    for s in range(len(stones)):
        px, py, pz = (ox - stones[s, 0]) * sx, (oy - STONE_HEIGHT) * sy, (oz - stones[s, 1]) * sx
        ex, ey, ez = dx * sx, dy * sy, dz * sx
        a = ex * ex + ey * ey + ez * ez
        b = px * ex + py * ey + pz * ez
        c = px * px + py * py + pz * pz - 1
        root = b * b - a * c
        if root > 0:
            t = (-b - math.sqrt(root)) / a
            if 1e-4 < t < best:
                best, thing = t, s
                nx, ny, nz = (px + t * ex) * sx, (py + t * ey) * sy, (pz + t * ez) * sx
                length = math.sqrt(nx * nx + ny * ny + nz * nz)
                nx, ny, nz = nx / length, ny / length, nz / length
    return best, thing, nx, ny, nz


@numba.njit
def scatter(nx, ny, nz):
    """A random direction about a normal, more often near it."""
    z = 2 * random() - 1
    phi = 2 * math.pi * random()
    r = math.sqrt(max(0.0, 1 - z * z))
    x, y, z = nx + r * math.cos(phi), ny + z, nz + r * math.sin(phi)
    length = math.sqrt(x * x + y * y + z * z) + 1e-12
    return x / length, y / length, z / length


@numba.njit
def trace(ox, oy, oz, dx, dy, dz, stones):
    """Follow a path of light backwards; return its colour."""
    r = g = b = 1.0
    for _ in range(6):
        t, thing, nx, ny, nz = intersect(ox, oy, oz, dx, dy, dz, stones)
        if thing == -1:
            lr, lg, lb = sky(dx, dy, dz)
            return r * lr, g * lg, b * lb
        ox, oy, oz = ox + t * dx, oy + t * dy, oz + t * dz
        if thing == -2:
            if ny > 0.5:
                cr, cg, cb = board_colour(ox, oz)
            else:
                cr, cg, cb = wood(ox, 3 * oy, oz, False)
            gloss, rough = 0.035, 0.16
        elif thing == -3:
            cr, cg, cb = wood(0.35 * oz, 0.0, 0.35 * ox, True)
            gloss, rough = 0.04, 0.08
        elif stones[thing, 2] == 0:
            grey = 0.022 + 0.012 * noise(23 * ox, 23 * oy, 23 * oz)
            cr, cg, cb = grey, grey, 1.06 * grey
            gloss, rough = 0.045, 0.10
        else:
            layer = 0.5 + 0.5 * math.sin(58 * (ox + 0.35 * oz) + 3 * noise(3 * ox, 1.0, 3 * oz))
            shade = 0.80 + 0.05 * layer
            cr, cg, cb = shade, 0.975 * shade, 0.92 * shade
            gloss, rough = 0.05, 0.05
        cosine = -(dx * nx + dy * ny + dz * nz)
        fresnel = gloss + (1 - gloss) * (1 - max(0.0, cosine)) ** 5
        if random() < fresnel:
            dx, dy, dz = dx + 2 * cosine * nx, dy + 2 * cosine * ny, dz + 2 * cosine * nz
            fx, fy, fz = scatter(dx, dy, dz)
            dx, dy, dz = dx + rough * fx, dy + rough * fy, dz + rough * fz
            length = math.sqrt(dx * dx + dy * dy + dz * dz)
            dx, dy, dz = dx / length, dy / length, dz / length
            if dx * nx + dy * ny + dz * nz <= 0:
                return 0.0, 0.0, 0.0
        else:
            r, g, b = r * cr, g * cg, b * cb
            dx, dy, dz = scatter(nx, ny, nz)
        ox, oy, oz = ox + 1e-5 * nx, oy + 1e-5 * ny, oz + 1e-5 * nz
    return 0.0, 0.0, 0.0


@numba.njit(parallel=True)
def render(width, height, paths, stones):
    image = np.zeros((height, width, 3))
    # The camera above the near edge of the board, looking down at its middle.
    cx, cy, cz = 1.1, 10.4, 6.6
    tx, ty, tz = 0.15, 0.0, 0.15
    fx, fy, fz = tx - cx, ty - cy, tz - cz
    focus = math.sqrt(fx * fx + fy * fy + fz * fz)
    fx, fy, fz = fx / focus, fy / focus, fz / focus
    length = math.hypot(fx, fz)
    rx, ry, rz = -fz / length, 0.0, fx / length
    ux, uy, uz = ry * fz - rz * fy, rz * fx - rx * fz, rx * fy - ry * fx
    lens, angle = 0.17, 0.30
    for i in numba.prange(height):
        seed(i)
        for j in range(width):
            for _ in range(paths):
                u = ((j + random()) / width - 0.5) * 2 * angle * width / height
                v = (0.5 - (i + random()) / height) * 2 * angle
                px = cx + focus * (fx + u * rx + v * ux)
                py = cy + focus * (fy + u * ry + v * uy)
                pz = cz + focus * (fz + u * rz + v * uz)
                rho, phi = lens * math.sqrt(random()), 6.2831853 * random()
                a, b = rho * math.cos(phi), rho * math.sin(phi)
                ox, oy, oz = cx + a * rx + b * ux, cy + a * ry + b * uy, cz + a * rz + b * uz
                dx, dy, dz = px - ox, py - oy, pz - oz
                norm = math.sqrt(dx * dx + dy * dy + dz * dz)
                lr, lg, lb = trace(ox, oy, oz, dx / norm, dy / norm, dz / norm, stones)
                image[i, j, 0] += min(lr, 12.0)
                image[i, j, 1] += min(lg, 12.0)
                image[i, j, 2] += min(lb, 12.0)
    return image / paths


def develop(light):
    """Make 8-bit colours of light, as a camera does: vignette, noise, a curve with soft ends."""
    y, x = np.mgrid[-1 : 1 : 1j * light.shape[0], -1 : 1 : 1j * light.shape[1]]
    light = light * (1 - 0.16 * (x**2 + y**2))[..., None] * 0.52
    noise_of_sensor = np.random.default_rng(1).normal(size=light.shape)
    light = np.clip(light + 0.006 * np.sqrt(np.maximum(light, 0.002)) * noise_of_sensor, 0, None)
    # A common fit to the response of film (K. Narkowicz, 2015).
    film = light * (2.51 * light + 0.03) / (light * (2.43 * light + 0.59) + 0.14)
    return np.clip(np.rint(255 * np.clip(film, 0, 1) ** (1 / 2.2)), 0, 255).astype(np.uint8)


if __name__ == "__main__":
    path = sys.argv[1] if len(sys.argv) > 1 else "gpuconv/data/photo.jpg"
    picture = develop(render(WIDTH, HEIGHT, PATHS, STONES))
    Image.fromarray(picture).save(path, quality=90, optimize=True)
