"""Somebody else on the machine, who copies memory: how much of his pace is left while objects are read?"""

from __future__ import annotations

import ctypes
import threading
import time
from types import TracebackType

_SIZE = 32 << 20
_ALONE = 0.25  # seconds


class Bystander:
    """A thread that copies the same block for as long as the `with` block lasts. A copy holds no lock of Python's."""

    def __init__(self) -> None:
        self._from, self._to = ctypes.create_string_buffer(_SIZE), ctypes.create_string_buffer(_SIZE)
        copy = ctypes.CDLL(None).memcpy
        copy.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
        self._copy = copy
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._done = 0
        self._took = 0.0
        self._one()

    def _one(self) -> None:
        self._copy(ctypes.addressof(self._to), ctypes.addressof(self._from), _SIZE)

    def _run(self) -> None:
        begin = time.monotonic()
        while not self._end.is_set():
            self._one()
            self._done += 1
        self._took = time.monotonic() - begin

    def __enter__(self) -> Bystander:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()

    @property
    def gib_per_s(self) -> float:
        """After the block: bytes copied, each read and written once, over the time."""
        return self._done * _SIZE / (1 << 30) / self._took


def alone() -> float:
    """His pace when nobody else does anything of ours."""
    with Bystander() as one:
        time.sleep(_ALONE)
    return one.gib_per_s
