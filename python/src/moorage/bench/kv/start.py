"""When a window begins: at once, or together with those of other processes."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from time import monotonic_ns

_READY = b"r"
_LEAD = 100_000_000
"""Nanoseconds from the word to the beginning: it has reached everybody by then."""


class Alone(Exception):
    """Another of those that were to begin together has ended."""


class Start:
    """Asked before each window; answers with the moment of CLOCK_MONOTONIC at which it begins, in nanoseconds."""

    def moment(self) -> int:
        return monotonic_ns()

    def close(self) -> None:
        pass


class Together(Start):
    """One of several processes: says that it is ready, and waits for the word that all are."""

    def __init__(self, fd: int) -> None:
        """Raises OSError when it is no socket."""
        self._socket = socket.socket(fileno=fd)

    def moment(self) -> int:
        try:
            self._socket.sendall(_READY)
            said = self._socket.recv(8, socket.MSG_WAITALL)
        except OSError as error:
            raise Alone(f"the start of all ranks: {error.strerror}") from None
        if len(said) < 8:
            raise Alone("another rank has ended before the window began")
        return int.from_bytes(said, "little")

    def close(self) -> None:
        self._socket.close()


def give(ranks: Sequence[socket.socket]) -> bool:
    """Waits until all are ready, and says when they begin; False when one of them has ended instead."""
    for one in ranks:
        if one.recv(1) != _READY:
            return False
    begin = (monotonic_ns() + _LEAD).to_bytes(8, "little")
    for one in ranks:
        try:
            one.sendall(begin)
        except OSError:
            return False
    return True


def wait(moment: int) -> None:
    """Until then."""
    while True:
        left = moment - monotonic_ns()
        if left <= 0:
            return
        time.sleep(left / 1e9)
