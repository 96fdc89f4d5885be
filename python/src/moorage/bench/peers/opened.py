"""The first read of what was opened just now: each object once, so that every page not mapped yet is paid for."""

from __future__ import annotations

import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Callable

FIRST = "first read"
FIRST_PLAIN = "first read, beside a store without prefault"
OPENING = "opening"
OPEN_AND_READ = "opening and first read"

_clock = time.perf_counter_ns


def _nothing() -> None:
    pass


@dataclass
class Opened:
    """What is there after opening.

    get    gives the tensor of this key
    fill   brings the bytes, for who keeps none beyond its process: after opening and before the clock runs on
    close  undoes the opening, once all tensors are gone
    """

    get: Callable[[str], Any]
    fill: Callable[[], Any] = _nothing
    close: Callable[[], Any] = _nothing


Opening = Callable[[], Opened]


@dataclass(frozen=True)
class Took:
    """Objects got and copied; what each of them took on average."""

    ns: float
    cpu: float
    faults: float
    """Page faults."""


def timed_opening(opening: Opening) -> tuple[Opened, int]:
    """And the nanoseconds of it. What has to be filled is filled then."""
    begin = _clock()
    opened = opening()
    took = _clock() - begin
    opened.fill()
    return opened, took


def timed_reads(opened: Opened, keys: Sequence[str], target: Any) -> Took:
    """Each into the same target."""
    get, copy = opened.get, target.copy_
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    cpu, begin = time.process_time_ns(), _clock()
    for key in keys:
        copy(get(key))
    took, cpu = _clock() - begin, time.process_time_ns() - cpu
    faults, n = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults, len(keys)
    return Took(took / n, cpu / n, faults / n)
