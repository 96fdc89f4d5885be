"""What the measurements need of whoever pins memory: the kernel by itself (ring.py), or a network card (verbs.py)."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol


class NoPinning(Exception):
    """Nothing can be pinned in the way that was asked for; the text says what was tried."""


class Change(Protocol):
    """A call with its arguments made, so that little else is in the time. Raises NoPinning."""

    @property
    def address(self) -> int: ...
    @property
    def size(self) -> int: ...
    def __call__(self) -> None: ...


class Table(Protocol):
    """Places for pinned ranges. Any thread may use one, one at a time for each place."""

    def change(self, slot: int, address: int, size: int) -> Change:
        """A call that pins memory in a place."""

    def emptying(self, slot: int) -> Change:
        """A call that unpins what is in a place."""

    def __enter__(self) -> Table: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Pinner(Protocol):
    """Makes tables: several of one card share the card."""

    @property
    def how(self) -> str:
        """What pins, in a few words."""

    @property
    def longest(self) -> int:
        """Bytes of one range at most."""

    def table(self) -> Table: ...
    def nothing(self) -> None:
        """The cheapest call that goes the same way."""
