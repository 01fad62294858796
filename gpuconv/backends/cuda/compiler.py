"""Compiles CUDA C++ with NVRTC: launches, tests and reports use the same function.

CuPy's own `RawModule` is not used: it appends its own options to ours, one of which flushes
subnormal numbers to zero. Nothing here needs a GPU or a driver.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.kept_files import replace_file, seal, unseal

# NVRTC's defaults keep subnormal numbers and divide and take roots exactly. The last option adds
# registers and spills to the log, and changes nothing else.
OPTIONS = ("-std=c++17", "--ptxas-options=-v")

_LENGTH_BYTES = 8


@dataclass(frozen=True)
class Binary:
    """The result of compiling a source."""

    code: bytes  # a cubin, or PTX for chips that this NVRTC does not know
    log: str  # what the compiler said

    def pack(self) -> bytes:
        """Return one string of bytes, which begins with a digest of the others."""
        log = self.log.encode()
        rest = len(log).to_bytes(_LENGTH_BYTES, "little") + log + self.code
        return seal(rest)

    @staticmethod
    def unpack(packed: bytes) -> Binary | None:
        """Read what `pack` returned; None if it is incomplete or was changed."""
        rest = unseal(packed)
        if rest is None or len(rest) < _LENGTH_BYTES:
            return None
        end = _LENGTH_BYTES + int.from_bytes(rest[:_LENGTH_BYTES], "little")
        return Binary(rest[end:], rest[_LENGTH_BYTES:end].decode())


def version() -> tuple[int, int]:
    """Return the version of NVRTC; ImportError, RuntimeError or OSError where there is none."""
    import cupy

    # An attribute: CuPy has no module of this name to import.
    try:
        major, minor = cupy.cuda.nvrtc.getVersion()
    except AttributeError as error:
        raise ImportError(f"this CuPy was built without NVRTC ({error})") from error
    return int(major), int(minor)


def target(capability: int) -> str:
    """Return the value of -arch for a chip: its own, or the newest before it that NVRTC knows.

    Code for an older architecture is PTX, which the driver compiles when it is loaded.
    """
    import cupy

    supported = [int(arch) for arch in cupy.cuda.nvrtc.getSupportedArchs()]
    if capability in supported:
        return f"sm_{capability}"
    older = [arch for arch in supported if arch < capability]
    if not older:
        raise ValueError(
            f"NVRTC {'.'.join(map(str, version()))} compiles for compute capability "
            f"{min(supported) / 10} or newer, this GPU has {capability / 10}; install a CuPy for "
            "an older CUDA"
        )
    return f"compute_{max(older)}"


@contextlib.contextmanager
def compiled(source: str, arch: str) -> Iterator[Any]:
    """Compile for a chip ("sm_90"), or for newer ones too ("compute_90"); yield NVRTC's program."""
    import cupy

    nvrtc = cupy.cuda.nvrtc
    program = nvrtc.createProgram(source, "kernel.cu", (), ())
    try:
        try:
            nvrtc.compileProgram(program, (f"-arch={arch}", *OPTIONS))
        except nvrtc.NVRTCError as error:
            log = nvrtc.getProgramLog(program)
            raise RuntimeError(f"a kernel does not compile for {arch} ({error}):\n{log}") from error
        yield program
    finally:
        nvrtc.destroyProgram(program)


def compile_source(source: str, arch: str) -> Binary:
    """Compile to the binary of a chip ("sm_90"), or to PTX for it and newer ones ("compute_90")."""
    import cupy

    nvrtc = cupy.cuda.nvrtc
    with compiled(source, arch) as program:
        code = nvrtc.getCUBIN(program) if arch.startswith("sm_") else nvrtc.getPTX(program)
        # CuPy drops the last byte, as if it ended a C string, but a binary may end in any byte.
        code = (code.encode() if isinstance(code, str) else code) + b"\0"
        return Binary(code, nvrtc.getProgramLog(program))


def compile_cached(source: str, capability: int) -> Binary:
    """Compile for a GPU, or read from disk what any process compiled before.

    `capability` is its compute capability, 90 for 9.0. The folder is that of CuPy's own kernels. A
    file's name is a digest of everything that its contents depend on. Files are replaced as a
    whole, and compiled anew if they are damaged.
    """
    arch = target(capability)
    path = cache_folder() / f"gpuconv-{_key(source, arch)}.bin"
    with contextlib.suppress(OSError):
        binary = Binary.unpack(path.read_bytes())
        if binary is not None:
            return binary
    binary = compile_source(source, arch)
    try:
        replace_file(path, binary.pack())
    except OSError as error:
        warnings.warn(
            f"compiled CUDA code cannot be kept in {path.parent} ({error}), so every process "
            "compiles anew; set CUPY_CACHE_DIR to a directory that can be written",
            stacklevel=2,
        )
    return binary


def cache_folder() -> Path:
    """Return the folder in which compiled code is kept."""
    asked = os.environ.get("CUPY_CACHE_DIR")
    return Path(asked) if asked else Path.home() / ".cupy" / "kernel_cache"


def _key(source: str, arch: str) -> str:
    parts = (repr(version()), arch, *OPTIONS, source)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:40]
