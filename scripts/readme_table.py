"""Puts the figures of `moorage bench --json FILE` into README.md, each table between its two marks.

    python scripts/readme_table.py FILE

Nothing else writes there: every figure in the README was printed by the benchmark, each table in one run. A table that
the file has no figures for (the peers', in a run without --peers) stays as it is.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

README = Path(__file__).resolve().parents[1] / "README.md"

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
SIZES = {4 * KIB: "4 KiB", 64 * KIB: "64 KiB", MIB: "1 MiB", 64 * MIB: "64 MiB", GIB: "1 GiB"}

CASES = {
    "get_tensor view": '`get_tensor(mode="view")`',
    "get_tensor cow": "`get_tensor` (cow, the default)",
    "get_array": "`get_array`",
    "get_buffer": "`get_buffer`",
    "get + read view": "view, then one copy of it",
    "get + read cow": "cow, then one copy of it",
    "get_into": "`get_into` a warm buffer",
    "put_tensor": "`put_tensor`",
    "adopt": "`adopt`",
}

# By what is shown: the row of gets, the row of puts and the row of first reads.
OURS = ("Moorage, view", "Moorage", 'Moorage, view, prefault="open"')
PLAIN = "Moorage, view, no prefault"
PEERS = {
    "Moorage, default mode": ("Moorage, default mode", "", "Moorage, default mode"),
    "a dict of tensors": ("dict of tensors", "dict of tensors", ""),
    "safetensors, file open": ("safetensors, file open", "safetensors, file open", "safetensors"),
    "`shared_memory`, attached once": ("shared_memory, attached once", "shared_memory, attached once", "shared_memory"),
    "LMDB, `buffers=True`": ("LMDB, renewed transaction", "LMDB, renewed transaction", "LMDB, one transaction"),
    "`torch.load(mmap=True)`, each time": (
        "torch.load(mmap=True), each time", "torch.load(mmap=True), each time", "torch.load(mmap=True)",
    ),
    "tensordict, memory-mapped": ("tensordict, memory-mapped",) * 3,
    "Arrow IPC, memory-mapped": ("Arrow IPC, memory-mapped",) * 3,
    "Redis, Unix socket": ("Redis, Unix socket", "Redis, Unix socket", ""),
    "Mooncake `get_tensor`, `put_tensor`": ("Mooncake get_tensor", "Mooncake put_tensor", ""),
    "Mooncake `get_tensor_into`": ("Mooncake get_tensor_into", "", ""),
}  # fmt: skip
WORKS = (
    [("get and read", size) for size in (4 * KIB, MIB, 64 * MIB)]
    + [("first read", 64 * MIB)]
    + [("hand-over", size) for size in (4 * KIB, 64 * MIB)]
    + [("batch hand-over", 32 * KIB)]
    + [("put", size) for size in (4 * KIB, MIB, 64 * MIB)]
)


def table(content: dict[str, Any]) -> str:
    results = {(one["case"], one["size"]): one for one in content["results"]}
    sizes = [size for size in SIZES if any(at == size for _, at in results)]
    rows = [f"| | floor | {' | '.join(SIZES[size] for size in sizes)} |", "|---|---|" + "--:|" * len(sizes)]
    for case, shown in CASES.items():
        found = {size: results[case, size] for size in sizes if (case, size) in results}
        if found:
            floors = " or ".join(dict.fromkeys(one["floor"] for one in found.values()))
            cells = [ratio(found[size]["timed"]["ratio"]) if size in found else "" for size in sizes]
            rows.append(f"| {shown} | {floors} | {' | '.join(cells)} |")
    return "\n".join([*rows, "", machine(content["machine"])])


def peers_table(content: dict[str, Any]) -> str:
    """Moorage's times, and how many times as long the others take."""
    results = {(one["row"], one["work"], one["size"]): one for one in content["peers"]["results"]}

    def cells(rows: tuple[str, ...], show: Any) -> list[str]:
        at = [(rows[{"put": 1, "first read": 2}.get(work, 0)], work, size) for work, size in WORKS]
        return [show(results[one]) if one in results else "" for one in at]

    heads = [f"{work}, 128 x 32 KiB" if work[:5] == "batch" else f"{work}, {SIZES[size]}" for work, size in WORKS]
    made = [f"| | {' | '.join(heads)} |".replace("batch hand-over", "hand-over"), "|---|" + "--:|" * len(WORKS)]
    made.append(f"| **Moorage** (view) | {' | '.join(cells(OURS, lambda one: duration(one['timed']['mean'])))} |")
    for shown, rows in PEERS.items():
        found = cells(rows, lambda one: ratio(one["times"]) if one["times"] else "")
        if any(found):
            made.append(f"| {shown} | {' | '.join(found)} |")
    missing = [f"{peer} ({why})" for peer, why in content["peers"]["missing"].items()]
    words = [f"Not measured: {'; '.join(missing)}."] if missing else []
    plain = results.get((PLAIN, "first read", 64 * MIB))
    if plain:
        words.append(
            f'First read: Moorage with `prefault="open"`; without it, {ratio(plain["times"])} times as long.'
        )
    return "\n".join([*made, "", *words, machine(content["machine"])])


def duration(ns: float) -> str:
    for unit, scale in (("ns", 1), ("us", 1e3), ("ms", 1e6)):
        if ns < 1000 * scale:
            return f"{ns / scale:.3g} {unit}"
    return f"{ns / 1e9:.2f} s"


def ratio(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:,.0f}"


def machine(facts: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {facts[name]}" for name in ("torch", "numpy") if facts.get(name))
    return (
        f"{facts['cpu']}, {facts['cores']} cores, {facts['memory'] / GIB:.0f} GiB, Linux {facts['kernel']}, "
        f"Python {facts['python']}, {versions}; load {facts['load']:.1f} at the start, a second core worth "
        f"{facts['second core']:.2f} of one."
    )


# By the name in the marks: what the file must have for it, and what makes the table.
TABLES = {"measured": ("results", table), "peers": ("peers", peers_table)}


def marks(name: str) -> tuple[str, str]:
    return f"<!-- {name}:begin -->", f"<!-- {name}:end -->"


def main(file: Path) -> None:
    content = json.loads(file.read_text(encoding="utf-8"))
    text = README.read_text(encoding="utf-8")
    for name, (needed, make) in TABLES.items():
        begin, end = marks(name)
        between = re.compile(f"(?<={re.escape(begin)}\n).*?(?={re.escape(end)})", re.DOTALL)
        if len(between.findall(text)) != 1:
            sys.exit(f"{README.name} does not have the two marks of {name}, once each")
        if content.get(needed):
            text = between.sub("", text).replace(f"{begin}\n", f"{begin}\n{make(content)}\n")
    README.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
