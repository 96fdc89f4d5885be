"""`Store`: the operations of a store, as Python knows them."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
import weakref
from collections.abc import Iterable, Mapping, Sequence
from ctypes import byref, c_uint64, c_void_p
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable, Literal, NoReturn, cast, overload

from . import (
    _abi,
    _batch,
    _builtin,
    _disk,
    _dtypes,
    _files,
    _lib,
    _log,
    _look,
    _memory,
    _parse,
    _plain,
    buffer,
    dlpack,
)
from .errors import CancelledError, InvalidArgumentError, MoorageError, NoMemoryError, UnsupportedError, error_for

if TYPE_CHECKING:
    import numpy as np
    import torch

    from .job import Job
    from .job_queue import JobQueue
    from .records import Borrow, Description, DeviceStats, DiskStats, Stats
    from .registration import Registration
    from .snapshot import Snapshot
    from .timings import Timings

__all__ = ["IfExists", "Mode", "Store"]

Mode = Literal["view", "cow", "copy"]
IfExists = Literal["replace", "keep", "raise"]

_IF_EXISTS = _abi.IF_EXISTS
_MISSING = {"raise": 0, "none": 1}
_JOB_KINDS = {"tensor": 0, "array": 1, "buffer": 2}


class Store:
    """A store of immutable objects (bytes, or tensors with dtype and shape) under keys, in memory that never moves.

    What the getters return owns its bytes: they stay as they are until the last tensor, array or slice made from
    them is gone, whatever happens to the key or the store meanwhile.

        >>> import moorage, numpy as np
        >>> with moorage.Store("1MiB") as store:
        ...     store.put_tensor("a", np.arange(3))
        ...     a = store.get_array("a")
        True
        >>> a
        array([0, 1, 2])

    capacity     bytes of tensor memory, as an int or a text such as "4GiB"; None is a quarter of the memory that this
                 process may use. It is address space; memory is used when it is first written.
    mode         how `get_tensor` hands out torch tensors unless told otherwise. "cow": a private copy-on-write
                 window, an ordinary writable tensor whose writes never reach the store. "view": the store's own
                 memory, nothing to set up; torch cannot express read-only, so *writing to it ends the process*, with a
                 line that names the key. "copy": memory of your own.
    eviction     "none": a full store refuses with CapacityError. "s3fifo": it drops objects that are neither viewed
                 nor pinned.
    hugepages    "auto": memory that is made ready ahead of its use (`prefault`, or registered with a disk or a network
                 card) is gathered into huge pages where the kernel does so. "try" or "require" (HugePagesError when
                 there are too few): those that the administrator has set aside. "off": ordinary pages.
    prefault     "none", "background" or "open": whether memory is touched before it is used.
    disk         a directory for what memory has no room for; made if it is not there, and owned by one store at a time.
                 Memory that is full makes room by writing objects there, and what is asked for is read back: nothing is
                 lost. A full disk refuses (eviction="none") or drops what was not used for long ("s3fifo"). What was
                 persistent is found again by the next store that opens it; see `persist` and `flush`.
    disk_capacity
                 bytes of it that may be used, as `capacity`; None is 90 % of what is free.
    durability   when what is written there is safe from a loss of power: "batch" soon after, "each" before it is
                 reported, "none" when the kernel sees to it. `persist` and `flush` always wait for that.
    verify       whether checksums are compared when objects are read: "always", "sampled" (one in sixteen), "off".
    promote      whether an object that was read stays in memory: "always", "second hit", "never".
    write        "back": objects go to disk when memory is needed. "through": a put returns when it is there as well;
                 when it could not be written it raises IOFailedError, and the object is in memory.
    read_path    "direct": past the page cache, straight to where the bytes belong. "buffered": through the page cache.
                 "mmap": through mapped files, for comparison; page faults count as device, and each byte is copied.
    trace        a file to which each operation's times are appended as a line of JSON; see `timings`.
    register     what transfers over a network device do with memory of yours that you did not `register`: "never", copy
                 it through memory that is; "always", register it for the one transfer; "auto", what costs less, by
                 measurement; "require", raise. Nothing else is touched by it: puts and gets of this store register
                 nothing.
    debug        True: `borrows` says from where each view was taken, and taking one costs several times more. None:
                 False, unless the environment has MOORAGE_DEBUG=1.

    Keys are str of 1 to 4096 bytes in UTF-8. Any number of threads may use a store at once. A store belongs to its
    process: in a forked child every operation raises ForkedError, while views taken before stay readable, and a
    `snapshot` taken before can be read. It cannot be pickled. It is true even when it is empty, and cannot be iterated
    over; see `keys`.

    All exceptions are MoorageError (see moorage.errors), TypeError for arguments of a wrong type.
    """

    # Until __init__ has got that far.
    _id = 0
    _closed = True
    _told_of_copies = False
    _submitter: Any = None

    def __init__(
        self,
        capacity: int | str | None = None,
        *,
        mode: Mode = "cow",
        eviction: Literal["none", "s3fifo"] = "none",
        hugepages: Literal["auto", "try", "require", "off"] = "auto",
        prefault: Literal["none", "background", "open"] = "none",
        disk: str | os.PathLike[str] | None = None,
        disk_capacity: int | str | None = None,
        durability: Literal["batch", "each", "none"] = "batch",
        verify: Literal["always", "sampled", "off"] = "always",
        promote: Literal["always", "second hit", "never"] = "always",
        write: Literal["back", "through"] = "back",
        read_path: Literal["direct", "buffered", "mmap"] = "direct",
        trace: str | os.PathLike[str] | None = None,
        register: Literal["auto", "never", "always", "require"] = "auto",
        debug: bool | None = None,
    ) -> None:
        self._mode = _parse.choice(mode, "mode", _abi.MODES)
        options = _abi.StoreOptions(
            struct_size=ctypes.sizeof(_abi.StoreOptions),
            eviction=_parse.choice(eviction, "eviction", _abi.EVICTION),
            capacity=_parse.size(capacity, "capacity"),
            hugepages=_parse.choice(hugepages, "hugepages", _abi.HUGEPAGES),
            prefault=_parse.choice(prefault, "prefault", _abi.PREFAULT),
            registering=_parse.choice(register, "register", _abi.REGISTERING),
        )
        tier = _disk.options(disk, disk_capacity, durability, verify, promote, write, read_path, trace)
        if tier is not None:
            options.disk = ctypes.pointer(tier)
        self._has_disk = tier is not None
        debug = _wants_debug(debug)
        route = _lib.wanted_route()
        self._library = library = _lib.load()
        self._c = library.c
        handle = c_uint64()
        status = self._c.moor_store_open(options, byref(handle))
        if status:
            raise error_for(status, library.last_error())
        self._id = handle.value
        self._closed = False
        self._route_name = route if library.builtin else "ctypes"
        self._plain = _debug_calls(library, self._id) if debug else _plain.PlainCalls(library, self._id)
        self._look = _look.SecondLook(library, self._plain, self._mode)
        self._publishing = threading.Lock()  # one put_state_dict at a time, while it removes what it replaced
        self._bind()
        if hugepages == "try" and self._raw_stats().hugepages == _abi.HUGEPAGES["off"]:
            _log.warning('hugepages="try": there are not enough, the store has ordinary pages; see vm.nr_hugepages')

    def _bind(self) -> None:
        """Puts the functions that are called often where one look-up finds them."""
        route: Any
        if self._route_name == "builtin":
            route = _builtin.BuiltinRoute(self._library, self._id, self._look)
        else:
            route = _plain.PlainRoute(self._plain, self._look)
        self._route = route = self._plain.route(route, self._look)
        self._buffer = route.buffer
        self._has = route.has
        self._read = route.read
        self._into = route.into
        self._put = route.put
        self._put_parts = route.put_parts
        self._put_array = route.put_array
        # The rest needs torch or numpy, and is bound when it is first asked for.
        self._tensor: Any = _Later(self, "_tensor", Store._torch)
        self._tensors: Any = _Later(self, "_tensors", Store._torch)
        self._array: Any = _Later(self, "_array", Store._bind_array)
        self._put_many: Any = route.put_many(None, None)
        self._put_torch: Any = None
        self._into_torch: Any = None
        self._written: Any = None
        self._is_plain: Any = None
        self._plain_types: frozenset[Any] = frozenset()
        self._torch_bound = False
        self._array_type: Any = None
        self._array_dtypes: dict[Any, int] = {}

    # ---- torch and numpy, when they are there ----

    def _torch(self) -> Any:
        """The module that knows torch; ImportError when there is no torch."""
        try:
            from . import torch as module

            versioned = module.HAS_DLPACK_1
        except (ImportError, AttributeError) as error:  # the second: another thread has just tried, and has half of it
            raise ImportError(
                f"torch is needed here and cannot be imported ({error}); get_array gives numpy arrays"
            ) from error
        if not self._torch_bound:
            route = self._route if versioned else _plain.PlainRoute(self._plain, self._look)
            self._is_plain = module.is_plain
            self._written = module.written
            tensor, tensors, self._put_torch, self._into_torch = route.torch(module)
            self._tensor, self._tensors = tensor, tensors
            self._plain_types = module.PLAIN_TYPES  # the last: put_tensor looks at it before it uses the others
            self._torch_bound = True
            self._bind_batches()
        return module

    def _bind_batches(self) -> None:
        torch = self._torch() if self._torch_bound else None
        self._put_many = self._route.put_many(torch, self._array_type and self._numpy())

    def _numpy(self) -> Any:
        try:
            from . import numpy as module
        except ImportError as error:
            raise ImportError(
                f"numpy is needed here and cannot be imported ({error}); get_buffer gives the bytes"
            ) from error
        return module

    def _bound_numpy(self) -> Any:
        """Our module, known to the functions that put."""
        module = self._numpy()
        if self._array_type is None:
            self._array_dtypes = module.PACKED
            self._array_type = module.ARRAY
            self._bind_batches()
        return module

    def _bind_array(self) -> None:
        module = self._numpy()
        route = self._route
        # numpy before 2.1 cannot say read-only in DLPack.
        self._array = route.numpy(module) if module.HAS_DLPACK_1 else module.through_buffers(route.buffer)

    def _check(self, status: int, key: Any = None) -> None:
        if status < 0:
            self._look.fail(status, key)

    # ---- putting ----

    def put(self, key: str, data: Any, *, meta: bytes = b"", if_exists: IfExists = "replace") -> bool:
        """Stores the bytes of any object with the buffer protocol: bytes, memoryview, array, numpy array ...

        Strided buffers are gathered in C order. What is stored is bytes, without dtype and shape: the tensor getters
        give it as one-dimensional uint8. One copy is made; from 2 MiB on, in a row from 1 MiB on, by several threads.

        meta       up to 4096 bytes kept with the object (`describe(key).meta`, `get_buffer(key).meta`)
        if_exists  "replace": the object that was there goes, views of it stay. "keep": it stays. "raise": ExistsError.

        Returns whether it was stored; False means that `if_exists="keep"` kept the object that was there.
        Raises CapacityError, NoMemoryError, ExistsError, InvalidArgumentError (key, meta); TypeError for data without
        a buffer.
        """
        how = _parse.choice(if_exists, "if_exists", _IF_EXISTS)
        outcome = self._put(key, data, how, meta)
        if outcome is None:
            self._refuse_put(key, data, meta)
        if outcome < 0:
            self._look.fail(outcome)
        return bool(outcome != _abi.KEPT)

    def _refuse_put(self, key: Any, data: Any, meta: Any) -> NoReturn:
        """Finds the argument that a put did not understand."""
        _lib.encode_key(key)
        _lib.as_meta(meta)
        if isinstance(data, str):
            raise TypeError('data must have the buffer protocol; encode a str first: data.encode("utf-8")')
        try:
            memoryview(data)
        except TypeError:
            remedy = "; put_tensor takes tensors" if hasattr(data, "__dlpack__") else ""
            raise TypeError(
                f"data must have the buffer protocol (bytes, memoryview, array ...), not {type(data).__name__}{remedy}"
            ) from None
        except ValueError as error:
            raise UnsupportedError(f"data gives no buffer ({error}); put_tensor takes arrays of most dtypes") from None
        raise UnsupportedError("data has a buffer that is neither dense nor strided; copy it to bytes first")

    def put_tensor(self, key: str, t: Any, *, meta: bytes = b"", if_exists: IfExists = "replace") -> bool:
        """Stores a tensor with its dtype and shape: a torch tensor, a numpy array, or anything with `__dlpack__`.

        Any strides: the elements are gathered into a dense, row-major object in one pass. Any dtype of torch and
        numpy that DLPack can say, those of ml_dtypes too; arrays of foreign byte order are converted. Shape `()` and
        sizes of 0 are kept. Gradients are not stored; conjugate and negative views are resolved. A torch tensor on
        another device is copied by torch straight into the store's memory.

        meta, if_exists and the result as in `put`. Raises as `put`; UnsupportedError (a TypeError), which says what
        to do, for sparse, nested, quantized and meta tensors, for wrappers round other tensors, and for masked, object,
        string, structured and datetime arrays. What `__dlpack__` of another producer raises comes out as it is.
        """
        how = _parse.choice(if_exists, "if_exists", _IF_EXISTS)
        outcome = None
        if type(t) in self._plain_types and self._is_plain(t):
            outcome = self._put_torch(key, t, how, meta)
        elif type(t) is self._array_type and t.dtype in self._array_dtypes:
            outcome = self._put_array(key, t, how, meta, self._array_dtypes[t.dtype])
        if outcome is None:
            outcome = self._put_any(key, t, how, meta)
        if outcome < 0:
            self._look.fail(outcome)
        return bool(outcome != _abi.KEPT)

    def _put_any(self, key: Any, t: Any, how: int, meta: Any) -> int:
        """Everything that is not an ordinary torch tensor on the CPU."""
        name = _lib.encode_key(key)
        call = _lib.PutCall(how, meta)  # first: meta can be an object that runs Python
        torch, np = _imported("torch"), _imported("numpy")
        if torch is not None and isinstance(t, torch.Tensor):
            module = self._torch()
            t = module.prepare(t)
            if t.device.type != "cpu":
                return self._put_staged(name, t, call)
            return self._plain.put_struct(name, module.struct(t), call)
        if np is not None and isinstance(t, (np.ndarray, np.generic)):
            return self._put_numpy(key, t, how, meta)
        if hasattr(t, "__dlpack__"):
            managed = self._plain.capsules.of_producer(t)
            return self._plain.put_struct(name, managed.dl_tensor, call)
        raise TypeError(
            f"t must be a torch tensor, a numpy array or anything with __dlpack__, not {type(t).__name__}; "
            "put takes bytes"
        )

    def _put_numpy(self, key: Any, t: Any, how: int, meta: Any) -> int:
        module = self._bound_numpy()
        array, (code, bits, _) = module.prepare(t)
        meta = _lib.as_meta(meta)
        outcome = self._put_array(key, array, how, meta, code << 8 | bits)
        if outcome is None:
            raise UnsupportedError(f"t, an array of dtype {array.dtype}, gives no buffer; put a copy of it")
        return int(outcome)

    def _put_staged(self, name: bytes, t: Any, call: _lib.PutCall) -> int:
        """From another device: torch copies into memory of the store, which then becomes the object. A reservation
        owns whole pages, so small tensors rather take the way over the heap.
        """
        module = self._torch()
        if t.numel() * t.element_size() < _STAGE_FROM:
            small = t.cpu().contiguous()  # kept by this name: the struct does not
            return self._plain.put_struct(name, module.struct(small), call)
        room = self._empty_torch(module, tuple(t.shape), t.dtype)
        module.stage(room, t)
        return call.outcome(
            self._c.moor_adopt_tensor(self._id, name, len(name), module.struct(room), call.options, call.result)
        )

    def put_tensors(
        self,
        items: Mapping[str, Any] | Iterable[tuple[str, Any]],
        *,
        if_exists: IfExists = "replace",
        atomic: bool = False,
    ) -> dict[str, bool]:
        """Stores many tensors: a mapping, or pairs of key and tensor. Cheaper than one by one, and the same otherwise.

        atomic  all names appear at one moment: `snapshot`, `get_tensors`, `exists` of several keys and `wait` see the
                whole set or nothing of it. Gets of one object and other puts go on meanwhile.

        Returns for each key whether it was stored (False: kept, see `put`). When some cannot be stored the others
        still are, and the first failure is raised; its attribute `results` then has for every key True, False or the
        exception. With `atomic` an exception means that nothing was stored; a key that comes twice is one.
        """
        how = _parse.choice(if_exists, "if_exists", _IF_EXISTS)
        pairs = _pairs(items)
        if atomic:
            return self._put_set(pairs, how)

        def put_one(key: Any, t: Any) -> bool:
            return self.put_tensor(key, t, if_exists=if_exists)

        batch = _batch.BatchPut(self._put_many, put_one, self._look.fail, how)
        batch.put([key for key, _ in pairs], [t for _, t in pairs])
        if batch.first is not None:
            batch.first.results = batch.results  # type: ignore[attr-defined]
            raise batch.first
        return batch.results

    def _put_set(self, pairs: list[tuple[Any, Any]], how: int) -> dict[str, bool]:
        torch, numpy = _imported("torch") and self._torch(), _imported("numpy") and self._bound_numpy()
        keys, tensors = [key for key, _ in pairs], [t for _, t in pairs]
        outcomes = self._put_many(keys, tensors, how, -1)
        if outcomes is None:
            packed = _lib.PackedKeys(keys)
            structs = _batch.Structs(torch, numpy, self._plain)
            try:
                outcomes = self._plain.put_set(packed, structs.of(pairs), how)
            finally:
                structs.end()
        if type(outcomes) is int:
            self._look.fail(outcomes)
        return {key: outcome != _abi.KEPT for key, outcome in zip(keys, outcomes)}

    def put_parts(self, key: str, *parts: Any, meta: bytes = b"", if_exists: IfExists = "replace") -> bool:
        """Stores the concatenation of several buffers as one object of bytes, each copied once.

            store.put_parts("block", header, payload)

        Parts are anything that `put` takes; a strided one is copied twice. meta, if_exists, result and exceptions as
        in `put`.
        """
        how = _parse.choice(if_exists, "if_exists", _IF_EXISTS)
        outcome = self._put_parts(key, parts, how, meta)
        if outcome is None:
            _lib.encode_key(key)
            _lib.as_meta(meta)
            outcome = self._plain.put_parts(key, tuple([_dense(part, i) for i, part in enumerate(parts)]), how, meta)
        if outcome is None or outcome < 0:
            self._look.fail(outcome)
        return bool(outcome != _abi.KEPT)

    # ---- produced in place ----

    def empty(self, shape: int | Sequence[int], dtype: Any) -> Any:
        """A writable tensor in the store's memory, which has no name yet: fill it, then `adopt` it without a copy.

        A torch dtype gives a torch tensor, anything that numpy calls a dtype gives an array. Its contents are
        undefined. It owns whole pages; dropping it gives them back. Raises CapacityError, NoMemoryError.

            t = store.empty((1024, 1024), torch.float32)
            model_output(out=t)
            store.adopt("activations", t)
        """
        sizes = _parse.shape(shape)
        torch = _imported("torch")
        if torch is not None and isinstance(dtype, torch.dtype):
            return self._empty_torch(self._torch(), sizes, dtype)
        module = self._numpy()
        import numpy as np

        if not np.dtype(dtype).isnative:
            raise UnsupportedError(f"dtype {dtype} is of foreign byte order; a store holds native numbers")
        like = _memory.tensor_struct(0, module.triple_of(np.dtype(dtype)), sizes, None)
        return self._array_of(self._reserve(like))

    def _empty_torch(self, module: Any, sizes: tuple[int, ...], dtype: Any) -> Any:
        return self._tensor_of(self._reserve(module.like(sizes, dtype)), module, dtype)

    def _reserve(self, like: Any) -> c_void_p:
        tensor, out = dlpack.out_tensor()
        self._check(self._c.moor_empty_tensor(self._id, like, out))
        self._plain.note(tensor)
        return tensor

    def _tensor_of(self, managed: c_void_p, module: Any, dtype: Any = None) -> Any:
        """A torch tensor that owns a managed tensor."""
        if module.HAS_DLPACK_1:
            return module.from_capsule(self._plain.capsules.versioned(managed), self._plain.capsules)
        held = self._maker.from_tensor(managed.value or 0)
        return module.from_buffer(held, dtype or getattr(module.torch, held.dtype or "uint8"), held.shape)

    def _array_of(self, managed: c_void_p) -> Any:
        """An array that owns a managed tensor."""
        module = self._numpy()
        if module.HAS_DLPACK_1:
            capsule = self._plain.capsules.versioned(managed)
            array = module.from_capsule(capsule)
            if array is not None:
                return array
            managed = self._plain.capsules.taken(capsule)
        return module.from_buffer(self._maker.from_tensor(managed.value or 0))

    @property
    def _maker(self) -> buffer._Maker:
        return buffer.maker(self._library, self._route_name)

    def adopt(self, key: str, t: Any, *, if_exists: IfExists = "replace") -> bool:
        """Publishes a tensor made by `empty` under a key, without copying.

        From then on its memory is read-only like any view. A numpy array is told so, and raises when it is written to;
        a torch tensor, and other arrays or tensors of the same memory, cannot be told: *writing to one ends the
        process*, with a line that names the key. Only the whole, dense tensor is adopted. A slice, another layout of
        it, or memory from elsewhere is copied, which `stats().adopt_copies` counts, and stays writable.

        Returns False when `if_exists="keep"` kept the object that was there; `t` then stays as it was. Raises
        AlreadyAdoptedError the second time, UnsupportedError for a tensor on another device, and what `put` raises.
        """
        name = _lib.encode_key(key)
        call = _lib.PutCall(_parse.choice(if_exists, "if_exists", _IF_EXISTS))
        torch, np = _imported("torch"), _imported("numpy")
        if torch is not None and isinstance(t, torch.Tensor):
            module = self._torch()
            if not module.is_plain(t) or t.layout is not torch.strided or t.device.type != "cpu":
                raise UnsupportedError("t must be a tensor made by empty, or a part of one; put_tensor takes others")
            status = self._adopt(name, module.struct(t), call)
        elif np is not None and isinstance(t, np.ndarray):
            array, triple = self._numpy().prepare(t)
            steps = tuple(step // array.itemsize for step in array.strides)
            status = self._adopt(name, _memory.tensor_struct(array.ctypes.data, triple, array.shape, steps), call)
        else:
            raise TypeError(f"t must be a tensor or an array made by empty, not {type(t).__name__}")
        self._check(status)
        if call.result.outcome == _abi.ADOPTED:
            _tell_read_only(t, np)
        elif call.result.outcome == _abi.STORED and not self._told_of_copies:
            self._told_of_copies = True
            _log.warning(_ADOPT_COPIED, key)
        return bool(call.result.outcome != _abi.KEPT)

    def _adopt(self, name: bytes, struct: Any, call: _lib.PutCall) -> int:
        return int(self._c.moor_adopt_tensor(self._id, name, len(name), struct, call.options, call.result))

    # ---- getting ----

    def get_tensor(
        self, key: str, *, mode: Mode | None = None, device: Any = None, non_blocking: bool = False
    ) -> torch.Tensor:
        """The object as a torch tensor, which owns its bytes. Nothing is copied in modes "view" and "cow".

        mode          see `Store`; None is the store's own
        device        where it shall be, as torch understands it; another device than the CPU is a copy made by torch,
                      complete or no longer in need of the store's memory when the call returns: the view is let go
        non_blocking  as in `torch.Tensor.to`, for CUDA; copies to other devices always wait. Tested with a device made
                      for it through torch's PrivateUse1, not on a GPU

        Plain bytes come as one-dimensional uint8. Raises NotFoundError (a KeyError), UnsupportedError when this torch
        has no such dtype, InvalidArgumentError for a device that torch does not know, ImportError without torch; what
        torch raises for a device that is not here comes out as it is.
        """
        if device is None:
            # Not self._tensor(key, mode): Python looks a method up in more places than an attribute.
            get: Callable[..., torch.Tensor] = self._tensor
            return get(key, mode)
        return self._on_device(key, mode, device, non_blocking)

    def _on_device(self, key: str, mode: Mode | None, device: Any, non_blocking: bool) -> torch.Tensor:
        module = self._torch()
        where = module.device_of(device)
        if where.type == "cpu":
            return self.get_tensor(key, mode=mode)
        self._look.number(mode)  # says so when it is none
        return module.on_device(self.get_tensor(key, mode="view"), where, non_blocking)

    @overload
    def get_tensors(
        self, keys: Iterable[str], *, mode: Mode | None = None, missing: Literal["raise"] = "raise"
    ) -> list[torch.Tensor]: ...

    @overload
    def get_tensors(
        self, keys: Iterable[str], *, mode: Mode | None = None, missing: Literal["none"]
    ) -> list[torch.Tensor | None]: ...

    def get_tensors(
        self, keys: Iterable[str], *, mode: Mode | None = None, missing: Literal["raise", "none"] = "raise"
    ) -> Any:
        """Many tensors in one call, in the order of the keys: cheaper than one by one.

        missing="raise" raises NotFoundError for the first key that is not there; "none" gives None in its place.
        """
        _parse.choice(missing, "missing", _MISSING)
        names = _lib.key_list(keys)
        found = self._tensors(names, mode)
        if type(found) is list:
            return found
        if found is None:  # one of the keys, or the mode, which the long way will name
            found = self._plain.tensors(names, self._look.number(mode))
        if type(found) is int:
            self._check(found)
        return [self._one_of(key, mode, item, missing) for key, item in zip(names, found)]

    def _one_of(self, key: str, mode: Mode | None, item: Any, missing: str) -> Any:
        """A tensor of a batch, from what came for its key: the tensor, a capsule, or a status."""
        if type(item) is int:
            # Again, for the text of the failure.
            return None if item == _abi.NOT_FOUND and missing == "none" else self._tensor(key, mode)
        if type(item) in self._plain_types:
            return item
        return self._torch().from_capsule(item, self._plain.capsules)

    def get_array(self, key: str, *, mode: Mode = "view") -> np.ndarray[Any, Any]:
        """The object as a numpy array, which owns its bytes.

        mode "view": read-only, the store's own memory; "cow": writable, private, copied where it is written to;
        "copy": memory of your own. Plain bytes come as one-dimensional uint8; bfloat16, float8 and their like come
        as dtypes of ml_dtypes, which has to be installed. Raises NotFoundError (a KeyError), UnsupportedError when
        numpy has no such dtype, ImportError without numpy.
        """
        get: Callable[..., np.ndarray[Any, Any]] = self._array
        return get(key, mode)

    def get_buffer(self, key: str, *, mode: Mode = "view") -> buffer.Buffer:
        """The object's bytes as a `Buffer`, with the buffer protocol; read-only in mode "view".

            b = store.get_buffer("block", mode="cow")
            header = bytes(memoryview(b)[:16])
            payload = torch.frombuffer(b, dtype=torch.float16, offset=16)

        Raises NotFoundError (a KeyError).
        """
        get: Callable[..., buffer.Buffer] = self._buffer
        return get(key, mode)

    @overload
    def get(self, key: str) -> bytes | None: ...

    @overload
    def get(self, key: str, default: bytes) -> bytes: ...

    @overload
    def get(self, key: str, default: Any) -> Any: ...

    def get(self, key: str, default: Any = None) -> Any:
        """A copy of the object's bytes; `default` when there is no such key, as a dict does."""
        found = self._read(key)
        if type(found) is int and found == _abi.NOT_FOUND:
            return default
        return self._look.settle(found, key)

    def get_into(self, key: str, out: Any, *, offset: int = 0, nbytes: int | None = None) -> int:
        """Copies the object's bytes into memory of yours, and says how many.

        out      a writable contiguous buffer, numpy array or torch tensor on the CPU, or a list of them, which are
                 filled one after the other
        offset   where to begin in the object, in bytes
        nbytes   how many; None is all from there on

        Raises TooSmallError when `out` holds less (nothing is written then), ReadOnlyError when it is read-only or
        memory of a view, InvalidArgumentError when the range exceeds the object, NotFoundError (a KeyError),
        BufferError when `out` is not contiguous, UnsupportedError for tensors without memory of their own. Autograd is
        told, as by an in-place operation.
        """
        plain = type(out) in self._plain_types and self._is_plain(out)
        quick = (self._into_torch if plain else self._into)(key, out, offset, nbytes)
        if quick is not None:
            self._check(quick, key)
            if plain:
                self._written(out)
            return int(quick)
        name = _lib.encode_key(key)
        begin = _parse.count(offset, "offset")
        wanted = _abi.ALL if nbytes is None else _parse.count(nbytes, "nbytes")
        outs, called = (out, "each of out") if isinstance(out, (list, tuple)) else ([out], "out")
        copied = c_uint64()
        spans, loans = self._spans(outs, called)
        try:
            status = self._c.moor_get_into(self._id, name, len(name), begin, wanted, spans, len(outs), byref(copied))
        finally:
            for loan in loans:
                loan.end()
        self._check(status, key)
        torch = _imported("torch")
        for one in outs:
            if torch is not None and isinstance(one, torch.Tensor):
                self._torch().written(one)
        return copied.value

    def _spans(self, outs: Sequence[Any], name: str) -> tuple[Any, list[_memory.Loan]]:
        torch = _imported("torch")
        spans = (_abi.Span * max(len(outs), 1))()
        loans: list[_memory.Loan] = []
        try:
            for i, out in enumerate(outs):
                if torch is not None and isinstance(out, torch.Tensor):
                    spans[i] = _abi.Span(*self._torch().span(out, name))
                    continue
                loans.append(_memory.writable(out, name))
                spans[i] = _abi.Span(loans[-1].address, loans[-1].size)
        except BaseException:
            for loan in loans:
                loan.end()
            raise
        return spans, loans

    def pop_tensor(self, key: str) -> Any:
        """Removes the key and hands its bytes over without copying: exclusive, writable, outliving the store.

        A torch tensor, or a numpy array when there is no torch. The memory goes back to the store when it is gone. A
        pin does not matter. With a disk and `durability="each"` it returns when the removal is durable.

        Raises BusyError while anybody views the object, NotFoundError (a KeyError), UnsupportedError when torch has no
        such dtype, and IOFailedError when the disk cannot make the removal durable; the object then stays.
        """
        name = _lib.encode_key(key)
        try:
            module = self._torch()
        except ImportError:
            module = None
            self._numpy()
        if module is not None:
            self._check_torch_dtype(key, module)
        tensor, out = dlpack.out_tensor()
        self._check(self._c.moor_take_tensor(self._id, name, len(name), out), key)
        self._plain.note(tensor)
        return self._array_of(tensor) if module is None else self._tensor_of(tensor, module)

    def _check_torch_dtype(self, key: str, module: Any) -> None:
        """Before the object is taken out of the store: can it be handed over at all?"""
        dtype = self.describe(key).dtype
        if dtype is not None and not hasattr(module.torch, dtype):
            raise UnsupportedError(f"torch has no dtype {dtype}; get_buffer gives the bytes")

    # ---- many at one moment ----

    def snapshot(self, keys: Iterable[str] | None = None, prefix: str = "") -> Snapshot:
        """Objects as they are at one moment, all held, as an immutable mapping that also works in forked children.

        keys    which; NotFoundError (a KeyError) names one that is missing
        prefix  without `keys`: all keys that start with it. That goes through all names of the store, in pieces that
                hold nobody up for long.

        Of what was put with `put_tensors(atomic=True)`, `put_state_dict` or `import_safetensors` it has a whole set or
        nothing; objects that are put one by one are each as they were at some time during the call.
        """
        if keys is not None and prefix:
            raise InvalidArgumentError("keys and prefix are both given; prefix is for a snapshot without keys")
        start, handle = _lib.encode_key(prefix, "prefix"), c_uint64()
        packed = None if keys is None else _lib.PackedKeys(_lib.key_list(keys))
        self._check(self._c.moor_snapshot_open(self._id, packed and packed.pointer(), start, len(start), byref(handle)))
        return self._plain.snapshot(self._route_name, handle.value, self._look.mode)

    def wait(self, keys: Iterable[str], timeout: float | None) -> None:
        """Waits until there is an object under every key at one moment.

        timeout  seconds; None waits for ever, 0 looks once

        Raises WaitTimeoutError (a TimeoutError), CancelledError when the store is closed meanwhile. Ctrl-C is heard.
        """
        packed = _lib.PackedKeys(_lib.key_list(keys))
        left = _parse.seconds(timeout, "timeout")
        end, waited = time.monotonic() + left, False
        while True:
            # In pieces: Python hears signals only in between.
            status = self._c.moor_wait(self._id, packed.pointer(), int(min(max(left, 0), _WAIT_PIECE) * 1e9))
            left = end - time.monotonic()
            if status != _abi.TIMEOUT or left <= 0:
                break
            waited = True
        if status == _BAD_HANDLE and waited:
            raise CancelledError("the store was closed during the wait")  # between two pieces
        self._check(status)

    # ---- the disk ----

    def persist(self, keys: Iterable[str]) -> None:
        """Brings these objects to disk, and returns when they would survive a loss of power. They stay in memory.

        Raises KeyError for the first key that is missing, IOFailedError, CapacityError when the disk is full and keeps
        what it has; the other objects are persistent then all the same. UnsupportedError without a disk.
        """
        listed = _lib.key_list(keys)
        packed = _lib.PackedKeys(listed)
        statuses = (ctypes.c_int32 * len(listed))()
        self._check(self._c.moor_persist(self._id, packed.pointer(), statuses))
        for key, status in zip(listed, statuses):
            self._check(status, key)

    def flush(self) -> None:
        """`persist` of every object that was there when it began."""
        self._check(self._c.moor_flush(self._id))

    def disk_stats(self) -> DiskStats:
        """Counters and gauges of the disk. UnsupportedError without one."""
        from .records import DiskStats

        raw = _abi.DiskStats(struct_size=ctypes.sizeof(_abi.DiskStats))
        self._check(self._c.moor_get_disk_stats(self._id, raw))
        values = {name: getattr(raw, name) for name in _DISK_STATS}
        values["memory_backed"] = bool(raw.memory_backed)
        return DiskStats(**values)

    def timings(self) -> Timings:
        """Where the time of the operations went: total, device, host and its parts. UnsupportedError without a disk."""
        from . import timings

        count, room = c_uint64(), 0
        info = _abi.TimingsInfo(struct_size=ctypes.sizeof(_abi.TimingsInfo))
        while True:
            summaries = (_abi.Timing * room)()
            self._check(self._c.moor_get_timings(self._id, summaries, room, byref(count), info))
            if count.value <= room:
                break
            room = count.value
        operations = (_abi.Operation * _RECENT)()
        found = c_uint64()
        self._check(self._c.moor_list_operations(self._id, operations, _RECENT, byref(found)))
        return timings.read(info, summaries[: count.value], operations[: found.value])

    # ---- work that nobody waits for ----

    def _jobs(self) -> Any:
        """What submits jobs; made when it is first needed."""
        made = self._submitter
        if made is None:
            from . import _submit

            with self._publishing:
                made = self._submitter
                if made is None:
                    made = _submit.Submitter(self._library, self._id, self._plain, self._route_name)
                    self._submitter = made
        return made

    @overload
    def submit_get(
        self, keys: Iterable[str], *, mode: Mode | None = None, queue: JobQueue | None = None
    ) -> Job[torch.Tensor]: ...

    @overload
    def submit_get(
        self,
        keys: Iterable[str],
        *,
        kind: Literal["tensor"],
        mode: Mode | None = None,
        queue: JobQueue | None = None,
    ) -> Job[torch.Tensor]: ...

    @overload
    def submit_get(
        self, keys: Iterable[str], *, kind: Literal["array"], mode: Mode | None = None, queue: JobQueue | None = None
    ) -> Job[np.ndarray[Any, Any]]: ...

    @overload
    def submit_get(
        self, keys: Iterable[str], *, kind: Literal["buffer"], mode: Mode | None = None, queue: JobQueue | None = None
    ) -> Job[buffer.Buffer]: ...

    def submit_get(
        self,
        keys: Iterable[str],
        *,
        kind: Literal["tensor", "array", "buffer"] = "tensor",
        mode: Mode | None = None,
        queue: JobQueue | None = None,
    ) -> Any:
        """Gets objects while the caller goes on: a `Job`, whose results are what the getters give.

            job = store.submit_get(["weights"])
            tensors = job.results()               # waits; or: tensors = await job

        kind   "tensor" for torch, "array" for numpy, or "buffer"
        mode   as in the getters: None is the store's own for tensors, "view" for the others
        queue  tells of its keys as they finish; None is for those who ask the job, or await it. See `JobQueue`

        Objects are each as they were at some time meanwhile, also those of a set. What was got is held until it is
        taken from the job, or the job is dropped.

        This and the others that submit return at once and copy no payload. They raise BusyError (a BlockingIOError)
        when 65536 keys of the store are unfinished, ClosedError, ForkedError, and what is wrong with the arguments.
        What goes wrong with a key is its outcome: NotFoundError, or CancelledError after `Job.cancel` or `close`.
        """
        _parse.choice(kind, "kind", _JOB_KINDS)
        how = self._look.number(mode) if kind == "tensor" else _parse.choice(mode or "view", "mode", _abi.MODES)
        module = self._torch() if kind == "tensor" else None
        if kind == "array":
            self._numpy()
        return self._jobs().get(keys, kind, how, module, queue)

    def submit_get_into(
        self,
        items: Mapping[str, Any] | Iterable[tuple[str, Any]],
        *,
        offsets: Iterable[int] | None = None,
        nbytes: Iterable[int | None] | None = None,
        queue: JobQueue | None = None,
    ) -> Job[int]:
        """Copies objects into memory of yours while the caller goes on; the results are how many bytes of each.

        items    a mapping, or pairs, of key and destination; a destination is what `get_into` takes, a list of them too
        offsets  where to begin in each object, in bytes
        nbytes   how many bytes of each; None is all from there on

        The destinations are kept alive until the job is done, and hold anything until then.
        """
        module = self._torch() if _imported("torch") is not None else None
        return cast("Job[int]", self._jobs().get_into(_pairs(items), self._spans, module, offsets, nbytes, queue))

    def submit_put(
        self,
        items: Mapping[str, Any] | Iterable[tuple[str, Any]],
        *,
        meta: bytes = b"",
        if_exists: IfExists = "replace",
        atomic: bool = False,
        queue: JobQueue | None = None,
    ) -> Job[bool]:
        """Stores bytes while the caller goes on: pairs, or a mapping, of key and buffer, as of `put`.

        meta and if_exists as in `put`, for all; atomic as in `put_tensors`: all or nothing, and one outcome for all

        The results say for each whether it was stored (False: kept). The buffers are kept alive until the job is done,
        and must stay as they are until then.
        """
        how = _parse.choice(if_exists, "if_exists", _IF_EXISTS)
        return cast("Job[bool]", self._jobs().put(_pairs(items), how, meta, atomic, queue))

    def submit_put_tensors(
        self,
        items: Mapping[str, Any] | Iterable[tuple[str, Any]],
        *,
        meta: bytes = b"",
        if_exists: IfExists = "replace",
        atomic: bool = False,
        queue: JobQueue | None = None,
    ) -> Job[bool]:
        """Stores tensors while the caller goes on, as `submit_put` does; they are what `put_tensor` takes. What is on
        another device is copied to the CPU first.
        """
        how = _parse.choice(if_exists, "if_exists", _IF_EXISTS)
        torch = self._torch() if _imported("torch") is not None else None
        numpy = self._bound_numpy() if _imported("numpy") is not None else None
        return cast("Job[bool]", self._jobs().put_tensors(_pairs(items), how, meta, atomic, (torch, numpy), queue))

    def submit_exists(self, keys: Iterable[str], *, queue: JobQueue | None = None) -> Job[bool]:
        """Asks for keys while the caller goes on; all of them at one moment, as `exists`."""
        return cast("Job[bool]", self._jobs().exists(keys, queue))

    def submit_remove(
        self, keys: Iterable[str], *, missing_ok: bool = False, queue: JobQueue | None = None
    ) -> Job[bool]:
        """Removes keys while the caller goes on; the results say for each whether it was there. Without `missing_ok`
        one that was not is a NotFoundError (a KeyError).
        """
        return cast("Job[bool]", self._jobs().remove(keys, missing_ok, queue))

    def submit_persist(self, keys: Iterable[str], *, queue: JobQueue | None = None) -> Job[bool]:
        """Has objects written to disk while the caller goes on. A store without a disk: UnsupportedError for each."""
        return cast("Job[bool]", self._jobs().persist(keys, queue))

    def prefetch(self, keys: Iterable[str], *, queue: JobQueue | None = None) -> Job[bool]:
        """Brings objects into memory while the caller goes on, so that a later get finds them there. Nothing is held:
        they may be evicted again. The results say whether there is such an object; nobody has to look at them.
        """
        return cast("Job[bool]", self._jobs().prefetch(keys, queue))

    # ---- registered memory ----

    def register(self, obj: Any, nbytes: int | None = None, *, lock: bool = False) -> Registration:
        """Registers memory of yours, so that a network device may be given it. docs/registering.md says when to.

        obj     a torch tensor on the CPU, a numpy array or any other writable buffer, contiguous; or an address, an int
        nbytes  how many bytes from there on; all of `obj` unless told otherwise. An address needs it.
        lock    also lock the pages in memory (`mlock`), so that they are never swapped out

        Ranges may overlap; each is a registration of its own. Memory of a store needs none: the store registers it by
        itself. No message is sent to anybody. Without a device it is bookkeeping.

            with store.register(torch.empty(1 << 20)) as registration:
                ...

        Returns a `Registration`: keep it. It ends with its `release`, its `with` block, its last reference, or the
        store. Raises InvalidArgumentError when the memory is not mapped or belongs to a store; NoMemoryError when
        RLIMIT_MEMLOCK is too low, with limit, asked and used; ReadOnlyError, BufferError, TypeError for an `obj` that
        cannot be written to, is not contiguous, or has no memory; ForkedError in a forked child.
        """
        from . import registration

        return registration.register(self._library, self._id, obj, nbytes, lock, self._torch_of(obj))

    def is_registered(self, obj: Any, nbytes: int | None = None) -> bool:
        """Whether all of this memory lies in one registration, or in this store. Arguments as in `register`."""
        from . import registration

        return registration.is_registered(self._library, self._id, obj, nbytes, self._torch_of(obj))

    def attach_device(self, name: str | None = None) -> str:
        """Opens a network device for this store, by its name; None is the first that has a link. `moorage.network()`
        lists them.

        What is registered from now on is registered with it, too, what was registered before when a transfer first
        uses it; memory of the store slab by slab, likewise (with prefault, in the background). It is detached with the
        store.

        Returns its name. Raises NoDeviceError when there is no such device or it cannot be used, with what is missing;
        ExistsError when the store has it; TypeError, InvalidArgumentError for a name that is none; NoMemoryError,
        SystemFailureError, ForkedError.
        """
        from . import devices

        return devices.attach(self._library, self._id, name)

    def detach_device(self, name: str, timeout: float | None = None) -> None:
        """Closes a device of this store when its transfers have ended, with all that is registered with it.

        timeout  seconds; None waits for ever, 0 looks once

        Raises NoDeviceError when the store does not have it; WaitTimeoutError when transfers are still in flight: no
        further one begins, and the call may be made again. Ctrl-C is heard.
        """
        from . import devices

        devices.detach(self._library, self._id, name, timeout)

    def _torch_of(self, obj: Any) -> Any:
        torch = _imported("torch")
        return self._torch() if torch is not None and isinstance(obj, torch.Tensor) else None

    # ---- names ----

    @overload
    def exists(self, keys: str) -> bool: ...  # type: ignore[overload-overlap]

    @overload
    def exists(self, keys: Iterable[str]) -> list[bool]: ...

    def exists(self, keys: str | Iterable[str]) -> bool | list[bool]:
        """Whether a key is there; for several keys a list."""
        if isinstance(keys, str):
            return keys in self
        packed = _lib.PackedKeys(_lib.key_list(keys))
        found = (ctypes.c_uint8 * max(packed.count, 1))()
        self._check(self._c.moor_exists(self._id, packed.pointer(), found))
        return [bool(one) for one in found[: packed.count]]

    def count_leading(self, keys: Iterable[str]) -> int:
        """How many of the keys are there before the first that is not."""
        packed = _lib.PackedKeys(_lib.key_list(keys))
        count = c_uint64()
        self._check(self._c.moor_count_leading(self._id, packed.pointer(), byref(count)))
        return count.value

    def keys(self, prefix: str = "") -> list[str]:
        """All keys that start with `prefix`, in no particular order.

        A key that is there throughout the call comes exactly once; others come at most once.
        """
        start = _lib.encode_key(prefix, "prefix")
        cursor, count = c_uint64(0), c_uint64()
        room = ctypes.create_string_buffer(_LIST_BYTES)
        ends = (c_uint64 * _LIST_KEYS)()
        found: list[str] = []
        while cursor.value != _abi.LIST_END:
            self._check(
                self._c.moor_list_keys(
                    self._id, start, len(start), byref(cursor), room, _LIST_BYTES, ends, _LIST_KEYS, byref(count)
                )
            )
            found.extend(_unpacked(room, ends[: count.value]))
        return list(dict.fromkeys(found)) if self._has_disk else found  # one that moved meanwhile came twice

    def remove(self, key: str, *, missing_ok: bool = False) -> bool:
        """Removes a key, at once; its bytes go when the last view of them goes.

        Returns whether it was there. Raises NotFoundError (a KeyError) when it was not, unless `missing_ok`.
        """
        name = _lib.encode_key(key)
        status = self._c.moor_remove(self._id, name, len(name))
        if status == _abi.NOT_FOUND and missing_ok:
            return False
        self._check(status, key)
        return True

    def clear(self) -> int:
        """Removes all keys, and says how many there were. Views stay."""
        removed = c_uint64()
        self._check(self._c.moor_clear(self._id, byref(removed)))
        return removed.value

    def pin(self, key: str) -> None:
        """Protects a name against eviction, nothing else. Idempotent; it stays with the name through replace."""
        name = _lib.encode_key(key)
        self._check(self._c.moor_pin(self._id, name, len(name)), key)

    def unpin(self, key: str) -> None:
        """Ends the protection. Idempotent."""
        name = _lib.encode_key(key)
        self._check(self._c.moor_unpin(self._id, name, len(name)), key)

    def describe(self, key: str) -> Description:
        """Size, dtype, shape, metadata and state of an object. Raises NotFoundError (a KeyError)."""
        from .records import Description

        name = _lib.encode_key(key)
        d = _abi.Description(struct_size=ctypes.sizeof(_abi.Description))
        self._check(self._c.moor_describe(self._id, name, len(name), d), key)
        is_tensor = bool(d.flags & _abi.DESC_TENSOR)
        return Description(
            key=key,
            nbytes=d.size,
            extent=d.extent,
            dtype=_dtypes.name_of(d.dtype.code, d.dtype.bits, d.dtype.lanes) if is_tensor else None,
            shape=tuple(d.shape[: d.ndim]) if is_tensor else (d.size,),
            seq=d.seq,
            views=d.views,
            pinned=bool(d.flags & _abi.DESC_PINNED),
            adopted=bool(d.flags & _abi.DESC_ADOPTED),
            on_disk=bool(d.flags & _abi.DESC_ON_DISK),
            meta=bytes(d.meta[: d.meta_size]),
        )

    # ---- counters and upkeep ----

    def stats(self) -> Stats:
        """Counters and gauges."""
        from .records import Stats

        raw = self._raw_stats()
        values = {name: getattr(raw, name) for name in _STATS}
        values["hugepages"] = raw.hugepages != _abi.HUGEPAGES["off"]
        values["register"] = _REGISTERING[raw.registering]
        values["attached"] = self._attached() if raw.devices else ()
        return Stats(**values)

    def _attached(self) -> tuple[DeviceStats, ...]:
        from . import devices

        return devices.attached(self._library, self._id)

    def _raw_stats(self) -> _abi.Stats:
        raw = _abi.Stats(struct_size=ctypes.sizeof(_abi.Stats))
        self._check(self._c.moor_get_stats(self._id, raw))
        return raw

    def borrows(self) -> list[Borrow]:
        """What is viewed at this moment, and how often: what keeps memory from being used again. In debug mode also
        from where: `Borrow.traces`.
        """
        size, count = _LIST_BYTES, 64
        while True:
            room = ctypes.create_string_buffer(size)
            entries = (_abi.Borrow * count)()
            found, needed = c_uint64(), c_uint64()
            status = self._c.moor_list_borrows(self._id, room, size, entries, count, byref(found), byref(needed))
            if status != _abi.TOO_SMALL:
                break
            size, count = needed.value + _LIST_BYTES, found.value + 64  # there may be more of them by then
        self._check(status)
        listed = entries[: found.value]
        keys = _unpacked(room, [one.key_end for one in listed])
        traces = self._plain.traces([(key, one.record, one.seq) for key, one in zip(keys, listed)])
        return [_borrow(key, one, trace) for key, one, trace in zip(keys, listed, traces)]

    def trim(self) -> int:
        """Gives free memory back to the system, and says how many bytes."""
        freed = c_uint64()
        self._check(self._c.moor_trim(self._id, byref(freed)))
        return freed.value

    # ---- files ----

    def import_safetensors(
        self,
        path: str | os.PathLike[str],
        prefix: str = "",
        *,
        if_exists: IfExists = "replace",
        progress: Callable[[int, int], object] | None = None,
    ) -> int:
        """Stores every tensor of a safetensors file under `prefix` + its name, and says how many.

        The file is read straight into the store's memory. The tensors appear when all of them are read: an exception
        means that nothing was stored. `progress(done, total)` is called now and then, with bytes; an exception raised
        in it stops the import and comes out here, as Ctrl-C does.

        Raises IOFailedError (an OSError), FormatError, CapacityError, ExistsError, CancelledError.
        """
        start = _lib.encode_key(prefix, "prefix")
        count = c_uint64()
        name = _file_name(path)

        def operation(options: _abi.FileOptions) -> int:
            return int(self._c.moor_import_safetensors(self._id, name, start, len(start), options, byref(count)))

        self._run(operation, _parse.choice(if_exists, "if_exists", _IF_EXISTS), progress)
        return count.value

    def export_safetensors(
        self,
        path: str | os.PathLike[str],
        keys: Iterable[str] | None = None,
        *,
        prefix: str = "",
        progress: Callable[[int, int], object] | None = None,
    ) -> None:
        """Writes objects into a new safetensors file, which appears complete or not at all.

        keys      which objects; None is all that start with `prefix`
        prefix    cut off from every key to make the name in the file; every key must start with it
        progress  as in `import_safetensors`

        Raises NotFoundError, which names the key, IOFailedError (an OSError), UnsupportedError for a dtype that the
        format does not have.
        """
        names = self.keys(prefix) if keys is None else _lib.key_list(keys)
        packed = _lib.PackedKeys(names)
        for key in names:
            if not key.startswith(prefix):
                raise InvalidArgumentError(f"prefix {prefix!r} is not the beginning of key {key!r}")
        name, cut = _file_name(path), len(_lib.encode_key(prefix, "prefix"))

        def operation(options: _abi.FileOptions) -> int:
            return int(self._c.moor_export_safetensors(self._id, name, packed.pointer(), cut, options))

        self._run(operation, 0, progress)

    def _run(self, operation: Callable[[_abi.FileOptions], int], if_exists: int, progress: _files.Step | None) -> None:
        status, text = _files.run(self._library, operation, if_exists, progress)
        if status < 0:
            raise error_for(status, text)

    # ---- state dicts ----

    def put_state_dict(self, sd: dict[Any, Any], prefix: str = "") -> None:
        """Publishes a state dict, of a module or an optimizer, at one point: a reader sees all of it or nothing of it.

            store.put_state_dict(model.state_dict(), "model/")
            store.put_state_dict(optimizer.state_dict(), "optimizer/")

        Each tensor becomes an object under `prefix` + its name ("model/encoder.weight"), nested ones with "/" between
        the names ("optimizer/state/0/exp_avg"). Entries that are the same memory with the same shape and strides (tied
        weights) become one object, under the name that comes first. What is not a tensor (dict, OrderedDict, list,
        tuple, str, int, float, bool, None, with exactly these types) is kept in one more object, `prefix` +
        "%state_dict", a JSON text. Tensors of the state dict that was there under the prefix, and are not in this one,
        are removed.

        Raises TypeError with the path of anything else, and of what holds itself or is nested deeper than 64 levels;
        what `put_tensor` raises; ImportError without torch. Nothing is stored then.
        """
        from . import state_dict

        state_dict.publish(self, self._torch(), sd, prefix)

    def get_state_dict(self, prefix: str = "", *, mode: Mode | None = None, device: Any = None) -> dict[Any, Any]:
        """The state dict that was put under `prefix`, of one generation, with what was tied tied again.

        Without one, as after `import_safetensors` or `put_tensors`, it is a flat dict of all tensors whose keys begin
        with `prefix`, by the rest of their keys, in their order. mode and device as in `get_tensor`.

        Raises NotFoundError (a KeyError) when there is neither, or when a tensor of it was removed or evicted;
        FormatError when the object `prefix` + "%state_dict" is damaged; ImportError without torch.
        """
        from . import state_dict

        self._torch()
        found: dict[Any, Any] = state_dict.read(self, prefix, mode, device)
        return found

    def assign_to(self, module: torch.nn.Module, prefix: str = "", *, strict: bool = True) -> Any:
        """Hangs a state dict into a module, without a copy: its parameters and buffers are then the store's tensors, in
        the store's mode. In the default mode they can be trained; the store's bytes stay as they are.

            with torch.device("meta"):
                model = Model()          # without memory of its own
            store.assign_to(model, "model/")

        As `module.load_state_dict(store.get_state_dict(prefix), strict, assign=True)`, except that tied weights stay
        one Parameter (one tensor becomes one, and what is one in the module stays one), and that the module is as it
        was when an exception is raised. `requires_grad` is kept. Make optimizers after it. Returns what load_state_dict
        returns: missing_keys, unexpected_keys.

        Raises RuntimeError for names and shapes that do not fit, as load_state_dict does; InvalidArgumentError for a
        parameter of the module with two names under which there are different values; and as `get_state_dict`.
        """
        from . import state_dict

        return state_dict.assign(self, self._torch().torch, module, prefix, strict)

    # ---- the end ----

    def close(self, wait: bool = False) -> None:
        """Closes the store. Idempotent.

        Views stay valid; the memory is given back when the last of them is gone. How many there are, and their keys, is
        logged to the logger "moorage". Long copies in other threads end with CancelledError, and so does what was not
        begun of jobs. Taking a store with many objects down goes on in the background; `wait=True` waits for it.
        """
        if self._closed:
            return
        self._log_views()
        self._closed = True
        status = self._c.moor_store_close(self._id, _abi.CLOSE_WAIT if wait else 0)
        if self._submitter is not None:
            self._submitter.settle()
        if status not in (_abi.OK, _abi.FORKED, _BAD_HANDLE):  # closed by another thread, or not ours to close
            self._check(status)

    def _log_views(self) -> None:
        try:
            objects, count = self._count()
            if not count:
                return
            # Who is viewed is found by looking at every object.
            borrows = self.borrows() if objects <= _NAMES_UP_TO else []
            names = [one.key for one in borrows if one.key][:10]
        except (MoorageError, MemoryError):
            return  # in a forked child, closed by another thread meanwhile, or out of memory: close all the same
        listed = ", ".join([*map(repr, names), *(["..."] if names and len(names) < count else [])])
        _log.warning(
            "a store is closed while it has %d views (%s); their memory is given back when the last of them is gone",
            count,
            listed or "without a name, or names not looked up",
        )
        for one in borrows[:10]:
            for trace in one.traces[:1]:
                _log.info("a view of %r was taken here:\n%s", one.key, trace)

    def __del__(self) -> None:
        if self._closed:
            return
        try:
            self._closed = True
            self._c.moor_store_close(self._id, 0)
            if self._submitter is not None:
                self._submitter.abandon()
        except Exception:  # noqa: S110, SIM105 - the interpreter may be half gone, contextlib too
            pass

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- what Python asks of an object ----

    def __contains__(self, key: object) -> bool:
        found = self._has(key)
        if found is None or found < 0:
            self._look.settle(found, key)
        return bool(found)

    def __len__(self) -> int:
        return self._count()[0]

    def _count(self) -> tuple[int, int]:
        """Objects, and views that are held."""
        objects, views = c_uint64(), c_uint64()
        self._check(self._c.moor_count_objects(self._id, byref(objects), byref(views)))
        return objects.value, views.value

    def __bool__(self) -> bool:
        return True

    __iter__ = None

    def __getitem__(self, key: object) -> NoReturn:
        raise TypeError(
            "store[key] does not say what it should give: use store.get_tensor(key) for torch, store.get_array(key) "
            "for numpy, or store.get_buffer(key) for bytes"
        )

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(
            "a Store cannot be pickled or copied: its memory belongs to this process. A forked worker inherits a "
            "snapshot (store.snapshot(), before the fork) and reads from it; to other processes send the tensors "
            "themselves, or open a store there"
        )

    def __repr__(self) -> str:
        if self._closed:
            return "<moorage.Store, closed>"
        try:
            raw = self._raw_stats()
        except MoorageError as error:
            return f"<moorage.Store, {type(error).__name__}>"
        return f"<moorage.Store: {raw.objects} objects, {raw.used} of {raw.capacity} bytes used>"


