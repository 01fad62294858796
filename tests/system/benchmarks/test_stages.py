"""The stages of a run: what they have done by children, and what is said of it."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import gpuconv
from benchmarks.cuda import answers_report, behaviour, launches, profile, reports, stages
from benchmarks.cuda.journal import Journal
from benchmarks.cuda.processes import Ending
from benchmarks.cuda.stages import Parent
from benchmarks.report import stem

from ...marks import always
from .fake_device import FakeDevice

CLEAN = {
    "memcheck": "========= ERROR SUMMARY: 0 errors",
    "racecheck": "========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)",
}
ENDED = Ending("", 0, ())
FULL = Path("/dev/full")
OPTIONS = SimpleNamespace(quick=True, seconds=None, output=None)


class Children:
    """Stands for child processes: each says the same lines."""

    def __init__(self, *texts):
        self.texts, self.commands = texts, []

    def __call__(self, command, limits, hear):
        self.commands.append((command, limits))
        for text in self.texts:
            hear(text)
        return ENDED


def journal_of(*lines):
    found = Journal(None)
    for line in lines:
        found.add({"of": "", **line})
    return found


def rows(journal):
    return {cell.name: cell for cell in answers_report.cells(journal)}


RIGHT = '{"index": 0, "name": "a"}', '{"end": true}'


def test_stages_take_no_longer_than_a_run_may():
    assert sum(seconds for seconds, _ in stages.STAGES.values()) <= 505
    assert set(stages.PEER_SHARES) == set(stages.peers.MODULES)


def test_a_stage_that_fails_leaves_the_others(capsys):
    parent = Parent(Journal(None), Children(*RIGHT))
    parent.together([lambda: 1 / 0, parent.share("limits", 9.0)], "limits")
    assert [line["stage"] for line in parent.journal.lines].count("limits") == 2
    assert rows(parent.journal)["stage limits"].wrong


@pytest.mark.parametrize("tool", CLEAN)
def test_sanitizers_verdicts(tool, monkeypatch):
    def verdict(*texts):
        children = Children(*texts)
        parent = Parent(Journal(None), children)
        stages.sanitized(parent, tool, 60.0)
        (command, _), *_ = children.commands
        assert command[:3] == [stages.SANITIZER, "--tool", tool]
        assert "--subset" in command
        return rows(parent.journal)[tool]

    monkeypatch.setattr(stages.shutil, "which", lambda name: None)
    parent = Parent(Journal(None), Children())
    stages.sanitized(parent, tool, 60.0)
    cell = rows(parent.journal)[tool]
    assert "not on PATH" in cell.row[-1]
    assert not cell.wrong
    monkeypatch.setattr(stages.shutil, "which", lambda name: name)
    cell = verdict(*RIGHT, CLEAN[tool])
    assert (cell.wrong, cell.row[1], cell.row[-1]) == (False, "1", "none")
    found = CLEAN[tool].replace("0 errors", "2 errors").replace("0 hazards", "2 hazards")
    cell = verdict(*RIGHT, "========= COMPUTE-SANITIZER", "========= Invalid write", found)
    assert (cell.wrong, cell.row[-1]) == (True, "2 findings; Invalid write")
    assert verdict('{"index": 0, "name": "a", "wrong": "x"}', '{"end": true}', CLEAN[tool]).wrong
    # Ended before its summary, but not before a finding.
    cell = verdict(RIGHT[0], "========= Invalid __global__ read of size 4 bytes")
    assert (cell.wrong, cell.row[-1]) == (True, "at least one finding; Invalid __global__ read of "
                                          "size 4 bytes")  # fmt: skip
    cell = verdict(*RIGHT)
    assert (cell.wrong, cell.row[-1]) == (True, f"no summary of {tool}")


def test_tests_are_counted_as_they_come():
    children = Children(
        "[gw0] [ 10%] PASSED tests/a.py::test_one[x-1] ",
        "[gw1] [ 20%] FAILED tests/a.py::test_two[a - b] ",
        "tests/b.py::test_three SKIPPED (needs torch) [ 30%]",
        "[gw1] [ 40%] ERROR tests/a.py::test_four ",
        "ERROR tests/a.py::test_four - ValueError: no",
        "FAILED tests/a.py::test_two[a - b] - assert 1 == 2",
        "FAILED tests/c.py::test_five - AssertionError",
    )
    journal = Journal(None)
    stages.tests(Parent(journal, children), 60.0)
    found = rows(journal)
    assert found["pytest -m cuda"].row[1:4] == ("4", "3", "1")
    assert found["FAILED: tests/a.py::test_four"].row[-1] == "ValueError: no"
    assert found["FAILED: tests/a.py::test_two[a - b]"].row[-1] == "assert 1 == 2"
    assert "FAILED: tests/c.py::test_five" in found


def test_rows_of_the_answers():
    one = {"stage": "matrix", "dtype": "float32", "method": "direct"}
    found = rows(journal_of(
        one | {"index": 0, "name": "a"}, one | {"index": 1, "name": "b", "wrong": "1 of 4"},
        one | {"index": 2, "name": "c", "refused": True},
        one | {"index": 3, "name": "d", "failed": "ended by signal 11"},
        one | {"left": "no time was left", "next": 4, "of": "0/9"},
        one | {"left": "ended with 1: no CUDA", "next": 0, "of": "1/9"},
    ))  # fmt: skip
    assert found["matrix: direct"].row == ("matrix: direct", "3", "2", "1", "", "")
    assert found["WRONG: b"].row[-1] == "1 of 4"
    assert found["WRONG: d"].row[-1] == "ended by signal 11"
    assert not found["matrix, 0/9"].wrong
    assert found["matrix, 0/9"].row[4:] == ("from task 4 on", "no time was left")
    assert found["matrix, 1/9"].wrong


@pytest.mark.skipif(not FULL.exists(), reason="no device that is always full")
def test_a_full_disk_costs_the_files_only(tmp_path, capsys):
    for name in ("cuda-lines.jsonl", "cuda-lines.log", "cuda-answers.md"):
        stem(tmp_path, name).symlink_to(FULL)
    journal = Journal(stem(tmp_path, "cuda-lines.jsonl"))
    for n, name in enumerate("ab"):
        journal.add({"stage": "matrix", "of": "", "dtype": "float32", "method": "direct",
                     "index": n, "name": name})  # fmt: skip
        journal.log(name, "a traceback")
    said = "the files of lines are not complete: No space left on device"
    assert capsys.readouterr().out.splitlines() == [said] == [journal.unwritten]
    options = SimpleNamespace(quick=False, seconds=None, output=tmp_path)
    made, notes = reports.write(journal, options)
    assert notes == ["cuda-answers could not be written: No space left on device"]
    assert "| matrix: direct | 2 | 0 | 0 |  |  |" in made[0].lines
    assert stem(tmp_path, "cuda-speed").with_suffix(".md").exists()


def test_every_file_of_cuda_code_is_launched():
    from gpuconv.backends.cuda.spec import KERNEL_FILES

    told = {name.removesuffix("_sum") for name in KERNEL_FILES}
    told = {n.split("_")[0] + "s" if n.startswith("layer") else n for n in told}
    told = {n.split("_")[0] if n.startswith(("fft", "box")) else n for n in told}
    assert told | {"means"} == set(launches.families())  # by the code of direct and separable
    names = [check.name for check in launches.checks()]
    assert len(set(names)) == len(names)
    assert any("bfloat16" in name for name in names)
    assert any("tf32" in name for name in names)


def test_a_profile_is_read_from_what_the_tool_prints(monkeypatch):
    stall = "smsp__average_warps_issue_stalled_{}_per_issue_active.ratio"
    names = ["ID", "Kernel Name", *profile._METRICS, stall.format("wait"), stall.format("barrier")]
    printed = [
        "==PROF== Connected to process 7",
        ",".join(f'"{name}"' for name in names),
        ",".join(f'"{unit}"' for unit in ("", "", "us", "%", "%", "%", "", "inst", "inst")),
        ",".join(f'"{v}"' for v in (0, "direct", "231.5", 55, 80, 49, "1,024", "0.5", "2.5")),
    ]
    metrics = profile.found(printed)
    assert metrics["Kernel Name"] == "direct"
    assert profile.figures(metrics) == {
        "time": "231.5 us", "DRAM": "55 %", "issue active": "80 %", "warps active": "49 %",
        "bank conflicts": "1,024", "stalls": "barrier 2.50, wait 0.50",
    }  # fmt: skip
    assert profile.found(["==ERROR== ERR_NVGPUCTRPERM"]) == {}
    monkeypatch.setattr(profile.shutil, "which", lambda name: name)
    children = Children("==ERROR== ERR_NVGPUCTRPERM - no permission", *RIGHT)
    parent = Parent(Journal(None), children)
    stages.profiles(parent, 60.0)
    assert len(children.commands) == 2  # a third would say the same
    assert "ERR_NVGPUCTRPERM" in "\n".join(reports.make(parent.journal, OPTIONS)[1].lines)


def test_a_peer_leaves_its_time_to_the_others():
    children = Children(*RIGHT)
    stages.all_peers(Parent(Journal(None), children), 100.0)
    seconds = [limits.seconds for _, limits in children.commands]
    assert len(seconds) == len(stages.peers.MODULES)
    # None of them took any: each gets what its weight is among those to come.
    assert seconds[-1] > 90
    assert seconds[0] < 60


@pytest.mark.parametrize("family", always(launches.families(), "layers"))
def test_what_is_launched_is_right_where_it_can_run(family, monkeypatch):
    """The checks themselves, on the CPU as far as it has the methods."""
    monkeypatch.setattr(launches.ours, "BACKEND", "cpu")
    for check in launches.checks():
        if check.family == family != "tensor":
            assert launches.task(check, FakeDevice()) == {}, check.name


@pytest.mark.parametrize("k", [3, 15])
def test_tensor_launches_are_right_in_emulation(emulated, k):
    for name in (f"tf32, {k}x{k}, tensor", f"bfloat16, {k}x{k}, tensor"):
        (check,) = [check for check in launches.checks() if check.name == name]
        assert launches.task(check, FakeDevice()) == {}


@pytest.mark.parametrize("name", [name for name in behaviour.checks() if "subnormal" in name])
def test_subnormal_numbers_that_are_flushed_are_found(name, monkeypatch):
    check = behaviour.checks()[name]
    tiny = np.finfo(name.split(", ")[1]).tiny
    plain = gpuconv.corr2d
    for flushes in (False, True):

        def corr2d(x, k, backend, method="direct", flushes=flushes):
            x = np.where(np.abs(x) < tiny, 0, x) if flushes and backend == "cuda" else x
            return plain(x.astype("f8"), k.astype("f8"), backend="reference").astype(x.dtype)

        with monkeypatch.context() as patch:
            patch.setattr(behaviour.gpuconv, "corr2d", corr2d)
            assert bool(check(FakeDevice())) == flushes
