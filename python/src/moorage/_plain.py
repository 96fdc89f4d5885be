"""The ctypes route: what the builtins do (see `_builtin`), in Python."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from ctypes import byref, c_int32, c_uint64, c_void_p, create_string_buffer
from typing import Any

from . import _abi, _memory, buffer
from ._lib import Library, PackedKeys, PutCall, encode_key
from .dlpack import Capsules

_VIEW = _abi.MODES["view"]


class PlainRoute:
    """Functions bound to one store. Each answers with its result or with a negative status.

    A look-up in mode view keeps the GIL; everything else releases it.
    """

    def __init__(self, library: Library, store: int) -> None:
        self._library = library
        self._store = store
        self._handle = c_uint64(store)  # hot calls have no argtypes: this says how wide it is
        self._quick = library.quick
        self._hot = library.hot
        self._made: Capsules | None = None

    @property
    def capsules(self) -> Capsules:
        if self._made is None:
            self._made = Capsules(self._library)
        return self._made

    def capsule(self, key: str, mode: int) -> Any:
        name = encode_key(key)
        tensor = c_void_p()
        calls = self._quick if mode == _VIEW else self._hot
        status: int = calls.moor_get_tensor(self._handle, name, c_uint64(len(name)), mode, byref(tensor))
        return self.capsules.versioned(tensor) if status == 0 else status

    tensor = capsule

    def unversioned(self, key: str, mode: int) -> Any:
        name = encode_key(key)
        tensor = c_void_p()
        status: int = self._hot.moor_get_tensor_unversioned(
            self._handle, name, c_uint64(len(name)), mode, byref(tensor)
        )
        return self.capsules.unversioned(tensor) if status == 0 else status

    def tensors(self, keys: Iterable[str], mode: int) -> Any:
        """A tuple of capsules and statuses."""
        packed = PackedKeys(keys)
        tensors = (c_void_p * packed.count)()
        statuses = (c_int32 * packed.count)()
        calls = self._quick if mode == _VIEW else self._hot
        status: int = calls.moor_get_tensors(self._handle, packed.pointer(), mode, tensors, statuses)
        if status != 0:
            return status
        wrap = self.capsules.versioned
        return tuple([wrap(c_void_p(t)) if s == 0 else s for t, s in zip(tensors, statuses)])

    def buffer(self, key: str, mode: int) -> Any:
        name = encode_key(key)
        struct = _abi.Buffer()
        calls = self._quick if mode == _VIEW else self._hot
        status: int = calls.moor_get_buffer(self._handle, name, c_uint64(len(name)), mode, byref(struct))
        return buffer.maker(self._library, "ctypes").from_struct(struct) if status == 0 else status

    def read(self, key: str) -> Any:
        name = encode_key(key)
        size = c_uint64(512)
        while True:  # the object can be replaced by a larger one in between
            room = size.value
            memory = create_string_buffer(max(room, 1))
            status: int = self._library.c.moor_get(self._store, name, len(name), memory, room, byref(size))
            if status != _abi.TOO_SMALL:
                return memory.raw[: size.value] if status == 0 else status

    def has(self, key: str) -> int:
        packed = PackedKeys([key])
        found = ctypes.c_uint8()
        status: int = self._library.c.moor_exists(self._store, packed.pointer(), byref(found))
        return status or found.value

    def put(self, key: str, data: Any, if_exists: int, meta: Any) -> int | None:
        name = encode_key(key)
        loan = _memory.dense(data)
        if loan is not None:
            with loan:
                call = PutCall(if_exists, meta)
                return call.outcome(
                    self._library.c.moor_put(
                        self._store, name, len(name), loan.address, loan.size, call.options, call.result
                    )
                )
        loan = _memory.strided(data)
        if loan is None:
            return None
        with loan:
            return self.put_struct(name, _memory.as_bytes_struct(loan), PutCall(if_exists, meta, _abi.PUT_AS_BYTES))

    def put_array(self, key: str, data: Any, if_exists: int, meta: Any, dtype: int) -> int | None:
        loan = _memory.strided(data)
        if loan is None:
            return None
        with loan:
            if any(step % loan.itemsize for step in loan.strides):
                return None
            steps = tuple(step // loan.itemsize for step in loan.strides)
            struct = _memory.tensor_struct(loan.address, (dtype >> 8, dtype & 0xFF, 1), loan.shape, steps)
            return self.put_struct(encode_key(key), struct, PutCall(if_exists, meta))

    def put_struct(self, name: bytes, struct: Any, call: PutCall) -> int:
        return call.outcome(
            self._library.c.moor_put_tensor(self._store, name, len(name), struct, call.options, call.result)
        )

    def put_tensor(self, key: str, tensor: Any, if_exists: int, meta: Any) -> None:
        """There is no quick way: None sends the caller to `put_struct`."""
