"""The paths from a file to memory that are compared, each in its best form."""

from __future__ import annotations

import ctypes
import mmap
import os
import zlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from time import monotonic_ns
from typing import Any, Callable

import numpy as np

from ..register import memory
from . import cold, threads, uring
from .objects import Object

CHUNK = 1 << 20
FLYING = 32
"""Chunks of one object in flight."""

LOAD_AND_COPY = "np.load + np.array"
LOAD = "np.load"
MAPPED = "mmap + touch"
BUFFERED = "buffered preadv"
DIRECT = "O_DIRECT preadv"
URING_ONE = "io_uring, one chunk"
URING_ALL = "io_uring, all chunks"
NOTHING = "(nothing)"

_compare = ctypes.CDLL(None).memcmp  # without the GIL
_compare.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]

Stamped = tuple[int, int, int]
"""t1, t2, and nanoseconds of copying afterwards."""


def look(data: Any, n: int) -> None:
    """Reads the first n bytes once: beside themselves, so that the second look finds each line."""
    at = np.frombuffer(data, np.uint8, n).ctypes.data
    _compare(at, at, n)


def buffer(size: int, pages: str) -> memory.Area:
    """Memory whose pages are there. A drive takes them one at a time: small ones cost it several times as much."""
    area = memory.Area(pages, size)
    area.touch()
    return area


class Worker:
    """What paths have in common in one thread, which also makes and closes it."""

    def __init__(self, objects: Sequence[Object]) -> None:
        self.objects = objects
        self.data: Any = b""
        """What `do` has delivered: valid until `drop`, or the next one."""

    def ready(self, i: int) -> None:
        pass

    def do(self, i: int) -> Stamped:
        raise NotImplementedError

    def check(self, i: int) -> None:
        one = self.objects[i]
        data = memoryview(self.data)[: one.size]
        if len(data) != one.size or zlib.crc32(data) != one.crc:
            raise ValueError(f"object {i} of {one.size} bytes was read wrong")

    def drop(self) -> None:
        pass

    def finish(self) -> bool:
        return False

    def close(self) -> None:
        pass


class Row:
    """One path.

    copies  by the processor, for each byte delivered
    device  what counts as device; the rest is host
    """

    verifies = False
    """It does so by itself when `verify` is set: nobody else has to."""
    writes = False
    twin = "fio"
    """The row of fio with the same pattern."""

    def __init__(self, name: str, copies: int, device: str, worker: Callable[[Sequence[Object]], threads.Worker]):
        self.name, self.copies, self.device, self._worker = name, copies, device, worker
        self.verify = False

    def lacking(self) -> str | None:
        """Why it cannot be measured here."""
        return None

    def prepare(self, objects: Sequence[Object]) -> None:
        """Before the first pass over these objects."""

    def begin(self, objects: Sequence[Object], depth: int) -> None:
        """Before a pass, and not part of it."""

    def end(self) -> None:
        """After a pass."""

    def compare(self, objects: Sequence[Object]) -> None:
        """Raises ValueError unless the last pass has written what it had to."""

    def cool(self, objects: Sequence[Object]) -> None:
        """Before each pass: from now on everything is on the device alone."""
        drop(self.files(objects))

    def files(self, objects: Sequence[Object]) -> list[str]:
        """Those that will be read."""
        return [one.path for one in objects]

    def residency(self, objects: Sequence[Object]) -> tuple[int, int]:
        """Bytes in the page cache, and all bytes, of the files that will be read."""
        return resident(self.files(objects))

    def worker(self, objects: Sequence[Object]) -> threads.Worker:
        return self._worker(objects)

    def run(self, objects: Sequence[Object], depth: int, check: bool) -> threads.Ran:
        """A pass."""
        return threads.run(self, objects, depth, check)

    def done(self) -> None:
        """After the last pass over these objects."""


def drop(paths: Sequence[str]) -> None:
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        try:
            cold.drop(fd)
        finally:
            os.close(fd)


def resident(paths: Sequence[str]) -> tuple[int, int]:
    here = everything = 0
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        try:
            some, more = cold.resident(fd)
        finally:
            os.close(fd)
        here, everything = here + some, everything + more
    return here, everything


class _Load(Worker):
    def do(self, i: int) -> Stamped:
        path = self.objects[i].npy
        t1 = monotonic_ns()
        self.data = np.load(path)
        return t1, monotonic_ns(), 0

    def drop(self) -> None:
        self.data = b""


