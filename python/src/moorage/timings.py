"""Where the time of a store's operations went, from `Store.timings`.

Every operation has four readings of one clock (CLOCK_MONOTONIC, that of `time.monotonic_ns`): t0 when the call is
entered, t1 when its first chunk is handed to the kernel, t2 when its last completion is reaped, t3 when its result is
handed back. device = t2 - t1, host = (t1 - t0) + (t3 - t2), total = t3 - t0: whole nanoseconds, and host + device =
total exactly. Device is what lies between the program and its bytes as the program sees it: block layer, driver, file
system and the delay until somebody reaps are in it. What is found in memory has device 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Distribution", "Operation", "Summary", "Timings"]

KINDS = (
    "get", "get_into", "put", "persist", "flush", "prefetch", "promote", "demote", "evict", "remove", "exists",
)  # fmt: skip
CLASSES = ("ok", "background", "failed", "cancelled")
PATHS = ("memory", "uring_fixed", "uring", "direct", "buffered", "layer", "mapped")
DURABILITIES = ("no_write", "none", "batch", "each")
PARTS = ("lookup", "queue_wait", "buffer_wait", "submit", "complete", "verify", "copy", "other")


@dataclass(frozen=True)
class Distribution:
    """Nanoseconds of many operations. Count, sum, min and max are exact; a percentile is the nearest rank, off by at
    most 1/2048 of it. Percentiles of device and host belong to different operations: they do not add up to that of
    total.
    """

    count: int
    sum: int
    min: int
    max: int
    p50: int
    p95: int
    p99: int
    p999: int

    @property
    def mean(self) -> float:
        return self.sum / self.count if self.count else 0.0


@dataclass(frozen=True)
class Summary:
    """All operations of one kind and class since the store was opened."""

    kind: str
    """"get", "get_into", "put", "persist", "flush", "prefetch", "promote", "demote", "evict", "remove" or "exists"."""
    background: bool
    """Nobody waited for them: what makes room, and what is brought in beside a read."""
    count: int
    """Those that went well; only they are in the distributions."""
    failed: int
    """Of this kind, whoever waited. They stand in the first summary of a kind."""
    cancelled: int
    nbytes: int
    shared: int
    """Waited for a read that another operation had begun."""
    paths: Mapping[str, int]
    """Operations by the way that the bytes took: "memory", "uring_fixed", "uring", "direct", "buffered", "mapped"."""
    chunks: int
    chunk_mean: float
    """Nanoseconds from a chunk's submission to its completion."""
    chunk_max: int
    total: Distribution
    device: Distribution
    host: Distribution
    parts: Mapping[str, Distribution]
    """What host is made of: "lookup", "queue_wait", "buffer_wait", "submit", "complete", "verify", "copy", "other"."""
    verify_overlapped: Distribution
    """Checksums computed while later chunks were in flight. It lies inside device, and is part of nothing."""


class Stamped:
    """What follows from the four readings of an operation: host + device = total, whatever they are."""

    t0: int
    t1: int
    t2: int
    t3: int

    @property
    def device(self) -> int:
        return self.t2 - self.t1

    @property
    def host(self) -> int:
        return (self.t1 - self.t0) + (self.t3 - self.t2)

    @property
    def total(self) -> int:
        return self.t3 - self.t0


@dataclass(frozen=True)
class Operation(Stamped):
    """One of the last operations. Times in nanoseconds."""

    sequence: int
    """1 for the first that the store recorded."""
    kind: str
    outcome: str
    """"ok", "background", "failed" or "cancelled"."""
    path: str
    durability: str
    """What a write waited for: "none", "batch", "each"; "no_write" for what does not write."""
    nbytes: int
    shared: bool
    depth: int
    """Chunks in flight right after the first was submitted."""
    chunks: int
    chunk_min: int
    chunk_mean: float
    chunk_max: int
    t0: int
    t1: int
    t2: int
    t3: int
    parts: Mapping[str, int]
    verify_overlapped: int


@dataclass(frozen=True)
class Timings:
    """What `Store.timings` returns."""

    summaries: tuple[Summary, ...]
    recent: tuple[Operation, ...]
    """The last ones, oldest first."""
    recorded: int
    inconsistent: int
    """Operations whose figures could not be true together. They are in no summary. More than 0 is a bug: report it."""
    trace_written: int
    trace_dropped: int
    """Lines of a trace that found its writer too slow. No operation waits for it."""
    stamp_ns: float
    """What reading the clock costs, measured in this process."""
    record_ns: float
    """What taking up an operation costs."""

    def of(self, kind: str, *, background: bool = False) -> Summary | None:
        """The summary of a kind; None where there was no such operation."""
        return next((one for one in self.summaries if (one.kind, one.background) == (kind, background)), None)


def read(info: Any, summaries: Iterable[Any], operations: Iterable[Any]) -> Timings:
    """From the structs of the C ABI."""
    return Timings(
        tuple(_summary(one) for one in summaries),
        tuple(_operation(one) for one in operations),
        info.recorded, info.inconsistent, info.trace_written, info.trace_dropped,
        info.stamp_ps / 1000, info.record_ps / 1000,
    )  # fmt: skip


def _distribution(raw: Any) -> Distribution:
    return Distribution(raw.count, raw.sum, raw.min, raw.max, raw.p50, raw.p95, raw.p99, raw.p999)


def _summary(raw: Any) -> Summary:
    return Summary(
        kind=_word(KINDS, raw.kind),
        background=_word(CLASSES, raw.outcome) == "background",
        count=raw.count, failed=raw.failed, cancelled=raw.cancelled, nbytes=raw.bytes, shared=raw.shared,
        paths={name: n for name, n in zip(PATHS, raw.paths) if n},
        chunks=raw.chunks, chunk_mean=raw.chunk_sum / raw.chunks if raw.chunks else 0.0, chunk_max=raw.chunk_max,
        total=_distribution(raw.total), device=_distribution(raw.device), host=_distribution(raw.host),
        parts={name: _distribution(getattr(raw, name)) for name in PARTS},
        verify_overlapped=_distribution(raw.verify_overlapped),
    )  # fmt: skip


def _operation(raw: Any) -> Operation:
    parts = {name: getattr(raw, name) for name in PARTS[:-1]}
    host = (raw.t1 - raw.t0) + (raw.t3 - raw.t2)
    return Operation(
        sequence=raw.sequence,
        kind=_word(KINDS, raw.kind), outcome=_word(CLASSES, raw.outcome), path=_word(PATHS, raw.path),
        durability=_word(DURABILITIES, raw.durability),
        nbytes=raw.bytes, shared=bool(raw.flags & 1), depth=raw.depth, chunks=raw.chunks,
        chunk_min=raw.chunk_min, chunk_mean=raw.chunk_sum / raw.chunks if raw.chunks else 0.0, chunk_max=raw.chunk_max,
        t0=raw.t0, t1=raw.t1, t2=raw.t2, t3=raw.t3,
        parts={**parts, PARTS[-1]: host - sum(parts.values())},
        verify_overlapped=raw.verify_overlapped,
    )  # fmt: skip


def _word(words: tuple[str, ...], number: int) -> str:
    """A newer library may know more of them."""
    return words[number] if number < len(words) else f"unknown {number}"
