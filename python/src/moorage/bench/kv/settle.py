"""Before anything is timed: what was written is on the device, and what was removed is forgotten by it."""

from __future__ import annotations

import ctypes
import os
import time
from dataclasses import asdict, dataclass
from typing import Any, Callable

from ..disk.place import Counters

_LONGEST = 30.0
_QUIET = 0.3
"""Seconds without a discard after which there are none to come."""
_STEP = 0.05


@dataclass(frozen=True)
class Settled:
    """How long it took, what the device was told to forget meanwhile, and whether it came to an end."""

    seconds: float
    discards: int
    discarded_bytes: int
    quiet: bool

    def facts(self) -> dict[str, Any]:
        return asdict(self)


def settle(directory: str, counters: Callable[[], Counters | None], longest: float = _LONGEST) -> Settled:
    """Writes out what the file system has not yet written, which is when it tells of removed files too, and waits until
    the device is told of no more of them.
    """
    begin = time.monotonic()
    before = counters()
    _sync(directory)
    last, since = counters(), time.monotonic()
    if before is None or last is None:
        return Settled(time.monotonic() - begin, 0, 0, True)
    while time.monotonic() - since < _QUIET and time.monotonic() - begin < longest:
        time.sleep(_STEP)
        now = counters()
        if now is not None and now.discards != last.discards:
            last, since = now, time.monotonic()
    moved = last.since(before)
    quiet = time.monotonic() - since >= _QUIET
    return Settled(time.monotonic() - begin, moved.discards, moved.discarded, quiet)


def _sync(directory: str) -> None:
    """This file system only: others' have nothing to do with it."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.syncfs(ctypes.c_int(fd)) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"syncfs {directory}: {os.strerror(number)}")
    finally:
        os.close(fd)
