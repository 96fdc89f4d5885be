"""io_uring with registered memory and files: an object in one chunk, or in many that are in flight together."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ...disk.rows import CHUNK, FLYING
from ...disk.uring import NoRing, Ring
from ..lane import Bytes, Lane
from ..models import Model
from .direct import Direct
from .files import PAYLOAD
from .path import Lacking, Meaning, ShortRead, Stamps

_CALL = "from the first submission to the last completion; the device writes into the registered buffer"


class UringOne(Direct):
    """For objects that are known before: their files are registered too."""

    name = "uring1"
    title = "io_uring, one chunk"
    meaning = Meaning(0, _CALL, Direct.meaning.write, False)
    flying = 1

    def __init__(self, folder: str, model: Model) -> None:
        super().__init__(folder, model)
        self._numbers: dict[str, int] = {}
        self._fds: list[int] = []
        self._largest = 0

    def prepare(self, keys: Sequence[str]) -> None:
        self.close()
        for key in keys:
            self._numbers[key] = len(self._fds)
            self._fds.append(os.open(self.path(key), self.flags))
            size = os.fstat(self._fds[-1]).st_size - PAYLOAD
            if size % PAYLOAD:
                raise Lacking(f"an object of {size} bytes is no whole number of pages")
            self._largest = max(self._largest, size)
        probe = Lane()
        try:
            self._ring(probe)
        except NoRing as error:
            raise Lacking(str(error)) from None
        finally:
            probe.close()

    def chunk(self, nbytes: int) -> int:
        return min(nbytes, 1 << 30)

    def read(self, key: str, nbytes: int, lane: Lane) -> tuple[Bytes, Stamps]:
        ring = self._ring(lane)
        try:
            t1, t2 = ring.read(self._numbers[key], PAYLOAD, nbytes, self.chunk(nbytes))
        except EOFError as error:
            raise ShortRead(f"{key}: {error}") from None
        return lane.read.room(nbytes)[:nbytes], Stamps(t1, t2)

    def begin(self, lane: Lane) -> None:
        """A ring is used by the thread that has made it, and by no other."""
        self._ring(lane)

    def _ring(self, lane: Lane) -> Ring:
        ring = lane.kept.get(self.name)
        if not isinstance(ring, Ring):
            room = lane.read.room(self._largest)
            ring = lane.kept[self.name] = Ring(self.flying, lane.read.address, len(room), self._fds)
        return ring

    def close(self) -> None:
        for fd in self._fds:
            os.close(fd)
        self._fds, self._numbers = [], {}


class UringAll(UringOne):
    name = "uring"
    title = "io_uring, all chunks"
    flying = FLYING

    def chunk(self, nbytes: int) -> int:
        return CHUNK
