"""All that a run with peers has measured."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..timing import Figures


@dataclass
class PeerResult:
    """One row's figures for one work at one size."""

    row: str
    work: str
    size: int
    """Of one tensor, in bytes."""
    timed: Figures
    times: float | None
    """How many times as long as Moorage's own takes: the median of the rounds' ratios."""
    rounds: int


@dataclass
class Peers:
    results: list[PeerResult] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    """By peer: why it was not measured, or not to the end."""
    places: dict[str, str] = field(default_factory=dict)
    """By peer: where its bytes lie."""

    def times(self, row: str, work: str, size: int) -> float | None:
        for result in self.results:
            if (result.row, result.work, result.size) == (row, work, size):
                return result.times
        return None

    def all_times(self, row: str, work: str) -> list[float]:
        found = [one.times for one in self.results if (one.row, one.work) == (row, work)]
        return [times for times in found if times is not None]
