"""Addresses of other people's memory, for the length of a call.

A `Loan` is what Python's buffer protocol gives: the memory stays where it is, and the object alive, until the loan
ends.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, byref, c_char_p, c_int, c_ssize_t, c_void_p, py_object
from types import TracebackType
from typing import Any

from . import _abi
from .errors import ReadOnlyError

_SIMPLE, _WRITABLE, _STRIDED = 0x0, 0x1, 0x18


class _PyBuffer(Structure):
    _fields_ = [
        ("buf", c_void_p),
        ("obj", c_void_p),
        ("len", c_ssize_t),
        ("itemsize", c_ssize_t),
        ("readonly", c_int),
        ("ndim", c_int),
        ("format", c_char_p),
        ("shape", POINTER(c_ssize_t)),
        ("strides", POINTER(c_ssize_t)),
        ("suboffsets", POINTER(c_ssize_t)),
        ("internal", c_void_p),
    ]


def _python_api() -> Any:
    """PyObject_GetBuffer and PyBuffer_Release of this Python; None where there are none."""
    api: Any = getattr(ctypes, "pythonapi", None)
    try:
        # Our own function objects: the ones on pythonapi are shared with everybody.
        get = ctypes.PYFUNCTYPE(c_int, py_object, POINTER(_PyBuffer), c_int)(("PyObject_GetBuffer", api))
        put_back = ctypes.PYFUNCTYPE(None, POINTER(_PyBuffer))(("PyBuffer_Release", api))
    except (AttributeError, TypeError, ValueError):
        return None
    return get, put_back


_api = _python_api()


class Loan:
    """Memory of `owner`: `address`, `size` in bytes, and for strided memory `shape`, `strides` in bytes, `itemsize`."""

    __slots__ = ("_keep", "_view", "address", "itemsize", "shape", "size", "strides")

    address: int
    size: int
    itemsize: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __init__(self, owner: Any, flags: int) -> None:
        self._view: _PyBuffer | None = None
        if _api is None:
            self._by_ctypes(owner, flags)
            return
        view = _PyBuffer()
        _api[0](owner, byref(view), flags)  # PYFUNCTYPE raises what Python raises
        self._view = view
        self._keep = owner
        self.address = view.buf or 0
        self.size = view.len
        self.itemsize = view.itemsize
        strided = bool(flags & _STRIDED) and view.ndim > 0
        self.shape = tuple(view.shape[: view.ndim]) if strided else ()
        self.strides = tuple(view.strides[: view.ndim]) if strided else ()

    def _by_ctypes(self, owner: Any, flags: int) -> None:
        """Without the C API: a contiguous writable buffer by address, anything else to read through a copy."""
        view = memoryview(owner)
        if flags & _WRITABLE:
            if view.readonly or not view.c_contiguous:
                raise BufferError("a contiguous, writable buffer is needed")
            memory = (ctypes.c_char * view.nbytes).from_buffer(view.cast("B"))
            self._keep, self.address = memory, ctypes.addressof(memory)
        else:
            data = view.tobytes()
            self._keep, self.address = data, ctypes.cast(c_char_p(data), c_void_p).value or 0
        self.size, self.itemsize = view.nbytes, 1
        self.shape, self.strides = (view.nbytes,), (1,)

    def end(self) -> None:
        view, self._view = self._view, None
        if view is not None:
            _api[1](byref(view))

    def __enter__(self) -> Loan:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def __del__(self) -> None:
        self.end()


def dense(owner: Any) -> Loan | None:
    """Contiguous memory to read; None when `owner` has a buffer but not a contiguous one, or none at all."""
    try:
        return Loan(owner, _SIMPLE)
    except (BufferError, ValueError, TypeError):
        return None


def strided(owner: Any) -> Loan | None:
    """Memory to read, of any strides; None when there is none to be had."""
    try:
        return Loan(owner, _STRIDED)
    except (BufferError, ValueError, TypeError):
        return None


def writable(owner: Any, name: str) -> Loan:
    """Contiguous memory to write to. `name` is what the caller called it."""
    if _holds_objects(owner):
        raise TypeError(f"{name} holds Python objects, which must not be written over; give memory of numbers")
    try:
        return Loan(owner, _WRITABLE)
    except TypeError:
        raise TypeError(
            f"{name} must be a writable buffer, a numpy array or a torch tensor on the CPU, not {type(owner).__name__}"
        ) from None
    except (BufferError, ValueError) as error:
        if _is_read_only(owner):
            raise ReadOnlyError(f"{name} is read-only; give memory that can be written to") from None
        raise BufferError(f"{name} must be contiguous ({error}); copy into a contiguous array first") from None


def _is_read_only(owner: Any) -> bool:
    try:
        return memoryview(owner).readonly
    except (TypeError, ValueError, BufferError):  # released, or of a dtype that has no format
        return getattr(getattr(owner, "flags", None), "writeable", True) is False


def _holds_objects(owner: Any) -> bool:
    """Whether its items are, or hold, pointers to Python objects."""
    if getattr(getattr(owner, "dtype", None), "hasobject", False) is True:
        return True
    try:
        form = memoryview(owner).format
    except (TypeError, ValueError, BufferError):
        return False
    return "O" in "".join(form.split(":")[::2])  # names stand between colons


def tensor_struct(
    address: int, triple: tuple[int, int, int], shape: tuple[int, ...], strides: tuple[int, ...] | None
) -> _abi.DLTensor:
    """A DLTensor in CPU memory. Strides in elements. It owns its shape and strides, not its data."""
    ndim = len(shape)
    dims = (ctypes.c_int64 * max(ndim, 1))(*shape)
    steps = None if strides is None else (ctypes.c_int64 * max(ndim, 1))(*strides)
    return _abi.DLTensor(address, _abi.DLDevice(_abi.DL_CPU, 0), ndim, _abi.DLDataType(*triple), dims, steps, 0)


def as_bytes_struct(loan: Loan) -> _abi.DLTensor:
    """Strided memory as a tensor of bytes: one more dimension for the bytes of an item, and none for sizes of 1."""
    dims = [(n, step) for n, step in zip(loan.shape, loan.strides) if n != 1]
    dims.append((loan.itemsize, 1))
    shape, strides = zip(*dims)
    return tensor_struct(loan.address, (1, 8, 1), shape, strides)
