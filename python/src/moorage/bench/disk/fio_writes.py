"""What fio gets out of the same directory when it writes, with the same syncs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence

from . import fio, threads
from .objects import Object, content

NEVER, END, EACH = "fio write", "fio write, fsync at the end", "fio write, fdatasync each"


class File:
    """What all of these rows write to. Every block of it has been written before."""

    def __init__(self, folder: str) -> None:
        self.path = os.path.join(folder, "fio-write.bin")
        self._holds = (0, 0)

    def fill(self, objects: Sequence[Object]) -> None:
        if self._holds[0] == objects[0].size and self._holds[1] >= len(objects):
            return
        self.done()
        with open(self.path, "xb", buffering=0) as file:
            for i, one in enumerate(objects):
                data = memoryview(content(one.size, i))
                while len(data):
                    data = data[file.write(data) :]
            os.fsync(file.fileno())
        self._holds = objects[0].size, len(objects)

    def done(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        self._holds = (0, 0)


class Write(fio.Fio):
    """The same chunks as for reading, written over what is there and never synced."""

    writes = True

    def __init__(self, file: File, seconds: float, huge: bool = True, name: str = NEVER) -> None:
        super().__init__("", seconds, huge)
        self.name = self.twin = name
        self._target = file

    def prepare(self, objects: Sequence[Object]) -> None:
        self._target.fill(objects)

    def files(self, objects: Sequence[Object]) -> list[str]:
        """Nothing is read."""
        return []

    def command(self, objects: Sequence[Object], depth: int) -> list[str]:
        size = objects[0].size
        found = self.pattern(size, depth, len(objects) // depth * size)
        # A pattern that writes would sync in its own way.
        options = ["rw=write" if option == "rw=read" else option for option in found]
        return ["fio", "--name=write", *(f"--{option}" for option in options), "--output-format=json"]

    def pattern(self, size: int, depth: int, share: int) -> list[str]:
        return fio.Pattern(size, depth, share).options(self._target.path, self._seconds)

    def run(self, objects: Sequence[Object], depth: int, check: bool) -> threads.Ran:
        return fio.parse(fio.call(self.command(objects, depth), self._seconds, huge=self._huge))["write"]

    def done(self) -> None:
        self._target.done()


class WriteEnd(Write):
    """One pass over its share, and each job ends with an fsync, in the time that is taken."""

    def __init__(self, file: File, seconds: float, huge: bool = True) -> None:
        super().__init__(file, seconds, huge, END)

    def pattern(self, size: int, depth: int, share: int) -> list[str]:
        return [*fio.Pattern(size, depth, share).options(self._target.path, None), "end_fsync=1"]


class WriteEach(Write):
    """Each object in one request, which the kernel splits, and then an fdatasync: for several requests fio would not
    wait before it syncs.
    """

    def __init__(self, file: File, seconds: float, huge: bool = True) -> None:
        super().__init__(file, seconds, huge, EACH)

    def pattern(self, size: int, depth: int, share: int) -> list[str]:
        one = fio.Pattern(size, depth, share, chunk=size, flying=1)
        return [*one.options(self._target.path, self._seconds), "fdatasync=1"]
