"""Runs a schedule: workers, the clock of arrivals, and four stamps for every operation."""

from __future__ import annotations

import heapq
import itertools
import resource
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic_ns
from typing import Callable

import numpy as np

from .arrivals import SECOND
from .cache import Cache, Entry, Tier
from .data import Data
from .lane import Bytes, Lane
from .paths.path import ShortRead, Stamps
from .records import OpRecord, RequestRecord
from .schedule import READ, READ_OR_WRITE, Op, Request, Schedule
from .start import wait

_STEP = 0.05
_SAMPLE = 16
"""One read in so many is looked at before: is it really not in the page cache?"""


@dataclass(frozen=True)
class Rules:
    """What a run may do."""

    workers: int
    duration: float
    warmup: float = 0.0
    """Seconds before the window; what completes in them does not count."""
    closed: bool = False
    """A worker takes the next request when it has done the one before."""
    per_token: float = 0.0
    """Seconds of simulated generation."""
    max_writers: int = 0
    """That generate and write at a time; 0 is without limit."""
    bytes_per_token: int = 1
    probe: bool = False


@dataclass
class Usage:
    """Of this process."""

    cpu: float
    minor: int
    major: int
    switches: int
    peak: int

    @classmethod
    def now(cls) -> Usage:
        r = resource.getrusage(resource.RUSAGE_SELF)
        return cls(r.ru_utime + r.ru_stime, r.ru_minflt, r.ru_majflt, r.ru_nvcsw + r.ru_nivcsw, r.ru_maxrss << 10)

    def since(self, before: Usage) -> Usage:
        return Usage(
            self.cpu - before.cpu, self.minor - before.minor, self.major - before.major,
            self.switches - before.switches, self.peak,
        )  # fmt: skip


@dataclass
class Ran:
    """What a run leaves. Times in nanoseconds since it began; the window is when completions count."""

    ops: list[OpRecord] = field(default_factory=list)
    requests: list[RequestRecord] = field(default_factory=list)
    window: tuple[int, int] = (0, 0)
    began: int = 0
    """The zero of all times, by CLOCK_MONOTONIC."""
    usage: Usage = field(default_factory=lambda: Usage(0, 0, 0, 0, 0))
    generation_cpu: float = 0.0
    """Seconds of making data, in `usage` too."""
    resident: list[tuple[int, int]] = field(default_factory=list)
    """Of files that were about to be read: bytes in the page cache, and all."""
    unfinished: int = 0
    """Requests that were begun and not done at the end; what is left in the queue is not among them."""
    waiting: int = 0
    exhausted: bool = False
    """The schedule came to its end before the time."""
    errors: list[str] = field(default_factory=list)


class Stopped(Exception):
    """The time is up: nothing more is begun."""


