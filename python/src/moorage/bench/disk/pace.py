"""Whether another Python thread keeps its pace while the store reads ahead."""

from __future__ import annotations

import itertools
import shutil
import threading
import time
from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

from ...store import Store
from .objects import content

OUTSTANDING = 64
_GROUP, _GROUPS = OUTSTANDING // 2, 4
"""Objects that are submitted and waited for together, and groups on their way. Jobs begin in order: when one group has
ended, and another one is well begun, there are still enough.
"""
_MIB = 1 << 20
_SIZE = 4 * _MIB
_ROOM = 64 << 20
MEMORY = 2 * OUTSTANDING * _SIZE
"""Bytes that the store has, for objects of this size."""
_TURNS = 2000
"""Of the loop between two looks at the clock: some tens of microseconds."""


@dataclass(frozen=True)
class Pace:
    """Turns a second of a loop in pure Python, which a thread of its own runs without a pause."""

    before: float
    """Alone."""
    beside: float
    """While the prefetches of so many objects, at least, were outstanding."""
    after: float
    """Alone again."""
    outstanding: int
    gib_s: float
    """What the prefetches brought from the device meanwhile."""

    @property
    def ratio(self) -> float:
        return self.beside / ((self.before + self.after) / 2)


class Loop:
    """The other thread. `marks` are the readings of the clock after each so many turns."""

    def __init__(self) -> None:
        self.marks: list[int] = []
        self._stop = False
        self._thread = threading.Thread(target=self._run, name="pace")

    def _run(self) -> None:
        clock, add = time.monotonic_ns, self.marks.append
        while not self._stop:
            i = 0
            while i < _TURNS:
                i += 1
            add(clock())

    def __enter__(self) -> Loop:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop = True
        self._thread.join()

    def pace(self, begin: int, end: int) -> float:
        """Turns a second between two readings of the clock."""
        return (bisect_left(self.marks, end) - bisect_left(self.marks, begin)) * _TURNS / ((end - begin) / 1e9)


class Ahead:
    """A store on disk whose memory holds about half of its objects, so that prefetching them in turns reads each from
    disk again. `verify` as users have it.
    """

    def __init__(self, folder: str, size: int = _SIZE) -> None:
        self.folder = folder
        self._groups = [[f"{group}/{i}" for i in range(_GROUP)] for group in range(2 * _GROUPS)]
        keys = [key for group in self._groups for key in group]
        self.store: Any = Store(
            2 * OUTSTANDING * size, disk=folder, disk_capacity=2 * len(keys) * size + _ROOM, prefault="open"
        )
        try:
            data = content(size, 0)
            for key in keys:
                self.store.put(key, data)
            self.store.flush()
        except BaseException:
            self.close()
            raise

    def run(self, seconds: float) -> tuple[int, int, int]:
        """Prefetches for so long; gives the first and the last moment at which enough objects were outstanding all the
        time, and the bytes read between them. A group is submitted with one call: the other thread leaves the
        interpreter to this one every few milliseconds only. Waiting needs none.
        """
        turns = itertools.cycle(self._groups)
        waiting = [self.store.prefetch(next(turns)) for _ in range(_GROUPS)]
        begin, read = time.monotonic_ns(), self._read()
        while True:
            waiting.pop(0).results()
            end, done = time.monotonic_ns(), self._read()
            if end - begin >= seconds * 1e9:
                break
            waiting.append(self.store.prefetch(next(turns)))
        for job in waiting:
            job.results()
        return begin, end, done - read

    def _read(self) -> int:
        count: int = self.store.disk_stats().bytes_read
        return count

    def close(self) -> None:
        self.store.close(wait=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Ahead:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def measure(ahead: Ahead, seconds: float) -> Pace:
    """The pace for so long alone, beside, and alone again."""
    with Loop() as loop:
        time.sleep(0.05)  # until it has its pace
        first = time.monotonic_ns()
        time.sleep(seconds)
        second = time.monotonic_ns()
        begin, end, read = ahead.run(seconds)
        third = time.monotonic_ns()
        time.sleep(seconds)
        fourth = time.monotonic_ns()
    return Pace(
        loop.pace(first, second), loop.pace(begin, end), loop.pace(third, fourth), OUTSTANDING,
        read / (1 << 30) / ((end - begin) / 1e9),
    )  # fmt: skip
