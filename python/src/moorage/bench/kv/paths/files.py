"""One .npy file for each object, as np.load reads it, and the ways to read such a file."""

from __future__ import annotations

import os
import struct
from time import monotonic_ns
from typing import Any

import numpy as np

from ...disk import cold
from ..lane import Bytes, Lane
from ..models import Model
from .path import Meaning, Path, ShortRead, Stamps

PAYLOAD = 4096
"""Where it begins in a file: on a page, so that all ways of reading can share the file."""

_DESCR = {"float16": "<f2", "bfloat16": "<u2", "float32": "<f4", "float8": "|u1", "int8": "|i1"}
_FSYNC = "fsync; writing into the page cache is host"


def header(model: Model, tokens: int) -> bytes:
    """That of a .npy file, filled up to a page: the format lets it be that long."""
    descr, shape = _DESCR[model.dtype], model.shape(tokens)
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    magic = b"\x93NUMPY\x02\x00"
    room = PAYLOAD - len(magic) - 4
    return magic + struct.pack("<I", room) + text.ljust(room - 1) + b"\n"


def _write_all(fd: int, data: Any) -> None:
    rest = memoryview(data)
    while len(rest):
        rest = rest[os.write(fd, rest) :]


class Files(Path):
    """Written through the page cache, synced, renamed into place, and then out of the page cache again.

    shared  the objects are another path's: nothing is written
    """

    def __init__(self, folder: str, model: Model) -> None:
        self.folder, self._model = folder, model
        os.makedirs(folder, exist_ok=True)

    def path(self, key: str) -> str:
        return os.path.join(self.folder, key + ".npy")

    def write(self, key: str, data: Bytes, tokens: int, lane: Lane) -> Stamps:
        path = self.path(key)
        part = f"{path}.{lane.number}.part"
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            _write_all(fd, header(self._model, tokens))
            _write_all(fd, data)
            t1 = monotonic_ns()
            os.fsync(fd)
            t2 = monotonic_ns()
            cold.drop(fd)
        except BaseException:
            os.unlink(part)
            raise
        finally:
            os.close(fd)
        os.rename(part, path)
        return Stamps(t1, t2)

    def delete(self, key: str) -> None:
        os.unlink(self.path(key))

    def cool(self, key: str) -> None:
        fd = os.open(self.path(key), os.O_RDONLY)
        try:
            cold.drop(fd)
        finally:
            os.close(fd)

    def residency(self, key: str) -> tuple[int, int] | None:
        fd = os.open(self.path(key), os.O_RDONLY)
        try:
            return cold.resident(fd)
        finally:
            os.close(fd)


def _flat(array: Any) -> Bytes:
    flat: Bytes = array.reshape(-1).view(np.uint8)
    return flat


class Load(Files):
    """np.load, with the advice before it that asks for a cold read; the array is fresh memory each time."""

    name = "legacy1"
    title = "np.load"
    meaning = Meaning(
        1, "np.load: open, header, disk to page cache to array; advising and looking is host", _FSYNC, True
    )

    def read(self, key: str, nbytes: int, lane: Lane) -> tuple[Bytes, Stamps]:
        loaded, t1, t2 = self._load(key, nbytes)
        return _flat(loaded), Stamps(t1, t2)

    def _load(self, key: str, nbytes: int) -> tuple[Any, int, int]:
        path = self.path(key)
        self.cool(key)
        t1 = monotonic_ns()
        loaded = np.load(path)
        t2 = monotonic_ns()
        if loaded.nbytes != nbytes:
            raise ShortRead(f"{key}: {loaded.nbytes} bytes were read, not {nbytes}")
        return loaded, t1, t2


class LoadAndCopy(Load):
    """The original's: what was loaded is copied once more."""

    name = "legacy2"
    title = "np.load + np.array"
    meaning = Meaning(2, "np.load: open, header, disk to page cache to array; np.array is host, as copy", _FSYNC, True)

    def read(self, key: str, nbytes: int, lane: Lane) -> tuple[Bytes, Stamps]:
        loaded, t1, t2 = self._load(key, nbytes)
        begin = monotonic_ns()
        array = np.array(loaded)
        return _flat(array), Stamps(t1, t2, copy=monotonic_ns() - begin)


class Mapped(Files):
    """A mapping of the file, every page of it touched before the read counts as done."""

    name = "mmap"
    title = "mmap, touched"
    meaning = Meaning(0, "touching every page, with its fault and the read behind it; mapping is host", _FSYNC, True)

    def read(self, key: str, nbytes: int, lane: Lane) -> tuple[Bytes, Stamps]:
        self.cool(key)
        pages = np.memmap(self.path(key), np.uint8, "r", PAYLOAD)
        if len(pages) != nbytes:
            raise ShortRead(f"{key}: {len(pages)} bytes are mapped, not {nbytes}")
        t1 = monotonic_ns()
        pages[::PAYLOAD].sum()
        return pages.view(np.ndarray), Stamps(t1, monotonic_ns())


class Buffered(Files):
    """preadv into memory that is used again."""

    name = "buffered"
    title = "buffered preadv"
    meaning = Meaning(1, "the preadv calls, through the page cache into a reused buffer", _FSYNC, True)
    flags = os.O_RDONLY

    def read(self, key: str, nbytes: int, lane: Lane) -> tuple[Bytes, Stamps]:
        room = lane.read.room(nbytes)
        fd = os.open(self.path(key), self.flags)
        try:
            t1 = monotonic_ns()
            self._fill(fd, key, room, nbytes)
            t2 = monotonic_ns()
        finally:
            os.close(fd)
        return room[:nbytes], Stamps(t1, t2)

    def _fill(self, fd: int, key: str, room: Bytes, nbytes: int) -> None:
        done = 0
        while done < nbytes:
            n = os.preadv(fd, [room[done:].data], PAYLOAD + done)
            if n == 0:
                raise ShortRead(f"{key}: its file ends {nbytes - done} bytes too early")
            done += n
