"""What a directory offers to a store's disk."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable

from .. import _abi, _lib
from ..errors import error_for
from .row import NOTE, OK, PROBLEM, Check, Row
from .system import System, amount


def inspect(path: str) -> _abi.DirectoryInfo:
    """Raises IOFailedError when nothing can be written there."""
    library = _lib.load()
    info = _abi.DirectoryInfo(struct_size=ctypes.sizeof(_abi.DirectoryInfo))
    status = library.c.moor_inspect_directory(os.fsencode(path), info)
    if status:
        raise error_for(status, library.last_error())
    return info


def check_of(path: str) -> Check:
    """A check of the directory, for `rows`."""

    def directory(system: System) -> Iterable[Row]:
        try:
            info = inspect(path)
        except Exception as error:
            yield Row(path, str(error), PROBLEM, "cannot be the disk of a store", "give one that can be written to")
            return
        yield from found(path, info)

    return directory


def found(path: str, info: _abi.DirectoryInfo) -> Iterable[Row]:
    device = info.device.decode(errors="replace")
    model = info.model.decode(errors="replace")
    if info.memory_backed:
        yield Row(
            f"{path}: device", f"memory ({info.memory.decode(errors='replace')})", PROBLEM,
            "memory, not storage: nothing outlives the machine, and what is measured here is memory",
            "give a directory on a disk",
        )  # fmt: skip
    else:
        kind = "NVMe" if device.startswith("nvme") else "rotating, or so the driver says" if info.rotational else "disk"
        name = f"{device} ({model})" if model else device
        yield Row(f"{path}: device", f"{name}, {kind}" if device else "not known", OK if device else NOTE,
                  "where the objects go that memory has no room for")  # fmt: skip
    yield Row(
        f"{path}: file system",
        f"{info.file_system.decode(errors='replace')}, {amount(info.free)} of {amount(info.size)} free",
        OK,
        "disk_capacity is 90 % of what is free unless you say otherwise",
    )
    if info.direct:
        align = f"addresses {info.memory_align}, offsets {info.offset_align}" if info.offset_align else "not told"
        means = (
            "accepted, and means nothing in memory"
            if info.memory_backed
            else "reads are one transfer by the device, no copy"
        )
        yield Row(f"{path}: O_DIRECT", f"works; alignment: {align}", OK, means)
    else:
        yield Row(
            f"{path}: O_DIRECT", f"does not work: {info.not_direct.decode(errors='replace')}", NOTE,
            "every read and write is copied once more, through the page cache", "use ext4 or xfs on a disk",
        )  # fmt: skip
