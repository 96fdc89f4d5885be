"""What a directory lies on: file system, device by its real name, or memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

MEMORY = "memory, not storage"
_IN_MEMORY = ("tmpfs", "ramfs", "hugetlbfs", "devtmpfs")
_RAM_DISKS = ("ram", "zram", "pmem")


@dataclass(frozen=True)
class Place:
    """`memory`: what is read from here has never left the machine's memory, whatever the path is called."""

    directory: str
    filesystem: str
    options: str
    """Of the mount."""
    device: str
    """Its name below /sys/block; empty where no device is behind it."""
    parts: tuple[str, ...]
    """The devices that it is made of, itself where it is not made of others."""
    model: str
    memory: bool

    @property
    def title(self) -> str:
        """NVMe is said of nvme devices only."""
        if self.memory:
            return MEMORY
        if not self.device:
            return f"{self.filesystem}, no block device"
        made = "" if self.parts == (self.device,) else f" on {', '.join(self.parts)}"
        kind = "NVMe " if all(part.startswith("nvme") for part in self.parts) else ""
        return f"{kind}{self.device}{made}{f' ({self.model})' if self.model else ''}"


@dataclass(frozen=True)
class _Mount:
    device: str
    point: str
    options: str
    filesystem: str
    source: str
    details: str


class System:
    """Where the kernel says these things; tests have others."""

    def __init__(self, sys: str = "/sys", mounts: str = "/proc/self/mountinfo") -> None:
        self.sys, self.mounts = sys, mounts

    def place(self, directory: str) -> Place:
        """Raises OSError where there is no such directory."""
        os.stat(directory)
        mount = self._mount_of(os.path.realpath(directory))
        if mount is None:
            return Place(directory, "unknown", "", "", (), "", memory=False)
        device = self._device(mount)
        parts = tuple(self._parts(device)) if device else ()
        memory = self._in_memory(mount) or bool(parts) and all(part.startswith(_RAM_DISKS) for part in parts)
        return Place(
            directory, mount.filesystem, mount.options, device, parts, self._model(parts) if parts else "", memory
        )

    def _mounts(self) -> Iterator[_Mount]:
        with open(self.mounts, encoding="utf-8", errors="surrogateescape") as lines:
            for line in lines:
                left, _, right = line.partition(" - ")
                words, more = left.split(), right.split()
                if len(words) >= 6 and len(more) >= 2:
                    details = more[2] if len(more) > 2 else ""
                    yield _Mount(words[2], _unescape(words[4]), words[5], more[0], _unescape(more[1]), details)

    def _mount_of(self, path: str) -> _Mount | None:
        """The last of those that reach deepest: a later mount hides an earlier one."""
        found = None
        for mount in self._mounts():
            point = mount.point.rstrip("/")
            if (path == point or path.startswith(point + "/")) and (
                found is None or len(mount.point) >= len(found.point)
            ):
                found = mount
        return found

    def _in_memory(self, mount: _Mount) -> bool:
        if mount.filesystem != "overlay":
            return mount.filesystem in _IN_MEMORY
        upper = next((word[9:] for word in mount.details.split(",") if word.startswith("upperdir=")), None)
        below = self._mount_of(_unescape(upper)) if upper else None
        return below is not None and below != mount and self._in_memory(below)

    def _device(self, mount: _Mount) -> str:
        number = mount.device
        if number.startswith("0:") and mount.source.startswith("/dev/"):  # btrfs has numbers of its own
            try:
                made = os.stat(mount.source).st_rdev
            except OSError:
                return ""
            number = f"{os.major(made)}:{os.minor(made)}"
        path = os.path.realpath(os.path.join(self.sys, "dev/block", number))
        if not os.path.exists(path):
            return ""
        if os.path.exists(os.path.join(path, "partition")):
            path = os.path.dirname(path)
        return os.path.basename(path)

    def _parts(self, device: str) -> Iterator[str]:
        try:
            below = sorted(os.listdir(os.path.join(self.sys, "block", device, "slaves")))
        except OSError:
            below = []
        if not below:
            yield device
        for one in below:
            path = os.path.realpath(os.path.join(self.sys, "class/block", one))
            whole = os.path.dirname(path) if os.path.exists(os.path.join(path, "partition")) else path
            yield from self._parts(os.path.basename(whole))

    def _model(self, parts: tuple[str, ...]) -> str:
        models = []
        for part in parts:
            try:
                with open(os.path.join(self.sys, "block", part, "device/model"), encoding="ascii") as file:
                    models.append(file.read().strip())
            except (OSError, ValueError):
                pass
        return ", ".join(dict.fromkeys(models))

    def counters(self, device: str) -> Counters | None:
        """What the device has done so far; None where the kernel does not say."""
        try:
            with open(os.path.join(self.sys, "block", device, "stat"), encoding="ascii") as file:
                words = [int(word) for word in file.read().split()]
        except (OSError, ValueError):
            return None
        if not device or len(words) < 11:
            return None
        discards, sectors = (words[11], words[13]) if len(words) >= 15 else (0, 0)
        return Counters(words[0], words[2] * 512, words[3], words[6] * 512, words[10], discards, sectors * 512)


@dataclass(frozen=True)
class Counters:
    """Of a block device, for everybody who uses it."""

    reads: int
    """Requests completed."""
    nbytes: int
    """Bytes read: its sectors are 512 bytes, whatever the device has."""
    read_ms: int
    """Milliseconds from submission to completion, added up over the reads."""
    written: int
    """Bytes written. Who measures reading writes nothing: this is somebody else's."""
    queue_ms: int
    """The same over all requests: divided by the time that passed, how many were in the queue."""
    discards: int = 0
    """Requests to forget what was removed, where the kernel counts them,"""
    discarded: int = 0
    """and their bytes."""

    def since(self, before: Counters) -> Counters:
        return Counters(
            self.reads - before.reads, self.nbytes - before.nbytes, self.read_ms - before.read_ms,
            self.written - before.written, self.queue_ms - before.queue_ms,
            self.discards - before.discards, self.discarded - before.discarded,
        )  # fmt: skip


def _unescape(text: str) -> str:
    """Blanks and the like stand as \\040 in mountinfo."""
    for code in ("040", "011", "012", "134"):
        text = text.replace("\\" + code, chr(int(code, 8)))
    return text
