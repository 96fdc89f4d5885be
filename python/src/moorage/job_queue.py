"""`JobQueue`: tells of the keys of jobs as they finish."""

from __future__ import annotations

import threading
from ctypes import byref, c_int32, c_uint64
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from . import _abi, _flight, _parse
from ._lib import Library, load
from .errors import ClosedError, error_for

if TYPE_CHECKING:
    import asyncio

    from .job import Job

__all__ = ["Completion", "JobQueue"]

_BAD_HANDLE = _abi.STATUS["MOOR_ERR_BAD_HANDLE"]
_DRAIN = 256  # completions that are taken at a time


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
                    _flight.land(entry.tag)
        return found

    def pump(self) -> bool:
        """For the queue of a store, which nobody drains: lets go of what was acknowledged. False in a forked child."""
        entries, count = (_abi.Completion * _DRAIN)(), c_uint64()
        while True:
            if self._library.c.moor_queue_drain(self._id, entries, _DRAIN, byref(count)):
                return False
            for i in range(count.value):
                if entries[i].flags & _abi.COMPLETION_LAST:
                    _flight.land(entries[i].tag)
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
            _flight.forget(left)

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


def _check(library: Library, status: int) -> None:
    if status:
        raise error_for(status, library.last_error())
