"""What is measured, and what follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

REUSE = (1, 2, 10, 100)
BOUND = "Lower bound: kernel pinning only; a network card adds its own cost."
SOFTWARE = "is a software device: kernel pinning only; a network card adds its own cost."
EMULATED = "An emulated processor, which slows copying far more than registering: no time here is that of a machine."


@dataclass
class Row:
    """Memory of one kind and size. Nanoseconds, medians; faults are pages."""

    kind: str
    size: int
    pin: float
    unpin: float
    pin_untouched: float
    faults_untouched: float
    touch: float
    copy_warm: float
    copy_fresh: float
    faults_fresh: float

    def registered(self, uses: int) -> float:
        """Registering and deregistering, for each of so many uses."""
        return (self.pin + self.unpin) / uses


@dataclass
class Measured:
    device: str | None = None
    """The card; None: the kernel's part alone."""
    software: bool = False
    """There is no hardware behind the device."""
    emulated: bool = False
    """The processor is emulated, which slows copying down far more than registering."""
    rows: list[Row] = field(default_factory=list)
    by_ranges: list[tuple[int, float]] = field(default_factory=list)
    """Ranges registered before -> nanoseconds of one more, of 64 KiB."""
    by_threads: list[tuple[int, float, float]] = field(default_factory=list)
    """Threads at once -> registrations of 1 MiB a second, and against one thread."""
    opening: list[tuple[str, float]] = field(default_factory=list)
    """How -> seconds for each GiB of a store, in slabs of 64 MiB."""
    call: float = 0
    """Nanoseconds of a call that does nothing; taken off all others."""
    missing: list[str] = field(default_factory=list)

    def of(self, kind: str) -> list[Row]:
        return sorted((row for row in self.rows if row.kind == kind), key=lambda row: row.size)

    def caveats(self) -> list[str]:
        """Why nothing follows for a single transfer; empty when something does."""
        lines = []
        if self.device is None:
            lines.append(BOUND)
        elif self.software:
            lines.append(f"{self.device} {SOFTWARE}")
        if self.emulated:
            lines.append(EMULATED)
        return lines

    def kinds(self) -> list[str]:
        return list(dict.fromkeys(row.kind for row in self.rows))


@dataclass(frozen=True)
class BreakEven:
    """From `size` on registering costs less than copying; None: never. `kept`: at the smallest size measured, too."""

    uses: int
    size: int | None
    kept: bool = False


def break_even(rows: Sequence[Row], uses: int) -> BreakEven:
    """The last size at which the balance turns: from there on registering wins at all sizes that were measured."""
    gains = [(row.size, row.copy_warm - row.registered(uses)) for row in rows]
    if not gains or gains[-1][1] <= 0:
        return BreakEven(uses, None)
    for (below, loss), (above, gain) in reversed(list(zip(gains, gains[1:]))):
        if loss <= 0:
            return BreakEven(uses, round(below + (above - below) * -loss / (gain - loss)))
    return BreakEven(uses, gains[0][0], kept=True)


def slope(rows: Sequence[Row]) -> tuple[float, float]:
    """Nanoseconds for each MiB at the largest size: registering and deregistering, and copying."""
    last = rows[-1]
    mib = last.size / (1 << 20)
    return last.registered(1) / mib, last.copy_warm / mib
