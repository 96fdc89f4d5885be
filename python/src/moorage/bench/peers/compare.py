"""Runs the peers in turns, size by size and work by work."""

from __future__ import annotations

import random
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Callable

from .. import machine, report
from . import MODULES, ours, peer
from .opened import FIRST
from .passes import SMALLEST, TURNS, Passes, objects
from .peer import BATCH_HAND, BATCH_READ, HAND, PUT, READ
from .place import Place, place_for
from .remote import Lost, Remote, end_all, lacking
from .results import PeerResult, Peers

BATCH, BATCH_SIZE = 128, 32 << 10
OURS = {PUT: ours.PUT_TENSOR}  # every other work: the view

_FEWEST_ROUNDS, _MOST_ROUNDS = 15, 200
_COPIES = 5  # of its bytes, that a peer may have at a time


@dataclass
class _Side:
    """One row in the rounds of one work."""

    name: str
    row: str
    ratios: list[float] = field(default_factory=list)


def measure(
    sizes: Sequence[int], seconds: float, wants: Callable[[str], bool], modules: Sequence[str] = MODULES
) -> Peers:
    """All peers that are here and that `wants` names, in turns; `seconds` for each row of each work.

    No process is left behind, and no file, however this ends.
    """
    found = Peers()
    if find_spec("torch") is None:
        found.missing["all"] = "torch is not installed: what is compared are tensors"
        return found
    place = place_for(max(*sizes, BATCH * BATCH_SIZE) * len(modules) * _COPIES)
    folder = tempfile.mkdtemp(prefix="moorage-peers-", dir=place.folder)
    running: dict[str, Remote] = {}
    terminated = _as_exit(signal.SIGTERM)
    try:
        _start(running, folder, place, modules, wants, found)
        for size in sizes:
            _measure_size(running, size, 1, (READ, HAND, PUT), seconds, found)
        _measure_size(running, BATCH_SIZE, BATCH, (BATCH_READ, BATCH_HAND), seconds, found)
        for size in sizes:
            if size >= SMALLEST:
                _measure_first(running, size, seconds, found)
    finally:
        end_all(list(running.values()))
        shutil.rmtree(folder, ignore_errors=True)
        if terminated is not None:
            signal.signal(signal.SIGTERM, terminated)
    return found


def _as_exit(number: signal.Signals) -> Any:
    """Lets a signal that would end this process raise SystemExit; gives what it did before, or None if it stays."""
    before = signal.getsignal(number)
    if before is not signal.SIG_DFL or threading.current_thread() is not threading.main_thread():
        return None
    signal.signal(number, lambda *_: sys.exit(128 + number))
    return before


def _start(
    running: dict[str, Remote],
    folder: str,
    place: Place,
    modules: Sequence[str],
    wants: Callable[[str], bool],
    found: Peers,
) -> None:
    for name in modules:
        one = peer(name)
        if name not in MODULES[:2] and not (wants(one.title) or wants(name.rpartition(".")[2])):
            continue
        reason = lacking(one)
        if reason is not None:
            found.missing[one.title] = reason
            continue
        running[name] = Remote(name, one, folder)
        found.places[one.title] = place.text if one.files else one.place
    _ask_all(running, found, "ready")


def _measure_size(
    running: dict[str, Remote], size: int, count: int, works: Sequence[str], seconds: float, found: Peers
) -> None:
    if not _room(len(running) * _COPIES * size * count, f"all, {report.size(size)}", found):
        return
    rows: list[tuple[str, str, list[str]]] = []
    for name, filled in _ask_all(running, found, "fill", size, count).items():
        rows += [(name, row, can) for row, can in filled.items()]
    for work in works:
        sides = [_Side(name, row) for name, row, can in rows if work in can and name in running]
        if sides:
            tell(f"{report.size(size)}, {work}: {', '.join(side.row for side in sides)}")
            rounds = _Rounds(running, sides, work, found)
            rounds.go(seconds * len(sides))
            rounds.keep(size)
    _ask_all(running, found, "check")


