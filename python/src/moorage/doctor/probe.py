"""Asks the kernel and libibverbs directly. A program of its own: a seccomp filter may kill who makes a call that it
does not know, and what a driver does at its first use nobody can say.

    python probe.py io_uring | memfd | rdma | registering DEVICE      prints JSON
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import sys
from pathlib import Path
from typing import Any

_IO_URING_SETUP = 425  # on every architecture that Linux gained or kept since
_PARAMS = 120  # bytes of struct io_uring_params
_NAME = 64


def io_uring() -> dict[str, Any]:
    libc = ctypes.CDLL(None, use_errno=True)
    params = ctypes.create_string_buffer(_PARAMS)
    fd = libc.syscall(ctypes.c_long(_IO_URING_SETUP), ctypes.c_uint(2), params)
    if fd < 0:
        return {"errno": ctypes.get_errno()}
    os.close(fd)
    return {"errno": 0, "features": int.from_bytes(params.raw[20:24], sys.byteorder)}


def memfd() -> dict[str, Any]:
    """A memfd, grown, then sealed against growing and shrinking, as a store makes it."""
    import fcntl

    libc = ctypes.CDLL(None, use_errno=True)
    create = getattr(libc, "memfd_create", None)
    if create is None:
        return {"step": "memfd_create", "errno": errno.ENOSYS}
    fd = create(b"moorage-doctor", ctypes.c_uint(3))  # close-on-exec, sealing allowed
    if fd < 0:
        return {"step": "memfd_create", "errno": ctypes.get_errno()}
    try:
        os.ftruncate(fd, 1 << 16)
        fcntl.fcntl(fd, 1033, 0x2 | 0x4)  # F_ADD_SEALS: shrink, grow
    except OSError as error:
        return {"step": "sealing", "errno": error.errno}
    finally:
        os.close(fd)
    return {"errno": 0}


def rdma() -> dict[str, Any]:
    try:
        verbs = ctypes.CDLL(os.environ.get("MOORAGE_LIBIBVERBS") or "libibverbs.so.1", use_errno=True)
    except OSError as error:
        return {"missing": str(error)}
    list_devices: Any = verbs.ibv_get_device_list
    name_of: Any = verbs.ibv_get_device_name
    list_devices.restype = ctypes.POINTER(ctypes.c_void_p)
    name_of.restype = ctypes.c_char_p
    name_of.argtypes = [ctypes.c_void_p]
    count = ctypes.c_int(0)
    found = list_devices(ctypes.byref(count))
    if not found:
        return {"errno": ctypes.get_errno()}
    names = [(name_of(found[i]) or b"?").decode(errors="replace") for i in range(count.value)]
    verbs.ibv_free_device_list(found)
    return {"errno": 0, "devices": names}


def registering(name: str) -> dict[str, Any]:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from moorage import devices, errors

    try:
        return {"text": devices.explain(name)}
    except (ImportError, errors.MoorageError) as error:
        return {"failed": str(error)}


if __name__ == "__main__":
    probes: dict[str, Any] = {"io_uring": io_uring, "memfd": memfd, "rdma": rdma, "registering": registering}
    print(json.dumps(probes[sys.argv[1]](*sys.argv[2:])))
