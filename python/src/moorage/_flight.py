"""Jobs that are not acknowledged, and the memory that the library is at work with meanwhile."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import itertools
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Callable

from . import _abi

if TYPE_CHECKING:
    import asyncio

    from ._lib import Library
    from .job_queue import JobQueue

_BAD_HANDLE = _abi.STATUS["MOOR_ERR_BAD_HANDLE"]
_AT_EXIT = 1.0  # seconds


class Flight:
    """A job that is not acknowledged. `landed` gives back what was lent to it, and is called once when it is.

    The handle stays open meanwhile, unless nothing is lent.
    """

    __slots__ = ("handle", "landed", "library", "orphan", "queue", "waiters")

    def __init__(self, library: Library, queue: JobQueue | None, landed: Callable[[], None]) -> None:
        self.library = library
        self.queue = queue  # kept, if it is a store's
        self.landed = landed
        self.handle = 0
        self.orphan = False  # nobody has its Job any more
        self.waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []

    def wake(self) -> None:
        for loop, future in list(self.waiters):
            with contextlib.suppress(RuntimeError):  # that loop is closed
                loop.call_soon_threadsafe(_wake, future)


# By tag. Whatever happens to Jobs, queues and stores: what is in here is not freed.
flights: dict[int, Flight] = {}
strays: list[int] = []  # tags of those that no queue will tell of
_tags = itertools.count(1)


def take_off(library: Library, queue: JobQueue | None, landed: Callable[[], None]) -> tuple[int, Flight]:
    """Before a job is submitted: gives the tag to submit it with. `land` if that fails. queue: see Flight."""
    for stray in strays[:1]:
        if has_landed(stray):
            with contextlib.suppress(ValueError):  # another thread was quicker
                strays.remove(stray)
    tag = next(_tags)
    if tag == 1:
        atexit.register(_end)
    flight = flights[tag] = Flight(library, queue, landed)
    return tag, flight


def land(tag: int) -> None:
    """The job of this tag was acknowledged."""
    flight = flights.pop(tag, None)
    if flight is None:
        return
    try:
        flight.landed()
    finally:
        if flight.orphan:
            flight.library.c.moor_job_close(flight.handle)
        flight.wake()  # who comes to wait after the pop looks again


def has_landed(tag: int, nanoseconds: int = 0) -> bool:
    """Asks the job itself, and waits for it."""
    flight = flights.get(tag)
    if flight is None:
        return True
    if not flight.handle:
        return False  # another thread is just submitting it
    status = flight.library.c.moor_job_wait(flight.handle, nanoseconds)
    if status in (_abi.OK, _BAD_HANDLE):
        land(tag)
        return True
    return False


def of_queue(queue: JobQueue) -> list[int]:
    """Tags of the jobs that are not acknowledged, as far as we know, and that a store's queue tells of."""
    return [tag for tag, flight in list(flights.items()) if flight.queue is queue]


def forget(tags: Iterable[int]) -> None:
    """Nobody hears of these any more: later jobs look after them."""
    for tag in tags:
        flight = flights.get(tag)
        if flight is not None:
            strays.append(tag)
            flight.wake()


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _end() -> None:
    """The interpreter is about to free everything. What the library may still be at work with then stays for ever."""
    for flight in list(flights.values()):
        flight.library.c.moor_job_cancel(flight.handle)
    end = time.monotonic() + _AT_EXIT
    for tag in list(flights):
        left = max(end - time.monotonic(), 0)
        if not has_landed(tag, int(left * 1e9)) and tag in flights:
            _keep_for_ever(flights[tag])


def _keep_for_ever(thing: Any) -> None:
    with contextlib.suppress(AttributeError):  # a Python without reference counts frees nothing at its end
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
