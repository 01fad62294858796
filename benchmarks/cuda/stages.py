"""The stages of a run in their order, and the seconds that each may take."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ..memory import ROOT
from ..peers import cuda as peers
from . import launches, profile
from .children import Run, Share, complete
from .journal import Journal
from .processes import Limits
from .pytest_output import PytestOutput

TESTS = ROOT / "tests"
SANITIZER = "compute-sanitizer"
# Both tools look at what kernels do; errors of API calls, some of which are caught, are left out.
TOOLS = {"memcheck": ("--report-api-errors", "no"), "racecheck": ()}
# Seconds of one task, after which its child is killed and another goes on behind it.
TASK_SECONDS = {
    "facts": 15.0, "compile": 30.0, "launches": 15.0, "matrix": 15.0, "sanitizer": 25.0,
    "behaviour": 15.0, "limits": 10.0, "ours": 20.0, "peer": 12.0, "profile": 20.0,
}  # fmt: skip
# Of the peers' time, to each; what one leaves goes to the others.
PEER_SHARES = {
    "torch_conv": 4.0, "cupyx_ndimage": 2.5, "cupyx_signal": 4.0, "opencv": 0.5, "jax_conv": 1.5,
}  # fmt: skip
_TEST_WORKERS = 4
_PROFILE = 25.0  # seconds of a run of Nsight Compute at most


@dataclass(frozen=True)
class Parent:
    """What all stages share."""

    journal: Journal
    run: Run
    quick: bool = False

    def together(self, calls: list[Callable[[], object]], stage: str) -> None:
        """Make calls at once; one that fails leaves the others alone."""
        with ThreadPoolExecutor(max(1, len(calls))) as pool:
            for future in [pool.submit(call) for call in calls]:
                error = future.exception()
                if error is not None:
                    self.fault(stage, error)

    def fault(self, stage: str, error: BaseException) -> None:
        """Say in the journal that something of this process failed."""
        text = f"{type(error).__name__}: {error}"
        self.journal.add({"stage": "run", "of": "", "at_stage": stage, "fault": text})

    def share(self, stage: str, seconds: float, **fields: object) -> Callable[[], list[str]]:
        """Make a call that does the tasks of a share."""
        arguments = tuple(fields.pop("arguments", ()))  # type: ignore[call-overload]
        limit = TASK_SECONDS["sanitizer" if "prefix" in fields and stage == "matrix" else stage]
        share = Share(
            stage, limit=limit, arguments=(*arguments, *(["--quick"] if self.quick else [])),
            **fields,  # type: ignore[arg-type]
        )  # fmt: skip
        return lambda: complete(share, seconds, self.journal, self.run)


def cores() -> int:
    return os.cpu_count() or 1


def facts(parent: Parent, seconds: float) -> None:
    """Chip and versions; meanwhile everything that later stages launch is compiled."""
    parts = cores()
    calls = [parent.share("compile", seconds, part=n, parts=parts) for n in range(parts)]
    parent.together([parent.share("facts", seconds), *calls], "facts")


def unavailable(journal: Journal) -> str | None:
    """Why no GPU can be used, if that is known."""
    return next(
        (line["unavailable"] for line in journal.of("facts") if "unavailable" in line), None
    )


def first_launches(parent: Parent, seconds: float) -> None:
    """Every kernel once, each family in a child of its own."""
    parent.together(
        [parent.share("launches", seconds, of=name) for name in launches.families()], "launches"
    )


def answers(parent: Parent, seconds: float) -> None:
    """The matrix, and beside it the sanitizers, the tests, and graphs and streams."""
    parts = max(1, cores() - _TEST_WORKERS - len(TOOLS))
    calls: list[Callable[[], object]] = [
        parent.share("matrix", seconds, part=n, parts=parts) for n in range(parts)
    ]
    calls += [lambda tool=tool: sanitized(parent, tool, seconds) for tool in TOOLS]
    calls.append(lambda: tests(parent, seconds))
    calls.append(parent.share("behaviour", seconds))
    parent.together(calls, "answers")


def sanitized(parent: Parent, tool: str, seconds: float) -> None:
    """A few combinations under one of compute-sanitizer's tools, if it is here."""
    about = {"stage": tool, "of": ""}
    if shutil.which(SANITIZER) is None:
        why = f"{SANITIZER} is not on PATH (it comes with the CUDA toolkit): nothing was checked"
        parent.journal.add(about | {"absent": why})
        return
    prefix = (SANITIZER, "--tool", tool, *TOOLS[tool])
    printed = parent.share("matrix", seconds, name=tool, prefix=prefix, arguments=("--subset",))()
    marked = [line for line in printed if line.startswith("=========")]
    # The first findings, and the summaries at the ends of the children.
    kept = marked[:60] + [line for line in marked[60:] if "SUMMARY" in line]
    parent.journal.add(about | {"printed": "\n".join(kept)})


