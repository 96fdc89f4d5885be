"""Writing: what every path to the directory has in common, and the plain ones that the store is measured beside."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from time import monotonic_ns
from typing import Any

import numpy as np

from . import fio_writes, threads
from .objects import Object, content
from .rows import Row, Stamped, Worker, buffer, drop

DIRECT, SYNCED = "O_DIRECT pwrite", "O_DIRECT pwrite, fdatasync each"
PAGE_WORDS = 512
"""Words of 8 bytes in a page of 4 KiB."""


def targets(folder: str, size: int, count: int) -> list[Object]:
    """What is written: so many objects, none of which has to be there."""
    return [Object(os.path.join(folder, f"{i}.bin"), "", size, 0) for i in range(count)]


class Bytes:
    """What a thread writes, in memory of its own that is used again. Each page begins with the number of the pass and
    of the object, so that no two pages are alike, and what an earlier pass has left is told apart.
    """

    def __init__(self, base: np.ndarray[Any, Any], run: int, pages: str) -> None:
        self._memory = buffer(base.nbytes, pages)
        self.view = self._memory.view()
        self._words = np.frombuffer(self.view, np.uint64)
        self._words[:] = base
        self._run = run

    def of(self, i: int) -> memoryview:
        """Those of object i: until the next call."""
        self._words[::PAGE_WORDS] = self._run << 32 | i & 0xFFFFFFFF
        return self.view

    def close(self) -> None:
        del self._words
        self.view.release()
        self._memory.close()


class Content:
    """The bytes that all objects have but for their stamps; one size at a time."""

    def __init__(self) -> None:
        self._base: np.ndarray[Any, Any] = np.empty(0, np.uint64)

    def base(self, size: int) -> np.ndarray[Any, Any]:
        if self._base.nbytes != size:
            self._base = np.frombuffer(content(size, 0), np.uint64)
        return self._base

    def done(self) -> None:
        self._base = np.empty(0, np.uint64)


class Writer(Worker):
    """Writes objects from memory that is filled before the operation begins."""

    def __init__(self, objects: Sequence[Object], data: Bytes) -> None:
        super().__init__(objects)
        self._bytes, self.data = data, data.view

    def ready(self, i: int) -> None:
        self._bytes.of(i)

    def close(self) -> None:
        self.data = b""
        self._bytes.close()


class Writing(Row):
    """A path that writes."""

    writes = True

    def __init__(self, name: str, copies: int, device: str, twin: str, source: Content, pages: str) -> None:
        super().__init__(name, copies, device, self.writer)
        self.twin, self._content, self._pages = twin, source, pages
        self._run = 0

    def writer(self, objects: Sequence[Object]) -> threads.Worker:
        raise NotImplementedError

    def data(self, objects: Sequence[Object]) -> Bytes:
        return Bytes(self._content.base(objects[0].size), self._run, self._pages)

    def files(self, objects: Sequence[Object]) -> list[str]:
        """Nothing is read."""
        return []

    def begin(self, objects: Sequence[Object], depth: int) -> None:
        self._run += 1

    def run(self, objects: Sequence[Object], depth: int, check: bool) -> threads.Ran:
        """A check comes when all is written."""
        return threads.run(self, objects, depth, check=False)

    def compare(self, objects: Sequence[Object]) -> None:
        wanted = self.data(objects)
        try:
            for i, one in enumerate(objects):
                if self.written(i, one) != bytes(wanted.of(i)):  # a view would be compared item by item
                    raise ValueError(f"object {i} of {one.size} bytes was written wrong")
        finally:
            wanted.close()

    def written(self, i: int, one: Object) -> bytes:
        """What is there now."""
        raise NotImplementedError

    def done(self) -> None:
        self._content.done()


class Files:
    """A file for each object, whose blocks have all been written before: a store writes over old blocks too."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._holds = (0, 0)

    def fill(self, objects: Sequence[Object]) -> None:
        if self._holds[0] == objects[0].size and self._holds[1] >= len(objects):
            return
        self.done()
        os.mkdir(self.folder)
        for one in objects:
            with open(one.path, "xb") as file:
                file.write(content(one.size, 0))
                file.flush()
                os.fsync(file.fileno())
        self._holds = objects[0].size, len(objects)

    def done(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self._holds = (0, 0)


class Pwrite(Writing):
    """One pwrite past the page cache for each object, into a file that is open."""

    def __init__(self, files: Files, source: Content, pages: str, twin: str, *, sync: bool) -> None:
        device = "one pwrite call, from memory that is used again" + (", and fdatasync" if sync else "")
        super().__init__(SYNCED if sync else DIRECT, 0, device, twin, source, pages)
        self._files, self._sync = files, sync

    def prepare(self, objects: Sequence[Object]) -> None:
        self._files.fill(objects)

    def writer(self, objects: Sequence[Object]) -> threads.Worker:
        return _Pwrite(objects, self.data(objects), self._sync)

    def written(self, i: int, one: Object) -> bytes:
        drop([one.path])
        with open(one.path, "rb") as file:
            return file.read()

    def done(self) -> None:
        super().done()
        self._files.done()


def rows(folder: str, pages: str) -> list[Writing]:
    files, source = Files(os.path.join(folder, "written")), Content()
    return [
        Pwrite(files, source, pages, fio_writes.NEVER, sync=False),
        Pwrite(files, source, pages, fio_writes.EACH, sync=True),
    ]  # fmt: skip


class _Pwrite(Writer):
    def __init__(self, objects: Sequence[Object], data: Bytes, sync: bool) -> None:
        super().__init__(objects, data)
        self._sync = sync
        self.files: list[int] = []
        try:
            for one in objects:
                self.files.append(os.open(one.path, os.O_RDWR | os.O_DIRECT))
        except BaseException:
            self.close()
            raise

    def do(self, i: int) -> Stamped:
        fd, size, at = self.files[i], self.objects[i].size, 0
        t1 = monotonic_ns()
        while at < size:
            at += os.pwrite(fd, self.data[at:size], at)
        if self._sync:
            os.fdatasync(fd)
        return t1, monotonic_ns(), 0

    def close(self) -> None:
        for fd in self.files:
            os.close(fd)
        self.files = []
        super().close()
