"""numpy: arrays in and out. Imported when an array is, never by `import moorage`."""

from __future__ import annotations

import sys
from typing import Any, Callable

import numpy as np

from . import _dtypes
from .buffer import Buffer
from .errors import UnsupportedError

# Since 2.1 numpy understands DLPack 1.0, which can say read-only.
HAS_DLPACK_1 = tuple(int(part) for part in np.__version__.split(".")[:2]) >= (2, 1)

from_dlpack: Any = getattr(np, "from_dlpack", None)
_OWN = {np.dtype(name): _dtypes.TRIPLES[name] for name in _dtypes.NUMPY_OWN}


# Arrays of exactly this type and these dtypes are stored as they are; the number is what the route wants to know.
ARRAY = np.ndarray
PACKED = {dtype: code << 8 | bits for dtype, (code, bits, _) in _OWN.items()}


class _Carrier:
    """What np.from_dlpack wants to see: an object that answers with a capsule."""

    __slots__ = ("_capsule",)

    def __init__(self, capsule: Any) -> None:
        self._capsule = capsule

    def __dlpack__(self, **_: Any) -> Any:
        return self._capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0


def from_capsule(capsule: Any) -> np.ndarray[Any, Any] | None:
    """An array that owns what is in the capsule; None, and the capsule is as it was, if numpy has no such dtype."""
    try:
        array: np.ndarray[Any, Any] = from_dlpack(_Carrier(capsule))
    except (BufferError, RuntimeError, TypeError, ValueError):
        return None
    return array


def from_buffer(buffer: Buffer) -> np.ndarray[Any, Any]:
    """An array over a buffer, which it keeps. The way for dtypes that come from ml_dtypes."""
    memory: Any = buffer
    array: np.ndarray[Any, Any] = np.ndarray(buffer.shape, named(buffer.dtype or "uint8"), memory)
    return array


def through_buffers(get_buffer: Callable[[Any, Any], Buffer]) -> Callable[[Any, Any], np.ndarray[Any, Any]]:
    """A getter of arrays made from one of buffers."""
    return lambda key, mode: from_buffer(get_buffer(key, mode))


def named(name: str) -> np.dtype[Any]:
    """The dtype of this name. UnsupportedError when numpy has none, even with ml_dtypes."""
    if name in _dtypes.NUMPY_OWN:
        return np.dtype(name)
    try:
        import ml_dtypes
    except ImportError:
        raise UnsupportedError(
            f"numpy has no dtype {name} by itself; install ml_dtypes, or use get_tensor, or get_buffer for the bytes"
        ) from None
    kind = getattr(ml_dtypes, name, None)
    if kind is None or _dtypes.TRIPLES.get(name, (0, 0, 0))[1] < 8:
        raise UnsupportedError(f"neither numpy nor ml_dtypes has a dtype {name}; use get_tensor, or get_buffer")
    found: np.dtype[Any] = np.dtype(kind)
    return found


_WHY_NOT = {
    "O": "holds Python objects; pickle them and use put",
    "S": "is a string dtype; use put, or view it as uint8",
    "U": "is a string dtype; encode it and use put, or view it as uint32",
    "T": "is a string dtype; encode it and use put",
    "V": "is structured or void; put each field by itself, or view it as uint8",
    "M": 'is a datetime dtype; view it as int64 (array.view("int64"))',
    "m": 'is a timedelta dtype; view it as int64 (array.view("int64"))',
}


def triple_of(dtype: np.dtype[Any]) -> _dtypes.Triple:
    """DLPack's triple for a dtype, byte order aside. UnsupportedError, which says what to do, when there is none."""
    known = _OWN.get(dtype)
    if known is not None:
        return known
    if dtype.type.__module__.partition(".")[0] == "ml_dtypes":
        triple = _dtypes.TRIPLES.get(dtype.name)
        if triple is None or triple[1] < 8:
            raise UnsupportedError(
                f"dtype {dtype.name} pads each element to a byte, which DLPack cannot say; view it as uint8"
            )
        return triple
    if dtype.fields is None and dtype.kind in "biufc":
        known = _OWN.get(dtype.newbyteorder("="))
        if known is not None:
            return known
        raise UnsupportedError(
            f"dtype {dtype.name} is not the same on every machine; convert it, for example to float64"
        )
    why = _WHY_NOT.get(dtype.kind, "is none that a store holds")
    raise UnsupportedError(f"t has dtype {dtype}, which {why}")


def prepare(array: Any) -> tuple[np.ndarray[Any, Any], _dtypes.Triple]:
    """The array as it can be stored, in native byte order and with a buffer, and its triple."""
    masked = sys.modules.get("numpy.ma")  # which numpy imports when it is first asked for: not by us
    if masked is not None and isinstance(array, masked.MaskedArray):
        raise UnsupportedError("t is a masked array, and a store does not hold masks; use t.filled() or t.data")
    array = np.asarray(array)
    dtype = array.dtype
    triple = triple_of(dtype)
    if dtype not in _OWN and triple[0] not in (0, 1, 2, 6) and dtype.type.__module__.startswith("ml_dtypes"):
        return array.view(f"u{dtype.itemsize}"), triple  # numpy gives no buffer for these
    if not dtype.isnative:
        array = array.astype(dtype.newbyteorder("="))
    if any(step % dtype.itemsize for step in array.strides):
        array = np.ascontiguousarray(array)  # fields of a structured array
    return array, triple
