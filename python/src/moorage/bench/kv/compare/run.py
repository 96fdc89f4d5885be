"""Prepares the objects once for all paths, and reads them in turns."""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Callable

from ....errors import InvalidArgumentError
from ... import machine
from ...disk.place import Counters, System
from .. import twin
from ..bus import Watch
from ..distributions import distribution, interval
from ..lane import Lane
from ..paths.direct import Direct
from ..paths.files import Buffered, Files, Load, LoadAndCopy, Mapped
from ..paths.ours import Ours
from ..paths.path import Lacking, Path
from ..paths.uring import UringAll, UringOne
from ..planning import Plan
from . import bystander
from .fio import Fio
from .objects import Object, objects
from .passes import Pass, Passes, Side

BASE = LoadAndCopy.title
_FILES: tuple[Any, ...] = (LoadAndCopy, Load, Mapped, Buffered, Direct, UringOne, UringAll)
NAMES = (*(one.name for one in _FILES), Ours.name)
_GIB = 1 << 30
_COPIES = 3
"""Of an object, that a thread may have in memory: its buffer, what was loaded, what was copied from it."""
_SPARE = 0.9
_CHECKED = ("legacy2", "legacy1")


@dataclass
class Row:
    """One path at one depth: passes in the order in which they were made, those of all rows in turns."""

    title: str
    name: str
    copies: int
    device_is: str
    passes: list[Pass] = field(default_factory=list)
    probe: list[int] = field(default_factory=list)
    left: float | None = None
    """The bystander's pace beside this, over his pace alone."""

    def all(self, part: str) -> list[int]:
        return [value for one in self.passes for value in getattr(one, part)]


@dataclass
class Compared:
    objects: list[Object]
    rows: dict[int, list[Row]] = field(default_factory=dict)
    """By depth."""
    missing: list[str] = field(default_factory=list)
    memory: bool = False
    device: str = ""


def wanted(text: str) -> list[str]:
    names = list(NAMES) if text == "all" else [word.strip() for word in text.split(",")]
    for name in names:
        if name not in NAMES:
            raise InvalidArgumentError(f"--compare {name}: there are {', '.join(NAMES)}")
    return names if BASE in names or "legacy2" in names else ["legacy2", *names]


