"""`Job`: work on keys of a store that goes on while nobody waits for it; `JobQueue`: tells of what is finished."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import itertools
import threading
import time
from collections.abc import Generator, Iterable
from ctypes import byref, c_int32, c_uint64
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable, Generic, NamedTuple, NoReturn, TypeVar

from . import _abi, _parse
from ._lib import Library, load
from .errors import CancelledError, ClosedError, MoorageError, NotFoundError, WaitTimeoutError, error_for

if TYPE_CHECKING:
    import asyncio

__all__ = ["Completion", "Job", "JobQueue", "Timing"]

T = TypeVar("T")

_BAD_HANDLE = _abi.STATUS["MOOR_ERR_BAD_HANDLE"]
_PIECE = 0.05  # seconds between two looks at signals
_DRAIN = 256  # completions that are taken at a time
_AT_EXIT = 1.0  # seconds


class Completion(NamedTuple):
    """One key of a job that is finished, from `JobQueue.drain`."""

    job: Job[Any]
    number: int
    """Of the key in `job.keys`; -1 for a job without keys."""
    key: str | None
    value: Any
    """What `Job.outcomes` has for it, None if it failed."""
    error: Exception | None
    last: bool
    """The last one of its job: the library touches none of its memory any more."""


class Timing(NamedTuple):
    """How long one key took, from `Job.timings`, in nanoseconds."""

    wait_ns: int
    """From the submission until it was begun, or cancelled."""
    run_ns: int
    """From then until it was finished."""


# ---- memory that the library is at work with ----


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
_flights: dict[int, Flight] = {}
_strays: list[int] = []  # tags of those that no queue will tell of
_tags = itertools.count(1)


def take_off(queue: JobQueue, landed: Callable[[], None]) -> tuple[int, Flight]:
    """Before a job is submitted: gives the tag to submit it with. `land` if that fails."""
    for stray in _strays[:1]:
        if has_landed(stray):
            with contextlib.suppress(ValueError):  # another thread was quicker
                _strays.remove(stray)
    tag = next(_tags)
    if tag == 1:
        atexit.register(_end)
    flight = _flights[tag] = Flight(queue._library, queue if queue._hidden else None, landed)
    return tag, flight


def land(tag: int) -> None:
    """The job of this tag was acknowledged."""
    flight = _flights.pop(tag, None)
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
    flight = _flights.get(tag)
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
    return [tag for tag, flight in list(_flights.items()) if flight.queue is queue]


def forget(tags: Iterable[int]) -> None:
    """Nobody hears of these any more: later jobs look after them."""
    for tag in tags:
        flight = _flights.get(tag)
        if flight is not None:
            _strays.append(tag)
            flight.wake()


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _end() -> None:
    """The interpreter is about to free everything. What the library may still be at work with then stays for ever."""
    for flight in list(_flights.values()):
        flight.library.c.moor_job_cancel(flight.handle)
    end = time.monotonic() + _AT_EXIT
    for tag in list(_flights):
        left = max(end - time.monotonic(), 0)
        if not has_landed(tag, int(left * 1e9)) and tag in _flights:
            _keep_for_ever(_flights[tag])


def _keep_for_ever(thing: Any) -> None:
    with contextlib.suppress(AttributeError):  # a Python without reference counts frees nothing at its end
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


# ---- queues ----


class JobQueue:
    """Tells of the finished keys of jobs, by a descriptor to poll, for schedulers that have a loop of their own.

        queue = moorage.JobQueue()
        job = store.submit_get(keys, queue=queue)
        select.select([queue], [], [])              # or poll, epoll, loop.add_reader(queue.fileno(), ...)
        for key in queue.drain():
            print(key.key, key.error or key.value)

    For jobs of any stores, from any threads. A queue keeps its jobs until their last keys were drained. It ends with
    `close`, its `with` block, or the last reference to it and its jobs. It is for those who want to hear of many jobs
    in one place; whoever asks or awaits a single `Job` needs none.
    """

    def __init__(self) -> None:
        self._id = 0
        self._library = library = load()
        handle, fd = c_uint64(), c_int32()
        _check(library, library.c.moor_queue_open(byref(handle)))
        self._id = handle.value
        _check(library, library.c.moor_queue_get_fd(self._id, byref(fd)))
        self._fd = fd.value
        self._jobs: dict[int, Job[Any]] = {}  # whose last key was not drained
        self._lock = threading.RLock()  # several may drain
        self._readers: dict[asyncio.AbstractEventLoop, int] = {}
        self._hidden = False
        self._retired = False

    def fileno(self) -> int:
        """The descriptor, an eventfd: readable while there is something to drain. Poll it; do not read or close it."""
        if not self._id:
            raise ClosedError("the queue is closed, and its descriptor with it")
        return self._fd

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return not self._id

    def drain(self, max: int | None = None) -> list[Completion]:  # noqa: A002 - the word for it
        """The keys that have been finished, in that order, at most `max` of them. Never waits.

        What a `submit_get` got is made into tensors here. Raises ClosedError, ForkedError.
        """
        left = _parse.count(max, "max") if max is not None else None
        found: list[Completion] = []
        while left is None or left > 0:
            room = _DRAIN if left is None else min(left, _DRAIN)
            entries = self._take(room)
            found.extend(_completion(job, entry) for job, entry in entries)
            if len(entries) < room:
                break
            if left is not None:
                left -= room
        return found

    def _take(self, room: int) -> list[tuple[Job[Any], _abi.Completion]]:
        entries, count = (_abi.Completion * room)(), c_uint64()
        with self._lock:
            status = self._library.c.moor_queue_drain(self._id, entries, room, byref(count))
            if status == _BAD_HANDLE:
                raise ClosedError("the queue is closed")
            _check(self._library, status)
            found = [(self._jobs[entry.tag], entry) for entry in entries[: count.value]]
            for job, entry in found:
                job._id = entry.job  # who submits it in another thread may not have got that far
                if entry.flags & _abi.COMPLETION_LAST:
                    del self._jobs[entry.tag]
                    land(entry.tag)
        return found

    def pump(self) -> bool:
        """For the queue of a store, which nobody drains: lets go of what was acknowledged. False in a forked child."""
        entries, count = (_abi.Completion * _DRAIN)(), c_uint64()
        while True:
            if self._library.c.moor_queue_drain(self._id, entries, _DRAIN, byref(count)):
                return False
            for i in range(count.value):
                if entries[i].flags & _abi.COMPLETION_LAST:
                    land(entries[i].tag)
            if count.value < _DRAIN:
                return True

    # ---- event loops ----

    def listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """The loop pumps from now on, unless the queue is its owner's to drain."""
        if not self._hidden:
            return
        self._readers[loop] = self._readers.get(loop, 0) + 1
        if self._readers[loop] == 1:
            loop.add_reader(self._fd, self.pump)

    def unlisten(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._hidden:
            return
        self._readers[loop] -= 1
        if not self._readers[loop]:
            del self._readers[loop]
            loop.remove_reader(self._fd)
            self._close_retired()

    def retire(self) -> None:
        """The store was closed, and nothing is in flight: ends the queue when no loop has its descriptor."""
        self._retired = True
        self._close_retired()

    def _close_retired(self) -> None:
        if self._retired and not self._readers:
            self.close()

    # ---- the end ----

    def close(self) -> None:
        """Ends the queue and its descriptor. Its jobs go on: ask them. Idempotent."""
        handle, self._id = self._id, 0
        if handle:
            with self._lock:
                left, self._jobs = self._jobs, {}
            self._library.c.moor_queue_close(handle)  # fails in a forked child only
            forget(left)

    def __del__(self) -> None:
        try:  # noqa: SIM105 - the interpreter may be half gone, contextlib too
            self.close()
        except Exception:  # noqa: S110
            pass

    def __enter__(self) -> JobQueue:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return "<moorage.JobQueue, closed>" if self.closed else f"<moorage.JobQueue, descriptor {self._fd}>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a JobQueue cannot be pickled or copied: its descriptor belongs to this process")


