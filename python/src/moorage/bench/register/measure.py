"""Takes the figures."""

from __future__ import annotations

import ctypes
import resource
import statistics
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Callable

from .. import machine
from . import memory
from .figures import Measured, Row
from .pinning import Change, NoPinning, Pinner, Table

_FEWEST, _MOST = 3, 400
_SLAB = 64 << 20
_RANGE, _PIECE = 64 << 10, 1 << 20
_clock = time.perf_counter_ns


def _timed(do: Callable[[], object]) -> int:
    begin = _clock()
    do()
    return _clock() - begin


def _faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


class Measure:
    def __init__(self, seconds: float, pinner: Pinner, note: Callable[[str], None]) -> None:
        self.seconds = seconds
        self._pinner = pinner
        self._note = note
        self.measured = Measured()
        self.measured.call = statistics.median(_timed(pinner.nothing) for _ in range(1000))

    def _rounds(self, one: Callable[[], Sequence[float]]) -> list[float]:
        """The median of each figure of `one`, over as many rounds as there is time for."""
        found, end = [one()], time.monotonic() + self.seconds
        while len(found) < _FEWEST or (time.monotonic() < end and len(found) < _MOST):
            found.append(one())
        return [statistics.median(column) for column in zip(*found)]

    def _net(self, do: Callable[[], object]) -> float:
        return max(_timed(do) - self.measured.call, 1)

    # ---- sizes ----

    def sizes(self, sizes: Sequence[int]) -> None:
        with self._pinner.table() as table:
            self._sizes(sizes, table)

    def _sizes(self, sizes: Sequence[int], table: Table) -> None:
        for kind in memory.KINDS:
            for size in sizes:
                if 3 * size > machine.available_memory():
                    self.measured.missing.append(f"{kind}: {size} bytes: not enough memory is free")
                    break
                try:
                    self.measured.rows.append(self._row(kind, size, table))
                except memory.Lacking as error:
                    self.measured.missing.append(str(error))
                    break

    def _row(self, kind: str, size: int, table: Table) -> Row:
        self._note(f"{kind}, {size >> 10} KiB")
        with memory.area(kind, size, touched=True) as one, memory.area(kind, size, touched=True) as other:
            if kind == memory.THP and not memory.has_huge_pages(one):
                raise memory.Lacking(
                    "THP: the kernel gave small pages; see /sys/kernel/mm/transparent_hugepage/enabled"
                )
            pin, unpin = table.change(0, one.address, size), table.emptying(0)
            pinned, unpinned = self._rounds(lambda: (self._net(pin), self._net(unpin)))
            (warm,) = self._rounds(lambda: (_timed(lambda: ctypes.memmove(other.address, one.address, size)),))
            fresh, faults = self._rounds(
                lambda: self._fresh(kind, size, lambda to: ctypes.memmove(to, one.address, size))
            )
        untouched, faults_untouched = self._rounds(lambda: self._untouched(kind, size, table))
        (touch, _) = self._rounds(lambda: self._fresh(kind, size, lambda to: ctypes.memset(to, 1, size)))
        return Row(kind, size, pinned, unpinned, untouched, faults_untouched, touch, warm, fresh, faults)

    def _fresh(self, kind: str, size: int, write: Callable[[int], object]) -> tuple[float, float]:
        with memory.area(kind, size, touched=False) as to:
            before = _faults()
            return _timed(lambda: write(to.address)), _faults() - before

    def _untouched(self, kind: str, size: int, table: Table) -> tuple[float, float]:
        with memory.area(kind, size, touched=False) as one:
            pin, before = table.change(0, one.address, size), _faults()
            took, faults = self._net(pin), _faults() - before
            table.emptying(0)()
            return took, faults

    # ---- ranges, threads, opening ----

    def ranges(self, counts: Sequence[int]) -> None:
        """One range more, with so many registered before."""
        with memory.area(memory.SMALL, _RANGE, touched=True) as one, self._pinner.table() as table, ExitStack() as last:
            done = 0
            for count in counts:
                self._note(f"{count} ranges registered before")
                for slot in range(done, count):
                    table.change(slot, one.address, _RANGE)()
                    last.callback(table.emptying(slot))
                done = max(done, count)
                self.measured.by_ranges.append((count, self._one_more(table, done, one)))

    def _one_more(self, table: Table, slot: int, one: memory.Area) -> float:
        pin, unpin = table.change(slot, one.address, one.size), table.emptying(slot)
        return self._rounds(lambda: (self._net(pin), self._net(unpin)))[0]

    def threads(self, counts: Sequence[int]) -> None:
        """So many threads at once: with one card, or each with a table of its own in the kernel."""
        alone = 0.0
        for count in counts:
            self._note(f"{count} threads at once")
            rate = statistics.median(self._together(count) for _ in range(3))
            alone = alone or rate
            self.measured.by_threads.append((count, rate, rate / alone))

    def _together(self, count: int) -> float:
        done, start = [0] * count, threading.Barrier(count)
        failed: list[BaseException] = []

        def work(i: int) -> None:
            try:
                with self._pinner.table() as table, memory.area(memory.SMALL, _PIECE, touched=True) as one:
                    pin, unpin = table.change(0, one.address, _PIECE), table.emptying(0)
                    start.wait()
                    end = time.monotonic() + self.seconds
                    while time.monotonic() < end:
                        pin()
                        unpin()
                        done[i] += 1
            except BaseException as error:
                failed.append(error)
                start.abort()

        running = [threading.Thread(target=work, args=(i,)) for i in range(count)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        if failed:
            raise NoPinning(f"{count} threads: {failed[0]}")
        return sum(done) / self.seconds

    def opening(self, size: int) -> None:
        """A store's memory, slab by slab."""
        many = min(machine.cores(), 8)
        for how, touched, count in (
            ("touched before, one thread", True, 1),
            ("untouched, one thread", False, 1),
            (f"untouched, {many} threads", False, many),
        ):
            self._note(f"opening: {how}")
            with memory.area(memory.MEMFD, size, touched=touched) as one, self._pinner.table() as table:
                starts = enumerate(range(0, size, _SLAB))
                slabs = [table.change(i, one.address + at, min(_SLAB, size - at)) for i, at in starts]
                took = _spread(slabs, count)
            self.measured.opening.append((how, took / 1e9 / (size / (1 << 30))))


def _spread(calls: Sequence[Change], threads: int) -> int:
    """Nanoseconds of all calls. The touching is spread over threads; into a table the kernel lets one at a time."""
    waiting = list(calls)
    failed: list[NoPinning] = []

    def work() -> None:
        while not failed:
            try:
                call = waiting.pop()
            except IndexError:
                return
            if threads > 1:  # as the store does; where the kernel cannot, pinning does it
                memory.populate(call.address, call.size)
            try:
                call()
            except NoPinning as error:
                failed.append(error)

    running = [threading.Thread(target=work) for _ in range(threads)]
    begin = _clock()
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    took = _clock() - begin
    if failed:
        raise failed[0]
    return took
