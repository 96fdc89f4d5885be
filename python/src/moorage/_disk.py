"""The options of a store's disk."""

from __future__ import annotations

import ctypes
import os
from typing import Any

from . import _abi, _parse
from .errors import InvalidArgumentError


def options(
    disk: Any, capacity: Any, durability: Any, verify: Any, promote: Any, write: Any, read_path: Any, trace: Any
) -> Any:
    """The options of a disk as C wants them, None without one. All are checked in either case."""
    options = _abi.DiskOptions(
        struct_size=ctypes.sizeof(_abi.DiskOptions),
        durability=_parse.choice(durability, "durability", _abi.DURABILITY),
        capacity=_parse.size(capacity, "disk_capacity"),
        verify=_parse.choice(verify, "verify", _abi.VERIFY),
        promote=_parse.choice(promote, "promote", _abi.PROMOTE),
        write=_parse.choice(write, "write", _abi.WRITE),
        read_path=_parse.choice(read_path, "read_path", _abi.READ_PATH),
    )
    if disk is None:
        if capacity is not None or trace is not None:
            raise InvalidArgumentError("disk_capacity and trace need disk, the directory")
        return None
    options.path = _path(disk, "disk", "a directory")
    if trace is not None:
        options.trace = _path(trace, "trace", "a file")
    return options


def _path(value: Any, name: str, what: str) -> bytes:
    path = os.fsencode(value)
    if not path or b"\0" in path:
        raise InvalidArgumentError(f"{name} must be the path of {what}, not {value!r}")
    return os.path.abspath(path)
