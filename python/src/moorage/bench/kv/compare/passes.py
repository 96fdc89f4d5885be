"""One pass: every object once, so many threads at a time, all of it cold before."""

from __future__ import annotations

import contextlib
import gc
import threading
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic_ns
from typing import Callable

import numpy as np

from ...disk.place import Counters
from ..bus import Watch
from ..data import Data
from ..engine import Usage
from ..lane import Lane
from ..paths.path import Path, ShortRead
from .objects import Object


@dataclass(frozen=True)
class Side:
    """A path. `check` compares a CRC-32 of all bytes in the reading thread; a store that verifies does so by itself."""

    path: Path
    title: str
    check: bool = False


@dataclass
class Pass:
    """Times in nanoseconds, one of each for every object."""

    total: list[int] = field(default_factory=list)
    device: list[int] = field(default_factory=list)
    copy: list[int] = field(default_factory=list)
    verify: list[int] = field(default_factory=list)
    probe: list[int] = field(default_factory=list)
    nbytes: int = 0
    tokens: int = 0
    wall: int = 0
    cpu: float = 0.0
    faults: float = 0.0
    """Minor, an operation."""
    cached: float | None = None
    """Of the bytes, before: in the page cache."""
    device_bytes: int | None = None
    bus_bytes: int | None = None
    """Over the memory bus, everybody's, where the processor's counters can be read."""

    @property
    def host(self) -> list[int]:
        return [total - device for total, device in zip(self.total, self.device)]

    @property
    def gib_per_s(self) -> float:
        return self.nbytes / (1 << 30) / (self.wall / 1e9)

    @property
    def cpu_per_gib(self) -> float:
        return self.cpu / (self.nbytes / (1 << 30))


class Passes:
    """The threads' memory stays from pass to pass: nobody pays for its first touch."""

    def __init__(
        self, objects: Sequence[Object], data: Data, depth: int, counters: Callable[[], Counters | None],
        watch: Watch, crcs: dict[str, int],
    ) -> None:  # fmt: skip
        self._watch = watch
        self._objects, self._data, self._depth, self._counters, self._crcs = objects, data, depth, counters, crcs
        largest = max(one.nbytes for one in objects)
        self._lanes = [Lane(i) for i in range(depth)]
        for lane in self._lanes:
            lane.prepare(largest, 0)

    def run(self, side: Side, probe: bool = False) -> Pass:
        """Raises what any of the reads raises."""
        for one in self._objects:
            side.path.cool(one.key)
        done = Pass(cached=self._cached(side))
        rest = iter(self._objects)
        failed: list[BaseException] = []
        mu = threading.Lock()

        start = threading.Barrier(self._depth + 1)

        def work(lane: Lane) -> None:
            try:
                side.path.begin(lane)
                start.wait()
                while not failed:
                    with mu:
                        one = next(rest, None)
                    if one is None:
                        return
                    self._read(side, one, lane, done, probe)
            except BaseException as error:  # whatever it is, the pass has failed
                failed.append(error)
                start.abort()
            finally:
                lane.close()

        threads = [threading.Thread(target=work, args=(lane,), daemon=True) for lane in self._lanes]
        collecting = gc.isenabled()
        gc.disable()
        for thread in threads:
            thread.start()
        counters, moved, usage, begin = self._counters(), self._watch.now(), Usage.now(), monotonic_ns()
        with contextlib.suppress(threading.BrokenBarrierError):
            start.wait()
        for thread in threads:
            thread.join()
        done.wall = monotonic_ns() - begin
        self._spent(done, usage, counters)
        carries = self._watch.now()
        if moved is not None and carries is not None:
            done.bus_bytes = sum(carries.since(moved))
        if collecting:
            gc.enable()
        if failed:
            raise failed[0]
        return done

    def _spent(self, done: Pass, usage: Usage, counters: Counters | None) -> None:
        used = Usage.now().since(usage)
        done.cpu = used.cpu
        done.faults = used.minor / max(len(done.total), 1)
        now = self._counters()
        if counters is not None and now is not None:
            done.device_bytes = now.since(counters).nbytes

    def _cached(self, side: Side) -> float | None:
        seen = [side.path.residency(one.key) for one in self._objects[:: max(1, len(self._objects) // 16)]]
        known = [one for one in seen if one is not None]
        everything = sum(b for _, b in known)
        return sum(a for a, _ in known) / everything if everything else None

    def _read(self, side: Side, one: Object, lane: Lane, done: Pass, probe: bool) -> None:
        t0 = monotonic_ns()
        data, stamps = side.path.read(one.key, one.nbytes, lane)
        verify = stamps.verify
        if side.check:
            begin = monotonic_ns()
            if zlib.crc32(data.data) != self._crcs[one.key]:
                raise ValueError(f"{one.key}: the checksum is wrong")
            verify += monotonic_ns() - begin
        t3 = monotonic_ns()
        if len(data) != one.nbytes:
            raise ShortRead(f"{one.key}: {len(data)} bytes of {one.nbytes}")
        if not self._data.looks_right(one.key, data):
            raise ValueError(f"{one.key}: other bytes were read than were written")
        done.total.append(t3 - t0)
        done.device.append(stamps.t2 - stamps.t1)
        done.copy.append(stamps.copy)
        done.verify.append(verify)
        done.nbytes += one.nbytes
        done.tokens += one.tokens
        if probe:
            begin = time.monotonic_ns()
            np.array(data)
            done.probe.append(time.monotonic_ns() - begin)