def _measure_first(running: dict[str, Remote], size: int, seconds: float, found: Peers) -> None:
    count = objects(size)
    # Each keeps them once, some as files, beside what they are made from; Moorage three times; one more to make files.
    if not _room((len(running) * (count + 2) + 3 * count) * size, f"all, {FIRST}, {report.size(size)}", found):
        return
    filled = _ask_all(running, found, "fill_once", size, count)
    rows = [(name, row) for name, titles in filled.items() for row in titles]
    tell(f"{count} x {report.size(size)}, {FIRST}: {', '.join(row for _, row in rows)}")

    def ask(name: str, *request: Any) -> Any:
        return _ask(running, name, found, *request)

    passes = Passes(rows, size, ask)
    passes.go(seconds * len(rows) * TURNS)
    found.results += passes.results()
    _ask_all(running, found, "forget")


def _room(need: int, what: str, found: Peers) -> bool:
    if need <= machine.available_memory() * 3 // 4:
        return True
    found.missing[what] = f"needs {need >> 20} MiB of memory"
    return False


def _ask(running: dict[str, Remote], name: str, found: Peers, *request: Any) -> Any:
    """None from who is lost."""
    if name not in running:
        return None
    try:
        return running[name].ask(*request)
    except Lost as lost:
        _lose(running, name, lost, found)
        return None


def _ask_all(running: dict[str, Remote], found: Peers, *request: Any) -> dict[str, Any]:
    """Answers by name, without those of who is lost."""
    answers = {}
    for name in list(running):
        answer = _ask(running, name, found, *request)
        if name in running:
            answers[name] = answer
    return answers


def tell(text: str) -> None:
    print(f"measuring {text} ...", file=sys.stderr, flush=True)


def _lose(running: dict[str, Remote], name: str, lost: Lost, found: Peers) -> None:
    one = running.pop(name).peer
    found.missing[one.title] = str(lost)
    tell(f"goes on without {one.title}: {lost}")


class _Rounds:
    """One work at one size: everybody once a round, each time in another order, and each right beside Moorage."""

    def __init__(self, running: dict[str, Remote], sides: list[_Side], work: str, found: Peers) -> None:
        self.running, self.sides, self.work, self.found = running, sides, work, found
        self.ours = next((side for side in sides if side.row == OURS.get(work, ours.VIEW)), None)
        self.order = random.Random(1)
        self.count = 0

    def go(self, seconds: float) -> None:
        self.turn()  # everybody finds its number of calls
        for side in self.sides:
            side.ratios.clear()
        end = time.monotonic() + seconds
        while self.count < _FEWEST_ROUNDS or (self.count < _MOST_ROUNDS and time.monotonic() < end):
            self.turn()
            self.count += 1

    def turn(self) -> None:
        for side in self.order.sample(self.sides, len(self.sides)):
            pair = [side, self.ours] if self.ours not in (None, side) else [side]
            times = {one.row: self.run(one) for one in self.order.sample(pair, len(pair)) if one is not None}
            mine = self.ours and times.get(self.ours.row)
            theirs = times[side.row]
            if mine and theirs:
                side.ratios.append(theirs / mine)

    def run(self, side: _Side) -> float | None:
        nanoseconds: float | None = self.ask(side, "run")
        return nanoseconds

    def ask(self, side: _Side, what: str) -> Any:
        """None from who is lost."""
        return _ask(self.running, side.name, self.found, what, side.row, self.work)

    def keep(self, size: int) -> None:
        for side in self.sides:
            timed = self.ask(side, "figures")
            if timed is not None:
                low, times, high = statistics.quantiles(side.ratios) if len(side.ratios) > 1 else (None, None, None)
                self.found.results.append(PeerResult(side.row, self.work, size, timed, times, low, high, self.count))
