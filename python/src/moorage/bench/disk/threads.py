"""One pass in this process: as many threads as the depth says, each with one operation at a time."""

from __future__ import annotations

import gc
import resource
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from .figures import Op
from .objects import Object

_clock = time.monotonic_ns


class Worker(Protocol):
    """Reads or writes in one thread, which also makes and closes it."""

    def ready(self, i: int) -> None:
        """What comes before an operation and is not part of it."""

    def do(self, i: int) -> tuple[int, int, int]:
        """The operation: t1, t2, and nanoseconds of copying."""

    def check(self, i: int) -> None:
        """Raises ValueError unless what was read is what was written."""

    def drop(self) -> None:
        """Gives back what an operation has made."""

    def finish(self) -> bool:
        """After the last operation, and part of the pass: whether there was anything to do."""

    def close(self) -> None:
        """Gives back the rest."""


class Workers(Protocol):
    def worker(self, objects: Sequence[Object]) -> Worker: ...


@dataclass
class Ran:
    """What a pass took; cpu and faults are those of the whole process. wall in nanoseconds, from the first t0 to the
    last t3, or to the end of what finishes the pass.
    """

    ops: list[Op]
    nbytes: int
    wall: int
    cpu: int
    minor: int
    major: int


def run(workers: Workers, objects: Sequence[Object], depth: int, check: bool) -> Ran:
    """Reads or writes every object once. Making and closing the workers is not in the figures."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        crew = _Crew(workers, objects, depth, check)
        ops, cpu, minor, major = crew.run()
    finally:
        if collecting:
            gc.enable()
    wall = max(*crew.finished, max(op.t3 for op in ops)) - min(op.t0 for op in ops)
    return Ran(ops, sum(one.size for one in objects), wall, cpu, minor, major)


@dataclass(frozen=True)
class _Used:
    cpu: int
    minor: int
    major: int


def _used() -> _Used:
    of = resource.getrusage(resource.RUSAGE_SELF)
    return _Used(time.process_time_ns(), of.ru_minflt, of.ru_majflt)


class _Crew:
    def __init__(self, workers: Workers, objects: Sequence[Object], depth: int, check: bool) -> None:
        self.workers, self.objects, self.depth, self.check = workers, objects, depth, check
        # Met three times: the workers are made; what was used is known; all is done.
        self.together = threading.Barrier(depth + 1)
        self.found: list[list[Op]] = [[] for _ in range(depth)]
        self.finished = [0] * depth
        """When each had finished; 0 where nothing was left to do."""
        self.failed: list[BaseException] = []
        self.mu = threading.Lock()
        self.left = depth  # guarded by mu
        self.before = self.after = _used()

    def run(self) -> tuple[list[Op], int, int, int]:
        running = [threading.Thread(target=self.work, args=(share,)) for share in range(self.depth)]
        for thread in running:
            thread.start()
        try:
            self.together.wait()
            self.before = _used()
            self.together.wait()
            self.together.wait()
        except threading.BrokenBarrierError:
            pass  # a thread has said why
        except BaseException:
            self.together.abort()
            raise
        finally:
            for thread in running:
                thread.join()
        if self.failed:
            raise self.failed[0]
        before, after = self.before, self.after
        ops = [op for some in self.found for op in some]
        return ops, after.cpu - before.cpu, after.minor - before.minor, after.major - before.major

    def work(self, share: int) -> None:
        try:
            worker = self.workers.worker(self.objects)
            try:
                self.together.wait()
                self.together.wait()
                for i in range(share, len(self.objects), self.depth):
                    self.found[share].append(one(worker, i, self.check))
                if worker.finish():
                    self.finished[share] = _clock()
                self.ended()
                self.together.wait()
            finally:
                worker.close()
        except threading.BrokenBarrierError:
            pass  # another thread has failed
        except BaseException as error:
            self.failed.append(error)
            self.together.abort()

    def ended(self) -> None:
        """The last one looks, before anybody is woken."""
        with self.mu:
            self.left -= 1
            if self.left == 0:
                self.after = _used()


def one(worker: Worker, i: int, check: bool) -> Op:
    """One operation. What it made is given back after the last stamp."""
    worker.ready(i)
    t0, verify = _clock(), 0
    t1, t2, copy = worker.do(i)
    if check:
        begin = _clock()
        worker.check(i)
        verify = _clock() - begin
    t3 = _clock()
    worker.drop()
    return Op(t0, t1, t2, t3, copy, verify)
