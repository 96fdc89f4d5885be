"""All figures of a run, from its records alone: verify computes them again with this."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Callable

from .arrivals import SECOND
from .distributions import PERCENTILES, distribution, label
from .records import OpRecord, RequestRecord

GIB, GB, MIB = 1 << 30, 10**9, 1 << 20

TIERS = ("gpu", "cpu", "storage")
_SIZE_CLASSES = (("< 1 MiB", MIB), ("1-16 MiB", 16 * MIB), ("16-256 MiB", 256 * MIB), (">= 256 MiB", 1 << 62))

Window = tuple[int, int]
Targets = Mapping[str, float]


def counted(ops: Iterable[OpRecord], window: Window) -> list[OpRecord]:
    """Those that completed, and in the window."""
    return [op for op in ops if window[0] <= op.t3 < window[1] and not op.error]


def done(requests: Iterable[RequestRecord], window: Window) -> list[RequestRecord]:
    return [r for r in requests if window[0] <= r.end < window[1]]


def figures(
    ops: Sequence[OpRecord], requests: Sequence[RequestRecord], window: Window, targets: Targets
) -> dict[str, Any]:
    """`targets`: milliseconds that requests of a class of service may take."""
    seconds = (window[1] - window[0]) / SECOND
    inside = counted(ops, window)
    served = done(requests, window)
    late = [op for op in ops if op.t3 >= window[1] and op.t0 < window[1]]
    return {
        "seconds": seconds,
        "operations": {
            kind: {tier: _tier([op for op in inside if (op.kind, op.tier) == (kind, tier)], seconds) for tier in TIERS}
            for kind in ("read", "write")
        },
        "evictions": _tier([op for op in inside if op.phase == "evict"], seconds),
        "sizes": _sizes(inside),
        "requests": _requests(served, seconds, targets),
        "tokens": _tokens(inside, served, seconds),
        "amplification": _amplification(inside),
        "series": _series(inside, window),
        "in_flight_at_end": {"operations": len(late), "bytes": sum(op.nbytes for op in late)},
        "errors": sum(1 for op in ops if op.error),
    }


def _tier(ops: Sequence[OpRecord], seconds: float) -> dict[str, Any]:
    nbytes = sum(op.nbytes for op in ops)
    return {
        "operations": len(ops),
        "bytes": nbytes,
        "gib_per_s": nbytes / GIB / seconds,
        "gb_per_s": nbytes / GB / seconds,
        "iops": len(ops) / seconds,
        **_split(ops),
        "ms_per_mib": distribution([round(op.total / (op.nbytes / MIB)) for op in ops if op.nbytes]),
        "busy_gib_per_s": nbytes / GIB / (sum(op.total for op in ops) / SECOND) if nbytes else None,
        "mean_depth": sum(op.depth for op in ops) / len(ops) if ops else None,
    }


def _split(ops: Sequence[OpRecord]) -> dict[str, Any]:
    parts: dict[str, Callable[[OpRecord], int]] = {
        "total": lambda op: op.total, "device": lambda op: op.device, "host": lambda op: op.host,
        "copy": lambda op: op.copy, "verify": lambda op: op.verify, "probe": lambda op: op.probe,
    }  # fmt: skip
    return {name: distribution([of(op) for op in ops]) for name, of in parts.items()}


def _sizes(ops: Sequence[OpRecord]) -> list[dict[str, Any]]:
    """Of the storage tier, by class of size: a latency is that of a whole object."""
    found = []
    below = 0
    for name, limit in _SIZE_CLASSES:
        for kind in ("read", "write"):
            some = [op for op in ops if op.tier == "storage" and op.kind == kind and below <= op.nbytes < limit]
            if some:
                sizes = sorted(op.nbytes for op in some)
                found.append(
                    {
                        "class": name, "kind": kind, "operations": len(some), "bytes": sum(sizes),
                        "smallest": sizes[0],
                        "median": sizes[len(sizes) // 2], "largest": sizes[-1], **_split(some),
                    }
                )  # fmt: skip
        below = limit
    return found


def _requests(served: Sequence[RequestRecord], seconds: float, targets: Targets) -> dict[str, Any]:
    return {
        "done": len(served),
        "per_s": len(served) / seconds,
        "end_to_end": distribution([r.end - r.arrival for r in served]),
        "queued": distribution([r.begin - r.arrival for r in served]),
        "storage_sum": distribution([r.storage_sum for r in served]),
        "storage_wall": distribution([r.storage_wall for r in served]),
        "generation": distribution([r.slept for r in served]),
        "hits": sum(r.hits for r in served),
        "misses": sum(r.misses for r in served),
        "by_qos": {qos: _service(served, qos, targets[qos]) for qos in sorted({r.qos for r in served})},
    }


_COMPLY = 0.95


def _service(served: Sequence[RequestRecord], qos: str, target: float) -> dict[str, Any]:
    """Met when 95 % of the requests took no longer than the target of their class."""
    times = [r.end - r.arrival for r in served if r.qos == qos]
    within = sum(t <= target * 1e6 for t in times) / len(times)
    return {**distribution(times), "target_ms": target, "within": within, "met": within >= _COMPLY}


def _tokens(ops: Sequence[OpRecord], served: Sequence[RequestRecord], seconds: float) -> dict[str, Any]:
    """Three rates that must not be mixed up; none of them is the throughput of a disk."""
    generated = sum(r.generate for r in served)
    storage = sum(r.storage_sum for r in served) / SECOND
    cached = sum(op.tokens for op in ops if op.kind == "read")
    return {
        "generated": generated,
        "generated_per_wall_s": generated / seconds,
        "served_from_cache_per_wall_s": cached / seconds,
        "generated_per_storage_s": generated / storage if storage else None,
        "through_storage": sum(op.tokens for op in ops if op.tier == "storage"),
    }


def _amplification(ops: Sequence[OpRecord]) -> dict[str, Any]:
    """How often decoding reads what was written: each object by its name, over the reads of it."""
    reads = [op for op in ops if op.phase == "decode"]
    objects = {(op.request, op.key): op.nbytes for op in reads}
    unique = sum(objects.values())
    return {"decode_reads": len(reads), "factor": sum(op.nbytes for op in reads) / unique if unique else None}


def _series(ops: Sequence[OpRecord], window: Window) -> list[dict[str, Any]]:
    """By second of the window, the storage tier."""
    count = max(1, -(-(window[1] - window[0]) // SECOND))
    found = [{"read_bytes": 0, "write_bytes": 0, "operations": 0} for _ in range(count)]
    for op in ops:
        if op.tier == "storage":
            second = found[(op.t3 - window[0]) // SECOND]
            second[f"{op.kind}_bytes"] += op.nbytes
            second["operations"] += 1
    return found


# ---- the same under the names of the original ----


def summary(found: dict[str, Any], entries: dict[str, int]) -> dict[str, Any]:
    """`summary` of the original's JSON: its keys, with our figures. Percentiles without enough samples are None.

    Bandwidths called gbps there are GiB/s; read_iops and write_iops there are counts.
    """
    requests, tokens, operations = found["requests"], found["tokens"], found["operations"]
    looked = requests["hits"] + requests["misses"]
    stats: dict[str, Any] = {
        "cache_hit_rate": requests["hits"] / looked if looked else None,
        "cache_hits": requests["hits"], "cache_misses": requests["misses"],
        "storage_tokens_processed": tokens["through_storage"],
    }  # fmt: skip
    for tier in TIERS:
        stats[f"{tier}_entries"] = entries.get(tier, 0)
        for kind in ("read", "write"):
            one = operations[kind][tier]
            stats[f"tier_{tier}_{kind}_bandwidth_gbps"] = one["gib_per_s"]
            stats[f"tier_{tier}_kv_bytes_{'read' if kind == 'read' else 'written'}"] = one["bytes"]
    for kind in ("read", "write"):
        one = operations[kind]["storage"]
        stats[f"{kind}_iops"] = sum(operations[kind][tier]["operations"] for tier in TIERS)
        for p in map(label, PERCENTILES):
            stats[f"storage_{kind}_{p}_ms"] = one["total"][p]
            stats[f"storage_{kind}_device_{p}_ms"] = one["device"][p]
            stats[f"storage_{kind}_host_{p}_ms"] = one["host"][p]
    return {
        "total_requests": requests["done"],
        "total_tokens_generated": tokens["generated"],
        "elapsed_time": found["seconds"],
        "requests_per_second": requests["per_s"],
        "avg_throughput_tokens_per_sec": tokens["generated_per_wall_s"],
        "storage_throughput_tokens_per_sec": tokens["generated_per_storage_s"],
        "end_to_end_latency_ms": requests["end_to_end"],
        "storage_io_latency_ms": requests["storage_sum"],
        "generation_latency_ms": requests["generation"],
        "cache_stats": stats,
        "qos_metrics": {
            qos: {
                "latency_ms": one,
                "sla": {"target_p95_ms": one["target_ms"], "compliance": one["within"], "met": one["met"]},
            }
            for qos, one in requests["by_qos"].items()
        },
    }
