"""The whole run of the GPU's benchmarks without a GPU, with faults in every stage: a kernel that
throws, one that hangs, one that ends its process, one that loses the device, a peer that cannot be
loaded, no Numba, no matplotlib, a full disk. Every other result is there.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.cuda import reports
from benchmarks.cuda.worker import STAND_IN
from benchmarks.report import stem

from ...marks import exhaustive
from .stand_in import ABORTS, HANGS, LOSES, RIGHT, THROWS, WRONG

# Whole runs; of what they are made of, the files beside this one have shorter tests.
pytestmark = exhaustive

ROOT = Path(__file__).parents[3]
FULL = Path("/dev/full")


def script(folder, name, text):
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture(scope="module")
def tools(tmp_path_factory):
    """Stand-ins for compute-sanitizer and ncu, which run the child that follows their options."""
    folder = tmp_path_factory.mktemp("tools")
    program = 'while [ "$1" != "-m" ]; do python=$1; shift; done; "$python" "$@"'
    script(
        folder,
        "compute-sanitizer",
        f"""{program}
echo "========= ERROR SUMMARY: 0 errors"
echo "========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)\"""",
    )
    script(
        folder,
        "ncu",
        f"""{program}
echo '"ID","Kernel Name","gpu__time_duration.sum"'; echo '"","","ns"'; echo '"0","direct","12"'""",
    )
    return folder


def environment(tools, **more):
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {STAND_IN: "tests.system.benchmarks.stand_in", "PATH": path} | more


def command(output):
    arguments = ["--device", "cuda", "--all", "--output", str(output)]
    return [sys.executable, "-m", "benchmarks", *arguments]


def rehearse(output, tools, **more):
    return subprocess.run(
        command(output), cwd=ROOT, env=environment(tools, **more), capture_output=True, text=True,
        check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory, tools):
    folder = tmp_path_factory.mktemp("run")
    done = rehearse(folder, tools)
    done.path = stem(folder, "cuda-lines").with_suffix(".jsonl")
    done.lines = [json.loads(line) for line in done.path.read_text().splitlines()]
    done.answers, done.speed = (
        stem(folder, name).with_suffix(".md").read_text() for name in ("cuda-answers", "cuda-speed")
    )
    return done


def results(run, stage, of=""):
    """What became of each task of a stage."""
    return {
        line["name"]: line
        for line in run.lines
        if line["stage"] == stage and line["of"] == of and "index" in line
    }


def outcomes(found):
    return {
        name: line.get("failed") or line.get("wrong") or "right" for name, line in found.items()
    }


def test_a_run_with_wrong_answers_ends_with_status_1(run):
    assert run.returncode == 1, run.stderr
    assert "no plot" in run.stdout
    assert "fault" not in {key for line in run.lines for key in line}, run.lines


def test_every_combination_but_those_with_faults_is_right(run):
    found = {line["name"].split(",")[1].strip(): line for line in results(run, "matrix").values()}
    told = outcomes(found)
    assert set(told) == {f"{k}x{k}" for k in (*RIGHT, THROWS, HANGS, WRONG, ABORTS)}
    assert {told[f"{k}x{k}"] for k in RIGHT} == {"right"}
    assert "the launch failed" in told[f"{THROWS}x{THROWS}"]
    assert "without a word" in told[f"{HANGS}x{HANGS}"]
    assert "in fault" in told[f"{HANGS}x{HANGS}"]  # where it hung
    assert "signal 6" in told[f"{ABORTS}x{ABORTS}"]
    assert "440 of 440 outputs" in told[f"{WRONG}x{WRONG}"]
    for k in (THROWS, HANGS, WRONG, ABORTS):
        assert f"WRONG: float32, {k}x{k}" in run.answers
    assert "| matrix: direct | 7 | 4 | 0 |" in run.answers


def test_launches_go_on_behind_a_lost_device(run):
    losing = outcomes(results(run, "launches", "losing"))
    assert (losing["losing 1"], losing["losing 3"]) == ("right", "right")
    assert "an illegal address; the CUDA context is broken" in losing[f"losing {LOSES}"]
    assert set(outcomes(results(run, "launches", "right")).values()) == {"right"}
    behaviour = outcomes(results(run, "behaviour"))
    assert (behaviour["streams"], behaviour["torch"]) == ("right", "right")
    assert "the launch failed" in behaviour["graphs"]


