"""What is measured, and what is computed from it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ...timings import Stamped
from .pace import Pace
from .place import Counters

COLD = 0.95
"""Bytes that the device must have read, of those delivered, for a pass to count as cold."""
WARM = 0.01
"""Of the files, in the page cache before a pass, at most."""
_GIB = 1 << 30


@dataclass(frozen=True)
class Op(Stamped):
    """One operation: four stamps of CLOCK_MONOTONIC, and two parts of host."""

    t0: int
    t1: int
    t2: int
    t3: int
    copy: int = 0
    verify: int = 0
    parts: Mapping[str, int] | None = None
    """What host is made of, where the path says it."""
    overlapped: int = 0
    """Checking that ran while other bytes were still on their way: inside device."""


@dataclass
class Pass:
    """Every object read once, cold; or written once."""

    ops: list[Op]
    nbytes: int
    wall: int
    """Nanoseconds from the first t0 to the last t3."""
    cpu: int
    """Nanoseconds of the whole process, the kernel's part included."""
    minor: int
    major: int
    resident: float | None
    """Part of the files that lay in the page cache before; None where it could not be asked."""
    device: Counters | None
    """What the device has done meanwhile, for everybody."""
    device_wall: int = 0
    """Nanoseconds between the two looks at the device's counters."""


@dataclass(frozen=True)
class Spread:
    """Nanoseconds, nearest rank. A percentile with too few operations beyond it is None."""

    p50: int
    p95: int | None
    p99: int | None
    worst: int


def spread(values: Sequence[int]) -> Spread:
    """Of at least one. p95 needs 20 values, p99 a hundred."""
    ordered = sorted(values)

    def rank(q: float) -> int:
        return ordered[max(math.ceil(q * len(ordered)), 1) - 1]

    n = len(ordered)
    return Spread(rank(0.5), rank(0.95) if n >= 20 else None, rank(0.99) if n >= 100 else None, ordered[-1])


@dataclass
class Result:
    """A row at a size and a depth."""

    row: str
    size: int
    depth: int
    verify: bool
    operations: int
    rounds: int
    gib_s: float
    """Median of the rounds."""
    cpu_s_gib: float
    cpu_ns: float
    """Nanoseconds of the processor for each operation."""
    faults: float
    """Minor and major, for each operation."""
    copies: int
    """By the processor, for each byte delivered."""
    total: Spread | None = None
    device: Spread | None = None
    host: Spread | None = None
    host_share: float | None = None
    """Of the total time of all operations."""
    copy: int | None = None
    """Median nanoseconds, a part of host."""
    verified: int | None = None
    """Median nanoseconds of checking, a part of host."""
    parts: dict[str, float] = field(default_factory=dict)
    """Mean nanoseconds of what host is made of: they add up to its mean."""
    overlapped: float = 0.0
    """Mean nanoseconds of checking while other bytes were still on their way: inside device, a part of nothing."""
    queue: float | None = None
    """Mean number of requests in the device's queue; everybody's."""
    request_ms: float | None = None
    """Mean milliseconds of a request to read, as the kernel says; everybody's."""
    resident: float | None = None
    """The worst of the rounds."""
    from_device: float | None = None
    """Bytes that the device has read, for each one delivered; the least of the rounds. Below 1: not all was cold. Of a
    row that writes: those that it has written, and below 1 not all has reached the device.
    """
    others: float | None = None
    """Bytes that the device has moved for somebody else, for each one delivered; median of the rounds. What a path
    reads ahead or beside counts too, and journals, so a little is always there.
    """
    ratios: dict[str, float] = field(default_factory=dict)
    """gib_s, total and cpu beside the base; of_fio."""
    writes: bool = False

    @property
    def cold(self) -> bool | None:
        """Whether it is proved, and of writes that they reached the device; None where the device does not count."""
        if self.writes:
            return None if self.from_device is None else self.from_device >= COLD
        if self.resident is not None and self.resident > WARM:
            return False
        return None if self.from_device is None or self.resident is None else self.from_device >= COLD


@dataclass(frozen=True)
class ReadPass:
    """What it takes to look once at every byte that a row has just delivered."""

    row: str
    size: int
    depth: int
    cpu_s_gib: float


