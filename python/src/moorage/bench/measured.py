"""All that a run has measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from .figures import Figures
from .peers.results import Peers
from .process import Footprint
from .timing import Comparison


@dataclass
class Result:
    """A case at a size."""

    case: str
    size: int
    floor: str
    timed: Comparison
    second_core: float | None = None
    """What the probe said before and after, the lesser; None where one core is enough."""


@dataclass
class Measured:
    results: list[Result] = field(default_factory=list)
    flat: dict[str, Comparison] = field(default_factory=dict)
    """By case: the largest size beside the smallest."""
    footprint: Footprint | None = None
    close_ms: float | None = None
    elsewhere: Figures = field(default_factory=dict)
    """From the Go and C benchmarks."""
    peers: Peers | None = None
    """What others do, if it was asked for."""
    missing: list[str] = field(default_factory=list)
    """What was not measured, and why."""

    def of(self, case: str, smallest: int = 0, largest: int = 1 << 62) -> Iterator[Result]:
        for result in self.results:
            if result.case == case and smallest <= result.size <= largest:
                yield result

    def ratios(self, case: str, smallest: int = 0, largest: int = 1 << 62) -> list[float]:
        return [result.timed.ratio for result in self.of(case, smallest, largest)]
