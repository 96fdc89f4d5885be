"""Tiers: an object goes to the fastest that may hold it; what was not used for longest goes one down, and in the end
out of the last. Nothing comes back up.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Callable

from .lane import Bytes, Lane
from .paths.memory import Memory
from .paths.path import Path, Stamps

Timed = Callable[[str, str, "Tier", "Entry", Lane, Callable[[], Stamps]], None]
"""Times an operation and records it: phase, kind, tier, entry, lane, and what does it."""


class NoRoom(Exception):
    """Nothing that could leave is left, and the object does not fit."""


@dataclass
class Entry:
    key: str
    nbytes: int
    tokens: int
    tier: Tier
    readers: int = 0
    moving: bool = False
    gone: bool = False
    """Its name means another object, or none; its bytes go with the last reader."""


@dataclass
class Tier:
    name: str
    path: Path
    capacity: int
    limit: int
    """From here on objects leave."""
    largest: int
    """Objects beyond it are stored one down."""
    used: int = 0
    entries: OrderedDict[str, Entry] = field(default_factory=OrderedDict)
    """The one that was not used for longest first."""


class Cache:
    """Safe for concurrent use. No I/O happens under the lock."""

    def __init__(self, tiers: list[Tier]) -> None:
        self.tiers = tiers
        self.mu = threading.Condition()
        self._index: dict[str, Entry] = {}
        self._coming: set[str] = set()
        self._versions = 0
        self.evicted = 0
        self.demoted = 0

    def pin(self, key: str) -> Entry | None:
        """An entry that stays readable until `unpin`; None when there is no such object."""
        with self.mu:
            entry = self._index.get(key)
            if entry is not None:
                entry.readers += 1
                if not entry.moving:
                    entry.tier.entries.move_to_end(entry.key)
            return entry

    def unpin(self, entry: Entry) -> None:
        with self.mu:
            entry.readers -= 1
            if entry.readers:
                return
            self.mu.notify_all()
            if not entry.gone:
                return
        self._drop(entry)

    def has(self, key: str) -> bool:
        with self.mu:
            return key in self._index

    def write(self, key: str, data: Bytes, tokens: int, phase: str, lane: Lane, timed: Timed) -> bool:
        """False when another is writing this key at this moment."""
        with self.mu:
            if key in self._coming:
                return False
            self._coming.add(key)
        try:
            self._replace(key)
            tier = self._first_with_room(len(data))
            self._make_room(tier, len(data), lane, timed)
            entry = Entry(key, len(data), tokens, tier)
            try:
                timed(phase, "write", tier, entry, lane, lambda: tier.path.write(key, data, tokens, lane))
            except BaseException:
                with self.mu:
                    tier.used -= len(data)
                raise
            with self.mu:
                tier.entries[key] = self._index[key] = entry
                self.mu.notify_all()
            return True
        finally:
            with self.mu:
                self._coming.discard(key)

    def _replace(self, key: str) -> None:
        with self.mu:
            while True:
                entry = self._index.get(key)
                if entry is None:
                    return
                if not entry.moving and not entry.readers:
                    break
                self.mu.wait()
            self._unlink(entry)
        self._drop(entry)

    def _unlink(self, entry: Entry) -> None:
        del self._index[entry.key]
        del entry.tier.entries[entry.key]
        entry.gone = True

    def _drop(self, entry: Entry) -> None:
        entry.tier.path.delete(entry.key)
        with self.mu:
            entry.tier.used -= entry.nbytes
            self.mu.notify_all()

    def _first_with_room(self, nbytes: int) -> Tier:
        for tier in self.tiers[:-1]:
            if nbytes <= tier.largest:
                return tier
        return self.tiers[-1]

    def _make_room(self, tier: Tier, nbytes: int, lane: Lane, timed: Timed) -> None:
        """Takes the room when there is some, after so many others had to leave."""
        if nbytes > tier.capacity:
            raise NoRoom(f"an object of {nbytes} bytes is larger than the {tier.name} tier of {tier.capacity}")
        limit = max(tier.limit, nbytes)  # alone it may fill more than others together
        while True:
            with self.mu:
                if tier.used + nbytes <= limit:
                    tier.used += nbytes
                    return
                victim = next((one for one in tier.entries.values() if not one.readers and not one.moving), None)
                if victim is None:
                    if not self.mu.wait(timeout=60):
                        raise NoRoom(f"the {tier.name} tier is full of objects that are being read")
                    continue
                if tier is self.tiers[-1]:
                    self._unlink(victim)
                    self.evicted += 1
                else:
                    victim.moving = True
            if victim.gone:
                self._drop(victim)
            else:
                self._demote(victim, lane, timed)

    def _demote(self, entry: Entry, lane: Lane, timed: Timed) -> None:
        """Down by one. It stays readable where it is until it is readable there."""
        above = entry.tier
        at = self.tiers.index(above) + 1
        while at < len(self.tiers) - 1 and entry.nbytes > self.tiers[at].largest:
            at += 1
        below = self.tiers[at]
        assert isinstance(above.path, Memory)
        data = above.path.held(entry.key)
        moved = Entry(entry.key, entry.nbytes, entry.tokens, below)
        try:
            self._make_room(below, entry.nbytes, lane, timed)
            timed("evict", "write", below, moved, lane, lambda: below.path.write(moved.key, data, moved.tokens, lane))
        except BaseException:
            with self.mu:
                entry.moving = False
                self.mu.notify_all()
            raise
        with self.mu:
            while entry.readers:
                self.mu.wait()
            above.path.delete(entry.key)
            above.used -= entry.nbytes
            del above.entries[entry.key]
            below.entries[entry.key] = self._index[entry.key] = moved
            self.demoted += 1
            self.mu.notify_all()
