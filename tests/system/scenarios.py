"""Run by `test_concurrency` in processes of its own: ``python -m tests.system.scenarios NAME``."""

import asyncio
import functools
import math
import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import gpuconv
from gpuconv.backends.cpu import call_times, fft, numba_threads, tasks, weight_gradient
from gpuconv.backends.cpu import threads as cpu_threads

# Short calls start threads however busy the machine is.
call_times._STALL_SECONDS = math.inf

rng = np.random.default_rng(0)
X = rng.standard_normal((400, 500)).astype("f4")
K = rng.standard_normal((9, 7)).astype("f4")
RANK1 = np.outer(K[:, 0], K[0])
CHANNELS, LAYER = X[None, :200, :200].repeat(4, 0)[None], rng.standard_normal((5, 4, 3, 3))
CALLS = {
    "direct": lambda: gpuconv.corr2d(X, K, method="direct"),
    "integers": lambda: gpuconv.corr2d((X * 9).astype("i2"), (K * 9).astype("i1")),
    "separable": lambda: gpuconv.corr2d(X, RANK1, method="separable", mode="same"),
    "fft": lambda: gpuconv.corr2d(X, K, method="fft"),
    "complex": lambda: gpuconv.corr2d(X + 1j * X[::-1], K, method="direct"),
    "complex fft": lambda: gpuconv.corr2d(X + 1j * X[::-1], K, method="fft"),
    "gradients": lambda: np.concatenate(
        [g.ravel() for g in gpuconv.corr2d_vjp(X, K, X[8:, 6:], method="direct")]
    ),
    "layer": lambda: gpuconv.nn.conv2d(CHANNELS, LAYER, padding=1),
}


def results():
    return {name: call() for name, call in CALLS.items()}


def check(found, wanted):
    for name in wanted:
        np.testing.assert_array_equal(found[name], wanted[name], err_msg=name)


def many_threads():
    """First calls of all methods at once, then all by all threads."""
    start = threading.Barrier(8)

    def first(name):
        start.wait()
        return CALLS[name]()

    def again(number):
        start.wait()
        names = list(CALLS)
        return {name: CALLS[name]() for name in names[number:] + names[:number]}

    with ThreadPoolExecutor(8) as pool:
        found = dict(zip(CALLS, pool.map(first, CALLS), strict=True))
        everyone = list(pool.map(again, range(8)))
    for n in (1, numba_threads.max_threads()):
        with gpuconv.threads(n):
            wanted = results()
        for some in (found, *everyone):
            check(some, wanted)

    async def gather():
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.run_in_executor(None, c) for c in CALLS.values()))

    check(dict(zip(CALLS, asyncio.run(gather()), strict=True)), wanted)
    assert not numba_threads.process.active_calls


def shared_threads():
    """Calls at the same time divide the threads; nobody's own number changes."""
    import numba

    results()
    threads, granted, lock = numba_threads.max_threads(), [], threading.Lock()
    assert threads == 4
    entered = threading.Semaphore(0)
    leave = threading.Event()

    def kernel(parallel):
        with lock:
            granted.append(numba.get_num_threads() if parallel else 1)
        entered.release()
        leave.wait()

    def call():
        cpu_threads.run_kernel(lambda: kernel(False), lambda: kernel(True))
        return numba.get_num_threads()

    with ThreadPoolExecutor(6) as pool:
        calls = []
        for _ in range(6):
            calls.append(pool.submit(call))
            entered.acquire()
        leave.set()
        assert {c.result() for c in calls} == {4}
    workqueue = numba.threading_layer() == "workqueue"
    assert granted == ([4, 1, 1, 1, 1, 1] if workqueue else [4, 2, 1, 1, 1, 1])


def dask_threads():
    import dask
    import dask.array

    wanted = gpuconv.corr2d(X, K)
    tasks = [dask.delayed(gpuconv.corr2d)(X, K) for _ in range(32)]
    for found in dask.compute(*tasks, scheduler="threads", num_workers=8):
        np.testing.assert_array_equal(found, wanted)


def joblib_workers():
    import joblib

    wanted = gpuconv.corr2d(X, K)
    for backend in ("threading", "multiprocessing"):
        run = joblib.Parallel(n_jobs=2, backend=backend)
        for found in run(joblib.delayed(gpuconv.corr2d)(X, K) for _ in range(4)):
            np.testing.assert_array_equal(found, wanted)


