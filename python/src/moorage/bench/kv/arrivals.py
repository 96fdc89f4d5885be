"""When requests come, where a rate says it."""

from __future__ import annotations

import random
from collections.abc import Iterator

SECOND = 1_000_000_000

OPEN = ("fixed", "poisson", "gamma")
ALL = ("users", "closed", *OPEN)


def arrivals(kind: str, rate: float, cv: float, seed: int) -> Iterator[int]:
    """Nanoseconds, for ever. They have a stream of random numbers of their own: another rate changes no request.

    cv  coefficient of variation of the gaps of "gamma": 1 is as "poisson", more comes in bursts
    """
    source = random.Random(f"{seed}/arrivals")
    now = 0.0
    while True:
        yield int(now * SECOND)
        now += _gap(kind, rate, cv, source)


def _gap(kind: str, rate: float, cv: float, source: random.Random) -> float:
    if kind == "fixed":
        return 1 / rate
    if kind == "poisson":
        return source.expovariate(rate)
    shape = 1 / (cv * cv)
    return source.gammavariate(shape, 1 / (rate * shape))
