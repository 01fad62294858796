"""What the processes of the GPU's checks and its sanitizers say, without starting any."""

import json
from types import SimpleNamespace

from benchmarks.cuda import children

CLEAN = {
    "memcheck": "========= COMPUTE-SANITIZER\n========= ERROR SUMMARY: 0 errors\n",
    "racecheck": "========= COMPUTE-SANITIZER\n"
    "========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)\n",
}


def done(checked=5, bad=0, of=5, refused=0, stopped="", code=0, wrong=(), text=""):
    counts = {"of": of, "checked": checked, "bad": bad, "refused": refused}
    last = {name: {"float32": n} for name, n in counts.items()} | {"stopped": stopped}
    lines = [*({"wrong": name, "why": "because"} for name in wrong), last]
    return children.Done(tuple(lines), text, code)


def process(lines, code=0, text=""):
    said = text + "".join(json.dumps(line) + "\n" for line in lines)
    return SimpleNamespace(communicate=lambda timeout=None: (said, ""), returncode=code)


def beginning(wrong=(), log=None):
    """Starts no process; each says that it checked five combinations."""

    def begin(arguments, prefix=()):
        if log is not None:
            log.append((prefix, arguments))
        tool = prefix[2] if prefix else None
        return process(done(wrong=wrong, bad=len(wrong)).lines, text=CLEAN.get(tool, ""))

    return begin