class _Later:
    """Stands in a Store's attribute for a function that is not bound yet: binds it and calls it. It does not keep the
    store, which would then wait for the garbage collector.
    """

    __slots__ = ("_bind", "_name", "_store")

    def __init__(self, store: Store, name: str, bind: Callable[[Store], object]) -> None:
        self._store = weakref.ref(store)
        self._name = name
        self._bind = bind

    def __call__(self, *arguments: Any) -> Any:
        store = self._store()
        assert store is not None  # one of its methods is calling
        self._bind(store)
        return getattr(store, self._name)(*arguments)


_BAD_HANDLE = _abi.STATUS["MOOR_ERR_BAD_HANDLE"]
_DISK_STATS = [field[0] for field in _abi.DiskStats._fields_ if field[0] != "struct_size"]
_STATS = [field[0] for field in _abi.Stats._fields_ if field[0] not in ("struct_size", "registering", "reserved")]
_REGISTERING: dict[int, Any] = {number: name for name, number in _abi.REGISTERING.items()}
_STAGE_FROM = 64 << 10  # bytes
_WAIT_PIECE = 0.05  # seconds
_ADOPT_COPIED = (
    "adopt copied %r: only a whole tensor made by empty is taken as it is, as long as there are mappings for it; "
    "further copies are counted (stats().adopt_copies), not logged"
)
_LIST_BYTES, _LIST_KEYS = 64 << 10, 1024
_RECENT = 4096  # operations that a store remembers
_NAMES_UP_TO = 50_000  # objects; looking at more of them would take longer than close() may


