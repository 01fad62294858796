"""The benchmarks' children: killed with all they started, and followed by others if they fail."""

import json
import os
import sys
import time
from itertools import count

from benchmarks.cuda import children, processes, worker
from benchmarks.cuda.children import Share
from benchmarks.cuda.device import Broken
from benchmarks.cuda.journal import Journal, objects, read
from benchmarks.cuda.processes import Ending, Limits
from benchmarks.cuda.worker import Task, Tasks
from benchmarks.memory import ROOT

ENDED = Ending("", 0, ())


def python(code, limits, heard=None):
    said = [] if heard is None else heard
    return processes.run([sys.executable, "-c", code], limits, lambda text: not said.append(text))


def test_a_program_that_ends_by_itself():
    said = []
    ending = python("print('one'); print('two'); raise SystemExit(3)", Limits(60), said)
    assert said == ["one", "two"]
    assert (ending.killed, ending.code) == ("", 3)
    assert str(ending) == "ended with 3: two"


def test_a_program_that_takes_too_long_is_killed():
    ending = python("import time; time.sleep(600)", Limits(0.5))
    assert str(ending) == "killed after 0.5 s: it said nothing"
    assert ending.code is None
    ending = python("import time; time.sleep(600)", Limits(600, start=0.4))
    assert str(ending) == "killed after 0.4 s without a first word: it said nothing"


def test_a_program_that_hangs_is_killed_with_what_it_started(tmp_path):
    # Its own child holds the pipe.
    pid = tmp_path / "pid"
    child = f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    code = (
        "import subprocess, sys, time, pathlib\n"
        f"subprocess.Popen([sys.executable, '-c', {child!r}])\n"
        f"while not (p := pathlib.Path({str(pid)!r})).exists() or not p.read_text():\n"
        "    time.sleep(0.01)\n"
        "print('started', flush=True)\n"
        "time.sleep(600)\n"
    )
    ending = python(code, Limits(600, silence=0.3))
    assert str(ending) == "killed after 0.3 s without a word: started"
    number = pid.read_text()
    for _ in range(100_000):  # until the system has taken the killed one away
        try:
            with open(f"/proc/{number}/stat", encoding="utf-8") as file:
                if file.read().rsplit(")", 1)[1].split()[0] == "Z":
                    break
        except (FileNotFoundError, ProcessLookupError):
            break
        time.sleep(0.01)
    else:
        raise AssertionError(f"process {number} still runs")


def test_the_innermost_call_of_a_traceback_is_named():
    output = ("noise", "Current thread 0x1 (most recent call first):", '  File "k.py", line 3 in k',
              '  File "w.py", line 9 in work')  # fmt: skip
    assert str(Ending("killed", None, output)) == 'killed: File "k.py", line 3 in k'
    output = (
        "Thread 1 (most recent call first):",
        f'  File "{ROOT / "gpuconv" / "k.py"}", line 3 in k',
    )
    said = str(Ending("killed", None, output)).replace(os.sep, "/")
    assert said == 'killed: File "gpuconv/k.py", line 3 in k'
    assert str(Ending("", -11, ())) == "ended by signal 11: it said nothing"


class Scripted:
    """Children that say what they are told to; each call takes a second."""

    def __init__(self, *scripts):
        self.scripts, self.commands, self.now = list(scripts), [], 0.0

    def clock(self):
        return self.now

    def __call__(self, command, limits, hear):
        self.commands.append(command)
        self.now += 1.0
        lines, ending = self.scripts.pop(0)
        for line in lines:
            hear(line if isinstance(line, str) else json.dumps(line))
        return ending

    def firsts(self):
        return [int(command[command.index("--first") + 1]) for command in self.commands]


def start(n):
    return {"start": n, "name": f"task {n}", "method": "direct"}


def result(n, **more):
    return {"index": n, "name": f"task {n}", **more}


def completed(scripts, seconds=100.0):
    run, journal = Scripted(*scripts), Journal(None)
    printed = children.complete(Share("matrix"), seconds, journal, run, run.clock)
    return run, journal.lines, printed


