"""`moorage kv-bench`: the order of things."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Callable
from typing import Any

from ...errors import MoorageError
from .. import plot
from ..report import show
from . import environment, flags, folder, planning, report, result, schedule, trial, verify
from .paths.path import Lacking
from .planning import Plan
from .statistics import NoHistogram, histogram

Note = Callable[[str], None]


def main(arguments: list[str]) -> int:
    """Runs it and returns an exit status: 0; 1 when an operation failed or a threshold was missed; 2 for what cannot be
    done.
    """
    if arguments[:1] == ["verify"]:
        return verify.main(arguments[1:])
    try:
        options = flags.parse(arguments)
        histogram()
        if options.plot:
            plot.check()
        return _run(planning.plan(options), arguments)
    except (MoorageError, Lacking, NoHistogram, plot.NoMatplotlib, OSError) as error:
        print(f"moorage kv-bench: {error}", file=sys.stderr)
        return 2


def _run(plan: Plan, arguments: list[str]) -> int:
    options = plan.options
    note = _progress(options.log_level)
    if options.record_trace:
        schedule.save(plan.schedule, options.record_trace)
    head = _head(plan, arguments)
    trials = []
    with folder.folder(plan.directory) as where:
        for i in range(options.trials):
            note(f"trial {i + 1} of {options.trials}")
            trials.append(trial.run(plan, os.path.join(where, f"t{i}"), note))
            if trials[-1].ran.errors:
                break
    content = result.content(head, trials)
    note("")
    show(report.tables(plan, content))
    if options.output:
        result.write(options.output, content, trials)
    return 1 if any(one.ran.errors for one in trials) else 0


def _head(plan: Plan, arguments: list[str]) -> dict[str, Any]:
    return {
        "command": shlex.join(["moorage", "kv-bench", *arguments]),
        "began": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "options": dict(sorted(vars(plan.options).items())),
        "seed": plan.options.seed,
        "model": {"name": plan.model.name, "bytes_per_token": plan.model.bytes_per_token},
        "schedule": {
            "name": plan.schedule.name, "requests": len(plan.schedule.requests),
            "before": len(plan.schedule.before), "sha256": plan.schedule.digest(),
        },
        "dataset_sha256": plan.dataset(),
        "environment": environment.environment(plan.directory, plan.place),
    }  # fmt: skip


def _progress(level: str) -> Note:
    """One line that is written over on a terminal; a line now and then elsewhere."""
    if level not in ("DEBUG", "INFO"):
        return lambda text: None
    terminal = sys.stderr.isatty()
    last = [0.0]

    def note(text: str) -> None:
        if terminal:
            print(f"\r\x1b[K{text}", end="" if text else "\r", file=sys.stderr, flush=True)
        elif text and time.monotonic() - last[0] > 2:
            last[0] = time.monotonic()
            print(text, file=sys.stderr, flush=True)

    return note
