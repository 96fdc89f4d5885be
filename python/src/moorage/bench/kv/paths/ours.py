"""Moorage's own disk: the only place that knows how a store with a directory is opened and asked."""

from __future__ import annotations

import os
from time import monotonic_ns
from typing import Any

from ....errors import MoorageError
from ....store import Store
from ...disk import cold
from ...disk.rows import FLYING
from ..lane import Bytes, Lane
from ..models import Model
from .path import Lacking, Meaning, Path, ShortRead, Stamps

_ROOM = 64 << 20
_READ = "from the first submission to the last completion, as the store has stamped it; 0 for what its memory still had"
_WRITE = "as reads; it is durable when put returns"


class _Registered:
    def __init__(self, registration: Any) -> None:
        self._registration = registration

    def close(self) -> None:
        self._registration.release()


class Ours(Path):
    """Objects are written through, and what is read does not stay in the store's memory. What was put a moment ago is
    still there, and is read from there: such reads count as the memory tier's.

    memory    bytes that operations in flight may need
    capacity  bytes on disk
    """

    name = "moorage"
    title = "Moorage get_into"
    flying = FLYING

    def __init__(self, folder: str, model: Model, *, memory: int, capacity: int, verify: bool = False) -> None:
        os.makedirs(folder, exist_ok=True)
        self._folder = os.path.join(folder, "store")
        self._memory = memory + _ROOM
        self._settings: Any = {
            "disk": self._folder, "disk_capacity": capacity, "promote": "never",
            "write": "through", "durability": "each", "verify": "always" if verify else "off",
        }  # fmt: skip
        self.meaning = Meaning(0, _READ, _WRITE, False)
        self._open()

    def _open(self) -> None:
        from .stamps import Times

        try:
            self._store: Any = Store(self._memory, **self._settings)
        except (MoorageError, OSError) as error:
            raise Lacking(f"the store could not be opened: {error}") from None
        self._times = Times(self._store)

    def settle(self) -> None:
        """Opened again: its memory is empty."""
        self._store.flush()
        self._store.close(wait=True)
        self._open()
        self.cool("")

    def cool(self, key: str) -> None:
        """All of its files: one holds many objects. There is something of them only where O_DIRECT was refused."""
        for name in os.listdir(self._folder):
            path = os.path.join(self._folder, name)
            if os.path.isfile(path):
                fd = os.open(path, os.O_RDONLY)
                try:
                    cold.drop(fd)
                finally:
                    os.close(fd)

    def begin(self, lane: Lane) -> None:
        """Memory that is used again is registered once."""
        if lane.read.nbytes:
            lane.kept[self.name] = _Registered(self._store.register(lane.read.room(lane.read.nbytes)))

    def write(self, key: str, data: Bytes, tokens: int, lane: Lane) -> Stamps:
        begin = monotonic_ns()
        self._store.put(key, data)
        return self._times.of(("put", "persist"), len(data), begin, monotonic_ns())

    def read(self, key: str, nbytes: int, lane: Lane) -> tuple[Bytes, Stamps]:
        room = lane.read.room(nbytes)
        begin = monotonic_ns()
        n = self._store.get_into(key, room[:nbytes])
        end = monotonic_ns()
        if n != nbytes:
            raise ShortRead(f"{key}: {n} bytes were read, not {nbytes}")
        return room[:nbytes], self._times.of(("get_into",), nbytes, begin, end)

    def delete(self, key: str) -> None:
        self._store.remove(key)

    def facts(self) -> dict[str, Any]:
        stats = self._store.disk_stats()
        names = ("by_uring_fixed", "by_uring", "by_direct", "by_buffered", "fallbacks", "bytes_bounced", "damaged")
        return {**{name: getattr(stats, name) for name in names}, "found_in_memory": self._times.without}

    def close(self) -> None:
        self._store.close()
