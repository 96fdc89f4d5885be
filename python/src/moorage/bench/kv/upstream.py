"""--upstream: the user's own checkout of the original program, run beside with the same flags. None of it is ours."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from ...errors import InvalidArgumentError

SHOWN = (
    "storage_read_p95_ms", "storage_read_device_p95_ms", "storage_read_host_p95_ms", "storage_write_p95_ms",
    "tier_storage_read_bandwidth_gbps", "tier_storage_write_bandwidth_gbps", "cache_hit_rate",
)  # fmt: skip

_VALUES = (
    "model", "num_users", "gpu_mem_gb", "num_gpus", "tensor_parallel", "cpu_mem_gb", "generation_mode", "rag_num_docs",
    "max_requests", "max_concurrent_allocs", "storage_capacity_gb", "seed",
)  # fmt: skip
_SWITCHES = ("disable_multi_turn", "disable_prefix_caching", "enable_rag", "prefill_only", "decode_only")


def command(options: argparse.Namespace, folder: str, output: str) -> list[str]:
    """Only flags that mean the same there."""
    words = [sys.executable, options.upstream, "--cache-dir", folder, "--output", output]
    words += ["--duration", str(max(1, round(options.duration)))]
    for name in _VALUES:
        value = getattr(options, name)
        words += [f"--{name.replace('_', '-')}", f"{value:g}" if isinstance(value, float) else str(value)]
    return words + [f"--{name.replace('_', '-')}" for name in _SWITCHES if getattr(options, name)]


def check(options: argparse.Namespace) -> None:
    if not os.path.isfile(options.upstream):
        raise InvalidArgumentError(f"--upstream {options.upstream}: there is no such file")
    if options.scale != 1:
        raise InvalidArgumentError("--upstream: the original has no --scale, so both would do different work; choose "
                                   "smaller --num-users, --duration or --model instead")  # fmt: skip


def run(options: argparse.Namespace, where: str) -> dict[str, Any]:
    """Its cache_stats, from its own JSON. InvalidArgumentError with its last words when it fails."""
    folder, output = os.path.join(where, "upstream"), os.path.join(where, "upstream.json")
    os.mkdir(folder)
    words = command(options, folder, output)
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    try:
        with open(output, encoding="utf-8") as file:
            found = json.load(file)["summary"]["cache_stats"]
    except (OSError, ValueError, KeyError):
        last = " / ".join(done.stdout.strip().splitlines()[-3:])
        raise InvalidArgumentError(f"--upstream ended with status {done.returncode} and no result: {last}") from None
    return {"command": words[1:], "cache_stats": {name: found.get(name) for name in SHOWN}}


def rows(ours: dict[str, Any], theirs: dict[str, Any]) -> Sequence[Sequence[Any]]:
    return [(name, theirs["cache_stats"].get(name), ours["cache_stats"].get(name)) for name in SHOWN]
