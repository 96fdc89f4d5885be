"""`moorage bench`: what is measured, in which order, and what is done with it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Callable

from .. import _parse
from ..errors import MoorageError
from . import aims, cases, figures, machine, peers, plot, process, report
from .cases import Case
from .fixture import Fixture, Shortage, module
from .measured import Measured, Result
from .peers import claims, tables
from .peers import compare as with_peers
from .timing import Comparison, compare

_KIB, _MIB, _GIB = 1 << 10, 1 << 20, 1 << 30
_SIZES = (4 * _KIB, 16 * _KIB, 64 * _KIB, 256 * _KIB, _MIB, 2 * _MIB, 4 * _MIB, 16 * _MIB, 64 * _MIB, 256 * _MIB, _GIB)
_QUICK_SIZES = (4 * _KIB, 64 * _KIB, _MIB, 4 * _MIB, 64 * _MIB, _GIB)

# Those that the claims are about, and some in between.
_PEER_SIZES = (4 * _KIB, 64 * _KIB, _MIB, 16 * _MIB, 64 * _MIB)
_QUICK_PEER_SIZES = (4 * _KIB, _MIB, 64 * _MIB)

_TRIES = 5
_TWO_CORES_FROM = 2 * _MIB
_FLAT = {"get_tensor view": 4 * _KIB, "get_tensor cow": cases.WINDOW}
_OF_PROCESS = "process"


@dataclass(frozen=True)
class Plan:
    """What was asked for."""

    sizes: Sequence[int]
    only: Sequence[str]
    seconds: float
    """Of each comparison."""
    touched_up_to: int
    """What reads or writes the bytes is not measured beyond this size."""
    starts: int
    """Programs of each kind that are started."""

    def wants(self, name: str) -> bool:
        return not self.only or any(word in name for word in self.only)


def main(argv: list[str]) -> int:
    """Runs the benchmarks and returns an exit status. A missed aim is a figure, not a failure."""
    if argv[:1] == ["register"]:
        from . import register

        return register.main(argv[1:])
    if argv[:1] == ["disk"]:
        from . import disk

        return disk.main(argv[1:])
    options = _arguments().parse_args(argv)
    try:
        sizes = [_parse.size(text.strip(), "--sizes") for text in options.sizes.split(",")] if options.sizes else None
        elsewhere = figures.read(options.figures)
        if options.plot:
            plot.check()
    except (MoorageError, OSError, plot.NoMatplotlib) as error:
        print(f"moorage bench: {error}", file=sys.stderr)
        return 2
    plan = Plan(
        sizes=sizes or (_QUICK_SIZES if options.quick else _SIZES),
        only=[word.strip() for word in options.only.split(",")] if options.only else (),
        seconds=0.12 if options.quick else 0.8,
        touched_up_to=max(sizes) if sizes else (64 * _MIB if options.quick else _GIB),
        starts=5 if options.quick else 21,
    )
    facts = machine.facts()
    measured = run(plan)
    measured.elsewhere = elsewhere
    claimed = []
    if options.peers:
        peer_sizes = sizes or (_QUICK_PEER_SIZES if options.quick else _PEER_SIZES)
        measured.peers = with_peers.measure(peer_sizes, 0.12 if options.quick else 0.5, plan.wants)
        claimed = claims.judge(measured.peers)
    judged = aims.judge(measured)
    others = tables.tables(measured.peers, claimed) if measured.peers is not None else []
    report.show(report.tables(facts, measured, judged, others))
    if options.json:
        report.write_json(options.json, facts, measured, judged, claimed)
    if options.plot:
        plot.write(options.plot, measured)
    return 0


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="moorage bench",
        description="Measures this machine. Every figure stands beside its floor, the least that the same thing could "
        "cost, taken alternately in the same run. `moorage bench register` asks whether registering memory is cheaper "
        "than copying it, `moorage bench disk` what reading from a directory costs, path by path.",
    )
    parser.add_argument(
        "--quick", action="store_true", help="fewer sizes and rounds: half a minute at most, with --peers four"
    )
    parser.add_argument(
        "--peers", action="store_true",
        help="what others do as well, those that are installed: " + ", ".join(_peers()),
    )  # fmt: skip
    parser.add_argument("--sizes", metavar="LIST", help='for example "4KiB,1MiB,1GiB"')
    parser.add_argument("--only", metavar="LIST", help="words; cases that contain one are measured: " + _cases())
    parser.add_argument("--json", metavar="FILE", help="writes all figures")
    parser.add_argument("--plot", metavar="FILE", help="draws them, as .png, .svg or .pdf; needs moorage[bench]")
    parser.add_argument(
        "--figures", metavar="FILE", action="append", default=[],
        help="figures of the Go and C benchmarks, as `go test -bench` prints them, for the list of aims; repeatable",
    )  # fmt: skip
    return parser


def _peers() -> list[str]:
    return [peers.peer(module).title for module in peers.MODULES[2:]]


def _cases() -> str:
    return ", ".join([*(case.name for case in cases.CASES), _OF_PROCESS])


def run(plan: Plan) -> Measured:
    """Measures everything that the plan wants and this machine has."""
    measured = Measured()
    torch = module("torch")
    threads = torch.get_num_threads() if torch is not None else 0
    if torch is not None:
        torch.set_num_threads(1)  # the floors are those of one thread
    try:
        wanted = _available(plan, measured)
        for size in plan.sizes:
            _run_size(plan, size, [case for case in wanted if case.smallest <= size <= case.largest], measured)
        _run_flat(plan, [case.name for case in wanted], measured)
    finally:
        if torch is not None:
            torch.set_num_threads(threads)
    if plan.wants(_OF_PROCESS):
        _note("whole programs")
        measured.footprint = process.footprint(plan.starts)
        measured.close_ms = process.close_ms()
    return measured


def _note(text: str) -> None:
    print(f"measuring {text} ...", file=sys.stderr, flush=True)


def _available(plan: Plan, measured: Measured) -> list[Case]:
    wanted = []
    for case in cases.CASES:
        if not plan.wants(case.name):
            continue
        lacking = [name for name in case.needs if module(name) is None]
        if lacking:
            measured.missing.append(f"{case.name}: needs {' and '.join(lacking)}")
        else:
            wanted.append(case)
    return wanted


def _run_size(plan: Plan, size: int, wanted: Sequence[Case], measured: Measured) -> None:
    for touched, batch in ((False, False), (True, False), (True, True)):
        group = [case for case in wanted if (case.touched, case.batch) == (touched, batch)]
        if not group or (touched and size > plan.touched_up_to):
            continue
        _note(f"{report.size(size)}: {', '.join(case.name for case in group)}")
        try:
            with Fixture(size, touched=touched, batch=batch) as fixture:
                for case in group:
                    measured.results.append(_run_case(plan, case, fixture))
        except (Shortage, MoorageError) as error:
            done = [r.case for r in measured.results if r.size == size]
            left = [case.name for case in group if case.name not in done]
            measured.missing.append(f"{report.size(size)}: {', '.join(left)}: {error}")


def _run_case(plan: Plan, case: Case, fixture: Fixture) -> Result:
    if case.name != "put_tensor" or fixture.size < _TWO_CORES_FROM:
        return Result(case.name, fixture.size, case.floor, _compare(plan, case, fixture))
    timed, probe = with_second_core(lambda: _compare(plan, case, fixture))
    return Result(case.name, fixture.size, case.floor, timed, probe)


def _compare(plan: Plan, case: Case, fixture: Fixture) -> Comparison:
    with case.prepare(fixture) as (statement, floor):
        return compare(statement, floor, seconds=plan.seconds, copied=fixture.copied)


def with_second_core(measure: Callable[[], Comparison]) -> tuple[Comparison, float]:
    """Measures with the second core free before and after; after five tries, whatever it was."""
    for _ in range(_TRIES):
        before = machine.second_core()
        timed = measure()
        probe = min(before, machine.second_core())
        if probe >= machine.FREE:
            break
    return timed, probe


def _run_flat(plan: Plan, wanted: Sequence[str], measured: Measured) -> None:
    largest = max(plan.sizes)
    for name, smallest in _FLAT.items():
        if name not in wanted or largest <= smallest:
            continue
        _note(f"{name}: {report.size(largest)} beside {report.size(smallest)}")
        with cases.flat(name, largest, smallest) as (statement, floor):
            measured.flat[name] = compare(statement, floor, seconds=plan.seconds)
