"""Moorage's own disk: the only place that knows how a store with a directory is opened and asked."""

from __future__ import annotations

import inspect
import os
from time import monotonic_ns
from typing import Any

from ....errors import MoorageError
from ....store import Store
from ..lane import Bytes, Lane
from ..models import Model
from .path import Lacking, Meaning, Path, ShortRead, Stamps

_ROOM = 64 << 20
_READ = "from the first submission to the last completion, as the store has stamped it"
_WRITE = "as reads; it is durable when put returns"


def lacking() -> str | None:
    """Why this version cannot."""
    if "disk" in inspect.signature(Store.__init__).parameters:
        return None
    return "this version's Store has no disk="


class Ours(Path):
    """Objects are written through and never kept in the store's memory: what is read comes from the device.

    memory    bytes that operations in flight may need
    capacity  bytes on disk
    """

    name = "moorage"
    title = "Moorage get_into"

    def __init__(self, folder: str, model: Model, *, memory: int, capacity: int, verify: bool = False) -> None:
        why = lacking()
        if why is not None:
            raise Lacking(why)
        settings: Any = {
            "disk": os.path.join(folder, "store"), "disk_capacity": capacity, "promote": "never",
            "write": "through", "durability": "each", "verify": "always" if verify else "off",
        }  # fmt: skip
        try:
            self._store: Any = Store(memory + _ROOM, **settings)
        except (MoorageError, OSError) as error:
            raise Lacking(f"the store could not be opened: {error}") from None
        from .stamps import Times  # needs a version that has them

        self._times = Times(self._store)
        self.meaning = Meaning(0, _READ, _WRITE, False)

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
        return {**{name: getattr(stats, name) for name in names}, "without_stamps": self._times.missed}

    def close(self) -> None:
        self._store.close()
