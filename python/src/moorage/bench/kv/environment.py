"""What somebody needs to know who wants to repeat a run, or to doubt it."""

from __future__ import annotations

import glob
import hashlib
import os
import platform
import shutil
import statistics
import subprocess
from functools import lru_cache
from time import monotonic_ns
from typing import Any

from ... import _lib
from .. import machine
from ..disk.place import Place, System

_QUEUE = ("scheduler", "nr_requests", "rotational", "logical_block_size", "max_sectors_kb", "write_cache")
_PACKAGES = ("numpy", "hdrhistogram", "rich", "matplotlib", "PyYAML")


def environment(directory: str, place: Place) -> dict[str, Any]:
    facts = _machine()
    usage = shutil.disk_usage(directory)
    return {
        "device": place.title,
        "file_system": place.filesystem,
        "mount_options": place.options,
        "memory_backed": place.memory,
        "devices": {part: _device(part) for part in place.parts},
        "fill_level": 1 - usage.free / usage.total,
        "file_system_bytes": usage.total,
        "cpu": facts["cpu"],
        "cores": facts["cores"],
        "numa_nodes": len(glob.glob("/sys/devices/system/node/node[0-9]*")) or 1,
        "memory_bytes": facts["memory"],
        "memory_available_bytes": machine.available_memory(),
        "load": os.getloadavg()[0],
        "kernel": platform.platform(),
        "python": facts["python"],
        "moorage": facts["moorage"],
        **_build(),
        "packages": {name: machine.version_of(name) for name in _PACKAGES},
        "stamp_ns": stamp_ns(),
    }


@lru_cache(None)
def _machine() -> dict[str, Any]:
    """What does not change while a process lives."""
    return machine.facts()


@lru_cache(None)
def _build() -> dict[str, str | None]:
    """Which library it was, and of which commit where this runs from a checkout."""
    digest = hashlib.sha256()
    with open(_lib.library_path(), "rb") as file:
        for part in iter(lambda: file.read(1 << 20), b""):
            digest.update(part)
    return {"library_sha256": digest.hexdigest(), "commit": _commit(os.path.abspath(__file__))}


def _commit(file: str) -> str | None:
    """None for a file that no repository keeps: an installed package may lie in somebody else's."""
    git = ("git", "-C", os.path.dirname(file))
    try:
        subprocess.run((*git, "ls-files", "--error-unmatch", file), capture_output=True, check=True, timeout=10)
        words = (*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
        return subprocess.run(words, capture_output=True, check=True, timeout=10, text=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def stamp_ns() -> float:
    """What reading the clock costs."""
    times = []
    for _ in range(5):
        begin = monotonic_ns()
        for _ in range(1000):
            monotonic_ns()
        times.append((monotonic_ns() - begin) / 1000)
    return statistics.median(times)


def _device(name: str) -> dict[str, str]:
    base = os.path.join("/sys/block", name)
    found = {word: _read(os.path.join(base, "queue", word)) for word in _QUEUE}
    found["model"] = _read(os.path.join(base, "device/model"))
    found["firmware"] = _read(os.path.join(base, "device/firmware_rev"))
    sectors = _read(os.path.join(base, "size"))
    found["bytes"] = str(int(sectors) * 512) if sectors.isdigit() else ""
    return {word: value for word, value in found.items() if value}


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def place_of(directory: str) -> Place:
    return System().place(directory)
