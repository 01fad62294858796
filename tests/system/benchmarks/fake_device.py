"""Stands for the benchmarks' device: arrays of NumPy, and a clock that only calls move."""

import contextlib

import numpy as np

from benchmarks.cuda.device import Broken


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class FakeDevice:
    """As `device.Device`. What is not a call that moves the clock takes a microsecond."""

    name, l2_bytes, multiprocessors = "fake", 10_000, 4

    def __init__(self, clock=None):
        self.clock = clock or Clock()
        self.used, self.broken, self.freed = [], False, 0

    def array_module(self):
        return np

    def plain_memory(self):
        pass

    def upload(self, host):
        return np.array(host)

    def empty(self, shape, dtype):
        return np.zeros(shape, dtype)

    pinned = empty

    def host(self, array):
        return np.asarray(array)

    array = host

    def poison(self, array):
        array.reshape(-1).view(np.uint8).fill(255)

    def pick(self, image, rows, columns):
        return image[rows][:, columns]

    def synchronize(self):
        pass

    def _take(self, call, sets):
        self.used.append(list(sets))
        start = self.clock.now
        for n in sets:
            call(n)
            self.clock.now += 1e-6
        return (self.clock.now - start) / len(sets) * 1e3

    def elapsed(self, call, sets, host_seconds):
        return self._take(call, sets), True

    def hosted(self, call, sets, finish):
        return self._take(call, sets)

    def queueing(self, call, times):
        return self._take(lambda _: call(), range(times)) * 1e3

    def copies(self, pairs):
        return {"copy, driver": self.lasting(2e-3), "copy, kernel": self.lasting(1e-3)}

    def chains(self, kind="float"):
        return self.lasting(1e-3), 1e5

    def link(self, size):
        return {f"link, {way}": self.lasting(1e-3) for way in ("up", "down", "both")}

    def lasting(self, seconds):
        def call(_=0):
            self.clock.now += seconds

        return call

    def profiled(self):
        return contextlib.nullcontext()

    def free(self):
        self.freed += 1

    def check(self):
        if self.broken:
            raise Broken("the CUDA context is broken: an illegal address")

    def facts(self):
        return ["fake chip", "fake driver"]

    def libraries(self):
        return ["fake libraries"]
