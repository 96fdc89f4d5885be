"""The ctypes route: what the builtins do (see `_builtin`), in Python."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from ctypes import POINTER, byref, c_int32, c_uint64, c_void_p, create_string_buffer, pointer
from typing import TYPE_CHECKING, Any

from . import _abi, _memory, _parse, buffer
from ._lib import Library, PackedKeys, PutCall, encode_key
from ._look import SecondLook
from .dlpack import Capsules
from .errors import MoorageError

if TYPE_CHECKING:
    from .snapshot import Snapshot

_VIEW = _abi.MODES["view"]
_MOST = 512  # tensors that one call puts; signals are heard in between

# Hot calls have no argtypes: a c_uint64 says how wide a length is. Most keys are short.
_LENGTHS = [c_uint64(n) for n in range(256)]


def _length(name: bytes) -> c_uint64:
    n = len(name)
    return _LENGTHS[n] if n < len(_LENGTHS) else c_uint64(n)


class PlainCalls:
    """Calls on one store through ctypes. A look-up in mode view keeps the GIL; everything else releases it.

    Results as in `_builtin`: a negative int is a status.
    """

    def __init__(self, library: Library, store: int) -> None:
        self._library = library
        self._store = store
        self.handle = c_uint64(store)
        self.quick = library.quick
        self._hot = library.hot
        self._made: Capsules | None = None

    @property
    def capsules(self) -> Capsules:
        if self._made is None:
            self._made = Capsules(self._library)
        return self._made

    def read(self, key: Any) -> Any:
        name = encode_key(key)
        size = c_uint64(512)
        while True:  # the object can be replaced by a larger one in between
            room = size.value
            memory = create_string_buffer(max(room, 1))
            status: int = self._library.c.moor_get(self._store, name, len(name), memory, room, byref(size))
            if status != _abi.TOO_SMALL:
                return memory.raw[: size.value] if status == 0 else status

    def into(self, key: Any, out: Any, offset: Any, nbytes: Any) -> None:
        """There is no quick way: None sends the caller the long one."""

    def into_tensor(self, key: Any, out: Any, offset: Any, nbytes: Any) -> None:
        """The same."""

    def has(self, key: Any) -> int:
        packed = PackedKeys([key])
        found = ctypes.c_uint8()
        status: int = self._library.c.moor_exists(self._store, packed.pointer(), byref(found))
        return status or found.value

    def put(self, key: Any, data: Any, if_exists: int, meta: Any) -> int | None:
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

    def put_array(self, key: Any, data: Any, if_exists: int, meta: Any, dtype: int) -> int | None:
        loan = _memory.strided(data)
        if loan is None:
            return None
        with loan:
            try:
                struct = _array_struct(loan, dtype)
            except _NotPlain:
                return None
            return self.put_struct(encode_key(key), struct, PutCall(if_exists, meta))

    def put_parts(self, key: Any, parts: tuple[Any, ...], if_exists: int, meta: Any) -> int | None:
        name, call = encode_key(key), PutCall(if_exists, meta)
        loans = []
        try:
            for part in parts:
                loan = _memory.dense(part)
                if loan is None:
                    return None
                loans.append(loan)
            table = (_abi.Part * max(len(loans), 1))(*[_abi.Part(loan.address, loan.size) for loan in loans])
            return call.outcome(
                self._library.c.moor_put_parts(
                    self._store, name, len(name), table, len(loans), call.options, call.result
                )
            )
        finally:
            for loan in loans:
                loan.end()

    def put_many(self, keys: list[Any], structs: list[Any], if_exists: int) -> Any:
        """Outcomes; None when one of the keys cannot be used."""
        try:
            packed = PackedKeys(keys)
        except (TypeError, MoorageError):
            return None
        count = len(keys)
        pointers = (POINTER(_abi.DLTensor) * count)(*map(pointer, structs))
        results, statuses = (_abi.PutResult * count)(), (c_int32 * count)()
        status = self._library.c.moor_put_tensors(
            self._store, packed.pointer(), pointers, PutCall(if_exists).options, results, statuses
        )
        return None if status else [s if s < 0 else r.outcome for s, r in zip(statuses, results)]

    def put_set(self, packed: PackedKeys, structs: list[Any], if_exists: int) -> Any:
        """All or nothing: outcomes, or a status."""
        count = packed.count
        pointers = (POINTER(_abi.DLTensor) * max(count, 1))(*map(pointer, structs))
        results, statuses = (_abi.PutResult * max(count, 1))(), (c_int32 * max(count, 1))()
        options = PutCall(if_exists, flags=_abi.PUT_ATOMIC).options
        status: int = self._library.c.moor_put_tensors(
            self._store, packed.pointer(), pointers, options, results, statuses
        )
        return status or [r.outcome for r in results[:count]]

    def put_tensor(self, key: Any, tensor: Any, if_exists: int, meta: Any) -> None:
        """There is no quick way: None sends the caller to `put_struct`."""

    def capsule(self, key: Any, mode: int) -> Any:
        """A versioned capsule, or a status."""
        name = encode_key(key)
        address = c_void_p()
        calls = self.quick if mode == _VIEW else self._hot
        status: int = calls.moor_get_tensor(self.handle, name, _length(name), mode, byref(address))
        return self.capsules.versioned(address) if status == 0 else status

    def unversioned(self, key: Any, mode: int) -> Any:
        name = encode_key(key)
        address = c_void_p()
        calls = self.quick if mode == _VIEW else self._hot
        status: int = calls.moor_get_tensor_unversioned(self.handle, name, _length(name), mode, byref(address))
        return self.capsules.unversioned(address) if status == 0 else status

    def tensors(self, keys: Iterable[Any], mode: int) -> Any:
        """A tuple of capsules and statuses, or a status."""
        packed = PackedKeys(keys)
        addresses = (c_void_p * packed.count)()
        statuses = (c_int32 * packed.count)()
        calls = self.quick if mode == _VIEW else self._hot
        status: int = calls.moor_get_tensors(self.handle, packed.pointer(), mode, addresses, statuses)
        if status != 0:
            return status
        wrap = self.capsules.versioned
        return tuple([wrap(c_void_p(t)) if s == 0 else s for t, s in zip(addresses, statuses)])

    def buffer_or_status(self, key: Any, mode: int) -> Any:
        name = encode_key(key)
        struct = _abi.Buffer()
        calls = self.quick if mode == _VIEW else self._hot
        status: int = calls.moor_get_buffer(self.handle, name, _length(name), mode, byref(struct))
        if status:
            return status
        self.note_buffer(struct)
        return buffer.maker(self._library, "ctypes").from_struct(struct)

    def route(self, route: Any, look: SecondLook) -> Any:
        """The route to use, given the one without debug mode."""
        return route

    def note(self, tensor: c_void_p) -> None:
        """In debug mode: remembers who asked for the tensor at this address. `Capsules` do so for those in capsules."""

    def note_buffer(self, struct: Any) -> None:
        """The same for a buffer."""

    def traces(self, listed: list[tuple[str, int, int]]) -> list[list[str]]:
        """In debug mode: from where each of these (key, record, sequence number) is viewed."""
        return [[]] * len(listed)

    def snapshot(self, route: str, handle: int, mode: int) -> Snapshot:
        from .snapshot import Snapshot

        return Snapshot(self._library, route, handle, mode)

    def put_struct(self, name: bytes, struct: Any, call: PutCall) -> int:
        return call.outcome(
            self._library.c.moor_put_tensor(self._store, name, len(name), struct, call.options, call.result)
        )


class _NotPlain(Exception):
    pass


class _Structs:
    """Makes structs of the tensors of a batch, and keeps what they borrow until `end`."""

    def __init__(self, torch: Any, numpy: Any) -> None:
        self._torch = torch
        self._numpy = numpy
        self._loans: list[_memory.Loan] = []

    def of(self, t: Any) -> Any:
        torch, numpy = self._torch, self._numpy
        if torch is not None and type(t) in torch.PLAIN_TYPES and torch.is_plain(t) and torch.is_dense_cpu(t):
            return torch.struct(t)
        if numpy is not None and type(t) is numpy.ARRAY and t.dtype in numpy.PACKED:
            loan = _memory.strided(t)
            if loan is not None:
                self._loans.append(loan)
                return _array_struct(loan, numpy.PACKED[t.dtype])
        raise _NotPlain

    def end(self) -> None:
        for loan in self._loans:
            loan.end()


def _array_struct(loan: _memory.Loan, dtype: int) -> Any:
    """Memory of an array, whose dtype is code << 8 | bits."""
    if any(step % loan.itemsize for step in loan.strides):
        raise _NotPlain
    steps = tuple([step // loan.itemsize for step in loan.strides])
    return _memory.tensor_struct(loan.address, (dtype >> 8, dtype & 0xFF, 1), loan.shape, steps)


class PlainRoute:
    """The functions of one store, as `_builtin.BuiltinRoute` has them."""

    def __init__(self, calls: PlainCalls, look: SecondLook) -> None:
        self._calls = calls
        self._look = look
        self.read = calls.read
        self.into = calls.into
        self.has = calls.has
        self.put = calls.put
        self.put_parts = calls.put_parts
        self.put_array = calls.put_array

    def buffer(self, key: Any, mode: Any) -> Any:
        return self._look.buffer(key, mode, None)

    def put_many(self, torch: Any, numpy: Any) -> Any:
        """As in `_builtin`."""
        calls = self._calls

        def put_many(keys: list[Any], tensors: list[Any], if_exists: int, begin: int) -> Any:
            if begin < 0:
                return None  # there is no quick way for a set
            structs: list[Any] = []
            made = _Structs(torch, numpy)
            try:
                try:
                    for t in tensors[begin : begin + _MOST]:
                        structs.append(made.of(t))  # noqa: PERF401 - what was made before a failure is wanted
                except (_NotPlain, MoorageError):
                    pass
                return calls.put_many(keys[begin : begin + len(structs)], structs, if_exists) if structs else []
            finally:
                made.end()

        return put_many

    def torch(self, module: Any) -> tuple[Any, Any, Any, Any]:
        """As in `_builtin`."""
        calls, look, handle, from_dlpack = self._calls, self._look, self._calls.handle, module.from_dlpack
        # Names of this function, for speed: this is the whole cost of the route.
        get, (new, name, end) = calls.quick.moor_get_tensor, calls.capsules.parts()
        lengths, pointer, by_reference = _LENGTHS, c_void_p, byref
        views = ("view", None) if look.mode == _VIEW else ("view",)

        def tensor(key: Any, mode: Any) -> Any:
            if mode not in views:
                return look.tensor(key, mode, None)
            try:
                text = key.encode()
                length = lengths[len(text)]
            except (AttributeError, UnicodeEncodeError, IndexError):
                return look.tensor(key, mode, None)
            address = pointer()
            status = get(handle, text, length, _VIEW, by_reference(address))
            if status:
                return look.tensor(key, mode, status)
            capsule = new(address, name, end)
            try:
                return from_dlpack(capsule)
            except (RuntimeError, BufferError, ValueError, TypeError):
                return look.tensor(key, mode, capsule)

        def tensors(keys: Any, mode: Any) -> Any:
            return calls.tensors(keys, look.number(mode))

        if module.HAS_DLPACK_1:
            return tensor, tensors, calls.put_tensor, calls.into_tensor
        return self._unversioned_getters(module)

    def _unversioned_getters(self, module: Any) -> tuple[Any, Any, Any, Any]:
        """For torch from before DLPack 1.0."""
        calls, look = self._calls, self._look

        def tensor(key: Any, mode: Any) -> Any:
            found = look.settle(calls.unversioned(key, look.number(mode)), key)
            return module.from_capsule(found, calls.capsules)

        def tensors(keys: Any, mode: Any) -> Any:
            return tuple([calls.unversioned(key, look.number(mode)) for key in keys])

        return tensor, tensors, calls.put_tensor, calls.into_tensor

    def numpy(self, module: Any) -> Any:
        calls, look = self._calls, self._look

        def array(key: Any, mode: Any) -> Any:
            capsule = calls.capsule(key, _parse.choice(mode, "mode", _abi.MODES))
            if type(capsule) is int:
                return look.array(key, mode, capsule)
            made = module.from_capsule(capsule)
            return look.array(key, mode, None) if made is None else made

        return array
