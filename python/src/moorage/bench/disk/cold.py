"""Takes files out of the page cache, and looks whether they are."""

from __future__ import annotations

import ctypes
import mmap
import os
from ctypes import c_int, c_size_t, c_void_p

_PAGE = mmap.PAGESIZE
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = c_void_p
_libc.mmap.argtypes = [c_void_p, c_size_t, c_int, c_int, c_int, ctypes.c_int64]
_libc.munmap.argtypes = [c_void_p, c_size_t]
_libc.mincore.argtypes = [c_void_p, c_size_t, c_void_p]
_FAILED = c_void_p(-1).value


def drop(fd: int) -> None:
    """What is dirty cannot be dropped: the caller has synced it. A file in memory stays where it is."""
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def resident(fd: int) -> tuple[int, int]:
    """Bytes of a file that lie in the page cache, and all its bytes, in whole pages. It brings none in.

    (The kernel answers only about files that the caller may write to or owns; of others it says that all is there.)
    """
    pages = -(-os.fstat(fd).st_size // _PAGE)
    if pages == 0:
        return 0, 0
    size = pages * _PAGE
    at = _libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
    if at == _FAILED:
        raise OSError(ctypes.get_errno(), f"mmap: {os.strerror(ctypes.get_errno())}")
    try:
        vector = (ctypes.c_uint8 * pages)()
        if _libc.mincore(at, size, vector) != 0:
            raise OSError(ctypes.get_errno(), f"mincore: {os.strerror(ctypes.get_errno())}")
    finally:
        _libc.munmap(at, size)
    # The lowest bit of each says it; the others may be anything.
    return bytes(vector).translate(_LOWEST).count(1) * _PAGE, size


_LOWEST = bytes(i & 1 for i in range(256))
