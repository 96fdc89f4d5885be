"""--io-trace-log: what would be done, in the columns of the original, without any I/O."""

from __future__ import annotations

import csv
from time import monotonic_ns
from typing import Any, Callable

import numpy as np

from . import planning
from .arrivals import SECOND
from .cache import Cache, Entry, Tier
from .lane import Bytes, Lane
from .paths.memory import Memory
from .paths.path import Meaning, Stamps
from .planning import Plan
from .schedule import READ, Op

COLUMNS = ("Timestamp", "Operation", "Object_Size_Bytes", "Tier", "Key", "Phase")
_TIERS = {"gpu": "Tier-0", "cpu": "Tier-1", "storage": "Tier-2"}
_PHASES = {"decode": "Decode", "evict": "Evict"}


class Nothing(Memory):
    """Remembers nothing but that something is there."""

    meaning = Meaning(0, "nothing is read", "nothing is written", False)

    def write(self, key: str, data: Bytes, tokens: int, lane: Lane) -> Stamps:
        self._kept[key] = data
        now = monotonic_ns()
        return Stamps(now, now)


class Log:
    """Places objects as a run would, one request after another, and writes down each operation."""

    def __init__(self, plan: Plan, write: Callable[[tuple[Any, ...]], object]) -> None:
        self._plan, self._write = plan, write
        real = planning.cache(plan, Nothing("storage"))
        for tier in real.tiers:
            tier.path = Nothing(tier.name)
        self._cache: Cache = real
        self._lane = Lane()
        self._at = 0.0

    def _row(self, operation: str, nbytes: int, tier: str, key: str, phase: str) -> None:
        self._write((f"{self._at:.6f}", operation, nbytes, _TIERS[tier], key, _PHASES.get(phase, "Prefill")))

    def do(self, op: Op, at: float) -> None:
        self._at = at
        if op.kind != "write":
            entry = self._cache.pin(op.key)
            if entry is not None:
                self._row("Read", entry.nbytes, entry.tier.name, op.key, op.phase)
                self._cache.unpin(entry)
                return
            if op.kind == READ:
                return
        nbytes = op.tokens * self._plan.model.bytes_per_token
        # An array of this length that takes no memory.
        data = np.broadcast_to(np.uint8(0), (nbytes,))
        self._cache.write(op.key, data, op.tokens, op.phase, self._lane, self._timed)

    def _timed(self, phase: str, kind: str, tier: Tier, entry: Entry, lane: Lane, do: Callable[[], Stamps]) -> None:
        do()
        self._row("Write", entry.nbytes, tier.name, entry.key, phase)


def log(plan: Plan, path: str) -> int:
    """Writes the trace; the number of its operations."""
    rows = 0
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)

        def write(row: tuple[Any, ...]) -> None:
            nonlocal rows
            rows += 1
            writer.writerow(row)

        made = Log(plan, write)
        for op in plan.schedule.before:
            made.do(op, 0.0)
        for request in plan.schedule.requests:
            for op in request.ops:
                made.do(op, request.arrival / SECOND)
    return rows