def _pairs(items: Any) -> list[tuple[Any, Any]]:
    try:
        if isinstance(items, memoryview):  # which has no pairs, and no certain length when it was released
            raise TypeError
        each = iter(items.items() if isinstance(items, Mapping) else items)
    except TypeError:
        raise TypeError(f"items must be a mapping or pairs of key and tensor, not {type(items).__name__}") from None
    pairs = []
    for i, pair in enumerate(each):
        try:
            key, t = pair
        except (TypeError, ValueError):
            raise TypeError(f"item {i} of items must be a pair of key and tensor, not {type(pair).__name__}") from None
        pairs.append((key, t))
    return pairs


def _imported(name: str) -> Any:
    """A module that somebody has imported; None while nobody has, or another thread is in the middle of it: nothing of
    that module can be among the arguments then.
    """
    module = sys.modules.get(name)
    return None if getattr(getattr(module, "__spec__", None), "_initializing", False) else module


def _tell_read_only(t: Any, np: Any) -> None:
    """numpy arrays of memory that must not be written to any more, as far as they are known."""
    while np is not None and isinstance(t, np.ndarray):
        t.flags.writeable = False
        t = t.base


def _file_name(path: str | os.PathLike[str]) -> bytes:
    name = os.fsencode(path)
    if b"\0" in name:
        raise InvalidArgumentError(f"path {path!r} holds a zero byte")
    return name


