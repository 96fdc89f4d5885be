"""Submits jobs to one store, and makes Python's objects of what they give."""

from __future__ import annotations

import threading
import time
from array import array
from collections.abc import Iterable, Sequence
from ctypes import POINTER, byref, c_int32, c_uint64, c_void_p, pointer
from itertools import accumulate
from typing import Any, Callable

from . import _abi, _batch, _flight, _lib, _memory, _parse, buffer
from .errors import ClosedError, InvalidArgumentError, UnsupportedError, error_for
from .job import Failed, Job, Reader, check, entries
from .job_queue import JobQueue, hidden_queue

_BAD_HANDLE = _abi.STATUS["MOOR_ERR_BAD_HANDLE"]
_SETTLE = 0.25  # seconds

_Values = Callable[[int, int, int], "list[Any]"]  # see Reader


class Submitter:
    """It knows no Store, which jobs may outlive."""

    def __init__(self, library: _lib.Library, store: int, plain: Any, route: str) -> None:
        self._library = library
        self._store = store
        self._plain = plain
        self._route = route
        self._lock = threading.RLock()  # what it guards may run the caller's Python
        self.own = hidden_queue()

    def settle(self) -> None:
        """The store was closed: what it was at work with is let go in a moment."""
        end = time.monotonic() + _SETTLE
        while self.own.pump() and _flight.of_queue(self.own) and time.monotonic() < end:
            time.sleep(0.0005)
        self.abandon()

    def abandon(self) -> None:
        """The store is gone: nobody will ask for what its queue has to tell."""
        self.own.pump()
        left = _flight.of_queue(self.own)
        if left:
            _flight.forget(left)
        else:
            self.own.retire()

    # ---- kinds ----

    def get(self, keys: Iterable[str], kind: str, mode: int, torch: Any, queue: JobQueue | None) -> Job[Any]:
        """kind: "tensor", "array" or "buffer". torch: our module, for the first."""
        values = {"tensor": self._tensors(mode, torch), "array": self._arrays(mode), "buffer": self._buffers(mode)}
        return self._of_keys(_abi.JOB_GET, keys, Reader(self._lock, values[kind]), queue)

    def exists(self, keys: Iterable[str], queue: JobQueue | None) -> Job[bool]:
        return self._of_keys(_abi.JOB_EXISTS, keys, self._told(_as_bool), queue)

    def prefetch(self, keys: Iterable[str], queue: JobQueue | None) -> Job[bool]:
        reader = self._told(_true)
        reader.missing = False
        return self._of_keys(_abi.JOB_PREFETCH, keys, reader, queue)

    def remove(self, keys: Iterable[str], missing_ok: bool, queue: JobQueue | None) -> Job[bool]:
        reader = self._told(_true)
        if missing_ok:
            reader.missing = False
        return self._of_keys(_abi.JOB_REMOVE, keys, reader, queue)

    def persist(self, keys: Iterable[str], queue: JobQueue | None) -> Job[bool]:
        return self._of_keys(_abi.JOB_PERSIST, keys, self._told(_true), queue)

    def get_into(
        self,
        pairs: list[tuple[Any, Any]],
        spans_of: Callable[[Sequence[Any], str], tuple[Any, list[_memory.Loan]]],
        torch: Any,
        offsets: Iterable[int] | None,
        nbytes: Iterable[int | None] | None,
        queue: JobQueue | None,
    ) -> Job[int]:
        """spans_of lends memory. torch: our module, if somebody has imported torch."""
        packed = _lib.PackedKeys([key for key, _ in pairs])
        begins = _numbers(offsets, "offsets", len(pairs), None)
        counts = _numbers(nbytes, "nbytes", len(pairs), _abi.ALL)
        groups = [list(out) if isinstance(out, (list, tuple)) else [out] for _, out in pairs]
        outs = [one for group in groups for one in group]
        ends = array("Q", accumulate(map(len, groups)))
        spans, loans = spans_of(outs, "each out of items")

        def landed() -> None:
            for loan in loans:
                loan.end()
            for one in outs:
                if torch is not None and isinstance(one, torch.Tensor):
                    torch.written(one)

        def submit(to: int, tag: int, out: Any) -> int:
            call = self._library.c.moor_submit_get_into
            return int(call(self._store, to, packed.pointer(), begins, counts, spans, _address(ends), tag, out))

        keys = [key for key, _ in pairs]
        return self._submit(keys, self._told(_as_int), _abi.JOB_GET_INTO, queue, landed, submit)

    def put(self, pairs: list[tuple[Any, Any]], how: int, meta: Any, atomic: bool, queue: JobQueue | None) -> Job[bool]:
        loans: list[_memory.Loan] = []
        try:
            for key, data in pairs:
                loans.append(_lend(key, data))
            structs = [_memory.as_bytes_struct(loan) for loan in loans]
            call = _lib.PutCall(how, meta, _abi.PUT_AS_BYTES | (_abi.PUT_ATOMIC if atomic else 0))
        except BaseException:
            _end(loans)
            raise
        return self._put(pairs, structs, call, lambda: _end(loans), queue)

    def put_tensors(
        self, pairs: list[tuple[Any, Any]], how: int, meta: Any, atomic: bool, modules: Any, queue: JobQueue | None
    ) -> Job[bool]:
        """modules: ours for torch and numpy, as far as somebody has imported those."""
        torch, numpy = modules
        made = _batch.Structs(torch, numpy, self._plain)
        try:
            call = _lib.PutCall(how, meta, _abi.PUT_ATOMIC if atomic else 0)
            structs = made.of(pairs)
        except BaseException:
            made.end()
            raise
        return self._put(pairs, structs, call, made.end, queue)

    def _put(
        self,
        pairs: list[tuple[Any, Any]],
        structs: list[Any],
        call: _lib.PutCall,
        landed: Callable[[], None],
        queue: JobQueue | None,
    ) -> Job[bool]:
        keys = [key for key, _ in pairs]
        try:
            packed = _lib.PackedKeys(keys)
        except BaseException:
            landed()
            raise
        pointers = (POINTER(_abi.DLTensor) * max(len(structs), 1))(*map(pointer, structs))

        def submit(to: int, tag: int, out: Any) -> int:
            put = self._library.c.moor_submit_put_tensors
            return int(put(self._store, to, packed.pointer(), pointers, call.options, tag, out))

        return self._submit(keys, self._told(_was_stored), _abi.JOB_PUT, queue, landed, submit)

    # ---- submitting ----

    def _of_keys(self, kind: int, keys: Iterable[str], reader: Reader, queue: JobQueue | None) -> Job[Any]:
        names = _lib.key_list(keys)
        packed = _lib.PackedKeys(names)

        def submit(to: int, tag: int, out: Any) -> int:
            return int(self._library.c.moor_submit_keys(self._store, to, kind, packed.pointer(), tag, out))

        return self._submit(names, reader, kind, queue, _nothing, submit)

    def _submit(
        self,
        keys: list[str],
        reader: Reader,
        kind: int,
        queue: JobQueue | None,
        landed: Callable[[], None],
        submit: Callable[[int, int, Any], int],
    ) -> Job[Any]:
        """landed gives back what was lent for it: once, whatever happens."""
        try:
            to = self._queue(queue)
        except BaseException:
            landed()
            raise
        tag, flight = _flight.take_off(self._library, None if queue else to, landed)
        job: Job[Any] = Job(to, tag, keys, reader, kind)
        if queue is not None:
            queue._jobs[tag] = job
        handle = c_uint64()
        try:
            status = submit(to._id, tag, byref(handle))
        except BaseException:
            flight.handle = handle.value
            if not handle.value:  # else it goes on, and Ctrl-C came between two lines
                to._jobs.pop(tag, None)
                _flight.land(tag)
            raise
        if status:
            text = self._library.last_error()
            to._jobs.pop(tag, None)
            _flight.land(tag)
            if status == _BAD_HANDLE:
                raise ClosedError("the queue is closed" if to.closed else "the store is closed")
            raise error_for(status, text)
        job._id = flight.handle = handle.value
        return job

    def _queue(self, queue: JobQueue | None) -> JobQueue:
        if queue is None:
            self.own.pump()  # so that nothing stays that was forgotten
            return self.own
        if not isinstance(queue, JobQueue):
            raise TypeError(f"queue must be a JobQueue or None, not {type(queue).__name__}")
        return queue

    # ---- results ----

    def _tensors(self, mode: int, torch: Any) -> _Values:
        """torch: our module; None when no tensors are wanted."""
        old = torch is not None and not torch.HAS_DLPACK_1
        c, plain = self._library.c, self._plain

        def tensors(job: int, first: int, count: int) -> list[Any]:
            get = c.moor_job_get_tensors_unversioned if old else c.moor_job_get_tensors
            addresses, statuses = (c_void_p * max(count, 1))(), (c_int32 * max(count, 1))()
            check(self._library, get(job, first, count, mode, addresses, statuses))
            wrap = plain.capsules.unversioned if old else plain.capsules.versioned
            # All are wrapped first: then each has an owner, whatever torch says to one of them.
            capsules = [Failed(s) if s else wrap(c_void_p(a)) for a, s in zip(addresses[:count], statuses[:count])]
            return [_made(torch.from_capsule, one, plain.capsules) for one in capsules]

        return tensors

    def _buffers(self, mode: int) -> _Values:
        def buffers(job: int, first: int, count: int) -> list[Any]:
            structs, statuses = (_abi.Buffer * max(count, 1))(), (c_int32 * max(count, 1))()
            get = self._library.c.moor_job_get_buffers
            check(self._library, get(job, first, count, mode, structs, statuses))
            make = buffer.maker(self._library, self._route).from_struct
            found = [Failed(s) if s else struct for struct, s in zip(structs[:count], statuses[:count])]
            return [_made(self._buffer, one, make) for one in found]

        return buffers

    def _buffer(self, struct: _abi.Buffer, make: Callable[[_abi.Buffer], Any]) -> Any:
        own = _abi.Buffer.from_buffer_copy(struct)  # one in an array would keep the array
        self._plain.note_buffer(own)
        return make(own)

    def _arrays(self, mode: int) -> _Values:
        of_buffers = self._buffers(mode)

        def arrays(job: int, first: int, count: int) -> list[Any]:
            from . import numpy

            return [_made(numpy.from_buffer, one) for one in of_buffers(job, first, count)]

        return arrays

    def _told(self, value: Callable[[_abi.Completion], Any]) -> Reader:
        """Of kinds that give no more than a number."""

        def values(job: int, first: int, count: int) -> list[Any]:
            found = entries(self._library, job, first, count)
            return [Failed(one.status) if one.status else value(one) for one in found]

        return Reader(self._lock, values)


