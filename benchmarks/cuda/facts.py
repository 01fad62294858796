"""Chip, driver, versions and commit; or why no GPU can be used here."""

from __future__ import annotations

import platform
import sys
from typing import Any

import gpuconv

from ..timing import commit
from .device import Device
from .journal import Line
from .worker import Task, Tasks


def tasks(options: Any) -> Tasks:
    reason = gpuconv.backends()["cuda"]
    if reason is not None:
        return Tasks([Task("no GPU", lambda: {"unavailable": reason})])
    return Tasks([Task("the device", _device), Task("the program", _program)])


def _device() -> Line:
    device = Device()
    return {"facts": device.facts(), "l2_bytes": device.l2_bytes}


def _program() -> Line:
    version = ".".join(map(str, sys.version_info[:3]))
    return {"facts": [f"commit {commit()}", f"{platform.platform()}, Python {version}"]}
