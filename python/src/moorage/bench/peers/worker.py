"""The process of one peer: does what the driver asks for, one thing at a time, until the driver is gone."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import signal
import warnings
from multiprocessing.connection import Connection
from typing import Any

from ..timing import Side, cost_of_clock
from . import peer as load
from .peer import Peer, Row, Work

LOG = "log"

# Longer than where both sides share a process: what the others left in the caches is paid for by nobody.
_BLOCK = 2_000_000  # ns


class Worker:
    """What the driver may ask for."""

    def __init__(self, peer: Peer, torch: Any) -> None:
        self.peer, self.torch = peer, torch
        self.rows: dict[str, Row] = {}
        self.sides: dict[tuple[str, str], Side] = {}

    def ready(self) -> None:
        """The peer has started."""

    def fill(self, size: int, count: int) -> dict[str, list[str]]:
        """What each row can do at this size."""
        self.rows.clear()
        self.sides.clear()
        gc.collect()
        self.rows = self.peer.fill(Work(self.torch, size, count))
        self.check()
        return {title: list(row.statements) for title, row in self.rows.items()}

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
        worker = Worker(peer, torch)
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
