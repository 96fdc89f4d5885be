"""The process of one peer: does what the driver asks for, one thing at a time, until the driver is gone."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import signal
import tempfile
import time
import warnings
from multiprocessing.connection import Connection
from typing import Any

from ..timing import Side, cost_of_clock
from . import peer as load
from .opened import Opened, Opening, Took, timed_opening, timed_reads
from .peer import Peer, Row, Work

LOG = "log"

# Longer than where both sides share a process: what the others left in the caches is paid for by nobody.
_BLOCK = 2_000_000  # ns
_WARM = 1 << 20
_SETTLES, _SETTLE, _IDLE = 100, 0.02, 1_000_000  # times, s, ns


class Worker:
    """What the driver may ask for."""

    def __init__(self, peer: Peer, torch: Any, folder: str) -> None:
        self.peer, self.torch, self.folder = peer, torch, folder
        self.rows: dict[str, Row] = {}
        self.sides: dict[tuple[str, str], Side] = {}
        self.once: Work | None = None
        self.openings: dict[str, Opening] = {}
        self.opened: dict[str, Opened] = {}
        self.opened_in = ""

    def ready(self) -> None:
        """The peer has started."""

    def fill(self, size: int, count: int) -> dict[str, list[str]]:
        """What each row can do at this size."""
        self.forget()
        self.rows = self.peer.fill(Work(self.torch, size, count))
        self.check()
        return {title: list(row.statements) for title, row in self.rows.items()}

    def forget(self) -> None:
        self.rows.clear()
        self.sides.clear()
        for title in list(self.opened):
            self.close(title)
        self.openings.clear()
        self.once = None
        gc.collect()
        if self.opened_in:
            shutil.rmtree(self.opened_in)
        self.opened_in = ""

    def check(self) -> None:
        for row in self.rows.values():
            row.check()

    def run(self, title: str, what: str) -> float:
        """Nanoseconds a call, of one block."""
        side = self.sides.get((title, what))
        if side is None:
            side = self.sides[title, what] = Side(self.rows[title].statements[what], _BLOCK)
        side.statement.block(side.n // 4 + 1)  # others have had the core and the caches
        mean = side.run()
        side.sample()
        return mean

    def fill_once(self, size: int, count: int) -> list[str]:
        """What can be opened anew at this size, and each object read once."""
        self.forget()
        self.once = Work(self.torch, size, count, once=True)
        self.opened_in = tempfile.mkdtemp(dir=self.folder)
        self.openings = self.peer.openings(self.once, self.opened_in)
        for title in self.openings:
            self.open(title)
            self.read(title, 0, count)
            for key, tensor in self.once.tensors.items():
                self._same(title, key, self.opened[title].get(key), tensor)
            self.close(title)
        return list(self.openings)

    def open(self, title: str) -> int:
        """Nanoseconds."""
        self.opened[title], took = timed_opening(self.openings[title])
        return took

    def read(self, title: str, first: int, count: int) -> Took:
        """The first read of so many objects since they were opened. After the last of all, its bytes have to be there:
        what the others are was looked at when they were stored.
        """
        assert self.once is not None
        keys, target = self.once.keys[first : first + count], self.once.target
        target[:_WARM].zero_()  # others have had the core and the caches
        took = timed_reads(self.opened[title], keys, target)
        if first + count == len(self.once.keys):
            self._same(title, keys[-1], target, self.once.tensors[keys[-1]])
        return took

    def _same(self, title: str, key: str, found: Any, stored: Any) -> None:
        if not self.torch.equal(found, stored):
            raise RuntimeError(f"{title} gave other bytes than were stored under {key!r}")

    def close(self, title: str) -> None:
        """What is undone behind it, as by a thread that gives memory back, is over then: nobody else pays for it."""
        self.opened.pop(title).close()
        gc.collect()
        for _ in range(_SETTLES):
            before = time.process_time_ns()
            time.sleep(_SETTLE)
            if time.process_time_ns() - before < _IDLE:
                return

    def figures(self, title: str, what: str) -> Any:
        return self.sides[title, what].figures(cost_of_clock())


def work(connection: Connection, module: str, folder: str) -> None:
    """Answers each request with (True, result) or (False, reason)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver gets it, and ends us
    into = os.open(os.path.join(folder, LOG), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(into, 1)
    os.dup2(into, 2)
    warnings.simplefilter("ignore")  # torch on memory that is read-only
    peer: Peer | None = None
    try:
        import torch

        torch.set_num_threads(1)
        peer = load(module)
        peer.start(folder)
        worker = Worker(peer, torch, folder)
        gc.disable()
        while True:
            command, *arguments = connection.recv()
            connection.send((True, getattr(worker, command)(*arguments)))
    except Exception as error:
        _tell(connection, error)
    finally:
        _end(peer, folder)


def _tell(connection: Connection, error: Exception) -> None:
    with contextlib.suppress(OSError):  # the driver is gone
        connection.send((False, f"{type(error).__name__}: {error}"))


def _end(peer: Peer | None, folder: str) -> None:
    try:
        if peer is not None:
            peer.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # ours to remove, should the driver be gone
        os._exit(0)  # no destructors of libraries that were not made for it
