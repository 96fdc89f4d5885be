"""Preconditioning: a device is written to until it no longer changes."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Callable

from . import planning
from .cache import Cache
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


def precondition(plan: Plan, path: Path, note: Callable[[str], None]) -> Steadied:
    """Objects of 2,048 tokens, the oldest making room, until it is steady or the volume is written; all of them go.

    Raises what a write raises.
    """
    from .. import machine

    options = plan.options
    limit = int(options.precondition_size_gb * GIB) or 2 * plan.capacity
    lanes = [Lane(i) for i in range(options.precondition_threads or machine.cores())]
    cache = Cache(planning.cache(plan, path).tiers[-1:])
    engine = Engine(cache, plan.data, plan.rules, lambda text: None)
    tokens = max(1, round(_TOKENS * options.scale))
    each = tokens * plan.model.bytes_per_token
    number, written = itertools.count(), 0
    rates: list[float] = []
    begin = time.monotonic()
    while written < limit and not steady(rates) and time.monotonic() - begin < _LONGEST:
        count = max(1, min(_ROUND, limit - written, plan.capacity) // each)
        ops = [Op(WRITE, f"pre{next(number)}", tokens, "prefill") for _ in range(count)]
        started = time.monotonic()
        ran = engine.populate(ops, lanes)
        if ran.errors:
            raise OSError(ran.errors[0])
        written += count * each
        rates.append(count * each / GIB / (time.monotonic() - started))
        note(f"preconditioning: {written / GIB:.1f} of at most {limit / GIB:.1f} GiB, {rates[-1]:.2f} GiB/s")
    for key in list(cache.tiers[-1].entries):
        path.delete(key)
    for lane in lanes:
        lane.close()
    return Steadied(rates, written / GIB, steady(rates))


def facts(found: Steadied) -> dict[str, Any]:
    return {"gib_per_s": found.rates, "gib": found.gib, "steady": found.steady}