def tests(parent: Parent, seconds: float) -> None:
    """Run the tests that need a GPU, and say which failed."""
    journal, about = parent.journal, {"stage": "tests", "of": ""}
    if importlib.util.find_spec("pytest") is None or not TESTS.is_dir():
        journal.add(about | {"absent": "pytest or the folder tests/ is not here"})
        return
    told = PytestOutput()

    def hear(text: str) -> bool:
        journal.log("tests", text)
        for test, why in told.take(text.rstrip()):
            journal.add(about | {"test": test, "why": why})
        return True

    command = [sys.executable, "-m", "pytest", "-m", "cuda", "-v", "--tb=short", "-rfE",
               "-p", "no:cacheprovider", "--color=no"]  # fmt: skip
    if importlib.util.find_spec("xdist") is not None:
        command += ["-n", str(_TEST_WORKERS)]
    if importlib.util.find_spec("pytest_timeout") is not None:
        command += ["--timeout=60"]
    ending = parent.run([*command, str(TESTS)], Limits(seconds), hear)
    journal.add(about | told.counts | {"failures": len(told.failed), "ending": str(ending)})


def limits(parent: Parent, seconds: float) -> None:
    """What the device can do."""
    parent.share("limits", seconds)()


def ours(parent: Parent, seconds: float) -> None:
    """Our own times for all cases."""
    parent.share("ours", seconds)()


def all_peers(parent: Parent, seconds: float) -> None:
    """Every peer in a child of its own, one after the other."""
    end = time.monotonic() + seconds
    for n, name in enumerate(peers.MODULES):
        rest = sum(PEER_SHARES[other] for other in peers.MODULES[n:])
        part = (end - time.monotonic()) * PEER_SHARES[name] / rest
        parent.share("peer", part, of=name)()


def profiles(parent: Parent, seconds: float) -> None:
    """Nsight Compute on a few kernels, a run of it for each."""
    journal, end, vain = parent.journal, time.monotonic() + seconds, 0
    why = profile.missing()
    if why:
        journal.add({"stage": "profile", "of": "", "absent": why})
        return
    for name in profile.SUBJECTS:
        left = end - time.monotonic()
        prefix = profile.prefix(name)
        printed = parent.share("profile", min(left, _PROFILE), of=name, prefix=prefix)()
        metrics = profile.found(printed)
        vain = 0 if metrics else vain + 1
        errors = [line for line in printed if line.startswith("==ERROR==")]
        journal.add(
            {"stage": "profile", "of": name}
            | ({"metrics": metrics} if metrics else {"nothing": (errors or ["no figures"])[0]})
        )
        if vain == 2:
            journal.add({"stage": "profile", "of": "", "absent": "two runs gave no figures"})
            return


# In order, with the seconds of each; a stage may also use what those before it have left.
STAGES: dict[str, tuple[float, Callable[[Parent, float], None]]] = {
    "facts": (20.0, facts),
    "launches": (25.0, first_launches),
    "answers": (105.0, answers),
    "limits": (15.0, limits),
    "ours": (75.0, ours),
    "peers": (160.0, all_peers),
    "profile": (60.0, profiles),
}
