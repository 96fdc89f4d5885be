"""Pinning by the kernel, as a network card's driver asks for it: io_uring's registered buffers."""

from __future__ import annotations

import ctypes
import os
from ctypes import byref, c_int, c_long, c_size_t, c_uint32, c_uint64, c_void_p

from .pinning import NoPinning

_SETUP, _REGISTER = 425, 427  # system calls, the same number on all machines
_BUFFERS2, _BUFFERS_UPDATE, _SPARSE = 15, 16, 1
_PARAMS = 120
SLOTS = 1 << 14
LONGEST = 1 << 30
"""Bytes of one buffer at most."""


class Kernel:
    """Pinning without a card."""

    how = "io_uring registered buffers, no device"
    longest = LONGEST

    def table(self) -> Ring:
        return Ring()

    def nothing(self) -> None:
        _syscall(c_long(_REGISTER), c_int(-1), c_uint32(_BUFFERS_UPDATE), None, c_uint32(0))


class _Table(ctypes.Structure):
    _fields_ = [("nr", c_uint32), ("flags", c_uint32), ("pad", c_uint64), ("data", c_uint64), ("tags", c_uint64)]


class _Update(ctypes.Structure):
    _fields_ = [
        ("offset", c_uint32), ("pad", c_uint32), ("data", c_uint64), ("tags", c_uint64), ("nr", c_uint32),
        ("pad2", c_uint32),
    ]  # fmt: skip


class Vector(ctypes.Structure):
    _fields_ = [("base", c_void_p), ("size", c_size_t)]


_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = c_long


def _call(number: int, *arguments: object) -> int:
    result: int = _syscall(c_long(number), *arguments)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


class Ring:
    """A table of buffers of one ring. Any thread may use one, one at a time."""

    def __init__(self) -> None:
        params = (ctypes.c_uint8 * _PARAMS)()
        try:
            self._fd = _call(_SETUP, c_uint32(1), byref(params))
        except OSError as error:
            raise NoPinning(f"io_uring_setup: {error.strerror} (see kernel.io_uring_disabled, or seccomp)") from None
        table = _Table(nr=SLOTS, flags=_SPARSE)
        try:
            self._do(_BUFFERS2, table)
        except OSError as error:
            self.close()
            raise NoPinning(f"a table of io_uring buffers: {error.strerror} (Linux 5.19 has it)") from None
        self._tag = c_uint64(0)
        self._empty = Vector(None, 0)

    def _do(self, what: int, argument: ctypes.Structure) -> None:
        _call(_REGISTER, c_int(self._fd), c_uint32(what), byref(argument), c_uint32(ctypes.sizeof(argument)))

    def change(self, slot: int, address: int, size: int) -> Change:
        """A call that pins memory in a slot."""
        return Change(self, slot, Vector(address, size))

    def emptying(self, slot: int) -> Change:
        """A call that unpins what is in a slot."""
        return Change(self, slot, self._empty)

    def close(self) -> None:
        """Unpins everything."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Ring:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Change:
    """A system call with its arguments made, so that nothing else is in the time."""

    def __init__(self, ring: Ring, slot: int, vector: Vector) -> None:
        self._vector = vector
        self.address, self.size = vector.base or 0, vector.size
        self._update = _Update(offset=slot, data=ctypes.addressof(vector), tags=ctypes.addressof(ring._tag), nr=1)
        self._arguments = (
            c_long(_REGISTER), c_int(ring._fd), c_uint32(_BUFFERS_UPDATE), byref(self._update),
            c_uint32(ctypes.sizeof(_Update)),
        )  # fmt: skip

    def __call__(self) -> None:
        if _syscall(*self._arguments) < 0:
            error = ctypes.get_errno()
            raise NoPinning(
                f"pinning {self._vector.size} bytes: {os.strerror(error)} (RLIMIT_MEMLOCK, ulimit -l, may be too low)"
            )
