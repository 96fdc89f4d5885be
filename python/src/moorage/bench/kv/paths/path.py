"""What a way to storage has to do, and what it says about itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from ..lane import Bytes, Lane


class Stamps(NamedTuple):
    """Of an operation, in nanoseconds of time.monotonic_ns.

    t1, t2  the first part was handed to the device, the last one had come; device is t2 - t1
    copy    of copying afterwards, from the program's memory to the program's memory: part of host
    verify  of comparing checksums: part of host
    memory  it was found in the memory of the path itself: nothing came from the device
    """

    t1: int
    t2: int
    copy: int = 0
    verify: int = 0
    memory: bool = False


@dataclass(frozen=True)
class Meaning:
    """What a path's figures are about."""

    copies: int
    """By the processor, for each byte read; the kernel's included."""
    read: str
    """What counts as device when it reads,"""
    write: str
    """and when it writes."""
    cached: bool
    """It goes through the page cache."""


class ShortRead(OSError):
    """Less came than was written."""


class Lacking(Exception):
    """This path cannot be used here; the text says why, and what would help."""


class Path:
    """Objects by key below one folder that is nobody else's. Safe for concurrent use, of different lanes."""

    name = ""
    meaning: Meaning
    flying = 0
    """Chunks of one object in flight together; 0: the object is one call that waits."""

    def write(self, key: str, data: Bytes, tokens: int, lane: Lane) -> Stamps:
        """Returns when it is on the device."""
        raise NotImplementedError

    def read(self, key: str, nbytes: int, lane: Lane) -> tuple[Bytes, Stamps]:
        """The bytes are valid until the lane reads again."""
        raise NotImplementedError

    def begin(self, lane: Lane) -> None:
        """In the thread that will read, before anything is timed."""

    def delete(self, key: str) -> None:
        raise NotImplementedError

    def cool(self, key: str) -> None:
        """Out of the time: what the page cache has kept of it goes."""

    def residency(self, key: str) -> tuple[int, int] | None:
        """Bytes of it in the page cache, and all of its bytes; None where one file holds many."""
        return None

    def facts(self) -> dict[str, Any]:
        return {}

    def settle(self) -> None:
        """After all that is written before the run: from now on it lies on the device alone."""

    def close(self) -> None:
        pass
