"""Files of a layer's parameters: .npz and .safetensors, in which nothing is executed."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np

from ..core.array_types import Array


def write_parameters(path: Path, state: dict[str, Array]) -> None:
    """Write arrays by name to a file, whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    try:
        if path.suffix == ".safetensors":
            _safetensors().save_file(state, str(partial))
        elif path.suffix == ".npz":
            with partial.open("wb") as file:
                np.savez(file, **state)
        else:
            raise _unknown(path)
        partial.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            partial.unlink()


def read_parameters(path: Path) -> dict[str, Array]:
    """Read what `write_parameters` wrote."""
    if path.suffix == ".safetensors":
        return dict(_safetensors().load_file(str(path)))
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    raise _unknown(path)


def _unknown(path: Path) -> ValueError:
    return ValueError(f"{path}: the name must end in .npz or .safetensors")


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError:
        raise ImportError(
            "the .safetensors format needs the package safetensors; run: pip install "
            "'gpuconv[safetensors]', or use a name that ends in .npz"
        ) from None
    return safetensors.numpy
