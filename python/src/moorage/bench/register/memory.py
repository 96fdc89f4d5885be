"""Memory of each kind: small pages, transparent huge pages, hugetlb, and a store's (a memfd)."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

HUGE = 2 << 20
SMALL, THP, HUGETLB, MEMFD = "4 KiB pages", "THP", "hugetlb", "memfd"
KINDS = (SMALL, THP, HUGETLB)
_MAP_HUGETLB = 0x40000
_ADVICE = {SMALL: 15, THP: 14}  # MADV_NOHUGEPAGE, MADV_HUGEPAGE


class Lacking(Exception):
    """This machine has no such memory now."""


class Area:
    """Anonymous memory of a kind that nobody has touched: `address`, `size`."""

    def __init__(self, kind: str, size: int) -> None:
        self.kind, self.size = kind, size
        self._memory = self._map(kind, size)
        if kind in _ADVICE:
            with suppress(OSError):  # a kernel without transparent huge pages
                self._memory.madvise(_ADVICE[kind])
        self._bytes = ctypes.c_char.from_buffer(self._memory)
        self.address = ctypes.addressof(self._bytes)
        if kind == THP:
            self.address += -self.address % HUGE

    @staticmethod
    def _map(kind: str, size: int) -> mmap.mmap:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        try:
            if kind == MEMFD:
                fd = os.memfd_create("moorage bench")
                try:
                    os.ftruncate(fd, size)
                    return mmap.mmap(fd, size)
                finally:
                    os.close(fd)
            whole = size + -size % HUGE
            if kind == HUGETLB:
                return mmap.mmap(-1, whole, flags=flags | _MAP_HUGETLB)
            return mmap.mmap(-1, whole + HUGE if kind == THP else size, flags=flags)
        except OSError as error:
            remedy = "; raise /proc/sys/vm/nr_hugepages" if kind == HUGETLB else ""
            raise Lacking(f"{kind}: {size} bytes: {error.strerror}{remedy}") from None

    def view(self) -> memoryview:
        """All of it; to be released before `close`."""
        start = self.address - ctypes.addressof(self._bytes)
        return memoryview(self._memory)[start : start + self.size]

    def touch(self) -> None:
        ctypes.memset(self.address, 1, self.size)

    def close(self) -> None:
        del self._bytes
        self._memory.close()


@contextmanager
def area(kind: str, size: int, *, touched: bool) -> Iterator[Area]:
    one = Area(kind, size)
    try:
        if touched:
            one.touch()
        yield one
    finally:
        one.close()


def has_huge_pages(one: Area) -> bool:
    """Whether the kernel has really backed an area with transparent huge pages."""
    ours = False
    with open("/proc/self/smaps", encoding="ascii", errors="replace") as lines:
        for line in lines:
            words = line.split()
            if "-" in words[0] and not words[0].endswith(":"):
                begin, end = (int(word, 16) for word in words[0].split("-"))
                ours = begin <= one.address < end
            elif ours and words[0] == "AnonHugePages:":
                return int(words[1]) > 0
    return False


def populate(address: int, size: int) -> None:
    """Has the kernel fill the pages of a range (MADV_POPULATE_WRITE), if it can."""
    ctypes.CDLL(None).madvise(ctypes.c_void_p(address), ctypes.c_size_t(size), ctypes.c_int(23))
