"""--ranks: several processes with seeds of their own, whose windows begin together; their histograms are merged."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Callable

from ..._table import Table
from . import start
from .distributions import PERCENTILES, label, merged, spread
from .report import number

_WITH_VALUE = (
    "--ranks", "--output", "--seed", "--storage-capacity-gb", "--fio-seconds", "--slo-read-p95", "--slo-write-p95",
    "--performance-profile", "--validation-trace", "--log-level",
)  # fmt: skip
"""What each rank has for itself, or what is said of all of them together."""

RATES = ("storage_read_gib_per_s", "storage_write_gib_per_s", "requests_per_s", "generated_tokens_per_wall_s")


class Failed(OSError):
    """A rank ended with another status than 0."""


def arguments(given: Sequence[str]) -> list[str]:
    """Without those that every rank has for itself."""
    kept, skip = [], False
    for word in given:
        if skip:
            skip = False
        elif word in _WITH_VALUE:
            skip = True
        elif word.split("=")[0] not in _WITH_VALUE:
            kept.append(word)
    return kept


@dataclass
class _Rank:
    number: int
    process: subprocess.Popen[bytes]
    ours: socket.socket

    @classmethod
    def begun(cls, number: int, words: Sequence[str]) -> _Rank:
        package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
        path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH", "")]))
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", "moorage", "kv-bench", *words, "--rank-fd", str(theirs.fileno())],
                env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE, pass_fds=[theirs.fileno()],
            )  # fmt: skip
        return cls(number, process, ours)

    def ended(self) -> str | None:
        """Waits for it; what went wrong."""
        words = self.process.communicate()[1].decode(errors="replace").strip().splitlines()[-1:]
        status = self.process.returncode
        return f"rank {self.number} ended with status {status}: {' '.join(words)}" if status else None

    def close(self) -> None:
        """However it stands."""
        self.ours.close()
        self.process.terminate()
        self.process.wait()
        if self.process.stderr is not None:
            self.process.stderr.close()


def run(
    given: Sequence[str], ranks: int, seed: int, capacity_gib: float, base: str,
    trials: int = 1, note: Callable[[str], None] = lambda text: None,
) -> list[dict[str, Any]]:  # fmt: skip
    """The results of all. Failed with what those that failed have said; no process is left, however it ends."""
    with contextlib.ExitStack() as stack:
        running = []
        for rank in range(ranks):
            words = [
                *arguments(given), "--seed", str(seed + rank), "--output", output(base, rank), "--fio-seconds", "0",
                "--storage-capacity-gb", f"{capacity_gib / ranks:.6f}", "--log-level", "ERROR",
            ]  # fmt: skip
            running.append(_Rank.begun(rank, words))
            stack.callback(running[-1].close)
        for trial in range(trials):
            note(f"trial {trial + 1} of {trials}: waiting until {ranks} ranks are ready")
            if not start.give([one.ours for one in running]):
                break
            note(f"trial {trial + 1} of {trials}: {ranks} ranks have begun")
        for one in running:
            one.ours.shutdown(socket.SHUT_RDWR)  # nobody waits for somebody who has ended
        failed = list(filter(None, [one.ended() for one in running]))
    if failed:
        raise Failed("; ".join(failed))
    return [_result(output(base, rank)) for rank in range(ranks)]


def _result(path: str) -> dict[str, Any]:
    with open(path, encoding="utf-8") as file:
        found: dict[str, Any] = json.load(file)
    return found


def output(base: str, rank: int) -> str:
    return f"{base}rank{rank}.json"


# ---- figures ----


def together(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Rates of a trial add up over the ranks. Percentiles are those of all samples, by merged histograms, and the
    largest P95 that a rank had in a trial stands beside.
    """
    trials = [list(some) for some in zip(*(one["trials"] for one in results))]
    everything = [one for some in trials for one in some]
    latencies = _merged(everything)
    sums = {name: spread([sum(one["headline"][name] for one in some) for some in trials]) for name in RATES}
    return {
        "ranks": len(results),
        "windows": [_windows(some) for some in trials],
        "added_up": sums,
        "merged_ms": latencies,
        "summary": {"cache_stats": _stats(everything, latencies, sums)},
    }


def _windows(some: Sequence[dict[str, Any]]) -> dict[str, float]:
    """How far apart they began, and how much of the time between the first beginning and the last end was common."""
    facts = [one["facts"] for one in some]
    begins = [one["began_monotonic_ns"] + one["window_ns"][0] for one in facts]
    ends = [one["began_monotonic_ns"] + one["window_ns"][1] for one in facts]
    common = max(0, min(ends) - max(begins)) / (max(ends) - min(begins))
    return {"began_apart_ms": (max(begins) - min(begins)) / 1e6, "common": common}


def _merged(everything: Sequence[dict[str, Any]]) -> dict[str, Any]:
    found = {}
    for name in sorted({name for one in everything for name in one["histograms"]}):
        some = [one for one in everything if name in one["histograms"]]
        whole = merged(one["histograms"][name] for one in some)
        n = whole.get_total_count()
        values = {
            label(p): whole.get_value_at_percentile(p) / 1e6 if n * (100 - p) / 100 >= 10 else None for p in PERCENTILES
        }
        worst = max((value for value in (_p95(one, name) for one in some) if value is not None), default=None)
        found[name] = {"n": n, **values, "largest_p95_of_ranks": worst}
    return found


def _p95(trial: dict[str, Any], name: str) -> float | None:
    kind, tier, part = name.split(".")
    value: float | None = trial["figures"]["operations"][kind][tier][part]["p95"]
    return value


def _stats(
    everything: Sequence[dict[str, Any]], latencies: dict[str, Any], sums: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """What limits are about, under the original's names."""
    requests = [one["figures"]["requests"] for one in everything]
    hits = sum(one["hits"] for one in requests)
    looked = hits + sum(one["misses"] for one in requests)
    stats: dict[str, Any] = {"cache_hit_rate": hits / looked if looked else None}
    for kind in ("read", "write"):
        stats[f"tier_storage_{kind}_bandwidth_gbps"] = sums[f"storage_{kind}_gib_per_s"]["median"]
        for name, part in (("p95", "total"), ("device_p95", "device")):
            one = latencies.get(f"{kind}.storage.{part}")
            stats[f"storage_{kind}_{name}_ms"] = one["p95"] if one else None
    return stats


def tables(found: dict[str, Any]) -> list[Table]:
    columns = ("", "n", *(f"p{p:g}" for p in PERCENTILES), "largest P95 of a rank")
    rows: list[Sequence[str]] = [
        (name, str(one["n"]), *(number(one[label(p)]) for p in PERCENTILES), number(one["largest_p95_of_ranks"]))
        for name, one in found["merged_ms"].items()
    ]
    sums: list[Sequence[str]] = [
        (name, number(one["median"]), number(one["min"]), number(one["max"])) for name, one in found["added_up"].items()
    ]
    begun: list[Sequence[str]] = [
        (str(n + 1), number(one["began_apart_ms"]), f"{one['common']:.1%}") for n, one in enumerate(found["windows"])
    ]
    return [
        Table("Windows", ("trial", "began within ms", "common to all ranks"), begun),
        Table(f"{found['ranks']} ranks, added up", ("", "median of the trials", "least", "most"), sums),
        Table("All samples, merged, in ms", columns, rows),
    ]