def test_another_child_goes_on_behind_the_task_that_failed():
    killed = Ending("killed after 9 s without a word", None, ())
    run, lines, printed = completed([
        ([start(0), result(0), "noise", start(1)], Ending("", -6, ("Aborted",))),
        ([start(2), result(2, failed="illegal address", lost=True)], Ending("", 3, ())),
        ([start(3)], killed),
        ([start(4), result(4), {"end": True}], ENDED),
    ])  # fmt: skip
    assert run.firsts() == [0, 2, 3, 4]
    assert [line["index"] for line in lines if "index" in line] == [0, 1, 2, 3, 4]
    failed = {line["index"]: line["failed"] for line in lines if "failed" in line}
    assert failed == {1: "ended by signal 6: Aborted", 2: "illegal address", 3: str(killed)}
    assert all(line["stage"] == "matrix" for line in lines)
    assert next(line for line in lines if line.get("index") == 1)["method"] == "direct"
    assert printed == ["noise"]
    # Only where one hung is said to the next.
    assert [c[c.index("--hung") + 1] for c in run.commands] == ["", "", "", "3"]


def test_a_group_at_which_too_many_children_end_is_left_out():
    def task(n, group):
        return start(n) | {"group": group}

    crash = Ending("", -11, ())
    lost = [task(0, "fft"), result(0, failed="illegal address", lost=True)], Ending("", 3, ())
    run, lines, _ = completed([
        lost, *([[task(n, "fft")], crash] for n in range(1, children._MOST_OF_A_GROUP)),
        ([task(9, "tensor"), result(9), {"end": True}], ENDED),
    ])  # fmt: skip
    without = [command[command.index("--without") + 1] for command in run.commands]
    assert without == [""] * children._MOST_OF_A_GROUP + ["fft"]
    (left,) = [line["left"] for line in lines if "left" in line]
    assert left.startswith("fft is left out")
    tasks = [Task("a", dict, group="fft"), Task("b", dict, group="tensor")]
    assert [line.get("start") for line in worked(tasks, without=["fft"])[1]] == [1, None, None]


def test_a_share_whose_children_never_come_to_a_task_is_given_up():
    broken = [], Ending("", 1, ("ImportError: no driver",))
    run, lines, _ = completed([broken, broken, broken])
    assert run.firsts() == [0, 0]
    assert [line["left"] for line in lines] == ["ended with 1: ImportError: no driver"]


def test_what_is_not_reached_is_said():
    run, lines, _ = completed([([start(0), result(0), start(1)], Ending("killed", None, ()))], 1.2)
    assert run.firsts() == [0]
    assert [line.get("next") for line in lines] == [None, 1]
    assert lines[-1]["left"].startswith("no time was left; task 1: killed")
    assert "failed" not in lines[-1]


# What a child does


def worked(tasks, first=0, seconds=9.0, check=lambda: None, without=()):
    said, ticks = [], count()
    code = worker.work(
        Tasks(tasks, check), first, seconds, 60.0, said.append, without, lambda: float(next(ticks))
    )
    return code, said


def test_a_task_that_throws_is_a_result_and_the_child_goes_on():
    tasks = [Task("a", lambda: 1 / 0), Task("b", lambda: {"value": 2}, {"method": "fft"})]
    code, said = worked(tasks)
    assert code == 0
    assert said[1]["failed"] == "ZeroDivisionError: division by zero"
    assert said[2] == {"start": 1, "name": "b", "method": "fft"}
    assert (said[3]["index"], said[3]["value"], said[3]["method"]) == (1, 2, "fft")
    assert said[-1] == {"end": True}
    assert [line.get("start") for line in worked(tasks, first=1)[1]] == [1, None, None]


def test_a_child_whose_device_is_lost_leaves_the_rest_to_another():
    def broken():
        raise Broken("the context is broken")

    code, said = worked([Task("a", lambda: 1 / 0), Task("b", dict)], check=broken)
    assert code == worker.LOST
    assert said[-1]["lost"]
    assert "the context is broken" in said[-1]["failed"]
    code, said = worked([Task("a", broken), Task("b", dict)])
    assert (code, said[-1]["lost"]) == (worker.LOST, True)


def test_a_child_ends_by_itself_when_the_time_is_up():
    code, said = worked([Task(str(n), dict) for n in range(9)], seconds=8.0)
    assert code == 0
    assert said[-1]["left"] == "no time was left"
    assert said[-1]["next"] == sum("index" in line for line in said) > 0


# The lines


def test_lines_survive_what_is_torn(tmp_path):
    path = tmp_path / "lines.jsonl"
    journal = Journal(path)
    journal.add({"stage": "matrix", "index": 0})
    path.write_text(path.read_text() + '{"stage": "mat\n{"stage": "ours", "index": 1}\n{"half": ')
    assert [line["stage"] for line in read(path).lines] == ["matrix", "ours"]
    assert list(objects(["{}", "text", '{"a": 1}', '{"a": }', '{"a": 1} and more'])) == [{"a": 1}]
