"""One thing that was looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from .system import System

Verdict = Literal["ok", "note", "problem"]
OK: Verdict = "ok"
NOTE: Verdict = "note"
PROBLEM: Verdict = "problem"


@dataclass(frozen=True)
class Row:
    what: str
    found: str
    verdict: Verdict
    means: str
    """For a store, in one line."""
    change: str = ""
    """How to, in one line; empty where nothing needs to be."""
    fatal: bool = False
    """A problem that makes stores unusable."""


Check = Callable[[System], Iterable[Row]]


def rows(checks: Iterable[Check], system: System) -> Iterator[Row]:
    """What all checks find. One that fails becomes a row that says how."""
    for check in checks:
        try:
            yield from check(system)
        except Exception as error:
            name = check.__name__.strip("_").replace("_", " ")
            yield Row(name, f"not known: {type(error).__name__}: {error}", NOTE, "could not be looked at")
