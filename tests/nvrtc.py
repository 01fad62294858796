"""What NVRTC makes of a specialisation: for every chip, without a GPU or a driver."""

import re

from benchmarks.cuda.compiled import OPTIONS, compile_for, compiler

from . import built

ARCHS = (75, 80, 90, 100, 120)
FLOATS = ["float16", "bfloat16", "float32", "float64", "complex64", "complex128"]
_SPILLS = re.compile(r"(\d+) bytes spill stores, (\d+) bytes spill loads")


def report(source, arch):
    """The compiler's report on a source that compiles; it is kept on disk."""

    def make(path):
        log, binary = compile_for(source, arch)
        assert len(binary) > 1024
        path.write_text(log, "utf-8")

    return built.kept([compiler(), source, f"sm_{arch}", *OPTIONS], make).read_text("utf-8")


def check_no_spills(spec, arch):
    log = report(spec.source(), arch)
    spills = _SPILLS.findall(log)
    assert spills, f"no resource report for {spec}:\n{log}"
    assert set(spills) == {("0", "0")}, f"{spec} on sm_{arch} spills:\n{log}"
