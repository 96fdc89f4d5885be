"""`Snapshot`: many objects of a store, held together."""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Iterator, Mapping
from ctypes import byref, c_uint32, c_uint64, c_void_p
from itertools import chain
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable, NoReturn

from . import _abi, _lib, _parse, buffer
from .dlpack import Capsules
from .errors import ClosedError, NotFoundError, error_for

if TYPE_CHECKING:
    import numpy as np
    import torch

    from .records import SnapshotInfo
    from .store import Mode

__all__ = ["Snapshot"]

_VIEW = _abi.MODES["view"]
_SNAPSHOT_TENSOR = 13  # of the table in capi/pybuiltin.c


class Snapshot(Mapping[str, "torch.Tensor"]):
    """An immutable mapping from keys to torch tensors: objects of a store as they were at one moment, all of them held.

    Made by `Store.snapshot`. It has the mode of its store: see `Store`. What it gives out owns its bytes and may
    outlive it. It outlives `Store.close()`, as views do, and gives its objects back when it is closed or dropped. A
    closed one is empty, and its getters raise ClosedError.

    Address, dtype and shape of each object are kept in the snapshot: a look-up does not ask the store. So it works in
    forked children, where a `Store` does not: this is how workers of a DataLoader read what their parent has stored.

        class Dataset(torch.utils.data.Dataset):
            def __init__(self, store):
                self.samples = store.snapshot(prefix="train/")   # before the workers are forked
            def __getitem__(self, i):
                return self.samples[f"train/{i}"]

    Any number of threads may use it. It cannot be pickled.
    """

    __slots__ = ("__weakref__", "_id", "_library", "_mode", "_numbers", "_route", "_tensor")

    _id: int

    def __init__(self, library: _lib.Library, route: str, handle: int, mode: int) -> None:
        self._id = handle  # first: now it is ours to close
        self._library = library
        self._route = route
        self._mode = mode
        self._tensor: Callable[..., Any] | None = None  # when it is first needed, for torch may not be there
        self._numbers = _numbers(library, handle)

    # ---- getting ----

    def __getitem__(self, key: str) -> torch.Tensor:
        """As `Store.get_tensor(key)` of the store at that time. Raises NotFoundError (a KeyError)."""
        try:
            return self._tensor(self._numbers[key], None)  # type: ignore[misc]
        except (KeyError, TypeError):
            return self.get_tensor(key)  # for the words, or because it is the first

    def get_tensor(self, key: str, *, mode: Mode | None = None) -> torch.Tensor:
        """The object as a torch tensor. mode: see `Store`; None is the one that the store had.

        Raises NotFoundError (a KeyError), ClosedError, UnsupportedError when this torch has no such dtype, ImportError
        without torch.
        """
        number = self._number(key)
        tensor = self._tensor or self._bind()  # another thread may close meanwhile
        return tensor(number, mode)

    def get_array(self, key: str, *, mode: Mode = "view") -> np.ndarray[Any, Any]:
        """The object as a numpy array, read-only in mode "view". As `Store.get_array`."""
        number = self._number(key)
        try:
            from . import numpy as module
        except ImportError as error:
            raise ImportError(
                f"numpy is needed here and cannot be imported ({error}); get_buffer gives the bytes"
            ) from error
        return module.from_buffer(self._buffer(number, mode))

    def get_buffer(self, key: str, *, mode: Mode = "view") -> buffer.Buffer:
        """The object's bytes, with the buffer protocol; read-only in mode "view". As `Store.get_buffer`."""
        return self._buffer(self._number(key), mode)

    def _buffer(self, number: int, mode: Any) -> buffer.Buffer:
        how = _parse.choice(mode, "mode", _abi.MODES)
        struct = _abi.Buffer()
        library = self._library.quick if how == _VIEW else self._library.hot
        status = library.moor_snapshot_get_buffer(c_uint64(self._id), c_uint64(number), how, byref(struct))
        if status:
            self._fail(status)
        self._note(struct)
        made: buffer.Buffer = buffer.maker(self._library, self._route).from_struct(struct)
        return made

    def _note(self, struct: _abi.Buffer) -> None:
        """In debug mode: remembers who asked for the buffer."""

    def _number(self, key: object) -> int:
        number = self._numbers.get(key) if isinstance(key, str) else None
        if number is not None:
            return number
        if not isinstance(key, str):
            raise TypeError(f"key must be a str, not {type(key).__name__}")
        if not self._id:
            raise _closed()
        raise NotFoundError(f"the snapshot has no object under key {key!r}")

    # ---- how tensors are made ----

    def _bind(self) -> Callable[..., Any]:
        try:
            from . import torch as module

            versioned = module.HAS_DLPACK_1
        except (ImportError, AttributeError) as error:  # the second: another thread has just tried, and has half of it
            raise ImportError(
                f"torch is needed here and cannot be imported ({error}); get_array gives numpy arrays"
            ) from error
        handle = self._id
        # It must not keep us: the builtin is ours, and would be a circle.
        look = _Look(self._library, handle, self._mode, self._capsules(), module)
        tensor: Callable[..., Any] = look.plain
        if self._route == "builtin" and versioned:
            module.use_exchange(self._library)
            bound = (handle, self._mode, look.tensor, module.from_dlpack)
            tensor = self._library.python.moor_py_bind(_SNAPSHOT_TENSOR, bound)
        self._tensor = tensor
        return tensor

    def _capsules(self) -> Capsules:
        return Capsules(self._library)

    def _fail(self, status: int) -> NoReturn:
        raise _error(self._library, status)

    # ---- the mapping ----

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and key in self._numbers

    def __eq__(self, other: object) -> bool:
        return self is other  # comparing tensors is not a matter of one bool

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        if not self._id:
            return "<moorage.Snapshot, closed>"
        return f"<moorage.Snapshot: {len(self)} objects>"

    def info(self) -> SnapshotInfo:
        """How much it holds, and in a forked child what was copied there."""
        from .records import SnapshotInfo

        raw = _abi.SnapshotInfo(struct_size=ctypes.sizeof(_abi.SnapshotInfo))
        status = self._library.c.moor_snapshot_get_info(self._id, byref(raw))
        if status:
            self._fail(status)
        return SnapshotInfo(
            objects=raw.objects,
            nbytes=raw.bytes,
            forked=bool(raw.flags & _abi.SNAPSHOT_FORKED),
            child_windows=raw.child_windows,
            child_window_copies=raw.child_window_copies,
            child_bytes_copied=raw.child_bytes_copied,
        )

    # ---- the end ----

    def close(self) -> None:
        """Lets the objects go. Tensors, arrays and buffers that were taken from it stay. Idempotent."""
        handle, self._id = self._id, 0
        self._numbers = {}
        self._tensor = None
        if handle:
            self._library.c.moor_snapshot_close(handle)  # fails only when another thread was quicker

    def __del__(self) -> None:
        try:  # noqa: SIM105 - the interpreter may be half gone, contextlib too
            self.close()
        except Exception:  # noqa: S110
            pass

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(
            "a Snapshot cannot be pickled or copied: it holds memory of this process and of its forked children. Take "
            'it before workers are started (store.snapshot()), and start them with the "fork" method (DataLoader: '
            'multiprocessing_context="fork"): they inherit it. To other processes send the tensors themselves'
        )


