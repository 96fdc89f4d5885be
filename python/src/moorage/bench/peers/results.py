"""All that a run with peers has measured."""

from __future__ import annotations

from collections.abc import Sequence
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
    low: float | None
    """A quarter of the rounds said less."""
    high: float | None
    """A quarter of the rounds said more."""
    rounds: int


@dataclass
class Peers:
    results: list[PeerResult] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    """By peer: why it was not measured, or not to the end."""
    places: dict[str, str] = field(default_factory=dict)
    """By peer: where its bytes lie."""

    def of(self, rows: Sequence[str], work: str, size: int | None = None) -> list[PeerResult]:
        """What could be compared, of these rows; at every size where none is given."""
        return [
            one for one in self.results
            if one.row in rows and one.work == work and size in (None, one.size) and one.times is not None
        ]  # fmt: skip
