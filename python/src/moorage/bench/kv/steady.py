"""Preconditioning: a device is written to until it no longer changes."""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Callable

from .. import machine
from .cache import Cache, Tier
from .engine import Engine
from .lane import Lane
from .paths.path import Path
from .planning import GIB, Plan
from .schedule import WRITE, Op

ROUNDS = 5
_RANGE = 0.20
_SLOPE = 0.10
_ROUND = 1 << 30
_TOKENS = 2048
_LONGEST = 3600.0


def steady(rates: Sequence[float]) -> bool:
    """The last five rounds: none further than 20 % of their mean from the others, and their slope, over the five, below
    10 % of it.
    """
    if len(rates) < ROUNDS:
        return False
    last = list(rates[-ROUNDS:])
    mean = sum(last) / ROUNDS
    middle = (ROUNDS - 1) / 2
    slope = sum((i - middle) * rate for i, rate in enumerate(last)) / sum((i - middle) ** 2 for i in range(ROUNDS))
    return max(last) - min(last) <= _RANGE * mean and abs(slope) * (ROUNDS - 1) <= _SLOPE * mean


@dataclass(frozen=True)
class Steadied:
    """GiB/s of each round, GiB written in all, and whether the last rounds were alike."""

    rates: list[float]
    gib: float
    steady: bool

    def facts(self) -> dict[str, Any]:
        return {"gib_per_s": self.rates, "gib": self.gib, "steady": self.steady}


def volume(options: argparse.Namespace, capacity: int) -> int:
    """Bytes that are written at most."""
    return int(options.precondition_size_gb * GIB) or 2 * capacity


def threads(options: argparse.Namespace) -> int:
    """That write."""
    return int(options.precondition_threads) or machine.cores()


def tokens(options: argparse.Namespace) -> int:
    """Of an object."""
    return max(1, round(_TOKENS * float(options.scale)))


def precondition(plan: Plan, path: Path, capacity: int, note: Callable[[str], None]) -> Steadied:
    """Objects of 2,048 tokens, one after the other until so many bytes are there, and then any of them again, until it
    is steady or the volume is written. They stay. Raises what a write raises.
    """
    options = plan.options
    limit = volume(options, capacity)
    lanes = [Lane(i) for i in range(threads(options))]
    engine = Engine(Cache([Tier("storage", path, capacity, capacity, capacity)]), plan.data, plan.rules)
    each = tokens(options) * plan.model.bytes_per_token
    fit = max(1, capacity // each)
    source = random.Random(options.seed)
    done = 0
    rates: list[float] = []
    begin = time.monotonic()
    while done * each < limit and not steady(rates) and time.monotonic() - begin < _LONGEST:
        count = max(1, min(_ROUND, limit - done * each, capacity) // each)
        numbers = [n if n < fit else source.randrange(fit) for n in range(done, done + count)]
        started = time.monotonic()
        ran = engine.populate([Op(WRITE, f"pre{n}", tokens(options), "prefill") for n in numbers], lanes)
        if ran.errors:
            raise OSError(ran.errors[0])
        done += count
        rates.append(count * each / GIB / (time.monotonic() - started))
        note(f"preconditioning: {done * each / GIB:.1f} of at most {limit / GIB:.1f} GiB, {rates[-1]:.2f} GiB/s")
    for lane in lanes:
        lane.close()
    return Steadied(rates, done * each / GIB, steady(rates))