@dataclass
class Measured:
    results: list[Result] = field(default_factory=list)
    base: str = ""
    """Ratios are those of a row to this one, of the same size and depth, in the same rounds."""
    write_base: str = ""
    """The same of rows that write."""
    read_passes: list[ReadPass] = field(default_factory=list)
    pace: list[Pace] = field(default_factory=list)
    definitions: dict[str, str] = field(default_factory=dict)
    """Row -> what its device time is."""
    missing: list[str] = field(default_factory=list)


def result(
    name: str, size: int, depth: int, verify: bool, copies: int, passes: Sequence[Pass], *, writes: bool = False
) -> Result:
    """Latencies are pooled over the rounds; the rest are medians of the rounds, or the worst where it is the proof."""
    ops = [op for one in passes for op in one.ops]
    found = Result(
        name, size, depth, verify, len(ops), len(passes),
        gib_s=statistics.median(gib_s(one) for one in passes),
        cpu_s_gib=statistics.median(cpu_s_gib(one) for one in passes),
        cpu_ns=sum(one.cpu for one in passes) / max(len(ops), 1),
        faults=sum(one.minor + one.major for one in passes) / max(len(ops), 1),
        copies=copies, writes=writes,
    )  # fmt: skip
    if ops:
        found.total = spread([op.total for op in ops])
        found.device = spread([op.device for op in ops])
        found.host = spread([op.host for op in ops])
        found.host_share = sum(op.host for op in ops) / max(sum(op.total for op in ops), 1)
        found.copy = round(statistics.median(op.copy for op in ops))
        found.verified = round(statistics.median(op.verify for op in ops))
        told = [op.parts for op in ops if op.parts is not None]
        if told:
            found.overlapped = statistics.fmean(op.overlapped for op in ops)
            found.parts = {name: statistics.fmean(one.get(name, 0) for one in told) for name in told[0]}
    known = [one.resident for one in passes if one.resident is not None]
    found.resident = max(known) if known else None
    seen = [(one, one.device) for one in passes if one.device is not None and one.device_wall > 0]
    if seen:
        found.queue = statistics.median(device.queue_ms * 1e6 / one.device_wall for one, device in seen)
        reads = sum(device.reads for _, device in seen)
        found.request_ms = sum(device.read_ms for _, device in seen) / reads if reads and not writes else None
        if passes[0].nbytes:
            found.from_device = min(_moved(device, writes) / one.nbytes for one, device in seen)
            found.others = statistics.median(
                (max(_moved(device, writes) - one.nbytes, 0) + _moved(device, not writes)) / one.nbytes
                for one, device in seen
            )
    return found


def _moved(device: Counters, writes: bool) -> int:
    return device.written if writes else device.nbytes


def gib_s(one: Pass) -> float:
    return one.nbytes / _GIB / (max(one.wall, 1) / 1e9)


def cpu_s_gib(one: Pass) -> float:
    return one.cpu / 1e9 / (one.nbytes / _GIB) if one.nbytes else 0.0


def ratios(row: Sequence[Pass], base: Sequence[Pass]) -> dict[str, float]:
    """Of a row to the base, round by round, and then the median: above 1 means more than the base has. Device and host
    have none: what they mean differs by path.
    """
    pairs = list(zip(row, base))
    found = {
        "gib_s": statistics.median([gib_s(a) / gib_s(b) for a, b in pairs]),
        "cpu": statistics.median([cpu_s_gib(a) / max(cpu_s_gib(b), 1e-9) for a, b in pairs]),
    }
    timed = [(_p50(a), _p50(b)) for a, b in pairs if a.ops and b.ops]
    if timed:
        found["total"] = statistics.median([a / b for a, b in timed])
    return found


def _p50(one: Pass) -> float:
    return max(spread([op.total for op in one.ops]).p50, 1)


def of_fio(row: Sequence[Pass], fio: Sequence[Pass]) -> float:
    """GiB/s beside fio's, median of the rounds."""
    return statistics.median(gib_s(a) / gib_s(b) for a, b in zip(row, fio))
