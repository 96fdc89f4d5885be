"""fio as a row: what the device gives, at this depth, to who does nothing but read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Callable

from ...disk import fio
from ...disk.place import Counters
from .. import twin
from ..data import Data
from .objects import Object
from .passes import Pass

TITLE = "fio"
_PATIENCE = 60
"""Seconds that a pass may well take."""
_DEVICE = "nothing: fio reports no time of whole objects, so it has GiB/s and CPU only"


class Fio:
    """One file with as many bytes as the objects have, each read once in a pass, in objects of their middle size; all
    chunks of one together. It is removed by `close`.
    """

    title = name = TITLE
    copies = 0
    device_is = _DEVICE

    def __init__(self, folder: str, objects: Sequence[Object], data: Data) -> None:
        self._file = os.path.join(folder, "fio.read")
        self._size = twin.middle([one.nbytes for one in objects])
        self._total = max(sum(one.nbytes for one in objects), self._size)
        self._data = data
        self._filled = 0

    def prepare(self, depth: int) -> None:
        """A whole object at least for each job."""
        need = self._share(depth) * depth
        if need > self._filled:
            self.close()
            twin.fill(self._file, need, self._data)
            self._filled = need

    def _share(self, depth: int) -> int:
        return max(1, self._total // depth // self._size) * self._size

    def run(self, depth: int, counters: Callable[[], Counters | None]) -> Pass:
        """OSError when fio fails."""
        pattern = fio.Pattern(self._size, depth, self._share(depth))
        options = (f"--{option}" for option in pattern.options(self._file, None))
        before = counters()
        text = fio.call(["fio", "--name=read", *options, "--output-format=json"], _PATIENCE)
        after = counters()
        ran = fio.parse(text)["read"]
        done = Pass(nbytes=ran.nbytes, wall=ran.wall, cpu=ran.cpu / 1e9)
        if before is not None and after is not None:
            done.device_bytes = after.since(before).nbytes
        return done

    def close(self) -> None:
        if self._filled:
            os.unlink(self._file)
            self._filled = 0
