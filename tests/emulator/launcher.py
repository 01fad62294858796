"""Takes the place of the CUDA driver: compiles a specialisation with g++ and runs it on the CPU."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
import threading
import time
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import scipy.fft

from gpuconv.backends.cuda import cufft_plans
from gpuconv.backends.cuda.chips import HOPPER
from gpuconv.backends.cuda.kernels import Kernel, Parameters

from .. import built
from .streams import StreamingLauncher, current

HERE = Path(__file__).parent
HEADER = "cuda_emulator.h"
# Few multiprocessors, so that blocks go from tile to tile in small problems too.
CHIP = replace(HOPPER, multiprocessors=2)
_one_at_a_time = threading.Lock()
PLAIN = ("-Og",)
THREAD = ("-O1", "-g", "-fsanitize=thread")
ADDRESS = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")

# What Python can see of a library.
EXPORT = 'extern "C" __attribute__((visibility("default")))'
_RUN = """
static void call(void** a) { %(kernel)s(%(arguments)s); }
%(export)s
void run(unsigned grid, unsigned bx, unsigned by, size_t bytes, void** a) {
  launch(grid, bx, by, bytes, call, a);
}
"""
# The C++ types of the kernels' parameters.
_FILTER = ("Geometry", "%(weights)s", "ACC", "const char*", "char*")
_KEPT = ("Overlap", "ACC", "ACC*", "char*", "ACC*")
_BOX = ("Box", "BoxAxis", "Held")
_PARAMETERS = {
    "direct": _FILTER,
    "separable": _FILTER,
    "direct_strided": _FILTER,
    "separable_strided": _FILTER,
    "tensor": _FILTER,
    "weight_gradient": ("Geometry", "ACC", "char*", "char*", "Task*", "ImageOffsets*", "WIDE*"),
    "layer_forward": ("Layer", "char*", "OUT_T*", "ACC*"),
    "layer_weight_gradient": ("Layer", "char*", "OUT_T*", "WIDE*"),
    "box_down_segments": (*_BOX, "char*", "Held*"),
    "box_down": (*_BOX, "char*", "Held*", "Held*"),
    "box_across_segments": (*_BOX, "Held*", "Held*"),
    "box_across": (*_BOX, "Held*", "Held*", "BoxScale*", "char*"),
    "box_short": (*_BOX, "Held*", "BoxScale*", "char*"),
    "fft_spread": ("Overlap", "ACC*", "ACC*", "Norm*", "Size*"),
    "fft_gather": ("Overlap", "ACC", "char*", "int*", "ACC*", "Norm*", "Size*", "Largest*"),
    "fft_product": ("Overlap", "long long", "Real", "Bins*", "Bins*", "Bins*", "Size*"),
    "fft_store": (*_KEPT, "Size*", "Largest*", "int*", "char*"),
    "fft_block_spectrum": ("Overlap", "ACC*", "Bins*", "Size*"),
    "fft_block": ("Overlap", "ACC", "ACC*", "char*", "Bins*", "Size*", "int*", "char*"),
    "fft_redo": ("Overlap", "ACC", "ACC*", "char*", "int*", "char*"),
    "weight_gradient_sum": ("WIDE*", "long long*", "long long", "long long", "OUT_T*"),
}


def source_of(spec, change=None):
    text = spec.source()
    if change is not None:
        changed = change(text)
        if spec.kernel != "weight_gradient_sum" and not spec.kernel.startswith("fft_"):
            assert changed != text, "the change to the source did nothing"
        text = changed
    weights = "Weights" if spec.capacity else "const ACC*"
    arguments = ", ".join(
        f"*({kind % {'weights': weights}}*)a[{n}]"
        for n, kind in enumerate(_PARAMETERS[spec.kernel])
    )
    text = text.replace('#include "cuda_warp.h"', (HERE / "cuda_warp.h").read_text())
    run = _RUN % {"export": EXPORT, "kernel": spec.kernel, "arguments": arguments}
    return f'#include "{HEADER}"\n{text}\n{run}'


_LANGUAGE = ("-std=c++20", "-ffp-contract=off", "-pthread", "-w", "-fPIC", "-fvisibility=hidden")


@cache
def compiler():
    """Command and version of the compiler that stands in for NVRTC."""
    found = shutil.which("g++")
    assert found, "the CUDA emulator needs g++; install it (Debian: apt-get install g++)"
    said = subprocess.run([found, "--version"], capture_output=True, text=True, check=True)
    return found, said.stdout


def _compile(*arguments):
    subprocess.run([compiler()[0], *_LANGUAGE, *arguments], check=True)


@cache
def _text(name):
    return (HERE / name).read_text()


def parsed_header(flags):
    """Folder of the emulator's header, parsed once for these flags."""

    def make(folder):
        folder.mkdir()
        copy = folder / HEADER
        copy.write_text(_text(HEADER))
        _compile(*flags, "-x", "c++-header", copy, "-o", f"{copy}.gch")

    return built.kept([_text(HEADER), *compiler(), *_LANGUAGE, *flags], make)


