"""O_DIRECT: the device writes into the caller's memory, and nothing else touches the bytes."""

from __future__ import annotations

import os
from time import monotonic_ns
from typing import Any

import numpy as np

from ..lane import PAGE, Bytes, Lane, Span, rounded
from ..models import Model
from .files import PAYLOAD, Buffered, header
from .path import Lacking, Meaning, ShortRead, Stamps


class Direct(Buffered):
    """One preadv for an object, into aligned memory that is used again."""

    name = "direct"
    title = "O_DIRECT preadv"
    meaning = Meaning(
        0, "the preadv calls; the device writes into the reused buffer",
        "the pwritev calls and fsync; one copy before them, into aligned memory, is host", False,
    )  # fmt: skip
    flags = os.O_RDONLY | os.O_DIRECT

    def __init__(self, folder: str, model: Model) -> None:
        super().__init__(folder, model)
        probe(folder)

    def write(self, key: str, data: Bytes, tokens: int, lane: Lane) -> Stamps:
        """The file is a whole number of pages while it is written, and cut to its length afterwards."""
        part = f"{self.path(key)}.{lane.number}.part"
        head = lane.kept.get("head") or lane.kept.setdefault("head", _Head())
        head.set(header(self._model, tokens))
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_DIRECT, 0o600)
        try:
            whole, copy = self._aligned(data, lane)
            t1 = monotonic_ns()
            _pwrite_all(fd, head.page, 0)
            _pwrite_all(fd, whole, PAYLOAD)
            os.ftruncate(fd, PAYLOAD + len(data))
            os.fsync(fd)
            t2 = monotonic_ns()
        except BaseException:
            os.unlink(part)
            raise
        finally:
            os.close(fd)
        os.rename(part, self.path(key))
        return Stamps(t1, t2, copy)

    def _aligned(self, data: Bytes, lane: Lane) -> tuple[Bytes, int]:
        """The data in whole pages: where they lie already, if the memory around them is the lane's own."""
        whole = rounded(len(data))
        if data.ctypes.data == lane.write.address:
            return lane.write.room(whole)[:whole], 0
        begin = monotonic_ns()
        room = lane.read.room(whole)
        room[: len(data)] = data
        return room[:whole], monotonic_ns() - begin

    def _fill(self, fd: int, key: str, room: Bytes, nbytes: int) -> None:
        done, whole = 0, rounded(nbytes)
        while done < nbytes:
            n = os.preadv(fd, [room[done:whole].data], PAYLOAD + done)
            done += n
            if done >= nbytes:
                return
            if n == 0 or n % PAGE:
                raise ShortRead(f"{key}: its file ends {nbytes - done} bytes too early")


class _Head:
    def __init__(self) -> None:
        self._span = Span()
        self.page = self._span.room(PAYLOAD)

    def set(self, text: bytes) -> None:
        self.page[:] = np.frombuffer(text, np.uint8)

    def close(self) -> None:
        pass


def _pwrite_all(fd: int, data: Any, at: int) -> None:
    rest = memoryview(data)
    while len(rest):
        n = os.pwritev(fd, [rest], at)
        rest, at = rest[n:], at + n


def probe(folder: str) -> None:
    """A real write and read of a page with O_DIRECT; Lacking where the file system refuses."""
    path = os.path.join(folder, ".probe")
    page = Span()
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_DIRECT, 0o600)
        try:
            _pwrite_all(fd, page.room(PAGE)[:PAGE], 0)
            os.preadv(fd, [page.room(PAGE)[:PAGE].data], 0)
        finally:
            os.close(fd)
    except OSError as error:
        raise Lacking(f"{folder} refuses O_DIRECT: {error.strerror}") from None
    finally:
        if os.path.exists(path):
            os.unlink(path)
