"""What every peer has: works, rows and how they are made."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, Callable, Optional

from ..timing import Statement
from .opened import Opening

READ, HAND, PUT = "get and read", "hand-over", "put"
BATCH_READ, BATCH_HAND = "batch get and read", "batch hand-over"

Tensors = dict[str, Any]
Arguments = Optional[Callable[[int], Iterable[Any]]]  # read by Python 3.9 too


_WINDOW = 64  # from one to the next


class Work:
    """The bytes of one size that a peer is given, and the warm memory that reading copies into."""

    def __init__(self, torch: Any, size: int, count: int, *, once: bool = False) -> None:
        """once: each is read once, and all into one target. They differ, but are windows of one memory: a peer that
        keeps what it is given, or will not store what overlaps, clones them.
        """
        self.torch = torch
        self.size = size
        self.keys = [f"tensor/{i:03d}" for i in range(count)]
        step = _WINDOW if once else size
        memory = torch.randint(
            0, 256, (size + (count - 1) * step,), dtype=torch.uint8, generator=torch.Generator().manual_seed(size)
        )
        self.tensors: Tensors = {key: memory[i * step : i * step + size] for i, key in enumerate(self.keys)}
        self.key, self.tensor = self.keys[0], self.tensors[self.keys[0]]
        self.targets = list(torch.ones(1 if once else count, size, dtype=torch.uint8))
        self.target = self.targets[0]


class Row:
    """One way of getting or putting, as a row of the tables.

    get     expression that gives the tensor called `key`
    spell   how the peer spells a key
    many    expression that gives the tensors called `keys`, in order; one by one if the peer has nothing better
    read    statement that gets and then has all bytes in the warm target; only for who delivers there by itself
    put     statement that stores the tensor `t`
    puts    makes what `put` finds in `a`
    """

    def __init__(
        self,
        work: Work,
        names: dict[str, Any],
        *,
        get: str = "",
        spell: Callable[[str], Any] = str,
        many: str = "",
        read: str = "",
        read_many: str = "",
        put: str = "",
        puts: Arguments = None,
        most: int = 4096,
    ) -> None:
        self.get, self.work, self.spell = get, work, spell
        self.names = {
            "key": spell(work.key), "keys": [spell(key) for key in work.keys], "t": work.tensor,
            "copy": work.target.copy_, "targets": work.targets, **names,
        }  # fmt: skip
        many = many or f"[{get} for key in keys]"
        self.statements: dict[str, Statement] = {}
        if get:
            self.add(HAND, get)
            self.add(READ, read or f"copy({get})")
            self.add(BATCH_HAND, many)
            self.add(BATCH_READ, read_many or f"for target, found in zip(targets, {many}): target.copy_(found)")
        if put:
            self.add(PUT, put, puts, most)

    def add(self, what: str, source: str, arguments: Arguments = None, most: int = 4096) -> None:
        self.statements[what] = Statement(source, self.names, arguments, most)

    def check(self) -> None:
        """A peer that gives other bytes than it was given is not measured."""
        for key in self.work.keys if self.get else ():
            found = eval(self.get, {**self.names, "key": self.spell(key)})  # our own text
            if not self.work.torch.equal(found, self.work.tensors[key]):
                raise RuntimeError(f"gave other bytes than were stored under {key!r}")


class Peer:
    """One way of keeping tensors. Made in the driver, started and used in a process of its own."""

    title = ""
    needs: tuple[str, ...] = ()
    """Packages, as pip calls them."""
    imports: tuple[str, ...] = ()
    """What they are imported as, where that differs."""
    system = ""
    """What to install with the system's packages, if it does not start."""
    files = False
    """Keeps files, in the folder it is given."""
    place = "its process's memory"
    """Where its bytes lie."""

    def start(self, folder: str) -> None:
        """Opens what is opened once. Servers are started here."""

    def fill(self, work: Work) -> dict[str, Row]:
        """Takes these tensors, in place of the earlier ones, and says how they are got: rows by title."""
        raise NotImplementedError

    def openings(self, work: Work, folder: str) -> dict[str, Opening]:
        """Stores these tensors, in this folder if in files, and says how they are opened anew: rows by title.

        None where there is nothing to open: reading for the first time is then like every other time.
        """
        return {}

    def close(self) -> None:
        """Ends what start began."""


def free_port() -> int:
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def fresh(folder: str, name: str) -> str:
    """A path in the folder that nothing has been at: a mapped file is never written over."""
    counter = 0
    while os.path.exists(path := os.path.join(folder, f"{name}-{counter}")):
        counter += 1
    return path
