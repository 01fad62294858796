"""What NVRTC makes of a specialisation: for every chip, without a GPU or a driver."""

import functools
import re

import pytest

from . import built

ARCHS = (75, 80, 90, 100, 120)
FLOATS = ["float16", "bfloat16", "float32", "float64", "complex64", "complex128"]
_SPILLS = re.compile(r"(\d+) bytes spill stores, (\d+) bytes spill loads")


@functools.cache
def _version():
    try:
        from cupy.cuda import nvrtc

        return ".".join(map(str, nvrtc.getVersion()))
    except (ImportError, RuntimeError, OSError) as error:
        pytest.fail(f"NVRTC cannot be loaded ({error}); run: pip install -e '.[test-all]'")


def report(source, arch):
    """The compiler's report on a source that compiles; it is kept on disk."""

    def make(path):
        from cupy.cuda import nvrtc

        program = nvrtc.createProgram(source, "kernel.cu", (), ())
        try:
            nvrtc.compileProgram(program, options)
            assert len(nvrtc.getCUBIN(program)) > 1000
            path.write_text(nvrtc.getProgramLog(program), "utf-8")
        except nvrtc.NVRTCError:
            pytest.fail(nvrtc.getProgramLog(program))
        finally:
            nvrtc.destroyProgram(program)

    options = (f"-arch=sm_{arch}", "-std=c++17", "--ptxas-options=-v")
    return built.kept(["NVRTC", _version(), source, *options], make).read_text("utf-8")


def check_no_spills(spec, arch):
    log = report(spec.source(), arch)
    spills = _SPILLS.findall(log)
    assert spills, f"no resource report for {spec}:\n{log}"
    assert set(spills) == {("0", "0")}, f"{spec} on sm_{arch} spills:\n{log}"