class _LoadAndCopy(_Load):
    def do(self, i: int) -> Stamped:
        path = self.objects[i].npy
        t1 = monotonic_ns()
        loaded = np.load(path)
        t2 = monotonic_ns()
        self.data = np.array(loaded)
        copy = monotonic_ns() - t2
        return t1, t2, copy


class _Open(Worker):
    """With descriptors that are open before: a store does not open a file for each object either."""

    flags = os.O_RDONLY

    def __init__(self, objects: Sequence[Object], pages: str = memory.THP) -> None:
        super().__init__(objects)
        self.pages = pages
        self.files: list[int] = []
        try:
            for one in objects:
                self.files.append(os.open(one.path, self.flags))
            self.prepare()
        except BaseException:
            self.close()
            raise

    def prepare(self) -> None:
        pass

    def close(self) -> None:
        for fd in self.files:
            os.close(fd)
        self.files = []


class _Mapped(_Open):
    def do(self, i: int) -> Stamped:
        size = self.objects[i].size
        self.map = mmap.mmap(self.files[i], size, mmap.MAP_SHARED, mmap.PROT_READ)
        self.data = np.frombuffer(self.map, np.uint8)
        t1 = monotonic_ns()
        look(self.data, size)
        return t1, monotonic_ns(), 0

    def drop(self) -> None:
        self.data = b""
        self.map.close()


class _Buffered(_Open):
    """Into memory that is used again, and whose pages are there."""

    def prepare(self) -> None:
        self.memory = buffer(max(one.size for one in self.objects), self.pages)
        self.data = self.memory.view()

    def do(self, i: int) -> Stamped:
        fd, size, at = self.files[i], self.objects[i].size, 0
        t1 = monotonic_ns()
        while at < size:
            n = os.preadv(fd, [self.data[at:size]], at)
            if n == 0:
                raise EOFError(f"{self.objects[i].path} ends {size - at} bytes before the object")
            at += n
        return t1, monotonic_ns(), 0

    def close(self) -> None:
        super().close()
        if isinstance(self.data, memoryview):
            self.data.release()
            self.data = b""
            self.memory.close()


class _Direct(_Buffered):
    flags = os.O_RDONLY | os.O_DIRECT


class _Uring(_Direct):
    ring: uring.Ring | None = None
    flying = 1

    def prepare(self) -> None:
        super().prepare()
        self.ring = uring.Ring(self.flying, self.memory.address, self.memory.size, self.files)

    def chunk(self, size: int) -> int:
        return size

    def do(self, i: int) -> Stamped:
        assert self.ring is not None
        size = self.objects[i].size
        return (*self.ring.read(i, 0, size, self.chunk(size)), 0)

    def close(self) -> None:
        if self.ring is not None:
            self.ring.close()
            self.ring = None
        super().close()


class _UringAll(_Uring):
    flying = FLYING

    def chunk(self, size: int) -> int:
        return CHUNK


class _LoadRow(Row):
    def files(self, objects: Sequence[Object]) -> list[str]:
        return [one.npy for one in objects]


class _Nothing(Worker):
    def do(self, i: int) -> Stamped:
        t1 = monotonic_ns()
        return t1, t1, 0


class _NothingRow(Row):
    def files(self, objects: Sequence[Object]) -> list[str]:
        return []

    def run(self, objects: Sequence[Object], depth: int, check: bool) -> threads.Ran:
        return replace(super().run(objects, depth, check=False), nbytes=0)


_CALL = "from the submission to the last completion; the drive writes into the reused buffer"


def rows(pages: str = memory.THP) -> list[Row]:
    """Those that need nothing but a kernel and numpy; the one that reads nothing is what measuring takes.

    pages  the kind of memory that reused buffers are of
    """
    return [
        _LoadRow(LOAD_AND_COPY, 2, "np.load: open, header, read; np.array is host, as copy", _LoadAndCopy),
        _LoadRow(LOAD, 1, "np.load: open, header, read into fresh memory", _Load),
        Row(MAPPED, 0, "reading the mapped bytes once, with the page faults; mapping is host", _Mapped),
        Row(BUFFERED, 1, "the preadv calls, into a reused buffer", partial(_Buffered, pages=pages)),
        Row(DIRECT, 0, "one preadv call; the drive writes into the reused buffer", partial(_Direct, pages=pages)),
        Row(URING_ONE, 0, _CALL, partial(_Uring, pages=pages)),
        Row(URING_ALL, 0, _CALL, partial(_UringAll, pages=pages)),
        _NothingRow(NOTHING, 0, "nothing is read: what measuring itself takes", _Nothing),
    ]
