"""What the tests of the KV benchmark share: plans and runs of a fraction of a second."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numpy", reason="probed numpy: not installed")
pytest.importorskip("hdrh", reason="probed hdrhistogram: not installed, it comes with moorage[bench]")

from moorage.bench.kv import flags, main, planning  # noqa: E402
from moorage.bench.kv.planning import Plan  # noqa: E402

SMALL = [
    "--model-shape",
    "layers=2,heads=2,dim=16",
    "--gpu-mem-gb",
    "0",
    "--cpu-mem-gb",
    "0",
    "--generation-mode",
    "none",
]
"""256 bytes a token: a prompt is some hundred KiB."""


def plan(folder: Path, *words: str) -> Plan:
    """With four users and a second, unless told otherwise."""
    given = [*SMALL, "--cache-dir", str(folder), *words]
    for name, value in (("--num-users", "4"), ("--duration", "1"), ("--backend", "buffered")):
        if name not in given and (name != "--backend" or "--compare" not in given):
            given += [name, value]
    return planning.plan(flags.parse(given))


def run(folder: Path, *words: str) -> tuple[int, dict[str, Any]]:
    """Exit status and result."""
    output = folder / "result.json"
    given = [*SMALL, "--cache-dir", str(folder), "--output", str(output), "--log-level", "ERROR", *words]
    for name, value in (
        ("--num-users", "4"),
        ("--duration", "0.5"),
        ("--backend", "buffered"),
        ("--arrival", "closed"),
    ):
        if name not in given:
            given += [name, value]
    status = main(given)
    with open(output, encoding="utf-8") as file:
        return status, json.load(file)


def on_disk() -> Path | None:
    """A folder's parent that is no memory, for what only a disk can show."""
    from moorage.bench.disk.place import System

    for path in (os.environ.get("MOORAGE_TEST_DISK"), "/var/tmp", os.path.expanduser("~"), os.getcwd()):
        if path and os.access(path, os.W_OK) and not System().place(path).memory and System().place(path).device:
            return Path(path)
    return None
