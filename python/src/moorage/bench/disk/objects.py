"""The objects that everybody reads, each as a plain file and as the .npy file that np.save makes of the same bytes."""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

BLOCK = 4096
"""What O_DIRECT reads are a multiple of. (The payload of a .npy file begins at byte 128: no block of it is aligned.)"""
_SEED = 1


@dataclass(frozen=True)
class Object:
    path: str
    """The bytes and nothing else."""
    npy: str
    size: int
    crc: int
    """zlib.crc32 of the bytes."""


def content(size: int, number: int) -> bytes:
    """Bytes that no device can compress and of which no two pages are alike; the same in every run."""
    return np.random.Generator(np.random.SFC64([_SEED, size, number])).bytes(size)


class Objects(Sequence[Object]):
    """So many objects of one size, in a folder of their own. They are on the device when this returns; close(), or
    leaving the `with` block, removes them.
    """

    def __init__(self, folder: str, size: int, count: int) -> None:
        self.folder, self.size = folder, size
        self._all: list[Object] = []
        os.mkdir(folder)
        try:
            for i in range(count):
                self._all.append(self._make(i))
            files = [path for one in self._all for path in (one.path, one.npy)]
            for path in (*files, folder):  # when all are written: each for itself would cost a commit
                _sync(path)
        except BaseException:
            self.close()
            raise

    def _make(self, i: int) -> Object:
        data = content(self.size, i)
        path = os.path.join(self.folder, f"{i}.bin")
        with open(path, "xb") as file:
            file.write(data)
        npy = os.path.join(self.folder, f"{i}.npy")
        np.save(npy, np.frombuffer(data, np.uint8))
        return Object(path, npy, self.size, zlib.crc32(data))

    @overload
    def __getitem__(self, i: int) -> Object: ...
    @overload
    def __getitem__(self, i: slice) -> Sequence[Object]: ...
    def __getitem__(self, i: int | slice) -> Object | Sequence[Object]:
        return self._all[i]

    def __len__(self) -> int:
        return len(self._all)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            for name in os.listdir(self.folder):
                os.unlink(os.path.join(self.folder, name))
            os.rmdir(self.folder)

    def __enter__(self) -> Objects:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _sync(path: str) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
