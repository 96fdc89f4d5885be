"""What is shown: one content, by rich when it is installed and as plain text otherwise; and the same as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from .._table import Table, plain, show, size
from .aims import Judged
from .machine import FREE
from .measured import Measured, Result

__all__ = ["Table", "amount", "duration", "plain", "show", "size", "tables", "write_json"]


def duration(ns: float) -> str:
    for unit, scale in (("ns", 1), ("us", 1e3), ("ms", 1e6)):
        if ns < 1000 * scale:
            return f"{ns / scale:.0f} ns" if unit == "ns" else f"{ns / scale:.3g} {unit}"
    return f"{ns / 1e9:.2f} s"


def amount(n: float) -> str:
    return size(round(n)) if n >= 1 else "0"


def _row(result: Result) -> list[str]:
    case, floor = result.timed.case, result.timed.floor
    return [
        result.case,
        size(result.size),
        duration(case.p50),
        duration(case.p99) if case.p99 is not None else f"max {duration(case.worst)}",
        f"{result.timed.ratio:.2f}",
        duration(floor.p50),
        result.floor,
        amount(case.copied or 0),
        f"{case.faults:.3f}" if 0 < case.faults < 1 else f"{case.faults:.0f}",
        duration(case.cpu),
    ]


_COLUMNS = ("what", "size", "p50", "p99", "x floor", "floor p50", "floor", "copied", "faults", "CPU")


def tables(facts: dict[str, Any], measured: Measured, aims: list[Judged], peers: Sequence[Table] = ()) -> list[Table]:
    shown = [Table("Machine", ("", ""), [(name, _fact(name, value)) for name, value in facts.items()], left=2)]
    if measured.results:
        by_case = sorted(measured.results, key=lambda r: _order(measured, r))
        shown.append(Table("Figures, per call", _COLUMNS, [_row(result) for result in by_case]))
    if measured.missing:
        shown.append(Table("Not measured", ("",), [(text,) for text in measured.missing]))
    shown += peers
    if aims:
        rows: list[Sequence[str]] = [(aim.what, aim.limit, aim.text, aim.verdict) for aim in aims]
        shown.append(Table("Aims", ("aim", "limit", "measured", "verdict"), rows, left=4))
        reasons: list[Sequence[str]] = [(aim.what, aim.why) for aim in aims if aim.why]
        if reasons:
            shown.append(Table("Why aims are missed, as far as is known", ("", ""), reasons, left=2))
    return shown


def _order(measured: Measured, result: Result) -> tuple[int, int]:
    names = list(dict.fromkeys(r.case for r in measured.results))
    return names.index(result.case), result.size


def _fact(name: str, value: Any) -> str:
    if name == "memory":
        return f"{value / (1 << 30):.0f} GiB"
    if name == "second core":
        return f"{value:.2f} x one core" + ("" if value >= FREE else " (busy: copies on two cores say little)")
    if isinstance(value, float):
        return f"{value:.1f}"
    return "not installed" if value is None else str(value)


def write_json(path: str, facts: dict[str, Any], measured: Measured, aims: list[Judged], claims: list[Judged]) -> None:
    content = {
        "machine": facts, **asdict(measured), "claims": [asdict(claim) for claim in claims],
        "aims": [asdict(aim) for aim in aims],
    }  # fmt: skip
    with open(path, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
        file.write("\n")
