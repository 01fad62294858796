"""``python -m benchmarks.memory_dask``: memory of Dask's workers while they filter, from Zarr to
Zarr, an image ten times larger than the memory that each may use.

The resident memory of both worker processes is read every 20 ms from outside. Chunks are written
when they are complete, and a progress bar is shown. The result is checked pixel by pixel.
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

from .report import Cell, Check, keep, measured, row, save_png, stem, summary, verdicts
from .timing import environment, number

SUITE = "memory-dask"
HEAD = ("worker", "before, MiB", "at most, MiB", "targets")
LIMIT = 448 << 20  # bytes a worker may use; Python, Dask and Numba take half of it
SIDES, TIMES = (1280, 1280), (19, 19)  # a chunk, 12.5 MiB of float64, and how many each way
KERNEL = np.ones((5, 5)) / 25
CALL: dict[str, Any] = dict(mode="same", boundary="reflect", stride=4, dtype="uint8")
BYTES = int(np.prod(SIDES) * np.prod(TIMES)) * 8

Samples = list[tuple[float, list[int]]]  # seconds, bytes of each worker


def make_image(path: Path) -> Any:
    """Write one chunk and link all others to it: 4.5 GiB that take 12.5 MiB of disk."""
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
    """Return the bytes of memory that a process has now."""
    import psutil

    return int(psutil.Process(pid).memory_info().rss)


def measure(client: Any, folder: Path) -> Samples:
    """Filter ``in.zarr`` into ``out.zarr`` with a progress bar; return the workers' memory."""
    import dask.array as da
    from distributed import futures_of, progress

    workers = list(client.run(os.getpid).values())
    start, done = time.perf_counter(), threading.Event()
    samples: Samples = []

    def sample() -> None:
        while not done.wait(0.02):
            samples.append((time.perf_counter() - start, [resident(pid) for pid in workers]))

    watch = threading.Thread(target=sample)
    watch.start()
    try:
        image = da.from_zarr(folder / "in.zarr")
        result = gpuconv.corr2d(image, KERNEL, **CALL)
        # With to_zarr alone one task would wait for all others. Dask would take them in another
        # order, with two more rows of chunks in memory.
        stored = result.to_zarr(str(folder / "out.zarr"), compute=False).persist()
        progress(stored, notebook=False)
        client.gather(futures_of(stored))  # an error is raised here
    finally:
        done.set()
        watch.join()
    return samples


def result_is_right(chunk: Any, path: Path) -> bool:
    """Whether every chunk of the result has the bits that one call on the whole image gives."""
    import zarr

    # 3x3 chunks have every kind of corner, edge and inner chunk that the image has.
    nine = gpuconv.corr2d(np.tile(chunk, (3, 3)), KERNEL, **CALL)
    height, width = (n // 3 for n in nine.shape)
    result = zarr.open_array(str(path), mode="r")
    if result.shape != (TIMES[0] * height, TIMES[1] * width):
        return False
    down, across = ([0] + [1] * (n - 2) + [2] for n in TIMES)
    wide = np.hstack([nine[:, j * width : (j + 1) * width] for j in across])
    return all(
        np.array_equal(result[i * height : (i + 1) * height], wide[k * height : (k + 1) * height])
        for i, k in enumerate(down)
    )


def draw(samples: Samples, path: Path) -> None:
    """Plot the curves and the limit."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7.5, 3.6), layout="constrained")
    times = [t for t, _ in samples]
    for n, memory in enumerate(zip(*(values for _, values in samples), strict=True)):
        axes.plot(times, [m / 2**20 for m in memory], label=f"worker {n + 1}", linewidth=1)
    most = LIMIT / 2**20
    axes.axhline(most, color="black", linestyle="--", label=f"limit of each, {most:.0f} MiB")
    axes.set(
        xlabel="seconds", ylabel="resident memory, MiB", ylim=(0, 1.25 * most),
        xlim=(0, times[-1]),
        title=f"{BYTES / 2**20:.0f} MiB of float64, Zarr to Zarr, in {np.prod(TIMES)} chunks of "
        f"{np.prod(SIDES) * 8 / 2**20:g} MiB",
    )  # fmt: skip
    axes.title.set_fontsize(10)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper right", ncols=3, fontsize=9)
    save_png(figure, path)


@contextlib.contextmanager
def cluster() -> Iterator[Any]:
    """Yield a client of two worker processes that do not spill to disk."""
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
    with tempfile.TemporaryDirectory() as name, cluster() as client:
        folder = Path(name)
        chunk = make_image(folder / "in.zarr")
        samples = measure(client, folder)
        good = result_is_right(chunk, folder / "out.zarr")
    cells = []
    for n, memory in enumerate(zip(*(values for _, values in samples), strict=True)):
        before, most = memory[0] / 2**20, max(memory) / 2**20
        checks = (Check("MiB", most, LIMIT / 2**20, at_most=True),)
        cells.append(
            Cell(
                (f"worker {n + 1}", number(before), number(most), verdicts(checks)),
                checks,
                (measured(SUITE, f"worker {n + 1}, most", most, "MiB"),),
            )
        )
    picture = stem(options.output, SUITE).with_suffix(".png")
    draw(samples, picture)
    lines = [
        f"# {SUITE}: memory of Dask's workers",
        "",
        str(__doc__).strip().replace("``", "`"),
        "",
        *(f"- {line}" for line in environment(1, ("dask", "distributed", "zarr"))),
        f"- image: {BYTES / 2**20:.0f} MiB of float64, {np.prod(TIMES)} chunks of {SIDES}; "
        f"kernel {KERNEL.shape}, " + ", ".join(f"{key}={value!r}" for key, value in CALL.items()),
        f"- two workers of one thread, {LIMIT >> 20} MiB each, nothing spilled to disk",
        "- command: `python -m benchmarks.memory_dask`",
        "",
        row(HEAD),
        "|" + "---|" * len(HEAD),
        *(row(cell.row) for cell in cells),
        "",
        *(f"- {line}" for line in summary(cells)),
        f"- result {'equal to' if good else 'DIFFERS from'} the one-machine result, bit for bit",
        f"- took {samples[-1][0]:.0f} s",
        "",
        f"![memory of the workers against time]({picture.name})",
    ]
    print("\n".join(lines))
    for path in [*keep(options.output, SUITE, lines, cells, 0.0), picture]:
        print(f"wrote {path}")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
