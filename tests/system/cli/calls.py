"""Calls of ``gpuconv filter`` in this process, and what an error of it looks like."""

from gpuconv.cli import main


def run(*arguments):
    """Filter by the reference, and return the exit code."""
    return main(["filter", *map(str, arguments), "--backend", "reference", "--quiet"])


def refused(capsys, code, *arguments):
    """Return the one line that refuses a call, which ends with this exit code."""
    assert run(*arguments) == code
    err = capsys.readouterr().err
    assert err.startswith("gpuconv: error: ")
    assert err.count("\n") == 1
    return err
