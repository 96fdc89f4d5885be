"""Lets everybody open anew and read each object once, in turns."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Callable

from ..timing import Figures
from . import ours
from .opened import FIRST, FIRST_PLAIN, OPEN_AND_READ, OPENING, Took
from .results import PeerResult

SMALLEST = 64 << 10  # below, the get is what costs, not the reading
TURNS = 8  # of everybody, in a round

_FEWEST_ROUNDS, _MOST_ROUNDS = 3, 30

Ask = Callable[..., Any]
"""Of a peer's module and a request: the answer, or None from who is lost."""


def objects(size: int) -> int:
    """How many are read in a round."""
    return TURNS * (1 if size >= 16 << 20 else 4)


@dataclass
class _Row:
    """What one row took in all rounds."""

    name: str
    row: str
    openings: list[int] = field(default_factory=list)
    reads: list[Took] = field(default_factory=list)
    """Of all turns, round by round."""

    def passes(self, in_turn: int) -> list[float]:
        """An opening, and all reads after it."""
        sums = [sum(one.ns for one in self.reads[i : i + TURNS]) for i in range(0, len(self.reads), TURNS)]
        return [opening + reading * in_turn for opening, reading in zip(self.openings, sums)]

    def clear(self) -> None:
        self.openings.clear()
        self.reads.clear()


class Passes:
    """One size. In a round everybody opens, then everybody reads the first objects, then the next ones, each time in
    another order.
    """

    def __init__(self, rows: Iterable[tuple[str, str]], size: int, ask: Ask) -> None:
        self.rows = [_Row(name, row) for name, row in rows]
        self.size, self.in_turn, self.ask = size, objects(size) // TURNS, ask
        self.order = random.Random(1)

    def go(self, seconds: float) -> None:
        """For about so many seconds."""
        self.turn()  # what is loaded on first use is there from now on
        for row in self.rows:
            row.clear()
        end, rounds = time.monotonic() + seconds, 0
        while rounds < _FEWEST_ROUNDS or (rounds < _MOST_ROUNDS and time.monotonic() < end):
            self.turn()
            rounds += 1

    def turn(self) -> None:
        for row in self.shuffled():
            self.answer(row, row.openings, "open")
        for i in range(TURNS):
            for row in self.shuffled():
                self.answer(row, row.reads, "read", i * self.in_turn, self.in_turn)
        for row in self.shuffled():
            self.ask(row.name, "close", row.row)

    def shuffled(self) -> list[_Row]:
        return self.order.sample(self.rows, len(self.rows))

    def answer(self, row: _Row, into: list[Any], what: str, *more: int) -> None:
        """Who is lost is out, with all that it took."""
        found = self.ask(row.name, what, row.row, *more)
        if found is None:
            self.rows = [one for one in self.rows if one.name != row.name]
        else:
            into.append(found)

    def results(self) -> list[PeerResult]:
        found = []
        for row in self.rows:
            for base, work in ((ours.PREFAULTED, FIRST), (ours.PLAIN, FIRST_PLAIN)):
                found.append(self._result(row, work, _reads(row), self._of(base, _reads), row.reads))
            passes, mine = row.passes(self.in_turn), self._of(ours.PREFAULTED, lambda one: one.passes(self.in_turn))
            found.append(self._result(row, OPENING, row.openings, self._of(ours.PREFAULTED, lambda one: one.openings)))
            found.append(self._result(row, OPEN_AND_READ, passes, mine))
        return found

    def _of(self, base: str, what: Callable[[_Row], Sequence[float]]) -> Sequence[float]:
        return next((what(one) for one in self.rows if one.row == base), [])

    def _result(
        self, row: _Row, work: str, took: Sequence[float], mine: Sequence[float], reads: Sequence[Took] = ()
    ) -> PeerResult:
        ratios = [theirs / our for theirs, our in zip(took, mine)]
        low, times, high = statistics.quantiles(ratios) if len(ratios) > 1 else (None, None, None)
        middle = statistics.median(took)
        timed = Figures(
            work, len(took), p50=middle, p99=None, worst=max(took), mean=middle,
            cpu=statistics.median(one.cpu for one in reads) if reads else 0,
            faults=statistics.median(one.faults for one in reads) if reads else 0,
        )  # fmt: skip
        return PeerResult(row.row, work, self.size, timed, times, low, high, len(row.openings))


def _reads(row: _Row) -> list[float]:
    return [one.ns for one in row.reads]