def _compiled(name, flags):
    """Object file of what all kernels share."""

    def make(path):
        _compile(*flags, "-c", f"-I{HERE}", "-o", path, HERE / name)

    return built.kept([_text(HEADER), _text(name), *compiler(), *_LANGUAGE, *flags], make, ".o")


def build(text, flags, program=False):
    """Library, or program for a sanitizer, that these flags make of a source."""
    names = ("cuda_emulator.cpp", *(("sanitized_main.cpp",) if program else ()))

    def make(path):
        code = path.with_name("kernel.cpp")
        code.write_text(text)
        kind = [] if program else ["-shared"]
        shared = [_compiled(name, flags) for name in names]
        _compile(*flags, *kind, f"-I{parsed_header(flags)}", "-o", path, code, *shared)

    key = [text, _text(HEADER), *map(_text, names), *compiler(), *_LANGUAGE, *flags]
    return built.kept(key, make, "" if program else ".so")


@cache
def _library(spec):
    """Code of a specialisation; to put its source together takes longer than many kernels run."""
    return ctypes.CDLL(str(build(source_of(spec), PLAIN)))


def _bytes(argument):
    return np.asarray(argument).tobytes()


def cufft_many(layout, source, target, inverse):
    """What cuFFT makes of a plan's numbers, on two NumPy arrays."""

    def items(array, embed, stride, distance, columns):
        # item b: [b * distance + (y * embed[1] + x) * stride], in elements
        assert array.flags.c_contiguous
        step = array.itemsize
        last = (layout.batch - 1) * distance + ((layout.shape[0] - 1) * embed[1] + columns - 1)
        assert last * stride < array.size
        return np.lib.stride_tricks.as_strided(
            array,
            (layout.batch, layout.shape[0], columns),
            (distance * step, embed[1] * stride * step, stride * step),
        )

    half = layout.shape[1] // 2 + 1
    into, result = {
        "C2C": (layout.shape[1], layout.shape[1]), "Z2Z": (layout.shape[1], layout.shape[1]),
        "R2C": (layout.shape[1], half), "D2Z": (layout.shape[1], half),
        "C2R": (half, layout.shape[1]), "Z2D": (half, layout.shape[1]),
    }[layout.kind]  # fmt: skip
    assert layout.last == result
    a = items(source, layout.inembed, layout.istride, layout.idist, into)
    to = items(target, layout.onembed, layout.ostride, layout.odist, result)
    if layout.kind in ("R2C", "D2Z"):
        assert not inverse
        to[...] = scipy.fft.rfft2(a)
    elif layout.kind in ("C2R", "Z2D"):
        assert inverse
        to[...] = scipy.fft.irfft2(a, layout.shape, norm="forward")
        a[...] = np.nan  # cuFFT does not keep it either
    else:
        to[...] = scipy.fft.ifft2(a, norm="forward") if inverse else scipy.fft.fft2(a)


