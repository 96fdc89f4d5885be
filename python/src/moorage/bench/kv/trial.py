"""One trial: an empty cache, what is written before, the window, and what the machine said meanwhile."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict, dataclass
from typing import Any, Callable

from .. import machine
from ..disk.place import Counters, System
from . import bus, planning
from .arrivals import SECOND
from .engine import Engine, Ran
from .figures import GIB, figures
from .lane import Lane
from .paths.path import Path
from .planning import Plan
from .settle import settle
from .start import Start

_AGREES = 0.95
_COLD = 0.05
"""Of the bytes that were looked at, so many may lie in the page cache."""


@dataclass
class Trial:
    ran: Ran
    figures: dict[str, Any]
    facts: dict[str, Any]
    """What does not follow from the records: of the process, the device, the path."""


def run(plan: Plan, where: str, note: Callable[[str], None], start: Start) -> Trial:
    """Raises nothing for a failed operation of the window: it stands among the errors. start.Alone when other processes
    were to begin with it and have ended.
    """
    path = planning.storage(plan, where)
    try:
        return _run(plan, path, note, start)
    finally:
        path.close()
        shutil.rmtree(where, ignore_errors=True)  # the next one needs the room


def _run(plan: Plan, path: Path, note: Callable[[str], None], start: Start) -> Trial:
    cache = planning.cache(plan, path)
    lanes = [Lane(i) for i in range(plan.rules.workers)]
    engine = Engine(cache, plan.data, plan.rules, note)
    counters, watch = _Device(plan), bus.Watch()
    try:
        begin = time.monotonic()
        before = engine.populate(plan.schedule.before, lanes)
        populated = time.monotonic() - begin
        if before.errors:
            return Trial(
                before, figures([], [], (0, 1), {}), {"path": _path(path), "window_ns": [0, 1], "errors": before.errors}
            )
        for lane in lanes:
            lane.read.room(plan.needs.largest if plan.backend in ("direct", "buffered", "moorage") else 0)
        path.settle()
        settled = settle(plan.directory, counters.now)
        moment = start.moment()
        first, carried = counters.now(), watch.now()
        ran = engine.run(plan.schedule, lanes, moment)
        last, carries = counters.now(), watch.now()
    finally:
        watch.close()
        for lane in lanes:
            lane.close()
    found = figures(ran.ops, ran.requests, ran.window, plan.targets)
    facts = {
        "path": _path(path),
        "before": {"objects": len(before.ops), "bytes": sum(op.nbytes for op in before.ops), "seconds": populated},
        "settled": settled.facts(),
        "window_ns": list(ran.window),
        "began_monotonic_ns": ran.began,
        "usage": _usage(ran),
        "memory_bus": _bus(watch.lacking, carried, carries),
        "cold": _cold(ran, plan, first, last, path),
        "entries": {tier.name: len(tier.entries) for tier in cache.tiers},
        "evicted": cache.evicted,
        "demoted": cache.demoted,
        "unfinished_requests": ran.unfinished,
        "waiting_requests": ran.waiting,
        "schedule_exhausted": ran.exhausted,
        "errors": ran.errors,
    }
    return Trial(ran, found, facts)


def _path(path: Path) -> dict[str, Any]:
    return {"name": path.name, "flying": path.flying, **asdict(path.meaning), **path.facts()}


class _Device:
    def __init__(self, plan: Plan) -> None:
        self._system, self._device = System(), plan.place.device

    def now(self) -> Counters | None:
        return self._system.counters(self._device) if self._device else None


def _usage(ran: Ran) -> dict[str, Any]:
    """Of the whole run, not of the window only: bytes and seconds are of the same operations."""
    nbytes = sum(op.nbytes for op in ran.ops if not op.error)
    operations = max(len(ran.ops), 1)
    cpu = ran.usage.cpu - ran.generation_cpu
    return {
        "cpu_s": ran.usage.cpu,
        "data_generation_cpu_s": ran.generation_cpu,
        "bytes": nbytes,
        "cpu_s_per_gib": cpu / (nbytes / GIB) if nbytes else None,
        "minor_faults_per_operation": ran.usage.minor / operations,
        "major_faults_per_operation": ran.usage.major / operations,
        "context_switches_per_operation": ran.usage.switches / operations,
        "peak_rss_bytes": ran.usage.peak,
        "cores": machine.cores(),
        "wall_s": max((op.t3 for op in ran.ops), default=1) / SECOND,
    }


def _bus(lacking: str | None, before: bus.Moved | None, after: bus.Moved | None) -> dict[str, Any]:
    """Of everybody, from the beginning of the run to its end."""
    if before is None or after is None:
        return {"lacking": lacking, "read_bytes": None, "written_bytes": None}
    moved = after.since(before)
    return {"lacking": None, "read_bytes": moved.read, "written_bytes": moved.written}


def _cold(ran: Ran, plan: Plan, first: Counters | None, last: Counters | None, path: Path) -> dict[str, Any]:
    """Did the bytes come from the device? Two witnesses: the page cache before reads, the device's own counter."""
    delivered = sum(op.nbytes for op in ran.ops if op.tier == "storage" and op.kind == "read" and not op.error)
    here, everything = sum(a for a, _ in ran.resident), sum(b for _, b in ran.resident)
    found: dict[str, Any] = {
        "delivered_bytes": delivered,
        "sampled_bytes": everything,
        "sampled_in_page_cache": here / everything if everything else None,
        "device_bytes": None,
        "agreement": None,
    }
    if first is not None and last is not None:
        moved = last.since(first)
        found["device_bytes"] = moved.nbytes
        found["device_ms_per_read"] = moved.read_ms / moved.reads if moved.reads else None
        found["device_queue"] = moved.queue_ms / 1000 / max((op.t3 for op in ran.ops), default=1) * SECOND
        found["agreement"] = moved.nbytes / delivered if delivered else None
    found["verdict"] = _verdict(found, plan.place.memory, delivered)
    return found


def _verdict(found: dict[str, Any], memory: bool, delivered: int) -> str:
    if memory:
        return "memory, not storage"
    if not delivered:
        return "nothing was read from storage"
    cached, agreement = found["sampled_in_page_cache"], found["agreement"]
    if (agreement is not None and agreement < _AGREES) or (cached or 0) > _COLD:
        return "cache_contaminated"
    if agreement is None and cached is None:
        return "unproved: neither page cache nor device could be asked"
    return "cold"