class Engine:
    """One run of one schedule on one cache. The lanes are the workers', and the caller's."""

    def __init__(self, cache: Cache, data: Data, rules: Rules, note: Callable[[str], None] = lambda text: None) -> None:
        self.cache, self.data, self.rules, self._note = cache, data, rules, note
        self._writers = threading.Semaphore(rules.max_writers or rules.workers + 64)
        self._end = threading.Event()
        self._begin = 0
        self._flying = itertools.count()
        self.mu = threading.Condition()
        self._depth = 0
        self._queue: list[tuple[int, int, int, Request]] = []
        self._more = True
        self._busy = 0
        self._ran = Ran()

    # ---- before ----

    def populate(self, ops: Sequence[Op], lanes: Sequence[Lane]) -> Ran:
        """Writes these, with up to four at a time, and keeps their records apart."""
        ran = self._ran = Ran()
        self._begin = monotonic_ns()
        rest = iter(ops)
        done = itertools.count(1)

        def work(lane: Lane) -> None:
            while not ran.errors:
                with self.mu:
                    op = next(rest, None)
                if op is None:
                    return
                try:
                    self._store(op, "before", "before", lane)
                except Exception as error:  # every kind of failure is one of the run
                    self._failed(error)
                n = next(done)
                if n % 8 == 0 or n == len(ops):
                    self._note(f"writing what is read later: {n} of {len(ops)} objects")

        _together([lambda lane=lane: work(lane) for lane in lanes[: min(4, len(lanes))]])  # type: ignore[misc]
        return ran

    # ---- the run ----

    def run(self, schedule: Schedule, lanes: Sequence[Lane], moment: int = 0) -> Ran:
        """It begins at this moment of CLOCK_MONOTONIC, or now when that is over."""
        ran = self._ran = Ran()
        self._queue, self._more = [], True
        rules = self.rules
        wait(moment)
        usage = Usage.now()
        self._begin = ran.began = monotonic_ns()
        first = int(rules.warmup * SECOND)
        last = first + int(rules.duration * SECOND)
        threads = [threading.Thread(target=self._work, args=(lane,), daemon=True) for lane in lanes]
        for thread in threads:
            thread.start()
        try:
            self._feed(schedule.requests, first, last)
        finally:
            self._stop()
            stopped = self._now()
            for thread in threads:
                thread.join()
        ran.usage = Usage.now().since(usage)
        ran.window = (first, min(last, max(stopped, first + 1)))
        ran.waiting = len(self._queue)
        return ran

    def _now(self) -> int:
        return monotonic_ns() - self._begin

    def _feed(self, requests: Sequence[Request], first: int, last: int) -> None:
        """Hands out requests when their time has come; returns when time or requests are used up."""
        rest = iter(requests)
        waiting = next(rest, None)
        told = 0
        while self._now() < last and not self._ran.errors:
            with self.mu:
                while waiting is not None and (self.rules.closed or waiting.arrival <= self._now()):
                    if self.rules.closed and len(self._queue) >= self.rules.workers:
                        break
                    order = (0, waiting.number) if self.rules.closed else (-waiting.priority, waiting.arrival)
                    heapq.heappush(self._queue, (*order, next(self._flying), waiting))
                    waiting = next(rest, None)
                self.mu.notify_all()
                if waiting is None and not self._queue:
                    self._more = False
                until = last if waiting is None or self.rules.closed else min(waiting.arrival, last)
                pause = 0.002 if self.rules.closed and waiting is not None else (until - self._now()) / SECOND
                self.mu.wait(timeout=min(max(pause, 0.0005), _STEP))
                if not self._more and not self._busy:
                    self._ran.exhausted = True
                    return
            if self._now() - told > SECOND // 2:
                told = self._now()
                self._progress(first, last)

    def _progress(self, first: int, last: int) -> None:
        ran, now = self._ran, self._now()
        done = sum(op.nbytes for op in ran.ops[-200:])
        recent = ran.ops[-200:]
        span = (now - recent[0].t3) / SECOND if recent else 0
        rate = done / span / (1 << 30) if span > 0 else 0
        state = "warming up" if now < first else f"{(now - first) / SECOND:.0f} of {(last - first) / SECOND:.0f} s"
        self._note(
            f"{state}: {len(ran.requests)} requests done, {len(self._queue)} waiting, {len(ran.ops)} operations, "
            f"{rate:.2f} GiB/s at the moment"
        )

    def _stop(self) -> None:
        self._end.set()
        with self.mu:
            self._more = False
            self.mu.notify_all()

    def _work(self, lane: Lane) -> None:
        for tier in self.cache.tiers:
            tier.path.begin(lane)
        while True:
            with self.mu:
                while not self._queue and self._more:
                    self.mu.wait()
                if self._end.is_set() or not self._queue:
                    return
                request = heapq.heappop(self._queue)[-1]
                self._busy += 1
            try:
                self._serve(request, lane)
            except Stopped:
                self._ran.unfinished += 1
            except Exception as error:  # every kind of failure is one of the run
                self._failed(error)
            finally:
                with self.mu:
                    self._busy -= 1
                    if not self._more or self.rules.closed:
                        self.mu.notify_all()

    def _failed(self, error: Exception) -> None:
        self._ran.errors.append(f"{type(error).__name__}: {error}")
        self._stop()

    def _serve(self, request: Request, lane: Lane) -> None:
        begin = self._now()
        spans = lane.spans = []
        found: list[bool] = []
        for op in request.ops:
            if self._end.is_set():
                raise Stopped
            if op.kind == READ or op.kind == READ_OR_WRITE:
                hit = self._fetch(op, request.name, lane)
                found.append(hit)
                if hit or op.kind == READ:
                    continue
            self._store(op, request.name, op.phase, lane)
        slept = self._sleep(request.generate * self.rules.per_token)
        if self._end.is_set() and slept < request.generate * self.rules.per_token:
            raise Stopped
        self._ran.requests.append(
            RequestRecord(
                request.name, request.qos, request.context, request.generate,
                begin if self.rules.closed else request.arrival, begin, self._now(),
                sum(b - a for a, b in spans), _union(spans), int(slept * SECOND), sum(found), len(found) - sum(found),
            )
        )  # fmt: skip

    def _sleep(self, seconds: float) -> float:
        if seconds <= 0:
            return 0.0
        begin = time.monotonic()
        self._end.wait(seconds)
        return min(time.monotonic() - begin, seconds) if self._end.is_set() else seconds

    # ---- operations ----

    def _fetch(self, op: Op, request: str, lane: Lane) -> bool:
        entry = self.cache.pin(op.key)
        if entry is None:
            return False
        try:
            self._read(entry, request, op.phase, lane)
        finally:
            self.cache.unpin(entry)
        return True

    def _read(self, entry: Entry, request: str, phase: str, lane: Lane) -> None:
        path = entry.tier.path
        if next(self._flying) % _SAMPLE == 0:
            seen = path.residency(entry.key)
            if seen is not None:
                self._ran.resident.append(seen)
        result: list[Bytes] = []

        def read() -> Stamps:
            data, stamps = path.read(entry.key, entry.nbytes, lane)
            result.append(data)
            return stamps

        def probe() -> int:
            if not self.rules.probe:
                return 0
            begin = monotonic_ns()
            np.array(result[0])
            return monotonic_ns() - begin

        self._timed(request, phase, "read", entry.tier, entry, lane, read, probe)
        if len(result[0]) != entry.nbytes:
            raise ShortRead(f"{entry.key}: {len(result[0])} bytes of {entry.nbytes}")
        if not self.data.looks_right(entry.key, result[0]):
            raise ValueError(f"{entry.key}: other bytes were read than were written")
        result.clear()  # what is mapped stays in the page cache
        if path.meaning.cached:
            path.cool(entry.key)

    def _store(self, op: Op, request: str, phase: str, lane: Lane) -> None:
        nbytes = op.tokens * self.rules.bytes_per_token
        with self._writers:
            target = lane.write.room(nbytes)[:nbytes]
            cpu = time.thread_time()
            self.data.fill(op.key, target)
            cpu = time.thread_time() - cpu
            with self.mu:
                self._ran.generation_cpu += cpu

            def timed(phase: str, kind: str, tier: Tier, entry: Entry, lane: Lane, do: Callable[[], Stamps]) -> None:
                self._timed(request, phase, kind, tier, entry, lane, do, lambda: 0)

            self.cache.write(op.key, target, op.tokens, phase, lane, timed)

    def _timed(
        self, request: str, phase: str, kind: str, tier: Tier, entry: Entry, lane: Lane,
        do: Callable[[], Stamps], probe: Callable[[], int],
    ) -> None:  # fmt: skip
        with self.mu:
            self._depth += 1
            depth = self._depth
        error: Exception | None = None
        t0 = monotonic_ns()
        try:
            stamps = do()
        except Exception as failed:
            error, stamps = failed, Stamps(t0, t0)
        t3 = monotonic_ns()
        with self.mu:
            self._depth -= 1
        begin = self._begin
        self._ran.ops.append(
            OpRecord(
                request, phase, kind, "cpu" if stamps.memory else tier.name, tier.path.name,
                entry.key, entry.nbytes, entry.tokens,
                t0 - begin, stamps.t1 - begin, stamps.t2 - begin, t3 - begin, stamps.copy, stamps.verify,
                0 if error else probe(), depth, f"{type(error).__name__}: {error}" if error else "",
            )
        )  # fmt: skip
        if error is not None:
            raise error
        lane.spans.append((t0, t3))


def _union(spans: Sequence[tuple[int, int]]) -> int:
    """The time that at least one of them covers."""
    covered, end = 0, 0
    for a, b in sorted(spans):
        covered += max(0, b - max(a, end))
        end = max(end, b)
    return covered


def _together(work: Sequence[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=one, daemon=True) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
