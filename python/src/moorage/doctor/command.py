"""`moorage doctor`: its arguments, and what is shown."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict

from .. import _table
from . import directory, kernel, memory, python, rdma
from .row import NOTE, OK, PROBLEM, Row, rows
from .system import System

CHECKS = (*memory.CHECKS, *kernel.CHECKS, *rdma.CHECKS, *python.CHECKS)


def main(argv: Sequence[str]) -> int:
    """Looks at everything and returns an exit status: 1 when no store can be used here."""
    options = _arguments().parse_args(argv)
    checks = [*CHECKS, *(directory.check_of(path) for path in options.directory)]
    found = list(rows(checks, System()))
    usable = not any(row.fatal for row in found)
    if options.json:
        print(json.dumps({"usable": usable, "rows": [asdict(row) for row in found]}, indent=1))
    else:
        _table.show(_tables(found))
        print(_verdict(found, usable))
    return 0 if usable else 1


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="moorage doctor",
        description="Says what this machine gives a store: limits, the kernel, what is installed; what each means, and "
        "how to change it. Changes nothing. Ends with 1 when no store can be used here.",
    )
    parser.add_argument("directory", nargs="*", metavar="DIR", help="also what this one offers to Store(disk=DIR)")
    parser.add_argument("--json", action="store_true", help="the same for programs")
    return parser


def _tables(found: Sequence[Row]) -> list[_table.Table]:
    facts = _table.Table("What was found", ("what", "found", "verdict"), left=3)
    facts.rows.extend((row.what, row.found, row.verdict) for row in found)
    advice = _table.Table("What it means for a store, and how to change it", ("what", "means", "to change it"), left=3)
    advice.rows.extend((row.what, row.means, row.change) for row in found)
    return [facts, advice]


def _verdict(found: Sequence[Row], usable: bool) -> str:
    count = {verdict: sum(row.verdict == verdict for row in found) for verdict in (OK, NOTE, PROBLEM)}
    told = f"{count[OK]} ok, {count[NOTE]} to know of, {count[PROBLEM]} problems"
    return f"{told}: " + ("stores can be used here" if usable else "no store can be used here")