def test_sanitizers_have_their_verdicts(run):
    assert "| memcheck | 3 | 0 | 0 |  | none |" in run.answers
    assert "| racecheck | 3 | 0 | 0 |  | none |" in run.answers


def test_every_time_is_there_but_those_with_faults(run):
    own = results(run, "ours")
    assert {name.split()[-1] for name, line in own.items() if "times" in line} == {
        "1x1", "3x3", "5x5",
    }  # fmt: skip
    for text in ("FMA float, uniform weights", "GB/s", "the host's time, 3x3 | 1 (1-1) us"):
        assert text in run.speed
    table = {line.split(" | ")[0]: line for line in run.speed.splitlines() if "40x50" in line}
    assert "failed: RuntimeError: the launch failed" in table["| 40x50 float32, full rank, 2x2"]
    assert "signal 6" in table["| 40x50 float32, full rank, 6x6"]
    assert "(>= 2) met" in table["| 40x50 float16, full rank, 3x3"]
    assert "- link (256 MiB)" in run.speed


def test_every_peer_is_there_but_what_crashed(run):
    assert "absent: unloadable: OSError: libcudnn.so.9" in run.speed
    for peer, absent in (("right", set()), ("crashing", {"3x3"})):
        found = results(run, "peer", peer)
        timed = {name.split()[-1] for name, line in found.items() if line.get("times")}
        assert found["versions"]["facts"] == ["fake libraries"]
        assert timed == {f"{k}x{k}" for k in (1, THROWS, 3, ABORTS, 5)} - absent
    assert any(line.get("compared") for line in results(run, "peer", "right").values())


def test_profiles_are_there(run):
    assert "| one kernel | 12 ns |" in run.speed
    assert "| another | 12 ns |" in run.speed


def test_a_run_that_is_ended_leaves_what_it_has(tmp_path, tools):
    lines = stem(tmp_path, "cuda-lines").with_suffix(".jsonl")
    with subprocess.Popen(
        command(tmp_path), cwd=ROOT, env=environment(tools), stdout=subprocess.PIPE, text=True
    ) as process:
        # Ended while a combination hangs, for whose child it would wait.
        while not lines.exists() or f"{THROWS}x{THROWS}, direct" not in lines.read_text():
            assert process.poll() is None
            time.sleep(0.05)
        process.terminate()
        assert process.wait() == 128 + signal.SIGTERM
    answers = stem(tmp_path, "cuda-answers").with_suffix(".md").read_text()
    assert "| launches: right | 3 | 0 | 0 |" in answers
    assert f"WRONG: float32, {THROWS}x{THROWS}" in answers
    assert "40x50" in stem(tmp_path, "cuda-speed").with_suffix(".md").read_text()


def test_reports_are_made_again_from_the_lines(run, tmp_path):
    # Without the stand-in's cases the table of times has none of them.
    assert reports.main([str(run.path), "--output", str(tmp_path)]) == 1
    again = stem(tmp_path, "cuda-answers").with_suffix(".md").read_text()
    table = [line for line in run.answers.splitlines() if line.startswith("|")]
    assert [line for line in again.splitlines() if line.startswith("|")] == table


@pytest.mark.skipif(not FULL.exists(), reason="no device that is always full")
def test_a_full_disk_costs_the_files_only(tmp_path, tools):
    for name in ("cuda-lines.jsonl", "cuda-lines.log", "cuda-answers.md", "cuda-speed.csv"):
        path = stem(tmp_path, name.split(".")[0]).with_suffix("." + name.split(".")[1])
        path.symlink_to(FULL)
    done = rehearse(tmp_path, tools, GPUCONV_REHEARSAL="without faults")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the files of lines are not complete: No space left on device" in done.stdout
    assert "cuda-answers could not be written: No space left on device" in done.stdout
    assert "| matrix: direct | 3 | 0 | 0 |" in done.stdout
    assert "40x50 float32, full rank, 5x5" in stem(tmp_path, "cuda-speed").with_suffix(
        ".md"
    ).read_text("utf-8")
