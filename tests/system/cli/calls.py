"""Calls of ``gpuconv filter`` in this process, what they read, and what an error looks like."""

import numpy as np
from PIL import Image

from gpuconv.cli import main


def save_photo(rng, path, *shape):
    """Write a picture of random bytes, and return its path."""
    x = rng.integers(0, 256, shape or (12, 15, 3)).astype(np.uint8)
    Image.fromarray(x).save(path)
    return path


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
