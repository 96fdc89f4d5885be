"""Puts the figures of `moorage bench --json FILE` into README.md, between its two marks.

    python scripts/readme_table.py FILE

Nothing else writes there: every figure in the README was printed by the benchmark, in one run.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

README = Path(__file__).resolve().parents[1] / "README.md"
BEGIN, END = "<!-- measured:begin -->", "<!-- measured:end -->"

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


def ratio(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def machine(facts: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {facts[name]}" for name in ("torch", "numpy") if facts.get(name))
    return (
        f"{facts['cpu']}, {facts['cores']} cores, {facts['memory'] / GIB:.0f} GiB, Linux {facts['kernel']}, "
        f"Python {facts['python']}, {versions}; load {facts['load']:.1f} at the start, a second core worth "
        f"{facts['second core']:.2f} of one."
    )


def main(file: Path) -> None:
    content = json.loads(file.read_text(encoding="utf-8"))
    text = README.read_text(encoding="utf-8")
    between = re.compile(f"(?<={re.escape(BEGIN)}\n).*?(?={re.escape(END)})", re.DOTALL)
    if len(between.findall(text)) != 1:
        sys.exit(f"{README.name} does not have its two marks, once each")
    README.write_text(between.sub(lambda _: table(content) + "\n", text), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
