"""DLPack: the structs and capsules by which tensors cross between the library, torch and numpy."""

from __future__ import annotations

import ctypes
import threading
from ctypes import PYFUNCTYPE, byref, c_char_p, c_void_p, py_object
from typing import Any

from . import _abi
from ._lib import Library
from .errors import UnsupportedError

_VERSIONED = c_char_p(b"dltensor_versioned")
_UNVERSIONED = c_char_p(b"dltensor")
_USED = c_char_p(b"used_dltensor_versioned")


class Capsules:
    """Makes and opens capsules through ctypes. Its names live as long as the process, as capsules want it."""

    def __init__(self, library: Library) -> None:
        api = ctypes.pythonapi
        try:
            # A function object of our own, and without argtypes: converting costs 0.4 us each.
            self._new: Any = api["PyCapsule_New"]
            self._valid: Any = PYFUNCTYPE(ctypes.c_int, py_object, c_char_p)(("PyCapsule_IsValid", api))
            self._pointer: Any = PYFUNCTYPE(c_void_p, py_object, c_char_p)(("PyCapsule_GetPointer", api))
            self._rename: Any = PYFUNCTYPE(ctypes.c_int, py_object, c_char_p)(("PyCapsule_SetName", api))
            end: Any = library.python.moor_py_capsule_end
        except AttributeError:
            raise UnsupportedError("this Python has no DLPack capsules; get_buffer and get work without them") from None
        self._new.restype = py_object
        self._end = ctypes.cast(end, c_void_p)

    def versioned(self, tensor: c_void_p) -> Any:
        """A capsule that owns the DLManagedTensorVersioned at this address."""
        return self._new(tensor, _VERSIONED, self._end)

    def parts(self) -> tuple[Any, c_char_p, c_void_p]:
        """The function, the name and the destructor that `versioned` puts together."""
        return self._new, _VERSIONED, self._end

    def unversioned(self, tensor: c_void_p) -> Any:
        return self._new(tensor, _UNVERSIONED, self._end)

    def managed(self, capsule: Any) -> Any:
        """The DLManagedTensorVersioned or DLManagedTensor in a capsule that nobody has consumed yet."""
        kind: Any
        if self._valid(capsule, _VERSIONED):
            kind, name = _abi.DLManagedTensorVersioned, _VERSIONED
        elif self._valid(capsule, _UNVERSIONED):
            kind, name = _abi.DLManagedTensor, _UNVERSIONED
        else:
            raise TypeError("a DLPack capsule that was not consumed before is needed")
        struct: Any = kind.from_address(self._pointer(capsule, name))
        struct._capsule = capsule  # its owner
        return struct

    def taken(self, capsule: Any) -> c_void_p:
        """Takes the versioned tensor out of a capsule, as a consumer does."""
        address = self._pointer(capsule, _VERSIONED)
        self._rename(capsule, _USED)
        return c_void_p(address)

    def of_producer(self, producer: Any) -> Any:
        """The managed tensor of anything with `__dlpack__`, on the CPU. It keeps its producer's memory."""
        device = producer.__dlpack_device__()
        if int(device[0]) != _abi.DL_CPU:
            raise UnsupportedError(
                f"t is a {type(producer).__name__} on another device (DLPack type {int(device[0])}); "
                "copy it to the CPU first"
            )
        try:
            capsule = producer.__dlpack__(max_version=(1, 1))
        except TypeError:
            capsule = producer.__dlpack__()
        managed = self.managed(capsule)
        _refuse(managed)
        return managed


def _refuse(managed: Any) -> None:
    """What a versioned struct says that is not understood here. (The older one says nothing.)"""
    version = getattr(managed, "version", None)
    if version is None:
        return
    if version.major != _abi.DL_MAJOR:  # then nothing else of it may be looked at
        raise UnsupportedError(f"t speaks DLPack {version.major}.{version.minor}; a store knows {_abi.DL_MAJOR}.x")
    if managed.flags & _abi.DL_PADDED:
        raise UnsupportedError("t pads each of its elements, of less than a byte, to a byte; pack them, or put uint8")


_lock = threading.Lock()
_carrier: Any = None


def carrier_type(library: Library) -> Any:
    """The type of objects that hand one tensor to numpy."""
    global _carrier
    with _lock:
        if _carrier is None:
            _carrier = library.python.moor_py_carrier_type(object.__basicsize__)
        return _carrier


def out_tensor() -> tuple[c_void_p, Any]:
    """An out parameter for a tensor."""
    tensor = c_void_p()
    return tensor, byref(tensor)
