"""What the figures were measured on."""

from __future__ import annotations

import hashlib
import os
import platform
import statistics
import threading
import time
from importlib import metadata
from typing import Any

# Two threads must get this much more done than one before anything is said about two cores.
FREE = 1.8


def _field(path: str, name: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as lines:
            for line in lines:
                key, _, value = line.partition(":")
                if key.strip() == name:
                    return value.strip()
    except OSError:
        pass
    return ""


def available_memory() -> int:
    """Bytes that can be used without swapping."""
    words = _field("/proc/meminfo", "MemAvailable").split()
    return int(words[0]) << 10 if words else 0


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0))


def version_of(name: str) -> str | None:
    """The version of an installed package, without importing it."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def cpu() -> str:
    return _field("/proc/cpuinfo", "model name") or platform.processor() or platform.machine()


def is_emulated() -> bool:
    """Whether instructions are translated (QEMU's TCG): then no ratio of times says anything of a real machine."""
    return "TCG" in cpu()


def facts() -> dict[str, Any]:
    from .. import _lib

    library = _lib.load()
    return {
        "cpu": cpu(),
        "cores": cores(),
        "memory": int((_field("/proc/meminfo", "MemTotal").split() or ["0"])[0]) << 10,
        "load": os.getloadavg()[0],
        "kernel": platform.release(),
        "python": platform.python_version(),
        "moorage": library.version,
        "route": _lib.wanted_route() if library.builtin else "ctypes",
        "torch": version_of("torch"),
        "numpy": version_of("numpy"),
        "second core": second_core(),
    }


def second_core(seconds: float = 0.02) -> float:
    """How much more two threads compute than one, at this moment: near 2 when a second core is free.

    The median of three tries. Hashing needs no memory beyond the cache and does not hold the GIL.
    """
    if cores() < 2:
        return 1.0
    return statistics.median(_together(2, seconds) / _together(1, seconds) for _ in range(3))


def _together(threads: int, seconds: float) -> float:
    data = bytes(64 << 10)
    done = [0] * threads
    start = threading.Barrier(threads)

    def work(i: int) -> None:
        start.wait()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            hashlib.sha256(data)
            done[i] += 1

    running = [threading.Thread(target=work, args=(i,)) for i in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return float(max(sum(done), 1))
