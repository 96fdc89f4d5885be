"""Moorage's own rows of writing: objects that a store brings to its directory."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Sequence
from typing import Any, Callable

from ...store import Store
from . import fio_writes, ours, threads
from .figures import Op
from .objects import Object
from .rows import Stamped, Worker
from .writes import Bytes, Content, Writer, Writing

NONE, BATCH, EACH = "Moorage put, never synced", "Moorage put, synced at the end", "Moorage put, synced each"
PERSIST = "Moorage persist"
_DEVICE = "from the first submission to the last completion, as the store has stamped it"
_SYNC = ", and the wait for the journal and its syncs"
_ROOM = 16 << 20
_LEAST_MEMORY = 1 << 20
_WARM = 256 << 20
"""Bytes, at most, that a pass writes before it is timed."""
_BY_OTHERS = 0.25
"""Of the objects of a pass may have been written by whoever wanted memory, before their own put came to it."""


class Directory:
    """Of the stores of all rows, one after the other. It has room for little more than two passes: the round that is
    not kept writes all blocks.
    """

    def __init__(self, folder: str, pages: str) -> None:
        self._pages = pages
        self.folder = os.path.join(folder, "store-written")
        self._holds = (0, 0)

    def hold(self, objects: Sequence[Object]) -> None:
        if self._holds[0] != objects[0].size or self._holds[1] < len(objects):
            self.done()
            self._holds = objects[0].size, len(objects)

    def open(self, memory: int, **settings: Any) -> Any:
        size, count = self._holds
        settings.update(disk=self.folder, disk_capacity=2 * size * count + _ROOM, promote="never")
        settings.update(hugepages=ours.own_pages(self._pages))
        return Store(max(memory, _LEAST_MEMORY), **settings)

    def done(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self._holds = (0, 0)


class Put(Writing):
    """Puts that replace what was there; each returns when its object is on disk, as lasting as `durability` says.

    A pass has a store of its own, which has its pages and has done the same before. Its memory has room for what is on
    its way and little more: what was put before is dropped from memory again and again.
    """

    kind, write = "put", "through"

    def __init__(
        self, name: str, copies: int, twin: str, directory: Directory, source: Content, pages: str, durability: str
    ) -> None:
        device = _DEVICE + (_SYNC if durability == "each" else "")
        super().__init__(name, copies, device, twin, source, pages)
        self._directory, self._durability = directory, durability
        self._store: Any = None
        self.mu = threading.Lock()
        self._left = 0  # guarded by mu: workers that have not finished
        self._seen = 0

    def prepare(self, objects: Sequence[Object]) -> None:
        self._directory.hold(objects)

    def at_once(self, objects: Sequence[Object], depth: int) -> int:
        """Objects that are in memory and not on disk yet, at most."""
        return depth

    def begin(self, objects: Sequence[Object], depth: int) -> None:
        super().begin(objects, depth)
        size, count = objects[0].size, len(objects)
        memory = max(size * (self.at_once(objects, depth) + 2), _LEAST_MEMORY)
        self._store = self._directory.open(
            memory, durability=self._durability, write=self.write, prefault="open"
        )  # fmt: skip
        data = self.data(objects)
        try:
            # Memory is used once: the kernel has mapped it then. Where there is much of it huge pages make that cheap.
            for i in range(max(1, min(max(size * count, memory), _WARM) // size)):
                self._store.put(str(i % count), data.of(-1 - i))
            self._store.flush()
            self.fill(count, data)
        except BaseException:
            self.end()
            raise
        finally:
            data.close()
        self._left = depth
        self._seen = max((one.sequence for one in self._store.timings().recent), default=0)

    def fill(self, count: int, data: Bytes) -> None:
        """What a pass finds in memory."""

    def run(self, objects: Sequence[Object], depth: int, check: bool) -> threads.Ran:
        ran = super().run(objects, depth, check)
        ran.ops = self.stamped(ran.ops, ours.recorded(self._store, (self.kind,), self._seen))
        return ran

    def end(self) -> None:
        self._store.close(wait=True)

    def writer(self, objects: Sequence[Object]) -> threads.Worker:
        return _Put(objects, self.data(objects), self._store, self.finish)

    def finish(self) -> bool:
        """The last of the workers syncs what all have written."""
        with self.mu:
            self._left -= 1
            if self._left or self._durability != "batch":
                return False
        self._store.flush()
        return True

    def stamped(self, ops: Sequence[Op], records: Sequence[Any]) -> list[Op]:
        by_others = sum(one.durability == "no_write" for one in records)
        if by_others > _BY_OTHERS * len(ops):
            raise ValueError(f"{by_others} of {len(ops)} objects were written before their own put came to it")
        return ours.paired(ops, records)

    def compare(self, objects: Sequence[Object]) -> None:
        self._store = self._directory.open(2 * objects[0].size, durability=self._durability, verify="always")
        try:
            super().compare(objects)
        finally:
            self._store.close(wait=True)

    def written(self, i: int, one: Object) -> bytes:
        found: bytes = self._store.get(str(i))
        return found

    def done(self) -> None:
        super().done()
        self._directory.done()


class _Put(Writer):
    def __init__(self, objects: Sequence[Object], data: Bytes, store: Any, finish: Callable[[], bool]) -> None:
        super().__init__(objects, data)
        self._store, self._finish = store, finish
        self._keys = [str(i) for i in range(len(objects))]
        ours.known(store)

    def do(self, i: int) -> Stamped:
        self._store.put(self._keys[i], self.data)
        return 0, 0, 0

    def finish(self) -> bool:
        return self._finish()


class Persist(Put):
    """Objects that lie in memory alone are brought to disk, one with each call."""

    kind, write = "persist", "back"

    def at_once(self, objects: Sequence[Object], depth: int) -> int:
        return len(objects)

    def fill(self, count: int, data: Bytes) -> None:
        for i in range(count):
            self._store.put(str(i), data.of(i))

    def writer(self, objects: Sequence[Object]) -> threads.Worker:
        return _Persist(objects, self._store)


class _Persist(Worker):
    def __init__(self, objects: Sequence[Object], store: Any) -> None:
        super().__init__(objects)
        self._store = store
        self._keys = [[str(i)] for i in range(len(objects))]
        ours.known(store)

    def do(self, i: int) -> Stamped:
        self._store.persist(self._keys[i])
        return 0, 0, 0


def rows(folder: str, pages: str) -> list[Writing]:
    directory, source = Directory(folder, pages), Content()
    return [
        Put(NONE, 1, fio_writes.NEVER, directory, source, pages, "none"),
        Put(BATCH, 1, fio_writes.END, directory, source, pages, "batch"),
        Put(EACH, 1, fio_writes.EACH, directory, source, pages, "each"),
        Persist(PERSIST, 0, fio_writes.EACH, directory, source, pages, "each"),
    ]