class _Look:
    """Makes tensors by number where the builtin does not, and raises what there is to raise."""

    def __init__(self, library: _lib.Library, handle: int, mode: int, capsules: Capsules, module: Any) -> None:
        self._library = library
        self._id = c_uint64(handle)
        self._mode = mode
        self._capsules = capsules
        self._module = module

    def tensor(self, number: Any, mode: Any, instead: Any) -> Any:
        """As `_look.SecondLook.tensor`."""
        if instead is None:
            return self.plain(number, mode)
        if type(instead) is int:
            raise _error(self._library, instead)
        return self._module.from_capsule(instead, self._capsules)

    def plain(self, number: Any, mode: Any) -> Any:
        how = self._mode if mode is None else _parse.choice(mode, "mode", _abi.MODES)
        calls = self._library.quick if how == _VIEW else self._library.hot
        old = not self._module.HAS_DLPACK_1
        get = calls.moor_snapshot_get_tensor_unversioned if old else calls.moor_snapshot_get_tensor
        address = c_void_p()
        status = get(self._id, c_uint64(number), c_uint32(how), byref(address))
        if status:
            raise _error(self._library, status)
        wrap = self._capsules.unversioned if old else self._capsules.versioned
        return self._module.from_capsule(wrap(address), self._capsules)


def _error(library: _lib.Library, status: int) -> Exception:
    error = error_for(status, library.last_error())
    return _closed() if isinstance(error, ClosedError) else error


def _closed() -> ClosedError:
    return ClosedError("the snapshot is closed")


def _numbers(library: _lib.Library, handle: int) -> dict[str, int]:
    """The keys of a snapshot and their numbers."""
    packed = _abi.Keys()
    status = library.c.moor_snapshot_get_keys(handle, byref(packed))
    if status:
        raise _error(library, status)
    if not packed.count:
        return {}
    ends = array("Q", ctypes.string_at(packed.ends, 8 * packed.count))
    data = ctypes.string_at(packed.bytes, ends[-1])
    begins = chain((0,), ends)
    if data.isascii():
        text = data.decode("ascii")
        return {text[begin:end]: i for i, (begin, end) in enumerate(zip(begins, ends))}
    return {_lib.decode_key(data[begin:end]): i for i, (begin, end) in enumerate(zip(begins, ends))}
