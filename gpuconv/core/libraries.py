"""Which library an object is of, without importing libraries that are not in use."""

from __future__ import annotations

import sys

__all__ = ["is_instance_of", "is_traced"]


def is_instance_of(obj: object, module: str, name: str) -> bool:
    """Whether `obj` is an instance of a class in a module that need not be loaded or installed."""
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(obj, getattr(loaded, name))


def is_traced(obj: object) -> bool:
    """Whether an object stands for a tensor while `torch.fx` traces a call."""
    return is_instance_of(obj, "torch.fx", "Proxy")
