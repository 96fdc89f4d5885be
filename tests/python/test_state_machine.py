"""Random operations against a model in plain Python, with views taken and let go in any order, also after close; round
trips of any shape, strides and dtype.
"""

from __future__ import annotations

import gc
import os
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import moorage

MINUTES = float(os.environ.get("MOORAGE_SOAK_MINUTES", "0"))

# Other examples every time in a soak; otherwise the same, so that what they find does not depend on the day. A failure
# prints the line with which to see it again.
COMMON: dict[str, Any] = {
    "deadline": None,
    "derandomize": not MINUTES,
    "print_blob": True,
    "suppress_health_check": list(HealthCheck),
}

KEYS = st.sampled_from(["a", "b", "c", "ключ", "k" * 300])
IF_EXISTS = st.sampled_from(["replace", "keep", "raise"])
MODES = st.sampled_from(["view", "cow", "copy"])
# Around the sizes at which something else happens: lines, pages, windows, whole pages, threads.
SIZES = st.sampled_from([0, 1, 63, 64, 4095, 4096, 32767, 32768, 65535, 65536, 100_000, 300_000])
BYTES = st.integers(0, 255)


def content(size: int, byte: int) -> np.ndarray[Any, Any]:
    return (np.arange(size, dtype=np.uint32) * 7 + byte).astype(np.uint8)


