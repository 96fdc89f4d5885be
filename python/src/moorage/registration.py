"""`Registration`: memory of the caller's that a network device may be given."""

from __future__ import annotations

import time
from ctypes import byref, c_uint64, sizeof
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from . import _abi, _memory, _parse
from .errors import InvalidArgumentError, error_for

if TYPE_CHECKING:
    from ._lib import Library

__all__ = ["Registration"]

_BAD_HANDLE = _abi.STATUS["MOOR_ERR_BAD_HANDLE"]
_INVALID = _abi.STATUS["MOOR_ERR_INVALID_ARGUMENT"]
_PIECE = 0.05  # seconds between two looks at signals

# Dropped while transfers were in flight: handle and memory, both of which must stay until these have ended.
_lingering: list[tuple[Any, int, Any]] = []


class Registration:
    """A range of memory that is registered, from `Store.register`, until `release` or the end of a `with` block.

    It keeps the object that it was made of alive; dropping the last reference to it releases it, too. The memory must
    stay where it is meanwhile: no `munmap`, no `madvise` that gives pages back, no resizing.

        with store.register(buffer):
            ...
    """

    __slots__ = ("__weakref__", "_address", "_id", "_keep", "_library", "_locked", "_nbytes")

    _id: int
    _address: int
    _nbytes: int

    def __init__(self, library: Library, handle: int, memory: _Memory, locked: bool) -> None:
        self._id = handle  # first: now it is ours to release
        self._library = library
        self._keep: Any = memory
        self._address = memory.address
        self._nbytes = memory.size
        self._locked = locked

    @property
    def address(self) -> int:
        """Where it begins."""
        return self._address

    @property
    def nbytes(self) -> int:
        """How many bytes it has."""
        return self._nbytes

    @property
    def locked(self) -> bool:
        """Whether its pages are locked in memory."""
        return self._locked

    @property
    def released(self) -> bool:
        """Whether `release` has succeeded."""
        return not self._id

    def release(self, timeout: float | None = None) -> None:
        """Ends the registration when its transfers have ended. Idempotent. The object is let go.

        timeout  seconds; None waits for ever, 0 looks once

        Raises WaitTimeoutError (a TimeoutError) when transfers are still in flight: no further one begins, the memory
        must stay as it is, and `release` may be called again. Ctrl-C is heard. In a forked child it does nothing.
        """
        end = time.monotonic() + _parse.seconds(timeout, "timeout")
        while self._id:
            # In pieces: Python hears signals only in between.
            left = min(max(end - time.monotonic(), 0), _PIECE)
            status = self._library.c.moor_registration_release(self._id, int(left * 1e9))
            if status == _abi.TIMEOUT:
                if time.monotonic() < end:
                    continue
                raise error_for(status, self._library.last_error())
            self._id, self._keep = 0, None
            if status not in (_abi.OK, _abi.FORKED, _BAD_HANDLE):  # the last: another thread was quicker
                raise error_for(status, self._library.last_error())

    def __enter__(self) -> Registration:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def __del__(self) -> None:
        try:
            handle, self._id = self._id, 0
            if handle and self._library.c.moor_registration_release(handle, 0) == _abi.TIMEOUT:
                _lingering.append((self._library, handle, self._keep))
        except Exception:  # noqa: S110, SIM105 - the interpreter may be half gone
            pass

    def __repr__(self) -> str:
        state = "released" if not self._id else f"{self._nbytes} bytes at 0x{self._address:x}"
        return f"<moorage.Registration: {state}{', locked' if self._id and self._locked else ''}>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Registration cannot be pickled or copied: its memory belongs to this process")


class _Memory:
    """Address and size of what somebody wants registered, and what has to live for it to stay there."""

    __slots__ = ("_keep", "address", "size")

    def __init__(self, obj: Any, nbytes: int | None, torch: Any) -> None:
        wanted = None if nbytes is None else _parse.count(nbytes, "nbytes")
        if isinstance(obj, int) and not isinstance(obj, bool):
            self._at(obj, wanted)
            return
        if torch is not None and isinstance(obj, torch.torch.Tensor):
            self.address, self.size = torch.span(obj, "obj", "register memory that a dense tensor on the CPU has")
            self._keep: Any = (obj, _storage(obj))
        else:
            loan = _memory.writable(obj, "obj")
            self.address, self.size, self._keep = loan.address, loan.size, loan
        if wanted is not None:
            if wanted > self.size:
                raise InvalidArgumentError(f"nbytes is {wanted}, and obj has {self.size}")
            self.size = wanted
        if not self.size:
            raise InvalidArgumentError("obj has no bytes to register" if wanted is None else "nbytes is 0")

    def _at(self, address: int, wanted: int | None) -> None:
        if wanted is None:
            raise TypeError("nbytes must be given when obj is an address")
        if not wanted:
            raise InvalidArgumentError("nbytes is 0")
        if not 0 < address < 2**63:
            raise InvalidArgumentError(f"obj is the address {address}, which no memory of a program has")
        self.address, self.size, self._keep = address, wanted, None


def _storage(t: Any) -> Any:
    """The tensor may be given another storage while this one is registered."""
    storage = getattr(t, "untyped_storage", None)
    return storage() if storage is not None else t.storage()


def register(library: Library, store: int, obj: Any, nbytes: int | None, lock: bool, torch: Any) -> Registration:
    """See `Store.register`."""
    _sweep()
    if type(lock) is not bool:
        raise TypeError(f"lock must be True or False, not {type(lock).__name__}")
    memory = _Memory(obj, nbytes, torch)
    handle = c_uint64()
    options = _abi.RegisterOptions(sizeof(_abi.RegisterOptions), _abi.REGISTER_LOCK if lock else 0)
    status = library.c.moor_register_memory(store, memory.address, memory.size, byref(options), byref(handle))
    if status == _INVALID:
        raise InvalidArgumentError(f"obj cannot be registered: {library.last_error()}")
    if status:
        raise error_for(status, library.last_error())
    return Registration(library, handle.value, memory, lock)


def is_registered(library: Library, store: int, obj: Any, nbytes: int | None, torch: Any) -> bool:
    """See `Store.is_registered`."""
    info = _abi.RegistrationInfo(struct_size=sizeof(_abi.RegistrationInfo))
    if isinstance(obj, int) or (torch is not None and isinstance(obj, torch.torch.Tensor)):
        memory: Any = _Memory(obj, nbytes, torch)
    else:
        memory = _readable(obj, nbytes)
    status = library.c.moor_find_registration(store, memory.address, memory.size, byref(info))
    if status not in (_abi.OK, _abi.NOT_FOUND):
        raise error_for(status, library.last_error())
    return bool(status == _abi.OK)


def _readable(obj: Any, nbytes: int | None) -> _memory.Loan:
    """Memory that is only asked about may be read-only, as views of a store are."""
    loan = _memory.dense(obj)
    if loan is None:
        loan = _memory.writable(obj, "obj")
    if nbytes is not None:
        wanted = _parse.count(nbytes, "nbytes")
        if not 0 < wanted <= loan.size:
            raise InvalidArgumentError(f"nbytes is {wanted}, and obj has {loan.size}")
        loan.size = wanted
    if not loan.size:
        raise InvalidArgumentError("obj has no bytes")
    return loan


def _sweep() -> None:
    """Lets go of what was dropped under transfers, as far as these have ended."""
    for one in _lingering[:]:
        library, handle, _ = one
        if library.c.moor_registration_release(handle, 0) != _abi.TIMEOUT and one in _lingering:
            _lingering.remove(one)
