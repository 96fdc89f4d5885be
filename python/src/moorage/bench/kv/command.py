"""`moorage kv-bench`: the order of things."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ..._table import Table
from ...errors import InvalidArgumentError, MoorageError
from .. import plot
from ..report import show
from . import (
    beside,
    compare,
    dedup,
    dry,
    environment,
    flags,
    folder,
    kept,
    limits,
    planning,
    ranks,
    report,
    result,
    schedule,
    start,
    trial,
    twin,
    upstream,
    verify,
)
from .distributions import NoHistogram, histogram
from .paths.path import Lacking
from .planning import Plan
from .trial import Trial

Note = Callable[[str], None]

DONE, FAILED, REFUSED, INTERRUPTED = 0, 1, 2, 130


def main(arguments: list[str]) -> int:
    """Runs it; the exit status is 1 when an operation failed or a limit was missed, 2 for what cannot be done."""
    if arguments[:1] == ["verify"]:
        return verify.main(arguments[1:])
    try:
        options = flags.parse(arguments)
        _check(options)
        plan = planning.plan(options)
        if options.io_trace_log:
            rows = dry.log(plan, options.io_trace_log)
            print(f"{rows} operations in {options.io_trace_log}; nothing was read or written")
            return DONE
        return _run(plan, arguments)
    except (MoorageError, Lacking, NoHistogram, plot.NoMatplotlib, start.Alone, OSError) as error:
        print(f"moorage kv-bench: {error}", file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        print("moorage kv-bench: interrupted; what it had written is removed", file=sys.stderr)
        return INTERRUPTED


def _check(options: Any) -> None:
    """What can be missing, before anything is done."""
    histogram()
    if options.plot:
        plot.check()
    if options.validation_trace:
        limits.check_trace(options.validation_trace)
    if options.upstream:
        upstream.check(options)
    if options.compare_tmpfs and not environment.place_of(folder.directory(options.compare_tmpfs)).memory:
        raise InvalidArgumentError(f"--compare-tmpfs {options.compare_tmpfs} does not lie in memory")
    for name in ("output", "csv", "plot", "bundle", "record_trace", "io_trace_log", "xlsx_output"):
        path = getattr(options, name)
        if path and not os.path.isdir(os.path.dirname(path) or "."):
            raise InvalidArgumentError(f"--{name.replace('_', '-')} {path}: there is no such folder")


def _run(plan: Plan, arguments: list[str]) -> int:
    options = plan.options
    note = _progress(options.log_level)
    if options.record_trace:
        schedule.save(plan.schedule, options.record_trace)
    if options.ranks > 1:
        return _ranks(plan, arguments, note)
    head = _head(plan, arguments)
    if options.compare is not None:
        return _compare(plan, head, note)
    before = kept.prepared(plan, note)
    with folder.folder(plan.directory) as where:
        looked = _dedup(plan, where, note) if options.dedup_check else None
        trials = _trials(plan, where, note)
        fio = _twin(plan, where, trials, note)
        beside_us = upstream.run(options, where) if options.upstream else None
    content = {**result.content(head, trials), "fio": fio, "preconditioned": before, "dedup": looked}
    judged = limits.judge(options, content["summary"])
    content["limits"] = [vars(one) for one in judged]
    content["upstream"] = beside_us
    note("")
    show([*report.tables(plan, content), *_more(content, judged)])
    _write(plan, content, trials)
    failed = any(one.ran.errors for one in trials) or not all(one.met for one in judged)
    return FAILED if failed else DONE


def _trials(plan: Plan, where: str, note: Note) -> list[Trial]:
    found: list[Trial] = []
    fd = plan.options.rank_fd
    with contextlib.closing(start.Start() if fd is None else start.Together(fd)) as begin:
        for i in range(plan.options.trials):
            note(f"trial {i + 1} of {plan.options.trials}")
            found.append(trial.run(plan, os.path.join(where, f"t{i}"), note, begin))
            if found[-1].ran.errors:
                break
    return found


def _dedup(plan: Plan, where: str, note: Note) -> dict[str, Any]:
    keys = sorted(plan.schedule.written())[:16]
    return {**dedup.check(where, plan.data, note), "run": dedup.of_run(keys, plan.data)}


def _twin(plan: Plan, where: str, trials: Sequence[Trial], note: Note) -> dict[str, Any]:
    """Of the trial whose figures stand for the run."""
    one = trials[result.median_trial([result.headline(trial.figures, trial.facts) for trial in trials])]
    budget = min(twin.room(where, len(twin.KINDS)), max(plan.needs.objects, twin.SMALLEST_FILE))
    made = twin.patterns(one.figures, one.facts["path"]["flying"], budget)
    if made:
        note("the same by fio")
    return twin.facts(twin.run(made, where, plan.options.fio_seconds, plan.data, plan.place.memory), one.figures)


def _more(content: dict[str, Any], judged: Sequence[limits.Judged]) -> list[Table]:
    shown = _judged(judged)
    if content["upstream"]:
        lines: list[Sequence[str]] = [
            (name, report.number(theirs), report.number(ours))
            for name, theirs, ours in upstream.rows(content["summary"], content["upstream"])
        ]
        shown.append(Table("Beside the original, under its names", ("", "the original", "this"), lines))
    return shown


def _judged(judged: Sequence[limits.Judged]) -> list[Table]:
    rows: list[Sequence[str]] = [
        (one.what, one.limit, report.number(one.measured), "met" if one.met else "missed") for one in judged
    ]
    return [Table("Limits that were asked for", ("", "limit", "measured", "verdict"), rows)] if rows else []


def _write(plan: Plan, content: dict[str, Any], trials: Sequence[Trial]) -> None:
    options = plan.options
    files = result.write(options.output, content, trials) if options.output else []
    for path in filter(None, (options.csv, options.xlsx_output)):
        beside.add_line(path, content)
    if options.plot:
        beside.draw(options.plot, trials[content["summary_of_trial"]].ran.ops, content)
        files.append(options.plot)
    if options.bundle:
        beside.bundle(options.bundle, files)


def _compare(plan: Plan, head: dict[str, Any], note: Note) -> int:
    try:
        with folder.folder(plan.directory) as where:
            found = compare.compare(plan, where, note)
        other = _compare_tmpfs(plan, note) if plan.options.compare_tmpfs else None
    except (OSError, ValueError) as error:
        if isinstance(error, MoorageError):
            raise
        print(f"moorage kv-bench: --compare: {type(error).__name__}: {error}", file=sys.stderr)
        return FAILED
    figures = compare.content(found)
    there = compare.content(other) if other else None
    note("")
    show([report.comparison(plan, head), *compare.tables(figures, there)])
    if plan.options.output:
        raw = {"raw": compare.raw(found), "raw_tmpfs": compare.raw(other) if other else None}
        result.write_compared(plan.options.output, head, raw, {"compare": figures, "compare_tmpfs": there})
    if plan.options.plot:
        compare.draw(plan.options.plot, figures)
    if plan.options.bundle:
        beside.bundle(plan.options.bundle, list(filter(None, (plan.options.output, plan.options.plot))))
    return DONE


def _compare_tmpfs(plan: Plan, note: Note) -> compare.Compared:
    directory = folder.directory(plan.options.compare_tmpfs)
    there = replace(plan, directory=directory, place=environment.place_of(directory))
    with folder.folder(directory) as where:
        return compare.compare(there, where, note)


def _ranks(plan: Plan, arguments: list[str], note: Note) -> int:
    options = plan.options
    with folder.folder(tempfile.gettempdir()) as scratch:
        base = os.path.splitext(options.output)[0] + "." if options.output else os.path.join(scratch, "")
        gib = plan.capacity / planning.GIB
        try:
            results = ranks.run(arguments, options.ranks, options.seed, gib, base, options.trials, note)
        except ranks.Failed as error:
            print(f"moorage kv-bench: --ranks: {error}", file=sys.stderr)
            return FAILED
    found = ranks.together(results)
    judged = limits.judge(options, found["summary"])
    found["limits"] = [vars(one) for one in judged]
    note("")
    show([*ranks.tables(found), *_judged(judged)])
    if options.output:
        result.write_ranks(
            options.output, found, [os.path.basename(ranks.output(base, i)) for i in range(options.ranks)]
        )
    return DONE if all(one.met for one in judged) else FAILED


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
        "qos_targets_ms": plan.targets,
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
