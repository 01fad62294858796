"""``python -m benchmarks.memory_dask``: memory of Dask's workers as they filter, from Zarr to Zarr,
an image ten times larger than the memory each may use. Draws results/memory_dask.png.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import gpuconv

LIMIT = 448 << 20  # bytes a worker may use; Python, Dask and Numba take more than half of it
# A chunk of 8.5 MiB of float64, and how often it is repeated each way. Low and wide: a chunk is
# held until those below it have been read, so about a row of chunks is in memory at a time.
SIDES, TIMES = (192, 5792), (133, 4)
KERNEL = np.ones((5, 5)) / 25
# The border wraps and the image repeats, so each chunk of the result is the same, and known.
CALL: dict[str, Any] = dict(mode="same", boundary="wrap", stride=4, dtype="uint8")


def make_image(path: Path) -> Any:
    """Write one chunk and link it to the places of all others: 4 GiB that take up 8.5 MiB."""
    import zarr

    chunk = np.random.default_rng(0).uniform(0, 255, SIDES)
    shape = TIMES[0] * SIDES[0], TIMES[1] * SIDES[1]
    image = zarr.create_array(str(path), shape=shape, chunks=SIDES, dtype="f8", compressors=None)
    image[: SIDES[0], : SIDES[1]] = chunk
    first = path / "c" / "0" / "0"
    for i in range(TIMES[0]):
        (path / "c" / str(i)).mkdir(exist_ok=True)
        for j in range(TIMES[1]):
            if i or j:
                os.link(first, path / "c" / str(i) / str(j))
    return chunk


def resident(pid: int) -> int:
    """Bytes of memory a process has now."""
    import psutil

    return int(psutil.Process(pid).memory_info().rss)


def measure(client: Any, folder: Path) -> list[tuple[float, list[int]]]:
    """Filter ``in.zarr`` into ``out.zarr``; what each worker had in memory, every 20 ms."""
    import dask.array as da

    workers = list(client.run(os.getpid).values())
    start, samples, done = time.perf_counter(), [], threading.Event()

    def sample() -> None:
        while not done.wait(0.02):
            samples.append((time.perf_counter() - start, [resident(pid) for pid in workers]))

    watch = threading.Thread(target=sample)
    watch.start()
    try:
        gpuconv.corr2d(da.from_zarr(folder / "in.zarr"), KERNEL, **CALL).to_zarr(
            str(folder / "out.zarr")
        )
    finally:
        done.set()
        watch.join()
    return samples


def right(chunk: Any, path: Path) -> bool:
    """Whether every chunk of the result is what one chunk gives by itself."""
    import zarr

    expected = np.tile(gpuconv.corr2d(chunk, KERNEL, **CALL), (1, TIMES[1]))
    result, n = zarr.open_array(str(path), mode="r"), len(expected)
    return result.shape == (TIMES[0] * n, expected.shape[1]) and all(
        np.array_equal(result[i : i + n], expected) for i in range(0, TIMES[0] * n, n)
    )


def draw(samples: list[tuple[float, list[int]]], path: Path) -> None:
    """Plot the curves and the limit."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
    times = [t for t, _ in samples]
    for number, memory in enumerate(zip(*(values for _, values in samples), strict=True)):
        axes.plot(times, [m / 2**20 for m in memory], label=f"worker {number + 1}")
    axes.axhline(LIMIT / 2**20, color="k", ls="--", label="limit")
    size = np.prod(SIDES) * np.prod(TIMES) * 8 / 2**20
    axes.set(xlabel="seconds", ylabel="MiB", ylim=(0, None), title=f"An image of {size:.0f} MiB")
    axes.legend()
    figure.savefig(path, dpi=110)


@contextlib.contextmanager
def cluster() -> Iterator[Any]:
    """A client of two worker processes, which write nothing out to stay within their limit."""
    import dask
    from distributed import Client, LocalCluster

    with (
        dask.config.set({f"distributed.worker.memory.{key}": False for key in ("target", "spill")}),
        LocalCluster(
            n_workers=2, threads_per_worker=1, memory_limit=LIMIT, dashboard_address=None
        ) as workers,
        Client(workers) as client,
    ):
        yield client


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory_dask", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name, cluster() as client:
        folder = Path(name)
        chunk = make_image(folder / "in.zarr")
        samples = measure(client, folder)
        good = right(chunk, folder / "out.zarr")
    peak = max(max(values) for _, values in samples) / 2**20
    print(f"{samples[-1][0]:.1f} s, at most {peak:.0f} MiB in a worker, result right: {good}")
    draw(samples, options.output / "memory_dask.png")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
