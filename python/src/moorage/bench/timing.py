"""Times statements beside their floors, alternately."""

from __future__ import annotations

import gc
import resource
import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import repeat
from typing import Any, Callable

# The statement stands in the loop itself, as timeit has it: what a function call costs would be a good part of what
# is measured here. What the statement makes is dropped inside the time.
_TEMPLATE = """
def block(_clock, _arguments):
    _begin = _clock()
    for a in _arguments:
        {source}
    return _clock() - _begin

def each(_clock, _arguments):
    _times = []
    _note = _times.append
    for a in _arguments:
        _begin = _clock()
        {source}
        _note(_clock() - _begin)
    return _times
"""

_clock = time.perf_counter_ns

# A block is long enough for the clock, and much shorter than what the scheduler gives a program at a time: on a busy
# machine most blocks are then not broken off, and the median does not see those that are.
_BLOCK = 300_000  # ns
_MOST_ROUNDS = 1000
_FEWEST_ROUNDS = 5


class Statement:
    """A statement that can be timed.

    arguments  makes what the statement finds in `a`, n of them, before the clock starts: what can be used only once
    most       how many of them there may be at a time
    """

    def __init__(
        self,
        source: str,
        names: dict[str, Any],
        arguments: Callable[[int], Iterable[Any]] | None = None,
        most: int = 4096,
    ) -> None:
        self.source = source
        self.most = most
        space = dict(names)
        exec(_TEMPLATE.format(source=source), space)  # our own text
        self._block: Any = space["block"]
        self._each: Any = space["each"]
        self.arguments = arguments or (lambda n: repeat(None, n))
        self.calls = 0

    def block(self, n: int) -> int:
        """Nanoseconds of n calls in a row."""
        arguments = self.arguments(n)
        self.calls += n
        return int(self._block(_clock, arguments))

    def each(self, n: int) -> list[int]:
        """Nanoseconds of each of n calls, and of reading the clock."""
        arguments = self.arguments(n)
        self.calls += n
        times: list[int] = self._each(_clock, arguments)
        return times


@dataclass
class Figures:
    """One statement. Times in nanoseconds a call."""

    statement: str
    calls: int
    p50: float
    p99: float | None
    """None below a hundred calls."""
    worst: float
    mean: float
    """In a row, without a clock in between; the median of the rounds."""
    cpu: float
    """Of all threads."""
    faults: float
    """Page faults a call."""
    copied: float | None = None
    """Bytes a call that the store says it copied."""


@dataclass
class Comparison:
    """A statement and its floor."""

    case: Figures
    floor: Figures
    ratio: float
    """Median of the rounds' ratios."""
    rounds: int


class Side:
    """What is gathered of one statement."""

    def __init__(self, statement: Statement, block: int = _BLOCK) -> None:
        self.statement = statement
        self.n = _calls_per_block(statement, block)
        self.singles = max(1, min(self.n // 4, 100))
        self.means: list[float] = []
        self.times: list[int] = []
        self.cpu = self.faults = self.calls = 0

    def run(self) -> float:
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        cpu = time.process_time_ns()
        mean = self.statement.block(self.n) / self.n
        self.cpu += time.process_time_ns() - cpu
        self.faults += resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
        self.calls += self.n
        self.means.append(mean)
        return mean

    def sample(self) -> None:
        if self.n > 1:
            self.times += self.statement.each(self.singles)

    def figures(self, clock: float) -> Figures:
        times = [max(t - clock, 0) for t in self.times] or self.means
        return Figures(
            statement=self.statement.source,
            calls=len(times),
            p50=statistics.median(times),
            p99=statistics.quantiles(times, n=100, method="inclusive")[98] if len(times) >= 100 else None,
            worst=max(times),
            mean=statistics.median(self.means),
            cpu=self.cpu / self.calls,
            faults=self.faults / self.calls,
        )


def _calls_per_block(statement: Statement, block: int) -> int:
    n = 1
    statement.block(1)  # the first is never like the others
    while n < statement.most and min(statement.block(n), statement.block(n)) < block / 2:
        n *= 2
    return n


def cost_of_clock() -> float:
    """Nanoseconds that reading the clock adds to what is timed call by call."""
    return statistics.median(Statement("pass", {}).each(1000))


def compare(
    case: Statement, floor: Statement, *, seconds: float, copied: Callable[[], int] | None = None
) -> Comparison:
    """Runs both alternately for about so many seconds, but at least five times each.

    copied  reads the store's count of bytes copied; what the statement's floor does must not change it
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        return _compare(case, floor, seconds, copied)
    finally:
        if collecting:
            gc.enable()


def _compare(case: Statement, floor: Statement, seconds: float, copied: Callable[[], int] | None) -> Comparison:
    clock = cost_of_clock()
    before, calls = (copied() if copied else 0), case.calls
    ours, theirs = Side(case), Side(floor)
    ratios: list[float] = []
    deadline = _clock() + int(seconds * 1e9)
    while len(ratios) < _FEWEST_ROUNDS or (_clock() < deadline and len(ratios) < _MOST_ROUNDS):
        if len(ratios) % 2:
            below, above = theirs.run(), ours.run()
        else:
            above, below = ours.run(), theirs.run()
        ratios.append(above / below)
        ours.sample()
        theirs.sample()
    result = Comparison(ours.figures(clock), theirs.figures(clock), statistics.median(ratios), len(ratios))
    if copied:
        result.case.copied = (copied() - before) / (case.calls - calls)
    return result
