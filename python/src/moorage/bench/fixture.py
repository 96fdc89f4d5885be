"""A store with objects of one size, and what the floors need: the same bytes outside of it."""

from __future__ import annotations

import ctypes
import mmap
import os
from types import TracebackType
from typing import Any

import moorage

from . import machine

BATCH = 128

_OBJECTS = 3  # the one that is read, the one that is replaced, and the one that replaces it


class Shortage(Exception):
    """This machine cannot measure this now; the text says what is missing."""


def module(name: str) -> Any:
    """torch or numpy, or None."""
    try:
        return __import__(name)
    except ImportError:
        return None


class Carrier:
    """What np.from_dlpack wants to see."""

    __slots__ = ("capsule",)

    def __init__(self, capsule: Any) -> None:
        self.capsule = capsule

    def __dlpack__(self, **_: Any) -> Any:
        return self.capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0


def capsule_of(tensor: Any) -> Any:
    """A capsule as the library of this tensor makes it."""
    try:
        return tensor.__dlpack__(max_version=(1, 1))
    except TypeError:
        return tensor.__dlpack__()


class Fixture:
    """Everything of one size.

    touched  whether the bytes are there, so that they can be copied. Without it nothing but address space is used:
             enough for views, which touch nothing.
    """

    def __init__(self, size: int, *, touched: bool, batch: bool = False) -> None:
        self.size = size
        self.torch, self.numpy = module("torch"), module("numpy")
        objects = BATCH * 2 if batch else _OBJECTS
        outside = BATCH + 2 if batch else 3
        if touched and (objects + outside) * size > machine.available_memory() * 3 // 4:
            raise Shortage(f"needs {(objects + outside) * size >> 20} MiB of memory")
        self.store = moorage.Store(max(objects * size, 1 << 20) + (64 << 20))
        self._memory: list[mmap.mmap] = []
        self.keys = [f"tensor/{i:03d}" for i in range(BATCH)] if batch else ["tensor"]
        self.key = self.keys[0]
        if touched:
            self.source = self.filled()
            self.target = self.filled()
            for key in self.keys:
                self.store.put_tensor(key, self.tensor(self.source)) if self._tensors else self.store.put(
                    key, self.source
                )
        else:
            self.store.adopt(self.key, self.empty())

    @property
    def _tensors(self) -> bool:
        return self.torch is not None or self.numpy is not None

    def filled(self, times: int = 1) -> Any:
        """Memory of so many times this size outside the store, touched."""
        memory = mmap.mmap(-1, times * self.size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._memory.append(memory)
        ctypes.memset(self.address(memory), 1, times * self.size)
        return memory

    @staticmethod
    def address(memory: Any) -> int:
        return ctypes.addressof(ctypes.c_char.from_buffer(memory))

    @property
    def dtype(self) -> Any:
        return self.torch.uint8 if self.torch is not None else "u1"

    def empty(self) -> Any:
        return self.store.empty((self.size,), self.dtype)

    def tensor(self, memory: Any) -> Any:
        """A tensor over such memory; an array when there is no torch."""
        if self.torch is not None:
            return self.torch.frombuffer(memory, dtype=self.torch.uint8)
        return self.array(memory)

    def array(self, memory: Any) -> Any:
        return self.numpy.frombuffer(memory, dtype="u1")

    def copied(self) -> int:
        stats = self.store.stats()
        return stats.bytes_copied_in + stats.bytes_copied_out

    def close(self) -> None:
        self.store.close(wait=True)

    def __enter__(self) -> Fixture:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Windows:
    """Private mappings of a file, made and undone by the kernel's own calls."""

    def __init__(self, size: int) -> None:
        libc = ctypes.CDLL(None)
        self._fd = os.memfd_create("floor")
        os.ftruncate(self._fd, size)
        libc.mmap.restype = ctypes.c_void_p
        self.mmap, self.munmap = libc.mmap, libc.munmap
        self.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
        self.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        flags = mmap.MAP_PRIVATE | getattr(mmap, "MAP_NORESERVE", 0x4000)
        self.arguments = (None, size, mmap.PROT_READ | mmap.PROT_WRITE, flags, self._fd, 0)

    def close(self) -> None:
        os.close(self._fd)
