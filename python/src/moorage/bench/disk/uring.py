"""Reads through io_uring: registered memory, registered files, as many requests at once as are asked for."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct
from collections.abc import Sequence
from contextlib import suppress
from ctypes import byref, c_int, c_long, c_uint, c_void_p
from time import monotonic_ns

_SETUP, _ENTER, _REGISTER = 425, 426, 427  # system calls, the same number on all machines
_BUFFERS, _FILES = 0, 2  # io_uring_register
_SQ_RING, _CQ_RING, _SQES = 0, 0x8000000, 0x10000000  # what is mapped
_GETEVENTS = 1
_READ_FIXED = 4
_FIXED_FILE = 1
_SQE, _CQE = 64, 16
_ENTRY = struct.Struct("<BBHiQQIIQHHiQQ")  # struct io_uring_sqe
# COOP_TASKRUN | SINGLE_ISSUER | DEFER_TASKRUN; an older kernel refuses what it does not know.
_MODES = (0x100 | 0x1000 | 0x2000, 0)

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = c_long


class NoRing(Exception):
    """This kernel, or what it runs in, has no io_uring for us; the text says what was tried."""


def _call(what: str, number: int, *arguments: object) -> int:
    result: int = _syscall(c_long(number), *arguments)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")
    return result


class _Offsets(ctypes.Structure):
    """struct io_sqring_offsets, and io_cqring_offsets with other names."""

    _fields_ = [
        (name, ctypes.c_uint32) for name in ("head", "tail", "mask", "entries", "one", "two", "three", "reserved")
    ] + [("address", ctypes.c_uint64)]


class _Params(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_uint32)
        for name in ("sq_entries", "cq_entries", "flags", "cpu", "idle", "features", "wq_fd", "r0", "r1", "r2")
    ] + [("sq", _Offsets), ("cq", _Offsets)]


class _Vector(ctypes.Structure):
    _fields_ = [("base", c_void_p), ("size", ctypes.c_size_t)]


class Ring:
    """One thread makes it, uses it and closes it. What it reads goes to one range of memory, into which it may write
    until `read` has returned.
    """

    def __init__(self, depth: int, address: int, size: int, files: Sequence[int]) -> None:
        self.depth = depth
        self._queued = 0
        self._address = address
        self._fd, params = self._open(depth)
        self._maps: list[mmap.mmap] = []
        try:
            self._map(params)
            vector = _Vector(address, size)
            _call("register memory", _REGISTER, c_int(self._fd), c_uint(_BUFFERS), byref(vector), c_uint(1))
            table = (c_int * len(files))(*files)
            _call("register files", _REGISTER, c_int(self._fd), c_uint(_FILES), byref(table), c_uint(len(files)))
        except OSError as error:
            self.close()
            raise NoRing(f"io_uring: {error.strerror} (RLIMIT_MEMLOCK, ulimit -l, may be too low)") from None

    @staticmethod
    def _open(depth: int) -> tuple[int, _Params]:
        for flags in _MODES:
            params = _Params(flags=flags)
            try:
                return _call("io_uring_setup", _SETUP, c_uint(depth), byref(params)), params
            except OSError as error:
                if error.errno != errno.EINVAL or flags == 0:
                    text = f"{error.strerror} (see kernel.io_uring_disabled, or seccomp)"
                    raise NoRing(text) from None
        raise AssertionError("the last mode returns or raises")

    def _map(self, params: _Params) -> None:
        def mapped(size: int, offset: int) -> mmap.mmap:
            self._maps.append(mmap.mmap(self._fd, size, mmap.MAP_SHARED, offset=offset))
            return self._maps[-1]

        sq, cq = params.sq, params.cq
        queue = memoryview(mapped(sq.three + 4 * params.sq_entries, _SQ_RING))  # three: the array
        done = memoryview(mapped(cq.two + _CQE * params.cq_entries, _CQ_RING))  # two: the completions
        self._entries = mapped(_SQE * params.sq_entries, _SQES)
        words, self._done = queue.cast("I"), done
        for i in range(params.sq_entries):
            words[sq.three // 4 + i] = i
        self._tail = words[sq.tail // 4 : sq.tail // 4 + 1]
        self._mask = params.sq_entries - 1
        cwords = done.cast("I")
        self._cq_head = cwords[cq.head // 4 : cq.head // 4 + 1]
        self._cq_tail = cwords[cq.tail // 4 : cq.tail // 4 + 1]
        self._cq_mask, self._cqes = params.cq_entries - 1, cq.two
        self._views = [queue, words, self._tail, cwords, self._cq_head, self._cq_tail]

    def read(self, file: int, offset: int, size: int, chunk: int) -> tuple[int, int]:
        """Fills the memory from its start; gives the nanoseconds of the first submission and of the last completion.

        A short read is gone on with; the end of the file before `size` is an EOFError, and any error an OSError. Either
        is raised when nothing is in flight any more.
        """
        waiting = [(at, min(chunk, size - at)) for at in range(0, size, chunk)]
        waiting.reverse()
        begin, flying = 0, 0
        failed: Exception | None = None
        while flying or (waiting and failed is None):
            while waiting and flying < self.depth and failed is None:
                at, n = waiting.pop()
                self._queue(file, offset + at, self._address + at, n, at)
                flying += 1
            begin = begin or monotonic_ns()
            # All that fly at once are waited for together, unless others wait for their place.
            self._enter(1 if waiting else flying)
            for at, result in self._reaped():
                flying -= 1
                n = min(chunk - at % chunk, size - at)
                if result < 0:
                    failed = OSError(-result, f"read: {os.strerror(-result)}")
                elif result == 0:
                    failed = EOFError(f"the file ends {size - at} bytes before the object")
                elif result < n:
                    waiting.append((at + result, n - result))
        end = monotonic_ns()
        if failed is not None:
            raise failed
        return begin, end

    def _queue(self, file: int, offset: int, address: int, size: int, tag: int) -> None:
        tail = self._tail[0]
        _ENTRY.pack_into(
            self._entries, (tail & self._mask) * _SQE,
            _READ_FIXED, _FIXED_FILE, 0, file, offset, address, size, 0, tag, 0, 0, 0, 0, 0,
        )  # fmt: skip
        self._tail[0] = (tail + 1) & 0xFFFFFFFF
        self._queued += 1

    def _enter(self, wait: int) -> None:
        """May return early. What the kernel has not taken over is offered again the next time."""
        with suppress(InterruptedError, BlockingIOError):
            self._queued -= _call(
                "io_uring_enter", _ENTER, c_int(self._fd), c_uint(self._queued), c_uint(wait), c_uint(_GETEVENTS), None,
                c_long(0),
            )  # fmt: skip

    def _reaped(self) -> list[tuple[int, int]]:
        found, head = [], self._cq_head[0]
        while head != self._cq_tail[0]:
            at = self._cqes + (head & self._cq_mask) * _CQE
            tag, result = struct.unpack_from("<Qi", self._done, at)
            found.append((tag, result))
            head = (head + 1) & 0xFFFFFFFF
        self._cq_head[0] = head
        return found

    def close(self) -> None:
        """Nothing is in flight: `read` waits for all of it."""
        for view in reversed(getattr(self, "_views", [])):
            view.release()
        self._views = []
        if hasattr(self, "_done"):
            self._done.release()
        for one in self._maps:
            one.close()
        self._maps = []
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