def _child(wanted):
    check(results(), wanted)
    return numba_threads.process.serial_only, gpuconv.corr2d(X, K).sum()


def fork():
    """Children of a process whose threads have started, while they compute, and their children."""
    import numba

    wanted = results()
    alone = numba.threading_layer() == "omp" and sys.platform.startswith("linux")
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for found in pool.map(_child, [wanted] * 4):
            assert found[0] == alone
    check(results(), wanted)
    stop = threading.Event()

    def busy():
        while not stop.is_set():
            CALLS["direct"]()

    others = [threading.Thread(target=busy) for _ in range(3)]
    for other in others:
        other.start()
    for _ in range(4):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                grandchild = os.fork()
                np.testing.assert_array_equal(CALLS["direct"](), wanted["direct"])
                if grandchild == 0:
                    os._exit(0)
                code = os.waitpid(grandchild, 0)[1]
            finally:
                os._exit(min(code, 1))
        assert os.waitpid(child, 0)[1] == 0
    stop.set()
    for other in others:
        other.join()


def other_starts():
    wanted = CALLS["direct"]()
    for method in sorted({"spawn", "forkserver"} & {*multiprocessing.get_all_start_methods()}):
        with multiprocessing.get_context(method).Pool(1) as pool:
            np.testing.assert_array_equal(pool.apply(gpuconv.corr2d, (X, K)), wanted)


class Images:
    def __len__(self):
        return 8

    def __getitem__(self, number):
        import torch

        return gpuconv.corr2d(torch.from_numpy(X) + number, torch.from_numpy(K))


def torch_workers():
    from torch.utils.data import DataLoader

    images = Images()
    wanted = [images[n] for n in range(len(images))]
    for batch, first in zip(DataLoader(images, 4, num_workers=2), (0, 4), strict=True):
        for n, image in enumerate(batch):
            assert image.equal(wanted[first + n])


def _virtual(side):
    return np.lib.stride_tricks.as_strided(np.ones(1, "f4"), (side, side), (0, 0))


def _long_calls():
    x, k = np.ones((3000, 3000), "f4"), np.ones((301, 301), "f4")
    wide = _virtual(60_000)
    z, zk = np.ones((1500, 1500), "c8"), np.ones((201, 201), "c8")
    bad = np.full((3000, 3000), np.nan, "f4")
    integers = np.ones((2500, 2500), "i4")
    tall, column = _virtual(60_000)[:, :4000], np.ones((5001, 2), "f4")
    dy = np.ones((2700, 2700), "f4")
    for name, image, kernel, keywords in (
        ("direct", x, k, dict(method="direct")),
        ("integers", integers, k.astype("i4") << 30, dict(method="direct")),
        ("separable", tall, column, dict(method="separable", stride=4)),
        ("box", wide, np.ones_like(k), dict(method="box", stride=16)),
        ("fft", wide, k, dict(method="fft", stride=16)),
        ("fft of NaN", bad, k[:101, :101].copy(), dict(method="fft")),  # summed directly
        ("complex", z, zk, dict(method="direct")),
    ):
        yield name, image, functools.partial(gpuconv.corr2d, image, kernel, **keywords)
    yield "gradient", x, lambda: gpuconv.corr2d_vjp(x, k, dy, wrt="K", method="direct")


def interrupt():
    """Ctrl-C in the first part of a long call ends it before a third part begins."""
    wanted = results()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    main, begun = threading.main_thread(), []

    def sliced(work, total, of=cpu_threads.run_in_slices):
        sent = threading.Event()

        def send():
            signal.pthread_kill(main.ident, signal.SIGINT)
            sent.set()

        def part(first, last):
            begun.append((first, last, total))
            if first == 0:
                threading.Thread(target=send).start()
            else:
                sent.wait()  # so that no part after this one may begin
            work(first, last)

        of(part, total)

    tasks.run_in_slices = fft.run_in_slices = weight_gradient.run_in_slices = sliced
    for name, x, call in _long_calls():
        before = x[:5, :5].copy()
        begun.clear()
        try:
            call()
        except KeyboardInterrupt:
            pass
        else:
            raise AssertionError(f"{name}: not interrupted")
        print(f"{name}: {begun}", flush=True)
        assert 1 <= len(begun) <= 2, (name, begun)
        first, last, total = begun[-1]
        assert last - first < total / 4, (name, begun)  # much was left to do
        np.testing.assert_array_equal(x[:5, :5], before)
    check(results(), wanted)
    assert not numba_threads.process.active_calls


