"""What can be chosen, and the order of things."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ... import _parse
from ...errors import MoorageError
from .. import machine, plot
from ..folder import new_folder
from ..register import memory
from ..report import show, size
from . import figures, fio, fio_writes, ours, pace, puts, writes
from .figures import Measured, ReadPass
from .objects import BLOCK, Object, Objects
from .place import Place, System
from .rounds import Rounds, Side
from .rows import LOAD_AND_COPY, Row, rows
from .show import tables, write_json, write_plot

_KIB, _MIB = 1 << 10, 1 << 20
_SIZES = (64 * _KIB, 256 * _KIB, _MIB, 4 * _MIB, 16 * _MIB, 64 * _MIB, 256 * _MIB)
_QUICK_SIZES = (64 * _KIB, _MIB, 16 * _MIB)
_DEPTHS, _QUICK_DEPTHS = (1, 4, 16), (1, 4)
_FEWEST_OBJECTS, _MOST_OBJECTS = 4, 256
_COPIES = 6
"""Of an object's bytes on disk, at most: two files, fio's, and two stores with some room."""
_LARGE_PASS = 2 << 30
"""Bytes, from which on one pair of rounds is enough: each is a large part of a minute for all paths together."""
READS, WRITES, PACE = "reads", "writes", "pace"
_PARTS = (READS, WRITES, PACE)


class Refused(Exception):
    """It cannot be measured as asked for; the text names what to change."""


@dataclass(frozen=True)
class Plan:
    """What was asked for."""

    folder: str
    """A new one inside the directory."""
    sizes: Sequence[int]
    depths: Sequence[int]
    pairs: int
    """Rounds forwards, and as many in the opposite order."""
    least: int
    """Bytes of a pass, at least."""
    fio_seconds: float
    only: Sequence[str] = ()
    pages: str = memory.THP
    """Of reused buffers."""
    verify_all: bool = False
    """Every row is checked in a pass of its own as well, not only ours."""
    parts: Sequence[str] = _PARTS
    pace_seconds: float = 1.0

    def wants(self, row: Row) -> bool:
        return not self.only or any(word in row.name for word in self.only)

    def count(self, n: int, depth: int) -> int:
        """Objects of n bytes in a pass: enough for it to be timed, and a whole share for each thread."""
        wanted = min(max(self.least // n, _FEWEST_OBJECTS), _MOST_OBJECTS)
        return -(-max(wanted, depth) // depth) * depth

    def rounds(self, n: int, depth: int) -> int:
        """Pairs of rounds over these objects."""
        return 1 if n * self.count(n, depth) >= _LARGE_PASS else self.pairs

    def objects(self, n: int) -> int:
        return max(self.count(n, depth) for depth in self.depths)


def main(argv: list[str]) -> int:
    """Runs it and returns an exit status."""
    options = _arguments().parse_args(argv)
    try:
        if options.plot:
            plot.check()
        sizes, depths = _chosen(options)
        place = System().place(options.dir)
        with new_folder(options.dir, "moorage-bench-") as folder:
            plan = Plan(
                folder, sizes, depths,
                pairs=1 if options.quick else 3, least=(64 if options.quick else 128) * _MIB,
                fio_seconds=0.3 if options.quick else 1.0,
                only=[word.strip() for word in options.only.split(",")] if options.only else (),
                pages=memory.THP if options.pages == "huge" else memory.SMALL,
                verify_all=options.verify == "all",
                parts=_parts(options.what), pace_seconds=0.5 if options.quick else 2.0,
            )  # fmt: skip
            _check_room(plan)
            begin = time.monotonic()
            measured = measure(plan, place)
    except (MoorageError, Refused, plot.NoMatplotlib, OSError) as error:
        print(f"moorage bench disk: {error}", file=sys.stderr)
        return 2
    facts = _facts(place, argv, plan, time.monotonic() - begin)
    if place.memory:
        measured.missing.insert(0, f"any storage: {place.directory} is {place.title}")
    show(tables(facts, measured))
    if options.json:
        write_json(options.json, facts, measured)
    if options.plot:
        write_plot(options.plot, measured)
    return 0 if measured.results or measured.pace else 1


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="moorage bench disk",
        description="Reads the same objects from a directory by every path in turns, each pass cold and proved to be: "
        "what the copies cost, what the page cache, what the interface, and what depth is worth. Writes them beside "
        "fio, and looks whether another thread keeps its pace while the store reads ahead.",
    )
    parser.add_argument("--dir", required=True, metavar="DIR", help="where the objects are made, and removed again")
    parser.add_argument("--quick", action="store_true", help="fewer sizes, depths and rounds: a minute or so")
    parser.add_argument("--sizes", metavar="LIST", help='for example "64KiB,1MiB,256MiB"')
    parser.add_argument("--depths", metavar="LIST", help='operations at a time, for example "1,4,16"')
    parser.add_argument("--what", metavar="LIST", help=f"parts of it; default: {','.join(_PARTS)}")
    parser.add_argument("--only", metavar="LIST", help="words; paths whose name contains one are measured")
    parser.add_argument(
        "--verify", choices=("ours", "all"), default="ours",
        help="whose bytes are checked in passes of their own, beside those that are not: Moorage's, by its checksums "
        "(default), or everybody's, by zlib.crc32",
    )  # fmt: skip
    parser.add_argument(
        "--pages", choices=("huge", "small"), default="huge",
        help="of the buffers that are used again, fio's and the store's own memory among them: transparent huge pages "
        "(default) or 4 KiB",
    )  # fmt: skip
    parser.add_argument("--json", metavar="FILE", help="writes all figures")
    parser.add_argument("--plot", metavar="FILE", help="draws them, as .png, .svg or .pdf; needs moorage[bench]")
    return parser


def _chosen(options: argparse.Namespace) -> tuple[list[int], list[int]]:
    sizes = [_parse.size(text.strip(), "--sizes") for text in options.sizes.split(",")] if options.sizes else []
    if any(n >= 1 << 31 for n in sizes):
        raise Refused("--sizes: one call of the kernel reads less than 2 GiB")
    if any(n % BLOCK for n in sizes):
        raise Refused(f"--sizes: each must be a multiple of {BLOCK} bytes, for O_DIRECT reads whole blocks")
    try:
        depths = [int(text) for text in options.depths.split(",")] if options.depths else []
    except ValueError:
        raise Refused(f"--depths must be numbers with commas in between, not {options.depths!r}") from None
    if any(not 1 <= n <= 256 for n in depths):
        raise Refused("--depths: each must be from 1 to 256")
    return (
        sorted(set(sizes)) or list(_QUICK_SIZES if options.quick else _SIZES),
        sorted(set(depths)) or list(_QUICK_DEPTHS if options.quick else _DEPTHS),
    )


def _parts(text: str | None) -> Sequence[str]:
    found = [word.strip() for word in text.split(",")] if text else list(_PARTS)
    for word in found:
        if word not in _PARTS:
            raise Refused(f"--what: there are {', '.join(_PARTS)}, not {word!r}")
    return found


def _check_room(plan: Plan) -> None:
    need = max(n * plan.objects(n) for n in plan.sizes) * _COPIES
    free = shutil.disk_usage(plan.folder).free
    if need > free:
        raise Refused(f"--dir has {size(free)} free, {size(need)} are needed; choose smaller --sizes or --depths")


def _note(text: str) -> None:
    print(f"measuring {text} ...", file=sys.stderr, flush=True)


def measure(plan: Plan, place: Place) -> Measured:
    """Everything that the plan wants and this machine has."""
    measured = Measured()
    read = _here(_reading(plan), plan, measured) if READS in plan.parts else []
    write = _here(_writing(plan), plan, measured) if WRITES in plan.parts else []
    for side in (*read, *write):
        measured.definitions[side.row.name] = side.row.device
    measured.base = next((side.row.name for side in read if side.row.name == LOAD_AND_COPY), "")
    measured.write_base = next((side.row.name for side in write if side.row.name == writes.DIRECT), "")
    for n in plan.sizes:
        # Threads each read into memory of their own, and some paths twice over.
        depths = [depth for depth in plan.depths if 3 * depth * n <= machine.available_memory()]
        for depth in sorted(set(plan.depths) - set(depths)):
            measured.missing.append(f"{size(n)}, {depth} at a time: not enough memory is free")
        if read and depths:
            with Objects(os.path.join(plan.folder, "objects"), n, plan.objects(n)) as objects:
                _size(plan, place, read, objects, depths, measured)
        if write and depths:
            files = writes.targets(os.path.join(plan.folder, "written"), n, plan.objects(n))
            _size(plan, place, write, files, depths, measured)
    if PACE in plan.parts and not plan.only:
        _pace(plan, measured)
    measured.results.sort(key=lambda one: (one.writes, one.size, one.depth))
    measured.missing = list(dict.fromkeys(measured.missing))
    return measured


def _size(
    plan: Plan, place: Place, sides: Sequence[Side], objects: Sequence[Object], depths: Sequence[int], found: Measured
) -> None:
    """Objects of one size at every depth."""
    try:
        for depth in reversed(depths):  # the most objects first: the others then need no new ones
            here = objects[: plan.count(objects[0].size, depth)]
            what = WRITES if sides[0].row.writes else READS
            _note(f"{what}, {len(here)} x {size(here[0].size)}, {depth} at a time")
            _measure(plan, place, sides, here, depth, found)
    finally:
        for side in sides:
            side.row.done()


def _reading(plan: Plan) -> list[tuple[Row, bool]]:
    all_rows = [(row, False) for row in rows(plan.pages)]
    if plan.verify_all:
        all_rows += [(row, True) for row, _ in all_rows[:-1]]
    all_rows += ours.rows(plan.folder, max(plan.depths), plan.pages)
    huge = plan.pages == memory.THP
    all_rows.append((fio.Fio(plan.folder, plan.fio_seconds, huge), False))
    return all_rows


def _writing(plan: Plan) -> list[tuple[Row, bool]]:
    file, huge = fio_writes.File(plan.folder), plan.pages == memory.THP
    all_rows: list[Row] = [*writes.rows(plan.folder, plan.pages), *puts.rows(plan.folder, plan.pages)]
    all_rows += [
        kind(file, plan.fio_seconds, huge) for kind in (fio_writes.Write, fio_writes.WriteEnd, fio_writes.WriteEach)
    ]
    return [(row, False) for row in all_rows]


def _here(all_rows: Sequence[tuple[Row, bool]], plan: Plan, measured: Measured) -> list[Side]:
    """Those that are wanted and that this machine has."""
    found = []
    for row, verify in all_rows:
        if not plan.wants(row):
            continue
        lacking = row.lacking()
        if lacking is None:
            found.append(Side(row, verify))
        else:
            measured.missing.append(f"{row.name}: {lacking}")
    return found


def _measure(
    plan: Plan, place: Place, sides: Sequence[Side], objects: Sequence[Object], depth: int, measured: Measured
) -> None:
    n, pairs = objects[0].size, plan.rounds(objects[0].size, depth)
    system = System()
    rounds = Rounds(
        [Side(side.row, side.verify) for side in sides], objects, depth,
        lambda: system.counters(place.device) if place.device else None,
    )  # fmt: skip
    rounds.go(pairs)
    for title, why in rounds.lost.items():
        measured.missing.append(f"{title}, {size(n)}, {depth} at a time: {why}")
    named = {side.row.name: side for side in rounds.sides if not side.verify}
    for side in rounds.sides:
        row = side.row
        one = figures.result(row.name, n, depth, side.verify, row.copies, side.passes, writes=row.writes)
        if side.passes[0].nbytes:
            base = named.get(measured.write_base if row.writes else measured.base)
            if base is not None:
                one.ratios.update(figures.ratios(side.passes, base.passes))
            twin = named.get(row.twin)
            if twin is not None and twin is not side:
                one.ratios["of_fio"] = figures.of_fio(side.passes, twin.passes)
        measured.results.append(one)
        if isinstance(row, ours.Disk) and not side.verify:
            cost = min(row.read_pass(objects, depth) for _ in range(pairs))
            measured.read_passes.append(ReadPass(row.name, n, depth, cost))


def _pace(plan: Plan, measured: Measured) -> None:
    if machine.available_memory() < 3 * pace.MEMORY:
        measured.missing.append("another thread's pace: not enough memory is free")
        return
    _note(f"the pace of a thread beside {pace.OUTSTANDING} prefetches")
    try:
        with pace.Ahead(os.path.join(plan.folder, "ahead")) as ahead:
            measured.pace = [pace.measure(ahead, plan.pace_seconds) for _ in range(2 * plan.pairs)]
    except MoorageError as error:
        measured.missing.append(f"another thread's pace: {error}")


def _pages(kind: str) -> str:
    with memory.area(kind, 4 * _MIB, touched=True) as one:
        if kind == memory.THP and not memory.has_huge_pages(one):
            return f"{memory.SMALL}: the kernel gave no huge ones (/sys/kernel/mm/transparent_hugepage/enabled)"
    return "transparent huge pages" if kind == memory.THP else kind


def _facts(place: Place, argv: Sequence[str], plan: Plan, took: float) -> dict[str, Any]:
    facts = machine.facts()
    wanted: dict[str, Any] = {name: facts[name] for name in ("cpu", "cores", "kernel", "python", "numpy", "moorage")}
    return {
        "device": place.title,
        "file system": f"{place.filesystem} ({place.options})",
        **wanted,
        "memory": f"{facts['memory'] / (1 << 30):.0f} GiB",
        "load": f"{facts['load']:.1f}",
        "command": " ".join(["moorage bench disk", *argv]),
        "reused buffers": _pages(plan.pages),
        "rounds": f"{plan.pairs} forwards, {plan.pairs} in the opposite order, after one that is not kept"
        + (f"; 1 and 1 where a pass has {size(_LARGE_PASS)} or more" if plan.pairs > 1 else ""),
        "took": f"{took:.0f} s",
    }