class Machine(RuleBasedStateMachine):
    """`model` is what a dict would hold; `views` are arrays and what they must go on showing."""

    capacity = 3 << 20

    @initialize(eviction=st.just("none"))
    def open(self, eviction: Any) -> None:
        self.store = moorage.Store(self.capacity, eviction=eviction)
        self.model: dict[str, bytes] = {}
        self.views: list[tuple[np.ndarray[Any, Any], bytes]] = []
        self.rooms: list[np.ndarray[Any, Any]] = []
        self.closed = False

    # ---- in ----

    def stored(self, key: str, data: bytes, if_exists: str, operation: Any) -> bool:
        """Runs an operation that stores, and follows it in the model. Whether it was stored."""
        if if_exists == "raise" and key in self.model:
            with pytest.raises(moorage.ExistsError):
                operation()
            return False
        try:
            stored = operation()
        except moorage.CapacityError:
            assert self.used() + len(data) > self.capacity // 4, "refused although there is room"
            return False
        assert stored == (if_exists != "keep" or key not in self.model)
        if stored:
            self.model[key] = data
        return bool(stored)

    def used(self) -> int:
        return int(self.store.stats().used)

    open_only = precondition(lambda self: not self.closed)

    @open_only
    @rule(key=KEYS, size=SIZES, byte=BYTES, if_exists=IF_EXISTS)
    def put(self, key: str, size: int, byte: int, if_exists: Any) -> None:
        data = content(size, byte).tobytes()
        self.stored(key, data, if_exists, lambda: self.store.put(key, data, if_exists=if_exists))

    @open_only
    @rule(key=KEYS, size=SIZES, byte=BYTES, if_exists=IF_EXISTS, step=st.sampled_from([1, 2, -1]))
    def put_tensor(self, key: str, size: int, byte: int, if_exists: Any, step: int) -> None:
        array = content(size, byte)[::step]
        self.stored(key, array.tobytes(), if_exists, lambda: self.store.put_tensor(key, array, if_exists=if_exists))

    @open_only
    @rule(key=KEYS, size=SIZES, byte=BYTES, cut=st.floats(0, 1))
    def put_parts(self, key: str, size: int, byte: int, cut: float) -> None:
        data = content(size, byte).tobytes()
        at = int(cut * size)
        self.stored(key, data, "replace", lambda: self.store.put_parts(key, data[:at], data[at:]))

    @open_only
    @rule(size=SIZES.filter(bool), byte=BYTES)
    def reserve(self, size: int, byte: int) -> None:
        try:
            room = self.store.empty(size, "uint8")
        except moorage.CapacityError:
            return
        room[:] = content(size, byte)
        self.rooms.append(room)

    @precondition(lambda self: self.rooms and not self.closed)
    @rule(key=KEYS, if_exists=IF_EXISTS, drop=st.booleans())
    def adopt(self, key: str, if_exists: Any, drop: bool) -> None:
        room = self.rooms.pop()
        data = room.tobytes()
        if self.stored(key, data, if_exists, lambda: self.store.adopt(key, room, if_exists=if_exists)):
            with pytest.raises(moorage.AlreadyAdoptedError):
                self.store.adopt(key, room)
            if not drop:
                self.views.append((room, data))
        elif not drop:
            room[:] = room  # may still be written to
            self.rooms.append(room)

    # ---- out ----

    @open_only
    @rule(key=KEYS, mode=MODES, part=st.booleans())
    def view(self, key: str, mode: Any, part: bool) -> None:
        if key not in self.model:
            with pytest.raises(moorage.NotFoundError):
                self.store.get_array(key, mode=mode)
            return
        array, data = self.store.get_array(key, mode=mode), self.model[key]
        assert array.flags.writeable == (mode != "view") or not data
        if part:
            array, data = array[len(data) // 2 :], data[len(data) // 2 :]
        self.views.append((array, data))

    @open_only
    @rule(key=KEYS, mode=MODES)
    def buffer(self, key: str, mode: Any) -> None:
        if key not in self.model:
            with pytest.raises(KeyError):
                self.store.get_buffer(key, mode=mode)
            return
        array = (
            np.frombuffer(self.store.get_buffer(key, mode=mode), np.uint8) if self.model[key] else np.zeros(0, np.uint8)
        )
        self.views.append((array, self.model[key]))

    @open_only
    @rule(key=KEYS)
    def get(self, key: str) -> None:
        assert self.store.get(key) == self.model.get(key)

    @open_only
    @rule(key=KEYS, begin=st.floats(0, 1), end=st.floats(0, 1))
    def get_into(self, key: str, begin: float, end: float) -> None:
        if key not in self.model:
            return
        data = self.model[key]
        first, last = sorted((int(begin * len(data)), int(end * len(data))))
        room = bytearray(b"\xaa" * (last - first + 3))
        assert self.store.get_into(key, room, offset=first, nbytes=last - first) == last - first
        assert room == data[first:last] + b"\xaa" * 3

    @precondition(lambda self: self.views)
    @rule(which=st.integers(0, 1000), byte=BYTES)
    def write_to_a_private_view(self, which: int, byte: int) -> None:
        which %= len(self.views)
        array, _ = self.views[which]
        if array.flags.writeable and array.size and not self.is_adopted(array):
            array[:] = byte
            self.views[which] = (array, array.tobytes())

    @staticmethod
    def is_adopted(array: np.ndarray[Any, Any]) -> bool:
        """Whether a write would end the process: what was adopted looks writable to numpy."""
        with open("/proc/self/maps", encoding="utf-8") as maps:
            for line in maps:
                span, rights = line.split()[:2]
                first, last = (int(end, 16) for end in span.split("-"))
                if first <= array.ctypes.data < last:
                    return rights[1] != "w"
        raise AssertionError("a view is nowhere")

    @precondition(lambda self: self.views)
    @rule(which=st.integers(0, 1000))
    def let_go(self, which: int) -> None:
        array, data = self.views.pop(which % len(self.views))
        assert array.tobytes() == data

    @precondition(lambda self: self.rooms)
    @rule()
    def abandon(self) -> None:
        self.rooms.pop()

    # ---- names ----

    @open_only
    @rule(key=KEYS, missing_ok=st.booleans())
    def remove(self, key: str, missing_ok: bool) -> None:
        if key in self.model:
            assert self.store.remove(key) is True
            del self.model[key]
        elif missing_ok:
            assert self.store.remove(key, missing_ok=True) is False
        else:
            with pytest.raises(KeyError):
                self.store.remove(key)

    @open_only
    @rule(key=KEYS)
    def pop(self, key: str) -> None:
        if key not in self.model:
            with pytest.raises(KeyError):
                self.store.pop_tensor(key)
            return
        try:
            taken = self.store.pop_tensor(key)
        except moorage.BusyError:
            assert self.store.describe(key).views > 0
            return
        taken = taken if isinstance(taken, np.ndarray) else taken.numpy()
        self.views.append((taken, self.model.pop(key)))

    @open_only
    @rule(key=KEYS, pinned=st.booleans())
    def pin(self, key: str, pinned: bool) -> None:
        change = self.store.pin if pinned else self.store.unpin
        if key not in self.model:
            with pytest.raises(KeyError):
                change(key)
            return
        change(key)
        change(key)
        assert self.store.describe(key).pinned == pinned

    @open_only
    @rule()
    def clear(self) -> None:
        assert self.store.clear() == len(self.model)
        self.model.clear()

    @open_only
    @rule()
    def trim(self) -> None:
        self.store.trim()

    @rule()
    def close(self) -> None:
        self.store.close()
        self.closed = True
        self.model.clear()
        with pytest.raises(moorage.ClosedError):
            self.store.get("a")

    # ---- what holds throughout ----

    @invariant()
    def names_are_those_of_the_model(self) -> None:
        if hasattr(self, "store") and not self.closed:
            assert sorted(self.store.keys()) == sorted(self.model)
            assert len(self.store) == len(self.model)
            for key, data in self.model.items():
                assert self.store.describe(key).nbytes == len(data)

    @invariant()
    def views_show_what_they_showed(self) -> None:
        for array, data in getattr(self, "views", ()):
            assert array.tobytes() == data

    def teardown(self) -> None:
        if not hasattr(self, "store"):
            return
        if not self.closed:
            for key, data in self.model.items():
                assert self.store.get(key) == data
        while self.views:
            array, data = self.views.pop()
            assert array.tobytes() == data
        del self.rooms
        array = data = None  # type: ignore[assignment]
        gc.collect()
        if not self.closed:
            assert self.store.borrows() == []
            self.store.clear()
            assert self.store.stats().used == 0
            self.store.close()


class TestOperations(Machine.TestCase):  # type: ignore[name-defined,misc]
    settings = settings(max_examples=25, stateful_step_count=40, **COMMON)


@pytest.mark.soak
@pytest.mark.skipif(not MINUTES, reason="MOORAGE_SOAK_MINUTES is not set")
class TestSoakOperations(Machine.TestCase):  # type: ignore[name-defined,misc]
    settings = settings(max_examples=int(max(MINUTES, 1) * 300), stateful_step_count=80, **COMMON)


# ---- round trips ----

NUMBERS = st.sampled_from([*"?bhilBHILefdFD", ">i4", ">f8", ">c8"])


def same_bits(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> bool:
    return one.shape == other.shape and one.tobytes() == other.tobytes()


def strided(data: Any, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The same elements with other strides: transposed, turned round, every second, expanded."""
    array = array.transpose(data.draw(st.permutations(range(array.ndim))))
    array = array[tuple(slice(None, None, data.draw(st.sampled_from([1, 2, -1, -3]))) for _ in array.shape)]
    if data.draw(st.booleans()):
        array = np.broadcast_to(array, (2, *array.shape))
    return array


@settings(max_examples=60, **COMMON)
@given(data=st.data(), dtype=NUMBERS)
def test_arrays_come_back_bit_by_bit(data: Any, dtype: str) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=9))
    raw = data.draw(st.binary(min_size=1, max_size=64))
    kind = np.dtype(dtype)
    count = int(np.prod(shape, dtype=int))
    source = np.resize(np.frombuffer(raw, np.uint8), count * kind.itemsize)
    source = (source & 1).view(bool) if kind.kind == "b" else source.view(kind)
    array = strided(data, source.reshape(shape))
    with moorage.Store("1MiB") as store:
        store.put_tensor("k", array)
        expected = array.astype(kind.newbyteorder("="))
        for mode in ("view", "cow", "copy"):
            got = store.get_array("k", mode=mode)  # type: ignore[arg-type]
            assert got.dtype == expected.dtype and same_bits(got, expected)
        described = store.describe("k")
        assert (described.shape, described.dtype) == (array.shape, expected.dtype.name)
        assert store.get("k") == expected.tobytes()
        del got


@pytest.mark.filterwarnings("ignore:ComplexHalf")
@settings(max_examples=60, **COMMON)
@given(data=st.data())
def test_tensors_come_back_bit_by_bit(data: Any) -> None:
    torch = pytest.importorskip("torch")
    from moorage.torch import TRIPLES

    dtype = data.draw(st.sampled_from(sorted(TRIPLES, key=str)))
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=9))
    raw = np.frombuffer(data.draw(st.binary(min_size=1, max_size=64)), np.uint8)
    whole = torch.from_numpy(np.resize(raw, int(np.prod(shape, dtype=int)) * dtype.itemsize).copy())
    if dtype is torch.bool:
        whole = whole & 1
    t = whole.view(dtype).reshape(shape) if len(whole) else torch.empty(shape, dtype=dtype)
    t = t.permute(data.draw(st.permutations(range(t.ndim))))
    if t.ndim and data.draw(st.booleans()):
        t = t[:: data.draw(st.sampled_from([1, 2, 3]))]
    if data.draw(st.booleans()):
        t = t.expand(2, *t.shape)

    def bits(one: Any) -> bytes:
        dense = torch.empty(one.shape, dtype=one.dtype).copy_(one)  # contiguous() keeps odd strides of sizes of 1
        return dense.view(-1).view(torch.uint8).numpy().tobytes() if one.numel() else b""

    with moorage.Store("1MiB") as store:
        store.put_tensor("k", t)
        for mode in ("view", "cow", "copy"):
            got = store.get_tensor("k", mode=mode)  # type: ignore[arg-type]
            assert got.dtype == t.dtype and got.shape == t.shape and got.is_contiguous()
            assert bits(got) == bits(t)
        assert store.get("k") == bits(t)
        del got


@settings(max_examples=60, **COMMON)
@given(key=st.text(min_size=1, max_size=200), meta=st.binary(max_size=4096), payload=st.binary(max_size=300))
def test_any_key_and_metadata(key: str, meta: bytes, payload: bytes) -> None:
    with moorage.Store("1MiB") as store:
        try:
            encoded = key.encode()
        except UnicodeEncodeError:  # lone surrogates
            with pytest.raises((ValueError, TypeError)):
                store.put(key, payload)
            return
        assert len(encoded) <= 4096
        assert store.put(key, payload, meta=meta)
        assert store.keys() == [key] and key in store
        assert store.get(key) == payload
        assert store.describe(key).meta == meta
        with store.get_buffer(key) as buffer:
            assert (bytes(buffer), buffer.meta) == (payload, meta)
        store.remove(key)
        assert key not in store and store.keys() == []
