"""Exceptions: one class per status of the library, all of them a `MoorageError`.

Where Python has a class of its own for the case (`KeyError`, `ValueError`, `MemoryError` ...), the exception is one of
those too, so that code which knows nothing of Moorage does the right thing.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "AlreadyAdoptedError",
    "BadHandleError",
    "BusyError",
    "CancelledError",
    "CapacityError",
    "ClosedError",
    "ExistsError",
    "ForkedError",
    "FormatError",
    "HugePagesError",
    "InternalError",
    "InvalidArgumentError",
    "IOFailedError",
    "MoorageError",
    "NoDeviceError",
    "NoMemoryError",
    "NotFoundError",
    "ReadOnlyError",
    "SystemFailureError",
    "TooSmallError",
    "UnsupportedError",
    "WaitTimeoutError",
]


class MoorageError(Exception):
    """Anything that the store refuses or cannot do. `status` is the number of the C library, 0 if it has none."""

    status: ClassVar[int] = 0


class InvalidArgumentError(MoorageError, ValueError):
    """An argument is wrong; the text names it."""

    status = -1


class BadHandleError(MoorageError, ValueError):
    """A handle that is zero, stale or of another kind."""

    status = -2


class ClosedError(BadHandleError):
    """The store was closed. Views that were taken before stay valid."""


class ForkedError(MoorageError, RuntimeError):
    """The store was used in a forked child. Views taken before the fork stay readable there, and a snapshot can be
    read; for anything else start processes with the "spawn" or "forkserver" method.
    """

    status = -3


class NotFoundError(MoorageError, KeyError):
    """No object under this key."""

    status = -4

    def __str__(self) -> str:
        # KeyError shows the repr of its argument; this is a sentence.
        return str(self.args[0]) if self.args else ""


class ExistsError(MoorageError, FileExistsError):
    """The key is taken, and `if_exists="raise"` was asked for."""

    status = -5


class CapacityError(MoorageError, MemoryError):
    """The store is full; the text says how much is free, borrowed and pinned."""

    status = -6


class NoMemoryError(MoorageError, MemoryError):
    """The system gives no more memory, or a memory limit is near."""

    status = -7


class BusyError(MoorageError, BlockingIOError):
    """The object is viewed by somebody, or held by a forked child, and cannot be taken."""

    status = -8


class TooSmallError(MoorageError, ValueError):
    """A destination is too small; nothing was written to it."""

    status = -9


class ReadOnlyError(MoorageError, TypeError):
    """A destination is read-only; nothing was written to it."""

    status = -10


class UnsupportedError(MoorageError, TypeError):
    """A dtype, device or layout that a store does not hold; the text says what to do."""

    status = -11


class HugePagesError(MoorageError, MemoryError):
    """`hugepages="require"`, and the system has too few."""

    status = -12


class AlreadyAdoptedError(MoorageError, ValueError):
    """This memory has been adopted before."""

    status = -13


class CancelledError(MoorageError, InterruptedError):
    """The store was closed during a long call, or `progress` stopped it."""

    status = -14


class IOFailedError(MoorageError, OSError):
    """A file could not be read or written."""

    status = -15


class FormatError(MoorageError, ValueError):
    """A file is damaged or hostile, nothing of it was stored; or the manifest of a state dict is damaged."""

    status = -16


class SystemFailureError(MoorageError, OSError):
    """A system call failed; the text names it."""

    status = -17


class InternalError(MoorageError, RuntimeError):
    """A bug in Moorage. Please report it with the text."""

    status = -18


class WaitTimeoutError(MoorageError, TimeoutError):
    """What was waited for did not come in time; the text names a key that is missing."""

    status = -19


class NoDeviceError(MoorageError, OSError):
    """There is no such network device, or it cannot be used; the text says what is missing."""

    status = -20


BY_STATUS: dict[int, type[MoorageError]] = {kind.status: kind for kind in MoorageError.__subclasses__() if kind.status}

_FORKED = (
    "a store was used in a forked child, which has nothing of it but the views and snapshots that were taken before: "
    "take a snapshot before the fork (store.snapshot()) and read from that, or "
    'start worker processes with the "spawn" or "forkserver" method, for example '
    'multiprocessing.set_start_method("forkserver"), and open a store there'
)


def error_for(status: int, text: str) -> MoorageError:
    """The exception for a negative status. A store has its own handle, so a bad one means that it has been closed."""
    if status == BadHandleError.status:
        return ClosedError("the store is closed")
    kind = BY_STATUS.get(status)
    if kind is None:
        return MoorageError(f"unknown status {status}: {text}")
    return kind(_FORKED if kind is ForkedError else text)
