"""Moorage's own rows: objects that lie in a store's directory and not in its memory."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from functools import partial
from time import thread_time_ns
from typing import Any, Callable

from ...store import Store
from ..register import memory
from . import threads
from .figures import Op
from .objects import Object, content
from .rows import Row, Stamped, Worker, buffer, look

INTO, VIEW = "Moorage get_into", "Moorage get_array"
_DEVICE = "from the first submission to the last completion, as the store has stamped it"
OUTSIDE = "outside"
"""The part of host before the store's first stamp and after its last: Python, ctypes, the ABI."""
_ROOM = 64 << 20


def own_pages(pages: str) -> str:
    """What a store is told for memory of the same kind as that of reused buffers."""
    return "auto" if pages == memory.THP else "off"


class Kept:
    """A store whose objects lie in its directory, and not in its memory: written by one, opened again by another with
    `promote="never"`, so that what is read stays on disk alone and every pass is the first.
    """

    def __init__(self, folder: str, verify: bool, depth: int, pages: str = memory.THP) -> None:
        self.folder = os.path.join(folder, "store-" + ("verified" if verify else "plain"))
        self.verify, self._depth, self._pages = verify, depth, pages
        self.store: Any = None
        self._holds = (0, 0)
        self._seen = 0

    def fill(self, size: int, count: int) -> None:
        if self._holds[0] == size and self._holds[1] >= count:
            return
        self.close()
        capacity = 2 * size * count + _ROOM
        with self._open(4 * size, capacity) as store:
            for i in range(count):
                store.put(str(i), content(size, i))
            store.flush()
        self.store, self._seen = self._open(2 * size * self._depth, capacity), 0
        self._holds = (size, count)

    def _open(self, capacity: int, disk: int) -> Any:
        settings: Any = {
            "disk": self.folder, "disk_capacity": disk, "promote": "never",
            "verify": "always" if self.verify else "off", "hugepages": own_pages(self._pages),
        }  # fmt: skip
        return Store(capacity + _ROOM, **settings)

    def files(self) -> list[str]:
        names = [os.path.join(self.folder, name) for name in sorted(os.listdir(self.folder))]
        return [name for name in names if os.path.isfile(name)]

    def records(self, count: int) -> list[Any]:
        """The store's own of the `count` operations since the last time."""
        new = recorded(self.store, ("get", "get_into"), self._seen)
        self._seen = max((one.sequence for one in new), default=self._seen)
        if len(new) < count:
            raise ValueError(f"the store has recorded {len(new)} of {count} operations")
        return new

    def close(self) -> None:
        if self.store is not None:
            self.store.close()
        self.store, self._holds = None, (0, 0)
        shutil.rmtree(self.folder, ignore_errors=True)


def recorded(store: Any, kinds: Sequence[str], after: int = 0) -> list[Any]:
    """What a store remembers of operations of these kinds, of those that came after one."""
    return [one for one in store.timings().recent if one.sequence > after and one.kind in kinds]


class Disk(Row):
    verifies = True

    def __init__(self, name: str, kept: Kept, reader: Callable[[Any, Sequence[Object]], threads.Worker]) -> None:
        super().__init__(name, 0, _DEVICE, lambda objects: reader(kept.store, objects))
        self._kept = kept

    def prepare(self, objects: Sequence[Object]) -> None:
        self._kept.fill(objects[0].size, len(objects))

    def files(self, objects: Sequence[Object]) -> list[str]:
        return self._kept.files()

    def run(self, objects: Sequence[Object], depth: int, check: bool) -> threads.Ran:
        ran = super().run(objects, depth, check)
        ran.ops = paired(ran.ops, self._kept.records(len(objects)))
        return ran

    def read_pass(self, objects: Sequence[Object], depth: int) -> float:
        """Seconds of the processor for each GiB of reading once what a read has just delivered, where it lies: with
        the pages that it lies in, and with what the device has left of it in the caches.
        """
        looking = _Looking(self)
        threads.run(looking, objects, depth, check=True)
        return sum(looking.took) / 1e9 / (sum(one.size for one in objects) / (1 << 30))

    def done(self) -> None:
        self._kept.close()