def threads(text: str) -> list[int]:
    try:
        found = [int(word) for word in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(1 <= n <= 500 for n in found):
        raise InvalidArgumentError(f"--compare-threads must be numbers from 1 to 500, not {text!r}")
    return found


def compare(plan: Plan, where: str, note: Callable[[str], None]) -> Compared:
    """Raises what a read raises: a path that delivers other bytes, or none, is not compared."""
    names, depths = wanted(plan.options.compare), threads(plan.options.compare_threads)
    budget = min(int(plan.options.compare_gib * _GIB), plan.capacity // 4)
    found = Compared(objects(plan, budget), memory=plan.place.memory, device=plan.place.title)
    if not found.objects:
        raise InvalidArgumentError("--compare: this workload reads nothing (--prefill-only?)")
    sides = _Sides(plan, where, found, names, max(depths), note)
    fio, watch = _fio(plan, where, found), Watch()
    if watch.lacking:
        found.missing.append(f"bytes over the memory bus: {watch.lacking}; bandwidth left is what stands for it")
    try:
        for depth in depths:
            need = _COPIES * depth * max(one.nbytes for one in found.objects)
            if need > machine.available_memory() * _SPARE:
                found.missing.append(f"{depth} at a time: it needs {need / _GIB:.1f} GiB of memory (--scale)")
                continue
            found.rows[depth] = _at(plan, found, sides, fio, watch, depth, note)
    finally:
        watch.close()
        sides.close()
        if fio is not None:
            fio.close()
    return found


def _fio(plan: Plan, where: str, found: Compared) -> Fio | None:
    why = twin.MEMORY if plan.place.memory else twin.lacking(plan.options.fio_seconds)
    if why is None:
        return Fio(where, found.objects, plan.data)
    found.missing.append(f"fio: {why}")
    return None


class _Sides:
    """All paths that there are here, with their objects."""

    def __init__(
        self, plan: Plan, where: str, found: Compared, names: Sequence[str], depth: int, note: Callable[[str], None]
    ) -> None:
        self.all: list[Side] = []
        self.crcs: dict[str, int] = {}
        self._open: list[Path] = []
        folder = os.path.join(where, "files")
        self._write(plan, Files(folder, plan.model), found.objects, note)
        for kind in _FILES:
            if kind.name in names:
                self._add(found, kind.title, lambda kind=kind: kind(folder, plan.model), kind.name)  # type: ignore[misc]
        if Ours.name in names:
            self._ours(plan, where, found, depth, note)

    def _add(self, found: Compared, title: str, opened: Callable[[], Path], name: str) -> None:
        try:
            path = opened()
            self._open.append(path)
            if isinstance(path, UringOne):
                path.prepare([one.key for one in found.objects])
        except Lacking as error:
            found.missing.append(f"{title}: {error}")
            return
        self.all.append(Side(path, title))
        if name in _CHECKED:
            self.all.append(Side(path, title + " + CRC", check=True))

    def _ours(self, plan: Plan, where: str, found: Compared, depth: int, note: Callable[[str], None]) -> None:
        total = sum(one.nbytes for one in found.objects)
        largest = max(one.nbytes for one in found.objects)
        for verify in (False, True):
            title = Ours.title + (" + CRC" if verify else "")
            try:
                path = Ours(
                    os.path.join(where, f"store-{verify}"), plan.model, memory=2 * largest * max(depth, 4),
                    capacity=total * 2 + (256 << 20), verify=verify,
                )  # fmt: skip
            except Lacking as error:
                found.missing.append(f"{title}: {error}")
                continue
            self._open.append(path)
            self._write(plan, path, found.objects, note)
            path.settle()
            self.all.append(Side(path, title))

    def _write(self, plan: Plan, path: Path, wanted: Sequence[Object], note: Callable[[str], None]) -> None:
        lane, data = Lane(), plan.data
        for i, one in enumerate(wanted):
            target = lane.write.room(one.nbytes)[: one.nbytes]
            data.fill(one.key, target)
            self.crcs[one.key] = zlib.crc32(target.data)
            path.write(one.key, target, one.tokens, lane)
            note(f"writing object {i + 1} of {len(wanted)}")
        lane.close()

    def close(self) -> None:
        for path in self._open:
            path.close()


@dataclass
class _Turn:
    """Who reads when it is his turn; the flag asks for the copy probe."""

    row: Row
    go: Callable[[bool], Pass]


def _at(
    plan: Plan, found: Compared, sides: _Sides, fio: Fio | None, watch: Watch, depth: int, note: Callable[[str], None]
) -> list[Row]:
    """One pass of each that is not kept, then rounds: all in order, and all in the opposite order."""
    system = System()
    counters = lambda: system.counters(plan.place.device) if plan.place.device else None  # noqa: E731
    passes = Passes(found.objects, plan.data, depth, counters, watch, sides.crcs)
    turns = [_turn(passes, side) for side in sides.all]
    if fio is not None:
        turns += _asked(fio, depth, counters, found)
    rounds = max(1, plan.options.trials)
    for turn in turns:
        note(f"{depth} at a time: {turn.row.title}, with the copy probe")
        turn.row.probe = turn.go(True).probe
    for n in range(rounds):
        for turn in [*turns, *reversed(turns)]:
            note(f"{depth} at a time, round {n + 1} of {rounds}: {turn.row.title}")
            turn.row.passes.append(turn.go(False))
    for turn in turns:
        note(f"{depth} at a time: {turn.row.title}, beside somebody who copies")
        turn.row.left = _left(turn)
    return [turn.row for turn in turns]


def _turn(passes: Passes, side: Side) -> _Turn:
    meaning = side.path.meaning
    row = Row(side.title, side.path.name, meaning.copies, meaning.read)
    return _Turn(row, lambda probe: passes.run(side, probe))


def _asked(fio: Fio, depth: int, counters: Callable[[], Counters | None], found: Compared) -> list[_Turn]:
    """None when it fails: the others go on."""
    try:
        fio.prepare(depth)
        fio.run(depth, counters)
    except (OSError, ValueError, KeyError) as error:
        found.missing.append(f"fio, {depth} at a time: {type(error).__name__}: {error}")
        return []
    return [_Turn(Row(fio.title, fio.name, fio.copies, fio.device_is), lambda _: fio.run(depth, counters))]


def _left(turn: _Turn) -> float:
    before = bystander.alone()
    with bystander.Bystander() as somebody:
        turn.go(False)
    return somebody.gib_per_s * 2 / (before + bystander.alone())


# ---- figures ----


def change(row: Row, base: Row, figure: str) -> dict[str, Any]:
    """Old to new: the base is old. Ratios of neighbours in time, their median and its interval."""
    of: dict[str, Callable[[Pass], float]] = {
        "total": lambda one: sum(one.total) / max(len(one.total), 1),
        "gib_per_s": lambda one: one.gib_per_s,
        "cpu_per_gib": lambda one: one.cpu_per_gib,
    }
    both = [(of[figure](a), of[figure](b)) for a, b in zip(row.passes, base.passes)]
    ratios = [new / old for new, old in both if new and old]
    return {"ratio": median(ratios) if ratios else None, "interval": interval(ratios), "base": base.title}


def base_of(rows: Sequence[Row]) -> Row:
    return next(row for row in rows if row.title == BASE)


def of_fio(row: Row, rows: Sequence[Row]) -> float | None:
    """GiB/s over fio's, of passes that were neighbours in time."""
    fio = next((one for one in rows if one.title == Fio.title), None)
    ratio: float | None = None if fio is None or fio is row else change(row, fio, "gib_per_s")["ratio"]
    return ratio


def _bus(row: Row) -> float | None:
    """The median of the passes: what somebody else moves at times does not count."""
    known = [one.bus_bytes / one.nbytes for one in row.passes if one.bus_bytes is not None]
    return median(known) if known else None


def raw(found: Compared) -> dict[str, Any]:
    """All that was measured, for the JSON: `content` follows from it."""
    return asdict(found)


def from_raw(values: dict[str, Any]) -> Compared:
    rows = {
        int(depth): [Row(**{**row, "passes": [Pass(**one) for one in row["passes"]]}) for row in some]
        for depth, some in values["rows"].items()
    }
    return Compared(**{**values, "objects": [Object(**one) for one in values["objects"]], "rows": rows})


def content(found: Compared) -> dict[str, Any]:
    """The figures."""
    shown = []
    for depth, rows in found.rows.items():
        base = base_of(rows)
        for row in rows:
            nbytes, wall = sum(one.nbytes for one in row.passes), sum(one.wall for one in row.passes)
            shown.append(
                {
                    "path": row.title, "name": row.name, "depth": depth, "cpu_copies_per_byte": row.copies,
                    "device_is": row.device_is, "passes": len(row.passes),
                    "gib_per_s": nbytes / (1 << 30) / (wall / 1e9),
                    "tokens_per_s": sum(one.tokens for one in row.passes) / (wall / 1e9),
                    "cpu_s_per_gib": sum(one.cpu for one in row.passes) / (nbytes / (1 << 30)),
                    "minor_faults_per_operation": sum(one.faults for one in row.passes) / len(row.passes),
                    **{part: distribution(row.all(part)) for part in ("total", "device", "host", "copy", "verify")},
                    "probe": distribution(row.probe),
                    "bandwidth_left": row.left, "of_fio": of_fio(row, rows),
                    "bus_bytes_per_byte": _bus(row),
                    "cached": [one.cached for one in row.passes],
                    "device_bytes": [one.device_bytes for one in row.passes],
                    "nbytes": nbytes,
                    "against": {name: change(row, base, name) for name in ("total", "gib_per_s", "cpu_per_gib")},
                }
            )  # fmt: skip
    sizes = sorted(one.nbytes for one in found.objects)
    return {
        "objects": len(sizes), "bytes": sum(sizes), "smallest": sizes[0], "largest": sizes[-1],
        "memory": found.memory, "device": found.device, "missing": found.missing, "rows": shown,
    }  # fmt: skip