def _dense(part: Any, index: int) -> Any:
    """A part as one piece of memory: a strided one costs a second copy."""
    try:
        view = memoryview(part)
    except TypeError:
        raise TypeError(f"part {index} must have the buffer protocol, not {type(part).__name__}") from None
    except ValueError as error:
        raise UnsupportedError(
            f"part {index} gives no buffer ({error}); put_tensor takes arrays of most dtypes"
        ) from None
    try:
        return view if view.c_contiguous else view.tobytes()
    except MemoryError:
        raise NoMemoryError(f"part {index} is strided, and there is no memory for a dense copy of it") from None


def _unpacked(room: Any, ends: Iterable[int]) -> list[str]:
    keys, begin, view = [], 0, memoryview(room)
    for end in ends:
        keys.append(_lib.decode_key(bytes(view[begin:end])))
        begin = end
    return keys


def _wants_debug(debug: bool | None) -> bool:
    if debug is not None and type(debug) is not bool:
        raise TypeError(f"debug must be True, False or None, not {type(debug).__name__}")
    if debug is not None or not os.environ.get("MOORAGE_DEBUG"):
        return bool(debug)
    from . import _debug

    return _debug.wanted()


def _debug_calls(library: _lib.Library, store: int) -> _plain.PlainCalls:
    from ._debug import DebugCalls  # not without need: it imports traceback

    return DebugCalls(library, store)


def _borrow(key: str, one: Any, traces: Sequence[str]) -> Borrow:
    from .records import Borrow

    return Borrow(
        key=key,
        views=one.views,
        nbytes=one.size,
        seq=one.seq,
        unnamed=bool(one.flags & _abi.BORROW_UNNAMED),
        reserved=bool(one.flags & _abi.BORROW_RESERVED),
        child=bool(one.flags & _abi.BORROW_CHILD),
        traces=tuple(traces),
    )