class EmulatedLauncher(StreamingLauncher):
    """A `Launcher` (see `gpuconv.backends.cuda.launcher`) that runs kernels on the CPU."""

    def __init__(self, late=()):
        super().__init__(late)
        self.launched = []
        self.uploaded = 0  # bytes of the largest array that a launch brought along
        self.kept = []  # bytes of each array that was uploaded to stay
        self.captures = False  # whether a CUDA graph is being made
        self.prepared = self.waited = 0

    def unavailable(self):
        return None

    def chip(self):
        return CHIP

    def upload(self, host):
        if current() is not None:
            self.uploaded = max(self.uploaded, host.nbytes)
            current().kept.append(host := host.copy())
        return host

    def empty(self, shape, dtype):
        array = np.empty(shape, dtype)
        if current() is not None:
            current().kept.append(array)
        return array

    def transforms(self, source, target, inverse):
        layout = cufft_plans.layout(source, target, inverse)
        return lambda: self.later(lambda: cufft_many(layout, source, target, inverse))

    def keep(self, host):
        self.kept.append(host.nbytes)
        return host.copy()

    def capturing(self):
        return self.captures

    def wait(self):
        self.waited += 1

    def device(self):
        return 0

    def prepare(self, spec, grid, shared_bytes, parameters):
        kept = Parameters(parameters)

        def queue(blocks):
            time.sleep(0)  # the driver lets other threads run before it has read them
            arguments = tuple(array.copy()[0] for array in kept.arrays)
            self.run_kernel(spec, blocks, shared_bytes, arguments)

        self.prepared += 1
        return Kernel(kept, grid, queue)

    def launch(self, kernel, addresses, value=None, grid=0):
        kernel.launch(addresses, value, grid)

    def run_kernel(self, spec, grid, shared_bytes, arguments):
        """Queue a kernel as it was launched, by copies of its arguments."""
        assert shared_bytes <= self.chip().block_bytes
        self.launched.append((spec, grid, shared_bytes))
        library = _library(spec)
        values = [np.array(a) for a in arguments]
        table = (ctypes.c_void_p * len(values))(*(v.ctypes.data for v in values))

        def run():
            with _one_at_a_time:  # the emulated kernels have one grid and one block
                library.run(grid, *spec.block, ctypes.c_size_t(shared_bytes), table)
            assert len(values)  # kept until here

        self.later(run)


class SanitizedLauncher(EmulatedLauncher):
    """Runs every launch as a program of its own under a sanitizer; arrays must be contiguous."""

    def __init__(self, flags, arrays, change=None):
        super().__init__()
        self.flags, self.arrays, self.change = flags, list(arrays), change
        self.report, self.code = "", 0

    def upload(self, host):
        self.arrays.append(host)
        return host

    def keep(self, host):
        return self.upload(host)

    def empty(self, shape, dtype):
        return self.upload(np.zeros(shape, dtype))

    def _arrays_at(self, addresses):
        """What lies at each address: an array, or its bytes up to the next address in it."""
        found = []
        for at in map(int, addresses):
            array = next(a for a in self.arrays if 0 <= at - a.ctypes.data < max(1, a.nbytes))
            start, stop = array.ctypes.data, array.ctypes.data + array.nbytes
            end = min((int(other) for other in addresses if at < int(other) < stop), default=stop)
            whole = (at, end) == (start, stop)
            found.append(array if whole else array.view(np.uint8)[at - start : end - start])
        return found

    def run_kernel(self, spec, grid, shared_bytes, arguments):
        self.launched.append((spec, grid, shared_bytes))
        if self.code:
            return
        program = build(source_of(spec, self.change), self.flags, program=True)
        pointers = [isinstance(a, np.uint64) for a in arguments]
        arrays = iter(self._arrays_at([a for a in arguments if isinstance(a, np.uint64)]))
        blobs = [next(arrays) if p else a for a, p in zip(arguments, pointers, strict=True)]
        head = np.array([grid, *spec.block, shared_bytes, len(blobs), *pointers], np.int64)
        with tempfile.TemporaryDirectory() as folder:
            inputs, result = Path(folder) / "in", Path(folder) / "out"
            with inputs.open("wb") as f:
                for piece in (head, *blobs):
                    raw = _bytes(piece)
                    f.write(np.int64(len(raw)).tobytes() + raw)
            done = subprocess.run(
                [program, inputs, result], capture_output=True, text=True, check=False
            )
            self.report += done.stderr
            if done.returncode == 0:
                raw = result.read_bytes()
                for array in (b for b, p in zip(blobs, pointers, strict=True) if p):
                    part, raw = raw[: array.nbytes], raw[array.nbytes :]
                    if part != array.tobytes():  # what is only read may be read-only
                        array[...] = np.frombuffer(part, array.dtype).reshape(array.shape)
        self.code = done.returncode
