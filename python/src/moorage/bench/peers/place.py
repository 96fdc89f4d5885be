"""Where the peers that keep files keep them: in memory if it can be had."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass

_MEMORY = ("tmpfs", "ramfs")


@dataclass(frozen=True)
class Place:
    folder: str
    text: str


def place_for(size: int) -> Place:
    """A folder with room for so many bytes, on tmpfs if there is one, otherwise on disk and in the page cache."""
    usual = tempfile.gettempdir()
    for folder in (usual, "/dev/shm"):
        kind = file_system(folder)
        if kind in _MEMORY and os.access(folder, os.W_OK) and _free(folder) >= size:
            return Place(folder, f"files in {folder}, which is memory ({kind})")
    return Place(usual, f"files in {usual} ({file_system(usual)}), in the page cache")


def _free(folder: str) -> int:
    stat = os.statvfs(folder)
    return stat.f_bavail * stat.f_frsize


def file_system(folder: str) -> str:
    """The kind of file system that a folder is on."""
    path, found, longest = os.path.realpath(folder), "unknown", -1
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="replace") as mounts:
            for line in mounts:
                _, point, kind, *_ = line.split()
                inside = path == point or path.startswith(point.rstrip("/") + "/")
                if inside and len(point) >= longest:
                    found, longest = kind, len(point)
    except OSError:
        pass
    return found
