"""The objects that everybody reads: .npy files whose payload begins on a page, so that all paths can use them."""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from . import cold

PAYLOAD = 4096
"""Where it begins in a file."""
_SEED = 1


@dataclass(frozen=True)
class Object:
    path: str
    size: int
    """Bytes of the payload."""
    crc: int
    """zlib.crc32 of it."""


def header(size: int) -> bytes:
    """That of a .npy file with one dimension of bytes, filled up to a page: the format lets it be that long."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({size},), }}".encode()
    magic = b"\x93NUMPY\x02\x00"
    room = PAYLOAD - len(magic) - 4
    return magic + struct.pack("<I", room) + text.ljust(room - 1) + b"\n"


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
            _sync(folder)
        except BaseException:
            self.close()
            raise

    def _make(self, i: int) -> Object:
        data = content(self.size, i)
        path = os.path.join(self.folder, f"{i}.npy")
        with open(path, "xb", buffering=0) as file:
            for part in (memoryview(header(self.size)), memoryview(data)):
                while len(part):
                    part = part[file.write(part) :]
            os.fsync(file.fileno())
            cold.drop(file.fileno())
        return Object(path, self.size, zlib.crc32(data))

    def __getitem__(self, i: int) -> Object:  # type: ignore[override]
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


def _sync(folder: str) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
