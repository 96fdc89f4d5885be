"""Passes: everybody reads every object once, cold, or writes it, at the same depth; to and fro in turns."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Callable

from .figures import Pass
from .objects import Object
from .place import Counters
from .rows import Row

_clock = time.monotonic_ns


@dataclass
class Side:
    """What is gathered of one row."""

    row: Row
    verify: bool
    passes: list[Pass] = field(default_factory=list)

    @property
    def title(self) -> str:
        return self.row.name + (", verified" if self.verify else "")


class Rounds:
    """Several rows over the same objects, with so many operations at a time.

    counters  looks at the device
    """

    def __init__(
        self, sides: Sequence[Side], objects: Sequence[Object], depth: int, counters: Callable[[], Counters | None]
    ) -> None:
        self.sides, self.objects, self.depth, self._counters = list(sides), objects, depth, counters
        self.lost: dict[str, str] = {}
        """By title: why a row was given up. What it had measured does not count."""

    def go(self, pairs: int) -> None:
        """A round that is not kept, in which every byte is checked, and then so many pairs of rounds: ABBA."""
        for side in list(self.sides):
            self._try(side, warm=True)
        for i in range(2 * pairs):
            for side in list(self.sides if i % 2 == 0 else reversed(self.sides)):
                self._try(side, warm=False)

    def _try(self, side: Side, *, warm: bool) -> None:
        try:
            if warm:
                side.row.prepare(self.objects)
            done = self.one(side, check=warm or (side.verify and not side.row.verifies))
        except Exception as error:  # of a path that this machine has not, of a disk: the others go on
            self.lost[side.title] = f"{type(error).__name__}: {error}"
            self.sides.remove(side)
            return
        if not warm:
            side.passes.append(done)

    def one(self, side: Side, *, check: bool) -> Pass:
        """One pass of one row."""
        side.row.verify = side.verify
        side.row.begin(self.objects, self.depth)
        try:
            side.row.cool(self.objects)
            here, everything = side.row.residency(self.objects)
            before, begin = self._counters(), _clock()
            ran = side.row.run(self.objects, self.depth, check)
            after, wall = self._counters(), _clock() - begin
        finally:
            side.row.end()
        if check and side.row.writes:
            side.row.compare(self.objects)
        return Pass(
            ran.ops, ran.nbytes, ran.wall, ran.cpu, ran.minor, ran.major,
            here / everything if everything else None,
            after.since(before) if before is not None and after is not None else None,
            wall,
        )  # fmt: skip
