"""`Buffer`: an object's bytes, with the buffer protocol."""

from __future__ import annotations

import ctypes
import sys
import threading
from ctypes import byref
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from . import _abi, _dtypes
from .errors import UnsupportedError

if TYPE_CHECKING:
    from ._lib import Library

__all__ = ["Buffer"]


class _Facts(NamedTuple):
    """What `_describe` answers."""

    flags: int
    code: int
    bits: int
    lanes: int
    shape: tuple[int, ...]
    meta: bytes
    seq: int
    nbytes: int


class Buffer:
    """The bytes of an object, held until the last memoryview, array or tensor made from them is gone.

    Has the buffer protocol (format "B", one dimension): `memoryview(b)`, `bytes(b)`, `np.frombuffer(b)`,
    `torch.frombuffer(b)` and `file.write(b)` all take it. In mode "view" it is read-only and is the store's own
    memory; in "cow" and "copy" it is writable and private. Ends by itself, by `release()`, or as a context manager:

        with store.get_buffer("weights") as b:
            header = bytes(memoryview(b)[:16])

    Made by `Store.get_buffer` only. Safe for concurrent use.
    """

    __slots__ = ()

    def __new__(cls, *_: object, **__: object) -> Buffer:
        raise TypeError("a Buffer is made by Store.get_buffer")

    if TYPE_CHECKING:

        def release(self) -> None:
            """Gives the bytes back now. BufferError while memoryviews of it exist; idempotent."""

        def __len__(self) -> int: ...

        def __buffer__(self, flags: int, /) -> memoryview: ...

        def _describe(self) -> tuple[Any, ...]: ...

    def _facts(self) -> _Facts:
        return _Facts(*self._describe())

    @property
    def dtype(self) -> str | None:
        """Name of the element type as torch and numpy have it ("bfloat16"); None for plain bytes."""
        facts = self._facts()
        return _dtypes.name_of(facts.code, facts.bits, facts.lanes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor; `(nbytes,)` for plain bytes."""
        facts = self._facts()
        return facts.shape if facts.flags & _abi.BUFFER_TENSOR else (facts.nbytes,)

    @property
    def meta(self) -> bytes:
        """The user metadata that was stored with the object."""
        return self._facts().meta

    @property
    def nbytes(self) -> int:
        """Size in bytes, the same as `len(b)`."""
        return self._facts().nbytes

    @property
    def seq(self) -> int:
        """Sequence number of the commit that stored the object."""
        return self._facts().seq

    @property
    def readonly(self) -> bool:
        """Whether writing is refused: mode "view"."""
        return bool(self._facts().flags & _abi.BUFFER_READ_ONLY)

    def __enter__(self) -> Buffer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def __repr__(self) -> str:
        try:
            facts = self._facts()
        except ValueError:
            return "<moorage.Buffer, released>"
        name = _dtypes.name_of(facts.code, facts.bits, facts.lanes)
        what = f"{name} {facts.shape}" if name else "plain bytes"
        return f"<moorage.Buffer of {facts.nbytes} bytes, {what}>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Buffer cannot be pickled or copied; take bytes(buffer) instead")


class _PlainBuffer(Buffer):
    """A Buffer without help from C, for Pythons whose classes can have the buffer protocol (3.12 on)."""

    __slots__ = ("__weakref__", "_exports", "_lock", "_release", "_struct", "_view")

    _exports: int
    _lock: threading.Lock
    _release: Any
    _struct: _abi.Buffer | None
    _view: memoryview

    def __new__(cls, struct: _abi.Buffer) -> _PlainBuffer:
        self: _PlainBuffer = object.__new__(cls)
        self._lock = threading.Lock()
        self._exports = 0
        self._release = _abi.ReleaseBuffer(struct.release)
        self._struct = struct
        # The memory is reached through this object only: who has a memoryview holds an export of it.
        memory = (ctypes.c_ubyte * struct.size).from_address(struct.data) if struct.size else b""
        view = memoryview(memory).cast("B")
        self._view = view.toreadonly() if struct.flags & _abi.BUFFER_READ_ONLY else view
        return self

    def _alive(self) -> _abi.Buffer:
        struct = self._struct
        if struct is None:
            raise ValueError("this buffer has been released")
        return struct

    def __buffer__(self, flags: int, /) -> memoryview:
        with self._lock:
            size = self._alive().size
            if flags & 1 and self._view.readonly and size:
                raise BufferError("Object is not writable.")
            self._exports += 1
            return self._view[:]

    def __release_buffer__(self, view: memoryview, /) -> None:
        view.release()
        with self._lock:
            self._exports -= 1

    def __len__(self) -> int:
        return int(self._alive().size)

    def release(self) -> None:
        with self._lock:
            if self._exports:
                raise BufferError("memoryviews or arrays of this buffer still exist; let go of them first")
            self._end()

    def _end(self) -> None:
        struct, self._struct = self._struct, None
        if struct is not None:
            self._view = memoryview(b"")
            self._release(byref(struct))

    def _describe(self) -> tuple[Any, ...]:
        with self._lock:
            b = self._alive()
            meta = ctypes.string_at(b.meta, b.meta_size) if b.meta_size else b""
            d = b.dtype
            return b.flags, d.code, d.bits, d.lanes, tuple(b.shape[: b.ndim]), meta, b.seq, b.size

    def __del__(self) -> None:
        if getattr(self, "_struct", None) is not None:
            self._end()


class _Maker:
    """Makes Buffers from what the library hands out, by the best way that this Python has."""

    def __init__(self, library: Library, route: str) -> None:
        self._library = library
        self.type: Any = None
        if library.builtin and not (route == "ctypes" and sys.version_info >= (3, 12)):
            exporter = library.python.moor_py_buffer_type(object.__basicsize__)
            members = {"__slots__": (), "__module__": __name__, "__doc__": Buffer.__doc__}
            self.type = type("Buffer", (Buffer, exporter), members)

    def from_struct(self, struct: _abi.Buffer) -> Buffer:
        """Takes `struct` over, also when it raises."""
        try:
            if self.type is not None:
                made: Buffer = self._library.python.moor_py_wrap_buffer(self.type, struct)
                return made
            if sys.version_info < (3, 12) and sys.implementation.name == "cpython":
                raise UnsupportedError(
                    "this Python is embedded in a way that hides its C API, and its classes cannot have the buffer "
                    "protocol (Python 3.12 and later can); use get_array, get_tensor or get"
                )
            return _PlainBuffer(struct)
        except BaseException:
            if struct.release:
                _abi.ReleaseBuffer(struct.release)(byref(struct))
            raise

    def from_tensor(self, managed: int) -> Buffer:
        """Takes over the tensor at this address, also when it raises."""
        if self.type is None:
            return self.from_struct(_struct_of_tensor(managed))
        try:
            made: Buffer = self._library.python.moor_py_wrap_tensor(self.type, managed)
        except BaseException:
            _abi.DeleteTensor(_abi.DLManagedTensorVersioned.from_address(managed).deleter)(managed)
            raise
        return made


def _struct_of_tensor(managed: int) -> _abi.Buffer:
    """A buffer struct over a tensor, which ends with it."""
    tensor = _abi.DLManagedTensorVersioned.from_address(managed)  # lives until its deleter is called, by `release`
    inner = tensor.dl_tensor
    bits = inner.dtype.bits * inner.dtype.lanes
    for n in inner.shape[: inner.ndim]:
        bits *= n
    delete = _abi.DeleteTensor(tensor.deleter)

    def release(struct: Any) -> None:
        struct.contents.release = None
        delete(managed)

    callback = _abi.ReleaseBuffer(release)
    flags = _abi.BUFFER_TENSOR | (_abi.BUFFER_READ_ONLY if tensor.flags & _abi.DL_READ_ONLY else 0)
    struct = _abi.Buffer(
        version=1,
        flags=flags,
        release=ctypes.cast(callback, ctypes.c_void_p),
        data=(inner.data or 0) + inner.byte_offset,
        size=bits // 8,
        dtype=inner.dtype,
        ndim=inner.ndim,
        shape=inner.shape,
    )
    struct._callback = callback
    return struct


_lock = threading.Lock()
_makers: dict[str, _Maker] = {}


def maker(library: Library, route: str) -> _Maker:
    with _lock:
        if route not in _makers:
            _makers[route] = _Maker(library, route)
        return _makers[route]
