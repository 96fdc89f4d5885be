"""`Job`: work on keys of a store that goes on while nobody waits for it."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Callable, Generic, NamedTuple, NoReturn, TypeVar

from . import _abi, _flight, _parse
from ._lib import Library
from .errors import CancelledError, ClosedError, MoorageError, NotFoundError, WaitTimeoutError, error_for

if TYPE_CHECKING:
    import asyncio

    from .job_queue import JobQueue

__all__ = ["Job", "Timing"]

T = TypeVar("T")

_BAD_HANDLE = _abi.STATUS["MOOR_ERR_BAD_HANDLE"]
_PIECE = 0.05  # seconds between two looks at signals


class Timing(NamedTuple):
    """How long one key took, from `Job.timings`, in nanoseconds."""

    wait_ns: int
    """From the submission until it was begun, or cancelled. In a store with a disk it is a part of the key's record in
    `Store.timings`, too."""
    run_ns: int
    """From then until it was finished."""


class Job(Generic[T]):
    """Work on keys of a store that goes on while nobody waits for it, from `Store.submit_get` and its like.

        job = store.submit_get(keys)
        ...
        tensors = job.results()          # waits for it
        tensors = await job              # the same, and other coroutines go on meanwhile

    The work is done by threads of the store, a few keys at a time, in no promised order. Sources and destinations are
    kept alive, and must be left alone, until the job is `done`. `cancel` ends what was not begun; `done` is the
    acknowledgement that the rest has ended, too. A task that awaits it and is cancelled cancels it, and waits for the
    acknowledgement.

    Dropping a Job lets go of what it got, and cancels what it has not got yet; puts, prefetches and removals go on.
    Closing the store cancels everything that was not begun. In a forked child a Job raises ForkedError.

    Any number of threads may use one.
    """

    __slots__ = ("__weakref__", "_id", "_keys", "_kind", "_library", "_outcomes", "_queue", "_read", "_tag")

    def __init__(self, queue: JobQueue, tag: int, keys: list[str], read: Reader, kind: int) -> None:
        self._id = 0
        self._queue = queue
        self._library = queue._library
        self._tag = tag
        self._keys = keys
        self._read = read
        self._kind = kind
        self._outcomes: list[Any] = [_UNREAD] * len(keys)

    @property
    def keys(self) -> list[str]:
        """The keys, in the order of the results."""
        return list(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def __bool__(self) -> bool:
        return True

    @property
    def queue(self) -> JobQueue | None:
        """The queue that it was submitted with."""
        return None if self._queue._hidden else self._queue

    def fileno(self) -> int:
        """A descriptor to poll. With a queue of your own it is that of the queue: drain it. Otherwise it is readable
        when some job of the store has got on: look at `done`, of this one and of others.
        """
        return self._queue.fileno()

    # ---- waiting ----

    @property
    def done(self) -> bool:
        """Whether each key has an outcome: the library touches no memory of the job any more."""
        if self._queue._hidden and self._tag in _flight.flights:
            self._queue.pump()
        return self._tag not in _flight.flights or self._acknowledged(0)

    def _acknowledged(self, nanoseconds: int) -> bool:
        status = self._library.c.moor_job_wait(self._id, nanoseconds)
        if status == _abi.TIMEOUT:
            return False
        if status == _BAD_HANDLE and self._tag in _flight.flights:
            raise ClosedError("the job is closed")
        if status not in (_abi.OK, _BAD_HANDLE):
            check(self._library, status)
        _flight.land(self._tag)
        return True

    def wait(self, timeout: float | None = None) -> None:
        """Waits until the job is `done`.

        timeout  seconds; None waits for ever, 0 looks once

        Raises WaitTimeoutError (a TimeoutError), and nothing about the keys: see `results`. Ctrl-C is heard.
        """
        end = time.monotonic() + _parse.seconds(timeout, "timeout")
        while not self.done:
            # In pieces: Python hears signals only in between.
            left = end - time.monotonic()
            if not self._acknowledged(int(min(max(left, 0), _PIECE) * 1e9)) and left <= 0:
                raise WaitTimeoutError(f"the job has not finished its {len(self)} keys in {timeout} seconds")

    def results(self, timeout: float | None = None) -> list[T]:
        """What became of each key, in their order. Waits for it, as `wait` does.

        Raises the first failure among the keys; its attribute `results` has what `outcomes` gives.
        """
        found = self.outcomes(timeout)
        for one in found:
            if isinstance(one, Exception):
                # Another one, for its traceback leads to us, and we have this one.
                error: Any = type(one)(*one.args) if isinstance(one, MoorageError) else one
                error.results = found
                try:
                    raise error
                finally:
                    del error
        return found

    def outcomes(self, timeout: float | None = None) -> list[Any]:
        """What became of each key: its result, or the exception. Waits for it, as `wait` does."""
        self.wait(timeout)
        with self._read.lock:
            if all(one is _UNREAD for one in self._outcomes):
                self._outcomes = self._read_some(0, len(self))
            return [self._outcome(i) if one is _UNREAD else one for i, one in enumerate(self._outcomes)]

    def _outcome(self, index: int) -> Any:
        """Of a finished key. What was got is taken over the first time."""
        with self._read.lock:
            if self._outcomes[index] is _UNREAD:
                self._outcomes[index] = self._read_some(index, 1)[0]
            return self._outcomes[index]

    def _read_some(self, first: int, count: int) -> list[Any]:
        values = self._read.values(self._id, first, count)
        return [self._failure(first + i, v) if type(v) is Failed else v for i, v in enumerate(values)]

    def _failure(self, index: int, failed: Failed) -> Any:
        text = self._library.last_error()
        status = self._library.c.moor_job_get_status(self._id, index)
        if status == _abi.OK:  # the key did not fail, but handing out what it got
            return error_for(int(failed), text)
        return self._read.failure(status, self._keys[index], self._library.last_error())

    def timings(self) -> list[Timing]:
        """How long each key waited and took. Raises WaitTimeoutError when the job is not `done`."""
        self.wait(0)
        return [Timing(one.wait_ns, one.run_ns) for one in entries(self._library, self._id, 0, len(self))]

    # ---- asyncio ----

    def __await__(self) -> Generator[Any, None, list[T]]:
        return self._awaited().__await__()

    async def _awaited(self) -> list[T]:
        import asyncio  # who awaits has it

        loop, cancelled = asyncio.get_running_loop(), False
        while not self.done:
            future: asyncio.Future[None] = loop.create_future()
            self._queue.listen(loop)
            try:
                if self._queue.closed:
                    await asyncio.sleep(_PIECE / 10)  # nobody will tell
                elif self._will_wake(loop, future) and not self.done:
                    await future
            except asyncio.CancelledError:
                self.cancel()  # and wait on: the memory is the library's until it says otherwise
                cancelled = True
            finally:
                self._queue.unlisten(loop)
        if cancelled:
            raise asyncio.CancelledError
        return self.results()

    def _will_wake(self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> bool:
        """Whether the future will be told of the acknowledgement."""
        flight = _flight.flights.get(self._tag)
        if flight is None:
            return False
        flight.waiters.append((loop, future))
        return self._tag in _flight.flights  # if not, it may have landed without seeing the future

    # ---- the end ----

    def cancel(self) -> None:
        """Ends the keys that were not begun: their outcome is a CancelledError. The others finish. It does not wait:
        memory of the job is yours again when it is `done`. Idempotent.
        """
        status = self._library.c.moor_job_cancel(self._id)
        if status != _BAD_HANDLE:
            check(self._library, status)

    def close(self) -> None:
        """What dropping it does, now. What was taken from it stays. Idempotent."""
        handle, flight = self._id, _flight.flights.get(self._tag)
        if flight is not None and self._kind != _abi.JOB_GET:
            flight.orphan = True  # its handle is needed until it lands
            if self._tag in _flight.flights:
                return
        if handle:
            self._library.c.moor_job_close(handle)  # fails if it was closed before, or in a forked child

    def __del__(self) -> None:
        try:  # noqa: SIM105 - the interpreter may be half gone, contextlib too
            self.close()
        except Exception:  # noqa: S110
            pass

    def __repr__(self) -> str:
        try:
            state = "done" if self.done else "not done"
        except MoorageError as error:
            state = type(error).__name__
        return f"<moorage.Job of {len(self)} keys, {state}>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Job cannot be pickled or copied: it belongs to a store of this process")


_UNREAD: Any = object()


class Failed(int):
    """The status of a key, in place of a value."""


def entries(library: Library, job: int, first: int, count: int) -> list[_abi.Completion]:
    """What the library has to tell of so many keys from the first on."""
    found = (_abi.Completion * max(count, 1))()
    check(library, library.c.moor_job_get_results(job, first, count, found))
    return found[:count]


class Reader:
    """Makes outcomes of what a job tells of its keys.

    values(job, first, count) gives one for each of so many keys from the first on: the Failed of a key that failed,
    an exception for one whose value cannot be made.
    """

    def __init__(self, lock: Any, values: Callable[[int, int, int], list[Any]]) -> None:
        self.lock = lock
        self.values = values
        self.missing: Any = _UNREAD
        """In place of a NotFoundError."""

    def failure(self, status: int, key: str, text: str) -> Any:
        if status == _abi.NOT_FOUND:
            return NotFoundError(f"no object under key {key!r}") if self.missing is _UNREAD else self.missing
        if status == _abi.CANCELLED:
            return CancelledError(text)
        return error_for(status, text)


def check(library: Library, status: int) -> None:
    if status == _BAD_HANDLE:
        raise ClosedError("the job is closed")
    if status:
        raise error_for(status, library.last_error())
