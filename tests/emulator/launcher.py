"""Takes the place of the CUDA driver: compiles a specialisation with g++ and runs it on the CPU."""

from __future__ import annotations

import ctypes
import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from gpuconv.backends import cuda_plan

HERE = Path(__file__).parent
CACHE = Path(tempfile.gettempdir()) / "gpuconv-emulator"
PLAIN = ("-O1",)
THREAD = ("-O1", "-g", "-fsanitize=thread")
ADDRESS = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")

_MAIN = """
extern "C" void run(unsigned grid, unsigned bx, unsigned by, size_t bytes, void** a) {
  launch(grid, bx, by, bytes, [=] { %(kernel)s(%(arguments)s); });
}
"""
# The C++ types of the kernels' parameters.
_FILTER = ("Geometry", "%(weights)s", "ACC", "const char*", "char*")
_PARAMETERS = {
    "direct": _FILTER,
    "separable": _FILTER,
    "tensor": ("Geometry", "const float*", "float", "int", "const char*", "char*"),
    "weights": ("Geometry", "ACC", "char*", "char*", "Task*", "Image*", "WIDE*"),
    "channels": ("Layer", "char*", "OUT_T*", "ACC*"),
    "channels_weights": ("Layer", "char*", "OUT_T*", "WIDE*"),
    "weights_sum": ("WIDE*", "long long*", "long long", "long long", "OUT_T*"),
}
# A program for the sanitizers, which cannot be loaded into a running Python: the arguments come
# from one file, what pointers point at in their place, and what the last one points at is the
# output. Every array is an allocation of its own, so that ASan sees its ends.
_PROGRAM = """
static std::vector<char> part(FILE* f) {
  long long n; if (fread(&n, 8, 1, f) != 1) exit(3);
  std::vector<char> v(n); if (n && fread(v.data(), 1, n, f) != (size_t)n) exit(3);
  return v;
}
int main(int, char** name) {
  FILE* f = fopen(name[1], "rb");
  auto head = part(f);
  long long* h = (long long*)head.data();
  size_t count = h[4];
  std::vector<std::vector<char>> blobs(count);
  std::vector<char*> pointers(count);
  std::vector<void*> a(count);
  for (size_t n = 0; n < count; ++n) {
    blobs[n] = part(f);
    pointers[n] = blobs[n].data();
    a[n] = h[5 + n] ? (void*)&pointers[n] : (void*)pointers[n];
  }
  run(h[0], h[1], h[2], h[3], a.data());
  FILE* o = fopen(name[2], "wb");
  fwrite(blobs.back().data(), 1, blobs.back().size(), o);
  fclose(o);
}
"""


def source_of(spec, change=None):
    text = spec.source()
    if change is not None:
        changed = change(text)
        if spec.kernel != "weights_sum":
            assert changed != text, "the change to the source did nothing"
        text = changed
    weights = "Weights" if spec.capacity else "const ACC*"
    arguments = ", ".join(
        f"*({kind % {'weights': weights}}*)a[{n}]"
        for n, kind in enumerate(_PARAMETERS[spec.kernel])
    )
    main = _MAIN % {"kernel": spec.kernel, "arguments": arguments}
    return f'#include "cuda_emulator.h"\n{text}\n{main}'


def build(text, flags, program=False):
    """Compile once per text and flags; parallel builders each write a file of their own."""
    flags = (*flags, *(() if program else ("-fPIC",)))
    headers = [path.read_text() for path in sorted(HERE.glob("*.h"))]
    # Half of a kernel's time is the standard library's headers: compiled once for all kernels.
    ready = CACHE / hashlib.sha256("\0".join([*headers, *flags]).encode()).hexdigest()[:24]
    header = (HERE / "cuda_emulator.h").read_text()
    _compile(ready / "cuda_emulator.h.gch", header, flags, "-xc++-header")
    if program:
        text += _PROGRAM
    key = hashlib.sha256("\0".join([text, *headers, *flags]).encode()).hexdigest()[:24]
    target = CACHE / f"{key}{'' if program else '.so'}"
    _compile(target, text, flags, f"-I{ready}", *(() if program else ("-shared",)))
    return target


def _compile(target, text, flags, *options):
    compiler = shutil.which("g++")
    assert compiler, "the CUDA emulator needs g++; install it (Debian: apt-get install g++)"
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        code, made = Path(folder) / "kernel.cpp", Path(folder) / "made"
        code.write_text(text)
        command = [compiler, "-std=c++20", "-ffp-contract=off", "-pthread", "-w", *flags, *options]
        subprocess.run([*command, f"-I{HERE}", "-o", made, code], check=True)
        made.replace(target)


class EmulatedSlot:
    """A lane of the host streaming whose device is the host."""

    after = None

    def __init__(self):
        import contextlib

        self.stream = contextlib.nullcontext()

    def pair(self, name, shape, dtype):
        return np.empty(shape, dtype), np.empty(shape, dtype)

    def upload(self, host, device):
        device[...] = host

    def download(self, device, host):
        host[...] = device

    def finish(self):
        if self.after is not None:
            self.after()
            self.after = None


def _bytes(argument):
    return np.asarray(argument).tobytes()


class EmulatedLauncher:
    """Same calls as `gpuconv.backends.cuda.DeviceLauncher`."""

    def __init__(self):
        self.launched = []

    def unavailable(self):
        return None

    def compute_capability(self):
        return 90

    def upload(self, host):
        return host

    def empty(self, shape, dtype):
        return np.empty(shape, dtype)

    def host_slot(self):
        return EmulatedSlot()

    def free_bytes(self):
        return 1 << 30

    def launch(self, spec, grid, shared_bytes, arguments):
        assert shared_bytes <= cuda_plan.SHARED_BYTES
        self.launched.append((spec, grid, shared_bytes))
        library = ctypes.CDLL(str(build(source_of(spec), PLAIN)))
        values = [np.array(a) for a in arguments]
        table = (ctypes.c_void_p * len(values))(*(v.ctypes.data for v in values))
        library.run(grid, *spec.block, ctypes.c_size_t(shared_bytes), table)


class SanitizedLauncher(EmulatedLauncher):
    """Runs every launch as a program of its own under a sanitizer; arrays must be contiguous."""

    def __init__(self, flags, arrays, change=None):
        super().__init__()
        self.flags, self.arrays, self.change = flags, list(arrays), change
        self.report, self.code = "", 0

    def upload(self, host):
        self.arrays.append(host)
        return host

    def empty(self, shape, dtype):
        return self.upload(np.zeros(shape, dtype))

    def _array_at(self, address):
        return next(a for a in self.arrays if a.ctypes.data == int(address))

    def launch(self, spec, grid, shared_bytes, arguments):
        self.launched.append((spec, grid, shared_bytes))
        if self.code:
            return
        program = build(source_of(spec, self.change), self.flags, program=True)
        pointers = [isinstance(a, np.uint64) for a in arguments]
        blobs = [self._array_at(a) if p else a for a, p in zip(arguments, pointers, strict=True)]
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
                out = blobs[-1]
                out[...] = np.frombuffer(result.read_bytes(), out.dtype).reshape(out.shape)
        self.code = done.returncode
