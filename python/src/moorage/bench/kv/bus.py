"""What went over the memory bus, by the memory controllers' own counters, where the kernel has them and lets us."""

from __future__ import annotations

import contextlib
import ctypes
import glob
import os
import platform
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Callable, NamedTuple, Protocol

SYS = "/sys/bus/event_source/devices"
_PARANOID = "/proc/sys/kernel/perf_event_paranoid"
_CALLS = {"x86_64": 298, "aarch64": 241, "riscv64": 241}
_ALIASES = (("cas_count_read", "cas_count_write"), ("data_read", "data_write"), ("data_reads", "data_writes"))
"""Names that drivers of memory controllers give to the events."""
_WITHOUT_ALIASES = {"amd_umc": ("event=0x0a,rdwrmask=0x1", "event=0x0a,rdwrmask=0x2", 64.0)}
"""By the name's beginning: events that a driver does not name, and the bytes of each count."""
_UNITS = {"MiB": float(1 << 20), "Bytes": 1.0}


class Lacking(Exception):
    """There is no such counter here, or it is not ours to read; the text says why."""


class Moved(NamedTuple):
    """Bytes, of everybody on the machine."""

    read: int
    written: int

    def since(self, before: Moved) -> Moved:
        return Moved(self.read - before.read, self.written - before.written)


@dataclass(frozen=True)
class Event:
    """Of one memory controller, or of those of a socket."""

    pmu: int
    config: int
    config1: int
    cpu: int
    """Where it must be asked for."""
    write: bool
    bytes_each: float


class Counter(Protocol):
    def read(self) -> float:
        """Since it was opened; scaled where it had to share its place."""

    def close(self) -> None: ...


# ---- which ----


def events(sys: str = SYS) -> list[Event]:
    """Of all memory controllers, under one of their names: what is counted twice is not added up. Lacking where the
    kernel shows none.
    """
    folders = sorted(glob.glob(os.path.join(sys, "*")))
    for names in _ALIASES:
        found = [event for folder in folders for event in _aliases(folder, names)]
        if found:
            return found
    found = [event for folder in folders for event in _unnamed(folder)]
    if not found:
        there = ", ".join(map(os.path.basename, folders)) or "nothing"
        raise Lacking(f"the kernel shows no counter of a memory controller here ({sys} has {there})")
    return found


def _aliases(folder: str, names: Sequence[str]) -> Iterator[Event]:
    pair = [_named(folder, name) for name in names]
    if all(pair):
        for write, some in enumerate(pair):
            for name in some:
                text = _text(os.path.join(folder, "events", name))
                yield from _encoded(folder, text, bool(write), _bytes_each(folder, name))


def _unnamed(folder: str) -> Iterator[Event]:
    for beginning, (read, written, each) in _WITHOUT_ALIASES.items():
        if os.path.basename(folder).startswith(beginning):
            yield from _encoded(folder, read, False, each)
            yield from _encoded(folder, written, True, each)


def _named(folder: str, name: str) -> list[str]:
    """The event, or else its parts: a controller may have several schedulers."""
    if os.path.exists(os.path.join(folder, "events", name)):
        return [name]
    parts = glob.glob(os.path.join(folder, "events", name + "_*"))
    return sorted(os.path.basename(path) for path in parts if "." not in os.path.basename(path))


def _bytes_each(folder: str, name: str) -> float:
    scale = _text(os.path.join(folder, "events", name + ".scale"))
    unit = _text(os.path.join(folder, "events", name + ".unit"))
    if unit and unit not in _UNITS:
        raise Lacking(f"{folder} counts {name} in {unit}, which is not known here")
    return float(scale or 64) * _UNITS.get(unit, 1.0)


def _encoded(folder: str, text: str, write: bool, each: float) -> Iterator[Event]:
    """One for each processor that answers for a part of the machine."""
    words = {"config": 0, "config1": 0}
    for term in text.split(","):
        name, _, value = term.partition("=")
        place = _text(os.path.join(folder, "format", name)) or ("config:0-7" if name == "event" else "")
        word, _, bits = place.partition(":")
        if word not in words:
            raise Lacking(f"{folder} has no place for {term} of its event {text}")
        words[word] |= _spread(int(value or "1", 0), bits)
    kind = _text(os.path.join(folder, "type"))
    if not kind.isdigit():
        raise Lacking(f"{folder} has no type")
    for cpu in _numbers(_text(os.path.join(folder, "cpumask")) or "0"):
        yield Event(int(kind), words["config"], words["config1"], cpu, write, each)


def _spread(value: int, bits: str) -> int:
    """The value's bits at these places, such as 0-7,32-35."""
    return sum((value >> at & 1) << place for at, place in enumerate(_numbers(bits)))


def _numbers(text: str) -> Iterator[int]:
    for part in text.split(","):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def _text(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


# ---- reading them ----


class Perf:
    """A counter of the kernel's perf_event_open, for the whole machine."""

    def __init__(self, event: Event) -> None:
        call = _CALLS.get(platform.machine())
        if call is None:
            raise Lacking(f"perf_event_open is not known on {platform.machine()}")
        # type, size, config, period, sample_type, read_format (time enabled and running), flags, wakeup, bp, config1
        attributes = struct.pack("=IIQQQQQIIQ", event.pmu, 64, event.config, 0, 0, 3, 0, 0, 0, event.config1)
        libc = ctypes.CDLL(None, use_errno=True)
        fd = libc.syscall(
            ctypes.c_long(call), ctypes.c_char_p(attributes), ctypes.c_int(-1), ctypes.c_int(event.cpu),
            ctypes.c_int(-1), ctypes.c_ulong(8),
        )  # fmt: skip
        if fd < 0:
            why = os.strerror(ctypes.get_errno())
            raise Lacking(
                f"perf_event_open: {why} ({_PARANOID} is {_text(_PARANOID) or 'not readable'}; it takes 0, or "
                "CAP_PERFMON)"
            )
        self._fd = int(fd)

    def read(self) -> float:
        count, enabled, running = struct.unpack("=QQQ", os.read(self._fd, 24))
        return count * enabled / running if running else 0.0

    def close(self) -> None:
        os.close(self._fd)


class Bus:
    """All counters of the machine, open."""

    def __init__(self, sys: str = SYS, opened: Callable[[Event], Counter] = Perf) -> None:
        """Lacking when one of them cannot be had."""
        self._counters: list[tuple[Event, Counter]] = []
        try:
            for event in events(sys):
                self._counters.append((event, opened(event)))
        except BaseException:
            self.close()
            raise

    def now(self) -> Moved:
        sums = [0.0, 0.0]
        for event, counter in self._counters:
            sums[event.write] += counter.read() * event.bytes_each
        return Moved(round(sums[0]), round(sums[1]))

    def close(self) -> None:
        for _, counter in self._counters:
            with contextlib.suppress(OSError):
                counter.close()
        self._counters = []


class Watch:
    """The bus, or why it cannot be watched."""

    def __init__(self) -> None:
        self._bus: Bus | None = None
        self.lacking: str | None = None
        try:
            self._bus = Bus()
        except Lacking as error:
            self.lacking = str(error)

    def now(self) -> Moved | None:
        return self._bus.now() if self._bus is not None else None

    def close(self) -> None:
        if self._bus is not None:
            self._bus.close()
