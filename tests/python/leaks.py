"""What a process holds on to, and waiting for it to come down: taking a store down goes on behind its close."""

from __future__ import annotations

import gc
import time
from typing import Callable

from conftest import descriptors, mappings

__all__ = ["descriptors", "mappings", "memory", "settled", "threads"]


def _status(field: str) -> int:
    with open("/proc/self/status", encoding="utf-8") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field + ":"))


def threads() -> int:
    return _status("Threads")


def memory() -> int:
    """Private memory of this process, in KiB."""
    return _status("RssAnon")


def settled(measure: Callable[[], int], limit: int, timeout: float = 5.0) -> bool:
    """Whether `measure()` comes down to `limit`."""
    deadline = time.monotonic() + timeout
    while measure() > limit:
        if time.monotonic() > deadline:
            return False
        gc.collect()
        time.sleep(0.005)
    return True
