"""Compiles a kernel with NVRTC and disassembles it: neither needs a GPU or a driver."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from gpuconv.backends.cuda import compiler as nvrtc

from .sass import Function, parse

_USED = re.compile(r"Used (\d+) registers")
_STATIC = re.compile(r"(\d+) bytes smem")
_STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_PACKAGE = "nvidia-cuda-nvdisasm"


class Unavailable(RuntimeError):
    """A tool that is needed is not here; the message says which and how to get it."""


@dataclass(frozen=True)
class Resources:
    registers: int
    shared: int  # bytes that the code itself declares
    stack: int
    spill_stores: int
    spill_loads: int

    @property
    def spills(self) -> bool:
        return self.spill_stores + self.spill_loads > 0


def resources(log: str) -> Resources:
    """Read ``--ptxas-options=-v``."""
    used, stack = _USED.search(log), _STACK.search(log)
    if used is None or stack is None:
        raise ValueError(f"no resources in ptxas's report:\n{log}")
    static = _STATIC.search(log)
    return Resources(int(used[1]), int(static[1]) if static else 0, *map(int, stack.groups()))


@lru_cache(maxsize=64)
def build(source: str, name: str, arch: int) -> tuple[Resources, Function]:
    """What the function `name` becomes on a chip."""
    log, cubin = compile_for(source, arch)
    code = parse(disassemble(cubin))
    if name not in code:
        raise ValueError(f"no function {name!r} in the compiled code, which has {sorted(code)}")
    return resources(log), code[name]


def compiler() -> str:
    """Name and version."""
    try:
        return f"NVRTC {'.'.join(map(str, nvrtc.version()))}"
    except (ImportError, RuntimeError, OSError) as error:
        raise Unavailable(
            f"NVRTC cannot be loaded ({error}); run: pip install -e '.[test-all]'"
        ) from error


def compile_for(source: str, arch: int) -> tuple[str, bytes]:
    """The compiler's report and the binary that a GPU would load."""
    compiler()  # says what is missing
    binary = nvrtc.compile_source(source, f"sm_{arch}")
    return binary.log, binary.code


@cache
def nvdisasm() -> str:
    """Path of NVIDIA's disassembler: of the package, or on PATH."""
    try:
        for file in files(_PACKAGE) or ():
            if file.stem == "nvdisasm" and file.parent.name == "bin":
                return str(Path(str(file.locate())).resolve())
    except PackageNotFoundError:
        pass
    found = shutil.which("nvdisasm")
    if found is None:
        raise Unavailable(f"nvdisasm is not here; run: pip install {_PACKAGE}")
    return found


def disassemble(cubin: bytes) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        done = subprocess.run(
            [nvdisasm(), "-c", "-ndf", str(path)], capture_output=True, text=True, check=False
        )
    if done.returncode:
        raise RuntimeError(f"nvdisasm failed: {done.stderr.strip()}")
    return done.stdout
