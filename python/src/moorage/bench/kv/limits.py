"""Thresholds, only where they were asked for."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from typing import Any

from ...errors import InvalidArgumentError

_WITHIN = 0.05


@dataclass(frozen=True)
class Judged:
    what: str
    limit: str
    measured: float | None
    met: bool
    """False too where there are too few samples to say it."""


def check_trace(path: str) -> float:
    """The hit rate of --validation-trace."""
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
        found = content.get("cache_hit_rate", content.get("summary", {}).get("cache_stats", {}).get("cache_hit_rate"))
        return float(found)
    except (OSError, ValueError, TypeError, AttributeError):
        raise InvalidArgumentError(f"--validation-trace {path}: no JSON with a number under cache_hit_rate") from None


def judge(options: argparse.Namespace, summary: dict[str, Any]) -> list[Judged]:
    """Of the trial that stands for the run."""
    stats = summary["cache_stats"]
    found: list[Judged] = []

    def below(what: str, key: str, limit: float) -> None:
        value = stats[key]
        found.append(Judged(what, f"< {limit:g} ms", value, value is not None and value < limit))

    def above(what: str, key: str, limit: float) -> None:
        value = stats[key]
        found.append(Judged(what, f"> {limit:g}", value, value is not None and value > limit))

    if options.slo_read_p95:
        below("storage read P95, total", "storage_read_p95_ms", options.slo_read_p95)
    if options.slo_write_p95:
        below("storage write P95, total", "storage_write_p95_ms", options.slo_write_p95)
    if options.performance_profile == "latency":
        below("storage read P95, device (whole objects, whatever their size)", "storage_read_device_p95_ms", 200)
        below("storage write P95, device (whole objects, whatever their size)", "storage_write_device_p95_ms", 500)
        above("hit rate", "cache_hit_rate", 0.3)
    elif options.performance_profile == "throughput":
        above("storage read GiB/s", "tier_storage_read_bandwidth_gbps", 0)
    if options.validation_trace:
        wanted, value = check_trace(options.validation_trace), stats["cache_hit_rate"]
        met = value is not None and abs(value - wanted) <= _WITHIN
        found.append(Judged("hit rate, as in --validation-trace", f"{wanted:.3f} within 0.05", value, met))
    return found
