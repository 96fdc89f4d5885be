"""--ranks: several processes with seeds of their own, started together; their histograms are merged.

Each writes beforehand by itself: with --decode-only their windows begin when each of them is ready.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from ..._table import Table
from .distributions import PERCENTILES, label, merged
from .report import number

_TAKEN_OUT = (
    "--ranks", "--output", "--seed", "--plot", "--csv", "--xlsx-output", "--bundle", "--storage-capacity-gb",
    "--record-trace",
)  # fmt: skip


class Failed(OSError):
    """A rank ended with another status than 0."""


def arguments(given: Sequence[str]) -> list[str]:
    """Without those that every rank has for itself."""
    kept, skip = [], False
    for word in given:
        if skip:
            skip = False
        elif word in _TAKEN_OUT:
            skip = True
        elif word.split("=")[0] not in _TAKEN_OUT:
            kept.append(word)
    return kept


def run(given: Sequence[str], ranks: int, seed: int, capacity_gib: float, base: str) -> list[dict[str, Any]]:
    """The results of all. Failed with what the first that failed has said."""
    running = []
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH", "")]))}
    for rank in range(ranks):
        words = [
            sys.executable, "-m", "moorage", "kv-bench", *arguments(given), "--seed", str(seed + rank),
            "--output", output(base, rank), "--storage-capacity-gb", f"{capacity_gib / ranks:.6f}",
        ]  # fmt: skip
        running.append(subprocess.Popen(words, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True))
    failed = []
    for rank, one in enumerate(running):
        said = one.communicate()[1]
        if one.returncode:
            failed.append(f"rank {rank} ended with status {one.returncode}: {said.strip().splitlines()[-1:]}")
    if failed:
        raise Failed("; ".join(failed))
    found = []
    for rank in range(ranks):
        with open(output(base, rank), encoding="utf-8") as file:
            found.append(json.load(file))
    return found


def output(base: str, rank: int) -> str:
    return f"{base}rank{rank}.json"


def together(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Rates add up; percentiles are those of the merged histograms, and the largest of the ranks' P95 stands beside."""
    chosen = [one["trials"][one["summary_of_trial"]] for one in results]
    histograms = {}
    for name in sorted({name for one in chosen for name in one["histograms"]}):
        whole = merged(one["histograms"][name] for one in chosen if name in one["histograms"])
        n = whole.get_total_count()
        values = {
            label(p): whole.get_value_at_percentile(p) / 1e6 if n * (100 - p) / 100 >= 10 else None for p in PERCENTILES
        }
        p95 = [_p95(one, name) for one in chosen if name in one["histograms"]]
        worst = max((value for value in p95 if value is not None), default=None)
        histograms[name] = {"n": n, **values, "largest_p95_of_ranks": worst}
    rates = ("storage_read_gib_per_s", "storage_write_gib_per_s", "requests_per_s", "generated_tokens_per_wall_s")
    return {
        "ranks": len(results),
        "added_up": {name: sum(one["headline"][name] for one in chosen) for name in rates},
        "merged_ms": histograms,
    }


def _p95(trial: dict[str, Any], name: str) -> float | None:
    kind, tier, part = name.split(".")
    value: float | None = trial["figures"]["operations"][kind][tier][part]["p95"]
    return value


def tables(found: dict[str, Any]) -> list[Table]:
    columns = ("", "n", *(f"p{p:g}" for p in PERCENTILES), "largest P95 of a rank")
    rows: list[Sequence[str]] = [
        (name, str(one["n"]), *(number(one[label(p)]) for p in PERCENTILES), number(one["largest_p95_of_ranks"]))
        for name, one in found["merged_ms"].items()
    ]
    sums: list[Sequence[str]] = [(name, number(value)) for name, value in found["added_up"].items()]
    return [Table(f"{found['ranks']} ranks, added up", ("", ""), sums), Table("Merged, in ms", columns, rows)]
