"""Memory of one worker, used again for every object: aligned for direct reads, and touched before it is timed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..register import memory

if TYPE_CHECKING:
    import numpy.typing as npt

    Bytes = npt.NDArray[np.uint8]
else:
    Bytes = Any

PAGE = 4096


def rounded(n: int) -> int:
    return -(-n // PAGE) * PAGE


class Span:
    """A piece of anonymous memory that grows when something larger comes. Its pages are huge where the kernel has such:
    a drive takes small ones one at a time.
    """

    def __init__(self) -> None:
        self._all = np.empty(0, np.uint8)
        self._area: memory.Area | None = None

    def room(self, nbytes: int) -> Bytes:
        """At least a whole number of pages; what was in it is gone."""
        if len(self._all) < nbytes:
            kind = memory.THP if nbytes >= memory.HUGE else memory.SMALL
            self._area = memory.Area(kind, rounded(nbytes))
            self._all = np.frombuffer(self._area.view(), np.uint8)
            self._all[::PAGE] = 0
        return self._all

    @property
    def nbytes(self) -> int:
        return len(self._all)

    @property
    def address(self) -> int:
        return int(self._all.ctypes.data)


class Lane:
    """One thread's."""

    def __init__(self, number: int = 0) -> None:
        self.number = number
        self.read = Span()
        self.write = Span()
        self.kept: dict[str, Any] = {}
        """What a path keeps for this thread, such as a ring."""
        self.spans: list[tuple[int, int]] = []
        """Beginnings and ends of the operations of the request that it serves."""

    def prepare(self, read: int, write: int) -> None:
        """Touches the memory before anything is timed."""
        self.read.room(read)
        self.write.room(write)

    def close(self) -> None:
        for one in self.kept.values():
            one.close()
        self.kept = {}
