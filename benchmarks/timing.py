"""Interleaved timing: every contender in turn, round after round, medians with their spread."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version

import numpy as np

THREADS = 2


def set_threads(n=THREADS):
    """Give every library that is loaded the same number of threads."""
    import cv2
    import numba
    import torch

    numba.set_num_threads(min(n, numba.config.NUMBA_NUM_THREADS))
    cv2.setNumThreads(n)
    torch.set_num_threads(n)


def compare(contenders, rounds=7, seconds=0.05):
    """Milliseconds a call by name: (median, lowest, highest) over the rounds."""
    calls = {}
    for name, call in contenders.items():
        call()
        start = time.perf_counter()
        call()
        calls[name] = max(1, int(seconds / max(time.perf_counter() - start, 1e-7)))
    found = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, call in contenders.items():
            call()  # the caches and thread pools are another's
            start = time.perf_counter()
            for _ in range(calls[name]):
                call()
            found[name].append((time.perf_counter() - start) / calls[name] * 1e3)
    return {name: (float(np.median(v)), min(v), max(v)) for name, v in found.items()}


def agree(a, b, tolerance=1e-3):
    """Raise unless two results are equal within a share of the largest: wrong is not timed."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape or np.abs(a - b).max() > tolerance * np.abs(b).max():
        raise AssertionError(f"results differ: shapes {a.shape}, {b.shape}")


def environment():
    """Machine, versions and commit, for the head of a results file."""
    names = ("numpy", "numba", "scipy", "opencv-python-headless", "torch", "cupy-cuda12x")
    versions = []
    for name in names:
        try:
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    cpu = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            cpu = next(line.split(":")[1].strip() for line in file if "model name" in line)
    except (OSError, StopIteration):
        pass
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return [
        f"{cpu}, {os.cpu_count()} cores, {THREADS} threads for every library",
        f"Python {platform.python_version()}, " + ", ".join(versions),
        f"commit {commit.stdout.strip() or 'unknown'}",
    ]
