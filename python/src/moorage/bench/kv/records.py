"""What is kept of every operation and every request: all figures are computed from these, by the run and by verify."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeVar, get_type_hints


class OpRecord(NamedTuple):
    """Times in nanoseconds since the beginning of the run. device is t2 - t1, total t3 - t0, host the rest."""

    request: str
    phase: str
    """Of the request; "evict" for what makes room, "before" for what is written before the run."""
    kind: str
    """"read" or "write"."""
    tier: str
    path: str
    key: str
    nbytes: int
    tokens: int
    t0: int
    t1: int
    t2: int
    t3: int
    copy: int
    verify: int
    probe: int
    """Of copying what was delivered, after t3, where that is asked for: in no other figure."""
    depth: int
    """Operations in flight when it began, itself included."""
    error: str

    @property
    def device(self) -> int:
        return self.t2 - self.t1

    @property
    def host(self) -> int:
        return (self.t1 - self.t0) + (self.t3 - self.t2)

    @property
    def total(self) -> int:
        return self.t3 - self.t0


class RequestRecord(NamedTuple):
    """Nanoseconds since the beginning of the run. `arrival` is when the schedule wanted it, whatever was going on."""

    request: str
    qos: str
    context: int
    generate: int
    arrival: int
    begin: int
    """A worker took it up."""
    end: int
    storage_sum: int
    """Of its operations, added up,"""
    storage_wall: int
    """and the time in which at least one of them was going on."""
    slept: int
    """Simulated generation."""
    hits: int
    misses: int


T = TypeVar("T", OpRecord, RequestRecord)


def write(path: str, kind: Any, records: Iterable[Sequence[Any]]) -> None:
    """CSV, compressed when the name ends in .gz."""
    opened: Any = gzip.open if path.endswith(".gz") else open
    with opened(path, "wt", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(kind._fields)
        writer.writerows(records)


def read(path: str, kind: type[T]) -> list[T]:
    """What `write` has written. ValueError for anything else."""
    make: Any = kind
    opened: Any = gzip.open if path.endswith(".gz") else open
    with opened(path, "rt", encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        if tuple(next(rows, ())) != kind._fields:
            raise ValueError(f"{path} does not begin with the columns {', '.join(kind._fields)}")
        hints = get_type_hints(kind)
        numbers = [hints[name] is int for name in kind._fields]
        found: list[T] = []
        for row in rows:
            if len(row) != len(numbers):
                raise ValueError(f"{path} was cut off after {len(found)} records")
            found.append(make(*(int(cell) if number else cell for cell, number in zip(row, numbers))))
        return found
