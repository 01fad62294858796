"""What NVRTC makes of a specialisation: for every chip, without a GPU or a driver."""

import inspect
import json
import re

from benchmarks.cuda.compiled import compiler
from gpuconv.backends.cuda.compiler import OPTIONS, compiled

from . import built, ptx

ARCHS = (75, 80, 90, 100, 120)
FLOATS = ["float16", "bfloat16", "float32", "float64", "complex64", "complex128"]
_SPILLS = re.compile(r"(\d+) bytes spill stores, (\d+) bytes spill loads")


def report(source, arch):
    """What NVRTC says of a source that compiles, and what is wrong with its code; kept on disk."""

    def make(path):
        from cupy.cuda import nvrtc

        with compiled(source, f"sm_{arch}") as program:
            assert len(nvrtc.getCUBIN(program)) > 1024
            log, code = nvrtc.getProgramLog(program), nvrtc.getPTX(program)
        code = code if isinstance(code, str) else code.decode()
        # ldexp makes powers of two by ex2.approx.ftz, none of them subnormal.
        lines = (line.strip() for line in code.splitlines())
        flushing = [n for n in lines if ".ftz" in n and not n.startswith("ex2.approx")]
        path.write_text(json.dumps([log, ptx.read_before_written(code), flushing]), "utf-8")

    key = [
        inspect.getsource(ptx),
        inspect.getsource(report),
        compiler(),
        source,
        f"sm_{arch}",
        *OPTIONS,
    ]
    return json.loads(built.kept(key, make).read_text("utf-8"))


def check_code(spec, arch, most_spilled=0):
    """No spills, no register that is read before it is written, nothing that flushes subnormals.

    Of each function no more than `most_spilled` bytes are spilled where that is known to be faster
    than anything that avoids it.
    """
    log, undefined, flushing = report(spec.source(), arch)
    spills = _SPILLS.findall(log)
    assert spills, f"no resource report for {spec}:\n{log}"
    most = max(int(stores) for stores, _ in spills)
    assert most <= most_spilled, f"{spec} on sm_{arch} spills:\n{log}"
    assert not undefined, f"{spec} reads what was not written:\n" + "\n".join(undefined)
    assert not flushing, f"{spec} flushes:\n" + "\n".join(flushing)