class _Looking:
    """A row whose check is one look at every byte, and nothing else."""

    def __init__(self, row: Row) -> None:
        self._row = row
        self.took: list[int] = []
        """Nanoseconds of the processor, of each look."""

    def worker(self, objects: Sequence[Object]) -> threads.Worker:
        one = self._row.worker(objects)
        assert isinstance(one, Worker)

        def check(i: int) -> None:
            begin = thread_time_ns()
            look(one.data, objects[i].size)
            self.took.append(thread_time_ns() - begin)

        one.check = check  # type: ignore[method-assign]
        return one


def paired(ops: Sequence[Op], records: Sequence[Any]) -> list[Op]:
    """Operations as the caller has timed them, with the device time that the store has stamped on the same clock.

    A record belongs to an operation that encloses it. With several threads more than one may: the one that ends first
    is taken, which leaves none over. Sums, and with one thread every pair, are exact.
    """
    open_ops: list[Op] = []
    waiting = sorted(ops, key=lambda op: op.t0, reverse=True)
    found = []
    for record in sorted(records, key=lambda one: int(one.t0)):
        while waiting and waiting[-1].t0 <= record.t0:
            open_ops.append(waiting.pop())
        fitting = [op for op in open_ops if op.t3 >= record.t3]
        if not fitting:
            continue  # of somebody else's
        op = min(fitting, key=lambda one: one.t3)
        open_ops.remove(op)
        parts = {**record.parts, OUTSIDE: op.total - (record.t3 - record.t0)}
        found.append(
            Op(
                op.t0, record.t1, record.t2, op.t3, parts.get("copy", 0), parts.get("verify", 0), parts,
                record.verify_overlapped,
            )
        )  # fmt: skip
    if len(found) != len(ops):
        raise ValueError(f"{len(ops) - len(found)} of {len(ops)} operations have no record of the store's")
    return found


def known(store: Any) -> None:
    """The first call of a thread makes it known to the library, which each thread of a program does once."""
    store.exists("0")


class _Into(Worker):
    """Into memory that is used again, and whose pages are there."""

    def __init__(self, store: Any, objects: Sequence[Object], pages: str) -> None:
        super().__init__(objects)
        self._store = store
        self._keys = [str(i) for i in range(len(objects))]
        known(store)
        self._memory = buffer(max(one.size for one in objects), pages)
        self.data = self._memory.view()

    def do(self, i: int) -> Stamped:
        n = self._store.get_into(self._keys[i], self.data)
        if n != self.objects[i].size:
            raise ValueError(f"object {i} has {n} bytes, not {self.objects[i].size}")
        return 0, 0, 0

    def close(self) -> None:
        self.data.release()
        self._memory.close()


class _View(Worker):
    def __init__(self, store: Any, objects: Sequence[Object]) -> None:
        super().__init__(objects)
        self._store = store
        self._keys = [str(i) for i in range(len(objects))]
        known(store)

    def do(self, i: int) -> Stamped:
        self.data = self._store.get_array(self._keys[i])
        return 0, 0, 0

    def drop(self) -> None:
        self.data = b""


def rows(folder: str, depth: int, pages: str) -> list[tuple[Row, bool]]:
    """Each twice: without verification, and with; at most `depth` operations at a time.

    pages  the kind of memory that the caller's buffer is of, and the store's own, in which a view is
    """
    found: list[tuple[Row, bool]] = []
    for verify in (False, True):
        kept = Kept(folder, verify, depth, pages)
        found.append((Disk(INTO, kept, partial(_Into, pages=pages)), verify))
        found.append((Disk(VIEW, kept, _View), verify))
    return found
