"""corr2d on one image against OpenCV and SciPy, full-rank and rank-1 kernels, float32."""

from __future__ import annotations

import cv2
import numpy as np
import scipy.signal

import gpuconv

from .timing import agree, compare

HEAD = ("image", "kernel", "ours ms", "method", "peers ms", "ratio to the best")
KEYWORDS = {"mode": "same", "boundary": "reflect"}


def rows(quick=False):
    rng = np.random.default_rng(0)
    shape = (2048, 2048)
    x = rng.random(shape, dtype=np.float32)
    for k in (3, 5, 7, 11, 15, 31) if not quick else (3,):
        kernels = {"full rank": rng.standard_normal((k, k)).astype("f4")}
        if k > 3:
            g = cv2.getGaussianKernel(k, k / 6, cv2.CV_32F)
            kernels["Gaussian"] = g @ g.T
        for name, K in kernels.items():
            out, other = np.empty_like(x), np.empty_like(x)
            contenders = {
                "gpuconv": lambda K=K, out=out: gpuconv.corr2d(x, K, out=out, **KEYWORDS),
                "cv2.filter2D": lambda K=K, o=other: cv2.filter2D(x, -1, K, dst=o),
            }
            if name == "Gaussian":
                line = np.ascontiguousarray(g[:, 0])
                contenders["cv2.sepFilter2D"] = lambda g=line, o=other: cv2.sepFilter2D(
                    x, -1, g, g, dst=o
                )
            agree(contenders["gpuconv"](), contenders["cv2.filter2D"]())
            found = compare(contenders)
            if name == "full rank" and k in (3, 7, 15, 31):
                # Seconds long: timed apart, fewer times, with its own border.
                def scipys(K=K):
                    return scipy.signal.correlate2d(x, K, "same")

                found |= compare({"scipy.signal.correlate2d": scipys}, rounds=1, seconds=0)
            ours = found.pop("gpuconv")
            plan = gpuconv.plan(shape, K.shape, kernel=K, **KEYWORDS)
            peers = ", ".join(f"{n} {v[0]:.2f}" for n, v in found.items())
            best = min(v[0] for v in found.values())
            yield (
                "2048x2048", f"{k}x{k} {name}", f"{ours[0]:.2f} ({ours[1]:.2f}-{ours[2]:.2f})",
                plan.method, peers, f"{best / ours[0]:.2f}",
            )  # fmt: skip
