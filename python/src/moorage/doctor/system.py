"""The files in which Linux says what it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class System:
    """`root` stands before every path that is read: tests put files there."""

    root: str = ""

    def text(self, path: str) -> str | None:
        """None when there is no such file, or it must not be read."""
        try:
            with open(self.root + path, encoding="utf-8", errors="replace") as file:
                return file.read().strip()
        except (OSError, ValueError):
            return None

    def number(self, path: str) -> int | None:
        return whole(self.text(path))

    def lines(self, path: str) -> list[str]:
        return (self.text(path) or "").splitlines()

    def field(self, path: str, name: str) -> str | None:
        """From a file of lines "name: value"."""
        for line in self.lines(path):
            key, colon, value = line.partition(":")
            if colon and key.strip() == name:
                return value.strip()
        return None

    def kib(self, path: str, name: str) -> int | None:
        """Bytes, of a field in kB."""
        number = whole((self.field(path, name) or "").partition(" ")[0])
        return None if number is None else number << 10


def numbers(version: str) -> tuple[int, ...]:
    """The numbers that a version begins with."""
    found = []
    for part in version.replace("-", ".").replace("+", ".").split("."):
        if not part.isdecimal():
            break
        found.append(int(part))
    return tuple(found)


def amount(n: int) -> str:
    """Bytes for people."""
    value, units = float(n), iter(("B", "KiB", "MiB", "GiB", "TiB"))
    unit = next(units)
    while value >= 1024 and unit != "TiB":
        value, unit = value / 1024, next(units)
    return f"{value:.1f}".replace(".0", "") + f" {unit}"


def whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


@dataclass(frozen=True)
class Limit:
    """Of one control group of this process, or of one above it."""

    file: str
    limit: int
    usage: int | None
    """Without file cache, which is given up first."""


_ENDLESS = 1 << 62  # version 1 writes a number like this for "no limit"


def limits(system: System) -> Iterator[Limit]:
    """Limits of memory of the control groups, of both versions."""
    for version, folder in group_folders(system):
        for name in ("memory.max", "memory.high") if version == 2 else ("memory.limit_in_bytes",):
            limit = system.number(f"{folder}/{name}")
            if limit is not None and limit < _ENDLESS:
                yield Limit(f"{folder}/{name}", limit, _usage(system, folder, version))


def group_folders(system: System) -> Iterator[tuple[int, str]]:
    """Version and folder of the control groups of this process that may limit memory, its own before those above."""
    mounts = dict(_mounts(system))
    for line in system.lines("/proc/self/cgroup"):
        number, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        version = 2 if (number, controllers) == ("0", "") else 1
        if version in mounts and (version == 2 or "memory" in controllers.split(",")):
            for folder in _upwards(*mounts[version], group):
                yield version, folder


def _mounts(system: System) -> Iterator[tuple[int, tuple[str, str]]]:
    """version, (the group that is mounted, where)"""
    for line in system.lines("/proc/self/mountinfo"):
        left, _, right = line.partition(" - ")
        mount, file_system = left.split(), right.split()
        if len(mount) < 6 or len(file_system) < 3:
            continue
        if file_system[0] == "cgroup2":
            yield 2, (mount[3], mount[4])
        elif file_system[0] == "cgroup" and "memory" in file_system[2].split(","):
            yield 1, (mount[3], mount[4])


def _upwards(mounted: str, point: str, group: str) -> Iterator[str]:
    """The folders of a group and of those above it, as far as they can be seen from here."""
    if mounted != "/":
        # In a container the group may lie outside of what is mounted, which then is the nearest that can be seen.
        group = group[len(mounted) :] if (group + "/").startswith(mounted + "/") else ""
    parts = [part for part in group.split("/") if part not in ("", "..")]
    for depth in range(len(parts), -1, -1):
        yield "/".join([point.rstrip("/"), *parts[:depth]])


def _usage(system: System, folder: str, version: int) -> int | None:
    usage = system.number(f"{folder}/" + ("memory.current" if version == 2 else "memory.usage_in_bytes"))
    if usage is None:
        return None
    of_all = "" if version == 2 else "total_"
    cached = (of_all + "inactive_file", of_all + "active_file")
    for line in system.lines(f"{folder}/memory.stat"):
        name, _, value = line.partition(" ")
        usage -= (whole(value) or 0) if name in cached else 0
    return max(usage, 0)
