"""The result as JSON, with its records beside it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from . import records
from .distributions import encoded, histogram, spread
from .figures import TIERS, counted, summary
from .flags import UNOFFICIAL
from .records import OpRecord, RequestRecord
from .trial import Trial

FORMAT = "moorage kv-bench 1"
FORMAT_RANKS = "moorage kv-bench ranks 1"
FORMAT_COMPARED = "moorage kv-bench compare 1"

HEADLINES = (
    "storage_read_gib_per_s", "storage_write_gib_per_s", "storage_read_total_p95_ms", "storage_read_device_p95_ms",
    "storage_read_host_p95_ms", "storage_write_total_p95_ms", "requests_per_s", "end_to_end_p95_ms",
    "generated_tokens_per_wall_s", "host_share_of_reads", "cpu_s_per_gib",
)  # fmt: skip


def headline(found: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    """The figures that are compared."""
    read, write = found["operations"]["read"]["storage"], found["operations"]["write"]["storage"]
    total = read["total"]["sum"]
    values = (
        read["gib_per_s"], write["gib_per_s"], read["total"]["p95"], read["device"]["p95"], read["host"]["p95"],
        write["total"]["p95"], found["requests"]["per_s"], found["requests"]["end_to_end"]["p95"],
        found["tokens"]["generated_per_wall_s"], read["host"]["sum"] / total if total else None,
        facts.get("usage", {}).get("cpu_s_per_gib"),
    )  # fmt: skip
    return dict(zip(HEADLINES, values))


def over_trials(headlines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Median, extremes, interval; None where a trial has none."""
    found = {}
    for name in HEADLINES:
        values = [one[name] for one in headlines]
        found[name] = None if any(value is None for value in values) else spread(values)
    return found


def median_trial(headlines: Sequence[dict[str, Any]]) -> int:
    """The one in the middle by what storage gave: its figures stand under the original's names."""
    rates = [one["storage_read_gib_per_s"] + one["storage_write_gib_per_s"] for one in headlines]
    return sorted(range(len(rates)), key=lambda i: rates[i])[len(rates) // 2]


def histograms(ops: Sequence[OpRecord], window: tuple[int, int]) -> dict[str, str]:
    """Nanoseconds, by kind, tier and part; they can be merged over trials, ranks and machines."""
    inside = counted(ops, window)
    found = {}
    for kind in ("read", "write"):
        for tier in TIERS:
            some = [op for op in inside if (op.kind, op.tier) == (kind, tier)]
            if some:
                for part in ("total", "device", "host"):
                    found[f"{kind}.{tier}.{part}"] = encoded(histogram(getattr(op, part) for op in some))
    return found


def content(head: dict[str, Any], trials: Sequence[Trial]) -> dict[str, Any]:
    headlines = [headline(trial.figures, trial.facts) for trial in trials]
    chosen = median_trial(headlines)
    one = trials[chosen]
    entries = one.facts.get("entries", {})
    return {
        "format": FORMAT,
        "note": UNOFFICIAL,
        **head,
        "comparable": len(trials) >= 3,
        "headlines": over_trials(headlines),
        "summary_of_trial": chosen,
        "summary": summary(one.figures, {tier: entries.get(tier, 0) for tier in TIERS}),
        "summary_units": "latencies in ms; *_bandwidth_gbps in GiB/s; *_iops are counts; None: too few samples",
        "trials": [
            {
                "headline": top, "figures": trial.figures, "facts": trial.facts,
                "histograms": histograms(trial.ran.ops, trial.ran.window),
            }
            for top, trial in zip(headlines, trials)
        ],
    }  # fmt: skip


@dataclass(frozen=True)
class Names:
    """Of the files of a result."""

    json: str

    def ops(self, trial: int) -> str:
        return f"{self._base}.t{trial}.ops.csv.gz"

    def requests(self, trial: int) -> str:
        return f"{self._base}.t{trial}.requests.csv.gz"

    @property
    def _base(self) -> str:
        return os.path.splitext(self.json)[0]


def write(path: str, found: dict[str, Any], trials: Sequence[Trial]) -> list[str]:
    """All files, the JSON first. The records' names and digests stand in the JSON."""
    names = Names(path)
    written = [path]
    for i, trial in enumerate(trials):
        records.write(names.ops(i), OpRecord, trial.ran.ops)
        records.write(names.requests(i), RequestRecord, trial.ran.requests)
        files = (names.ops(i), names.requests(i))
        found["trials"][i]["records"] = {os.path.basename(name): sha256(name) for name in files}
        written += files
    with open(path, "w", encoding="utf-8") as file:
        json.dump(found, file, indent=1, allow_nan=False)
        file.write("\n")
    return written


def write_compared(path: str, head: dict[str, Any], raw: dict[str, Any], figures: dict[str, Any]) -> None:
    found = {"format": FORMAT_COMPARED, "note": UNOFFICIAL, **head, **figures, **raw}
    with open(path, "w", encoding="utf-8") as file:
        json.dump(found, file, allow_nan=False)
        file.write("\n")


def write_ranks(path: str, together: dict[str, Any], files: Sequence[str]) -> None:
    """The results of the ranks lie beside it."""
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"format": FORMAT_RANKS, "note": UNOFFICIAL, "results": files, **together}, file, indent=1)
        file.write("\n")


def sha256(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while True:
            part = file.read(1 << 20)
            if not part:
                return digest.hexdigest()
            digest.update(part)