def _limit_memory(more):
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + more, resource.RLIM_INFINITY))


def no_memory():
    """Workspaces that cannot be had are an error, and the next call is right."""
    wanted = results()
    x = np.ones((3, 3_700_000), "i2")
    k, z = np.ones((2, 2), "f4"), np.ones((3, 1_900_000), "c8")
    with gpuconv.threads(1):
        # More than 64 MiB, which malloc may have set aside for another thread.
        for a, far in ((x, 1_800_000), (z, 900_000)):
            # A small call first: what is compiled and kept is not what is to fail.
            gpuconv.corr2d(a[:, :500], k, method="direct", dilation=(1, 240))
            # All columns between the taps are read by some output, so that rows lie there whole.
            keywords = dict(method="direct", dilation=(1, far))
            out = np.zeros((2, a.shape[1] - far), np.result_type(a, k))
            _limit_memory(24 << 20)
            try:
                gpuconv.corr2d(a, k, out=out, **keywords)
            except MemoryError as error:
                if "no row of it is sure to be complete" not in str(error):
                    raise
            else:
                raise AssertionError(f"{a.dtype}: memory was not short")
            finally:
                resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
            assert (gpuconv.corr2d(a, k, out=out, **keywords) == 4).all()
    check(results(), wanted)


def _peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def memory(folder):
    """No method copies an image, whatever its layout."""
    results()
    side = 3200
    raw = np.zeros(side * side * 8 + 16, np.uint8)
    raw[:] = 0x3F  # a float in any order of bytes
    n = side * side
    out_raw = np.zeros(n * 8 + 16, np.uint8)
    out_raw[:] = 1
    k = np.ones((5, 5), "f4")
    k[2, 2] = 2

    def of(memory, dtype, shift=0):
        size = np.dtype(dtype).itemsize * n
        return memory[shift : shift + size].view(dtype).reshape(side, side)

    def run(name, bound, x, kernel, method, out):
        gpuconv.corr2d(x, kernel, method=method, mode="same", out=out)
        more = (_peak() - base) >> 20
        print(f"{name}: {more} MiB")
        assert more < bound >> 20, (name, more)

    small = {d: np.ones((300, 300), d) for d in ("f4", "f8", "c8", "i2")}
    for x in small.values():
        for method, kernel in (("direct", k), ("separable", k * 0 + 1), ("fft", k)):
            if x.dtype != "i2" or method != "fft":
                gpuconv.corr2d(x, kernel, method=method, mode="same")
    base, image = _peak(), n * 4
    for method, kernel in (("direct", k), ("separable", k * 0 + 1), ("fft", k)):
        for name, x in (
            ("plain", of(raw, "f4")), ("transposed", of(raw, "f4").T), ("swapped", of(raw, ">f4")),
            ("misaligned", of(raw, "f4", 1)), ("flipped", of(raw, "f4")[::-1, ::-1]),
        ):  # fmt: skip
            run(f"{method} {name}", image // 2, x, kernel, method, of(out_raw, "f4"))
        run(f"{method} misaligned out", image // 2, of(raw, "f4"), kernel, method,
            of(out_raw, "f4", 1))  # fmt: skip
    run("other dtypes", image // 2, of(raw, "i2"), k, "direct", of(out_raw, "f4"))
    run("float16 of float64", image // 2, of(raw, "f8"), k, "direct", of(out_raw, "f2"))
    for name, x in (
        ("plain", of(raw, "c8")), ("swapped", of(raw, ">c8")), ("misaligned", of(raw, "c8", 1)),
    ):  # fmt: skip
        run(f"complex {name}", image, x, k, "direct", of(out_raw, "c8"))
    run("complex fft", image, of(raw, "c8"), k, "fft", of(out_raw, "c8"))
    # Pages of files are counted too, where they are the caller's.
    x = np.memmap(f"{folder}/x", ">i2", "w+", shape=(side, side))
    out = np.memmap(f"{folder}/out", "f4", "w+", shape=(side, side))
    run("memmap", image + image // 2 + image // 2, x, k, "direct", out)


if __name__ == "__main__":
    scenarios, *arguments = sys.argv[1:]
    for name in scenarios.split(","):
        begin = time.perf_counter()
        globals()[name](*arguments)
        print(f"{name}: {time.perf_counter() - begin:.1f} s", flush=True)