def _made(make: Callable[..., Any], of: Any, *more: Any) -> Any:
    """What `make` makes of it, or the exception: one key does not spoil the others."""
    if isinstance(of, (Failed, Exception)):
        return of
    try:
        return make(of, *more)
    except Exception as error:
        return error


def _nothing() -> None:
    pass


def _end(loans: list[Any]) -> None:
    for loan in loans:
        loan.end()


def _true(_: _abi.Completion) -> bool:
    return True


def _as_bool(one: _abi.Completion) -> bool:
    return bool(one.value)


def _as_int(one: _abi.Completion) -> int:
    return int(one.value)


def _was_stored(one: _abi.Completion) -> bool:
    return bool(one.outcome != _abi.KEPT)


def _address(numbers: array[int]) -> int:
    return numbers.buffer_info()[0]


def _numbers(given: Iterable[Any] | None, name: str, count: int, none: int | None) -> Any:
    """One number for each key. `none` stands for None among them."""
    if given is None:
        return None
    try:
        several = list(given)
    except (TypeError, SystemError):  # the second: of a released memoryview
        raise TypeError(f"{name} must be several numbers, one for each key, not {type(given).__name__}") from None
    if len(several) != count:
        raise InvalidArgumentError(f"{name} has {len(several)} numbers for {count} keys")
    parsed = [none if one is None and none is not None else _parse.count(one, f"each of {name}") for one in several]
    return (c_uint64 * max(count, 1))(*parsed)


def _lend(key: Any, data: Any) -> _memory.Loan:
    if isinstance(data, str):
        raise TypeError(f'the data of key {key!r} is a str; encode it first: data.encode("utf-8")')
    loan = _memory.strided(data)
    if loan is not None:
        return loan
    try:
        memoryview(data)
    except TypeError:
        raise TypeError(
            f"the data of key {key!r} must have the buffer protocol (bytes, memoryview, array ...), not "
            f"{type(data).__name__}"
        ) from None
    except ValueError as error:
        raise UnsupportedError(f"the data of key {key!r} gives no buffer ({error})") from None
    raise UnsupportedError(f"the data of key {key!r} has a buffer that is neither dense nor strided; copy it first")