def _completion(job: Job[Any], entry: _abi.Completion) -> Completion:
    last = bool(entry.flags & _abi.COMPLETION_LAST)
    if entry.index == _abi.ALL:
        return Completion(job, -1, None, None, None, last)
    index = int(entry.index)
    got = job._outcome(index)
    failed = isinstance(got, Exception)
    return Completion(job, index, job._keys[index], None if failed else got, got if failed else None, last)


def hidden_queue() -> JobQueue:
    """The queue of a store, for jobs that are submitted without one."""
    queue = JobQueue()
    queue._hidden = True
    return queue


# ---- jobs ----


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
        if self._queue._hidden and self._tag in _flights:
            self._queue.pump()
        return self._tag not in _flights or self._acknowledged(0)

    def _acknowledged(self, nanoseconds: int) -> bool:
        status = self._library.c.moor_job_wait(self._id, nanoseconds)
        if status == _abi.TIMEOUT:
            return False
        if status == _BAD_HANDLE and self._tag in _flights:
            raise ClosedError("the job is closed")
        if status not in (_abi.OK, _BAD_HANDLE):
            _check(self._library, status)
        land(self._tag)
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
        return [self._outcome(i) for i in range(len(self))]

    def _outcome(self, index: int) -> Any:
        """Of a finished key. What was got is taken over the first time."""
        with self._read.lock:
            if self._outcomes[index] is _UNREAD:
                self._outcomes[index] = self._read_some(index, 1)[0]
            return self._outcomes[index]

    def _read_some(self, first: int, count: int) -> list[Any]:
        entries = self._entries(first, count)
        values = self._read.values(self._id, first, entries)
        told = enumerate(zip(entries, values), first)
        return [value if one.status == _abi.OK else self._failure(i) for i, (one, value) in told]

    def _failure(self, index: int) -> Any:
        status = self._library.c.moor_job_get_status(self._id, index)
        return self._read.failure(status, self._keys[index], self._library.last_error())

    def _entries(self, first: int, count: int) -> list[_abi.Completion]:
        entries = (_abi.Completion * max(count, 1))()
        status = self._library.c.moor_job_get_results(self._id, first, count, entries)
        if status == _BAD_HANDLE:
            raise ClosedError("the job is closed")
        _check(self._library, status)
        return entries[:count]

    def timings(self) -> list[Timing]:
        """How long each key waited and took. Raises WaitTimeoutError when the job is not `done`."""
        self.wait(0)
        return [Timing(one.wait_ns, one.run_ns) for one in self._entries(0, len(self))]

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
        flight = _flights.get(self._tag)
        if flight is None:
            return False
        flight.waiters.append((loop, future))
        return self._tag in _flights  # if not, it may have landed without seeing the future

    # ---- the end ----

    def cancel(self) -> None:
        """Ends the keys that were not begun: their outcome is a CancelledError. The others finish. It does not wait:
        memory of the job is yours again when it is `done`. Idempotent.
        """
        status = self._library.c.moor_job_cancel(self._id)
        if status != _BAD_HANDLE:
            _check(self._library, status)

    def close(self) -> None:
        """What dropping it does, now. What was taken from it stays. Idempotent."""
        handle, flight = self._id, _flights.get(self._tag)
        if flight is not None and self._kind != _abi.JOB_GET:
            flight.orphan = True  # its handle is needed until it lands
            if self._tag in _flights:
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


class Reader:
    """Makes outcomes of what a job tells of its keys.

    values(job, first, entries) gives one for each entry, an exception if it cannot be made; whatever it likes for keys
    that failed.
    """

    def __init__(self, lock: Any, values: Callable[[int, int, list[_abi.Completion]], list[Any]]) -> None:
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


def _check(library: Library, status: int) -> None:
    if status:
        raise error_for(status, library.last_error())
