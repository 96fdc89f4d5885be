"""The promises, one by one, as a user of Python would try them. What each of them rests on has tests of its own beside
the code; these fail when a promise is broken, whatever broke it.

P1  a view keeps its bytes until its last consumer lets go
P2  nothing changes under a view
P3  a view moves no bytes
P4  store memory has addresses of its own, once and for all (registration with devices builds on it)
P5  nothing fails silently, and a refused call changes nothing
P6  every figure can be checked
P7  the host program never hangs
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import resource
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
from children import Child, eventually, in_child
from leaks import mappings, settled
from pressure import overwrite_free
from programs import run_prepared

import moorage

SIZE = 100_000  # a window, and whole pages


@pytest.fixture
def store() -> Iterator[moorage.Store]:
    with moorage.Store("4MiB") as opened:
        yield opened


def put(store: moorage.Store, key: str, byte: int) -> None:
    store.put_tensor(key, np.full(SIZE, byte, np.uint8))


def is_all(array: Any, byte: int) -> bool:
    return len(array) == SIZE and bool((np.asarray(array) == byte).all())


# Every kind of consumer, as what it makes of store and key. Each is to keep the bytes.
def torch_tensor(mode: str) -> Callable[[moorage.Store, str], Any]:
    def get(store: moorage.Store, key: str) -> Any:
        pytest.importorskip("torch")
        return store.get_tensor(key, mode=mode)  # type: ignore[arg-type]

    return get


CONSUMERS: dict[str, Callable[[moorage.Store, str], Any]] = {
    "array": lambda store, key: store.get_array(key),
    "window as an array": lambda store, key: store.get_array(key, mode="cow"),
    "slices of slices": lambda store, key: store.get_array(key).reshape(10, -1)[:, :].reshape(-1)[:],
    "memoryview of a buffer": lambda store, key: memoryview(store.get_buffer(key)),
    "array of a buffer": lambda store, key: np.frombuffer(store.get_buffer(key), np.uint8),
    "tensor": torch_tensor("view"),
    "window as a tensor": torch_tensor("cow"),
    "numpy of a tensor": lambda store, key: torch_tensor("view")(store, key).numpy(),
    "part of a tensor": lambda store, key: torch_tensor("view")(store, key).view(10, -1).T.t().reshape(-1),
    "storage": lambda store, key: torch_tensor("view")(store, key).untyped_storage(),
}

ENDS: dict[str, Callable[[moorage.Store], Any]] = {
    "replace": lambda store: put(store, "k", 8),
    "remove": lambda store: store.remove("k"),
    "clear": lambda store: store.clear(),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("consumer", CONSUMERS)
def test_p1_a_consumer_keeps_the_bytes_when_the_name_is_gone(store: moorage.Store, consumer: str, end: str) -> None:
    put(store, "k", 7)
    kept = CONSUMERS[consumer](store, "k")
    ENDS[end](store)
    gc.collect()
    overwrite_free(store)
    assert is_all(kept, 7)
    assert sum(borrow.views for borrow in store.borrows()) == 1
    del kept
    gc.collect()
    assert store.borrows() == []
    store.clear()
    assert store.stats().used == 0


@pytest.mark.parametrize("consumer", CONSUMERS)
def test_p1_a_consumer_keeps_the_bytes_when_the_store_is_closed(consumer: str) -> None:
    store = moorage.Store("1MiB")
    put(store, "k", 7)
    kept = CONSUMERS[consumer](store, "k")
    store.close(wait=True)
    del store
    gc.collect()
    time.sleep(0.01)
    assert mappings() > 0
    assert is_all(kept, 7)
    del kept
    assert settled(mappings, 0)


def test_p1_eviction_takes_nothing_that_is_viewed() -> None:
    with moorage.Store("2MiB", eviction="s3fifo") as store:
        put(store, "k", 7)
        kept = store.get_array("k")
        for n in range(200):
            put(store, f"more{n}", n % 7)
        assert store.stats().evictions > 100
        assert is_all(kept, 7)
        del kept


def test_p1_a_view_in_a_cycle_ends_with_the_collector(store: moorage.Store) -> None:
    put(store, "k", 7)

    class Holder:
        pass

    one, two = Holder(), Holder()
    one.other, two.other, one.view = two, one, store.get_array("k")  # type: ignore[attr-defined]
    gone = weakref.ref(one)
    store.remove("k")
    del one, two
    gc.collect()
    assert gone() is None and store.borrows() == [] and store.stats().used == 0


def test_p1_any_order_of_letting_go(store: moorage.Store) -> None:
    random = np.random.default_rng()
    for _ in range(20):
        put(store, "k", 7)
        kept: list[Any] = [CONSUMERS[name](store, "k") for name in list(CONSUMERS)[:5] for _ in range(2)]
        kept += [view[10:20] for view in kept]
        store.remove("k")
        for left, at in zip(range(len(kept), 0, -1), random.permutation(len(kept))):
            if left <= 2:
                overwrite_free(store)
            assert kept[at][15 if len(kept[at]) == SIZE else 5] == 7
            kept[at] = np.full(SIZE, 7, np.uint8)
        assert store.borrows() == []


def test_p1_a_consumer_keeps_the_bytes_in_a_forked_child(store: moorage.Store) -> None:
    put(store, "k", 7)
    kept = [CONSUMERS[name](store, "k") for name in list(CONSUMERS)[:5]]

    def work(wait: Callable[[], None]) -> bool:
        wait()
        return all(is_all(one, 7) for one in kept)

    child = Child(work)
    kept.clear()
    store.remove("k")
    overwrite_free(store)
    child.go()
    assert child.result() == "True"
    eventually(lambda: store.stats().held_bytes == 0)
    assert store.stats().used == 0


def test_p1_a_consumer_keeps_the_bytes_while_the_interpreter_ends() -> None:
    run_prepared(
        """
        import builtins, logging
        import numpy as np
        import moorage
        logging.getLogger("moorage").disabled = True
        class Last:
            def __init__(self, view):
                self.view = view
            def __del__(self):
                assert self.view[0] == 7 and self.view[-1] == 7
        store = moorage.Store("1MiB")
        store.put("k", bytes([7]) * 100_000)
        builtins.last = [Last(store.get_array("k", mode=mode)) for mode in ("view", "cow", "copy")]
        store.close()
        """,
        torch=False,
    ).cleanly()


# ---- P2 ----


def test_p2_a_reader_cannot_write() -> None:
    """What Python can refuse it refuses; what it cannot ends in the line of test_fault.py."""
    with moorage.Store("1MiB") as store:
        put(store, "k", 7)
        array, view = store.get_array("k"), memoryview(store.get_buffer("k"))
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
        with pytest.raises(TypeError, match="read-only"):
            view[0] = 1
        with pytest.raises(moorage.ReadOnlyError):
            store.get_into("k", array)
        with pytest.raises(moorage.ReadOnlyError):
            store.get_into("k", view)
        assert is_all(array, 7)
        del array, view


def test_p2_what_is_written_to_a_private_view_stays_private(store: moorage.Store) -> None:
    put(store, "k", 7)
    before = store.get_array("k")
    for mode in ("cow", "copy"):
        mine = store.get_array("k", mode=mode)  # type: ignore[arg-type]
        mine[:] = 9
        assert is_all(before, 7) and is_all(store.get_array("k"), 7) and is_all(store.get_array("k", mode="cow"), 7)
    del before


def test_p2_the_source_may_change_after_put(store: moorage.Store) -> None:
    source = np.full(SIZE, 7, np.uint8)
    room = store.empty(SIZE, "uint8")
    room[:] = 7
    store.put_tensor("k", source)
    store.put_tensor("from the store's own memory", room)
    source[:] = room[:] = 9
    assert is_all(store.get_array("k"), 7) and is_all(store.get_array("from the store's own memory"), 7)


def test_p2_a_producer_that_keeps_its_tensor_changes_nothing() -> None:
    """Late writes end the process; a child that outlives it sees that the object is what it was."""
    ended = run_prepared(
        """
        import os
        import moorage

        def produce(alive, said):
            store = moorage.Store("4MiB")
            room = store.empty(100_000, "uint8")
            room[:] = 7
            part = room[50_000:]
            assert store.adopt("k", room)
            view = store.get_array("k")
            if os.fork() == 0:
                os.close(alive[1])
                os.read(alive[0], 1)
                os.write(said[1], b"same" if (view == 7).all() else b"changed")
                os._exit(0)
            part[0] = 9
            os._exit(0)

        alive, said = os.pipe(), os.pipe()
        producer = os.fork()
        if producer == 0:
            produce(alive, said)
        os.close(alive[1])
        print(os.waitpid(producer, 0)[1], os.read(said[0], 10).decode())
        """,
        torch=False,
    )
    assert (ended.status, ended.out) == (0, "11 same\n"), ended.error


def test_p2_a_child_that_writes_changes_nothing(store: moorage.Store) -> None:
    put(store, "k", 7)
    window = store.get_array("k", mode="cow")
    room = store.empty(SIZE, "uint8")
    room[:] = 6

    def work() -> bool:
        window[:] = 9
        room[:] = 9
        return is_all(window, 9) and is_all(room, 9)

    assert in_child(work) == "True"
    assert is_all(store.get_array("k"), 7) and is_all(window, 7) and is_all(room, 6)
    store.adopt("room", room)
    assert is_all(store.get_array("room"), 6)
    window = room = None


def test_p2_a_child_cannot_reach_adopted_memory() -> None:
    """It reads the producer's array as its parent does, and has no way to the bytes but the read-only one."""
    size = 5 << 20
    with moorage.Store("16MiB") as store:
        room = store.empty(size, "uint8")
        room[:] = 7
        part = room[5:]  # the array itself is told by adopt, and raises
        assert store.adopt("k", room)

        def work() -> bool:
            same = bool((room == 7).all())
            part[:] = 9
            with open("/proc/self/maps", encoding="utf-8") as maps:
                ways = [line.split()[1] for line in maps if line.rstrip().endswith("/memfd:moorage (deleted)")]
            return same and bool((part == 9).all()) and len(ways) >= 2 and not any("w" in w and "s" in w for w in ways)

        assert in_child(work) == "True"
        array = store.get_array("k")
        assert bool((room == 7).all()) and bool((array == 7).all())
        array = room = part = None


def test_p2_readers_never_see_half_of_a_replacement(store: moorage.Store) -> None:
    put(store, "k", 1)
    done = threading.Event()
    wrong: list[str] = []

    def read() -> None:
        while not done.is_set():
            view = store.get_array("k")
            first = view[0]
            if not is_all(view, first):
                wrong.append("a torn object")
            time.sleep(0)
            if not is_all(view, first):
                wrong.append("an object that changed")

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 1
    n = 0
    while time.monotonic() < end:
        n += 1
        put(store, "k", n % 200 + 1)
    done.set()
    for thread in threads:
        thread.join(30)
    assert wrong == [] and n > 10


# ---- P3 ----


def minor_faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def test_p3_a_view_copies_nothing_and_touches_no_page() -> None:
    with moorage.Store("256MiB") as store:
        store.put("k", bytes(100 << 20))
        store.get_array("k")
        assert store.stats().bytes_copied_out == 0
        for _ in range(100):
            store.get_array("k")
        gc.collect()
        copied, faults = store.stats().bytes_copied_out, minor_faults()
        for _ in range(2000):
            store.get_array("k")
        assert minor_faults() - faults < 20
        assert store.stats().bytes_copied_out == copied


def test_p3_a_window_copies_nothing_until_it_is_written_to() -> None:
    with moorage.Store("256MiB") as store:
        store.put("k", bytes(100 << 20))
        before = store.stats()
        faults = minor_faults()
        window = store.get_array("k", mode="cow")
        assert minor_faults() - faults < 50
        assert store.stats().bytes_copied_out == before.bytes_copied_out
        window[0] = 1
        assert minor_faults() - faults < 100
        assert store.stats().windows == 1
        del window


@pytest.mark.performance
def test_p3_the_cost_of_a_view_does_not_depend_on_its_size() -> None:
    """A copy of the large one takes thousands of times as long as of the small one."""
    with moorage.Store("256MiB") as store:
        store.put("small", bytes(4096))
        store.put("large", bytes(128 << 20))

        def cost(key: str) -> float:
            began = time.perf_counter()
            for _ in range(300):
                store.get_array(key)
            return time.perf_counter() - began

        cost("small")
        ratio = min(cost("large") for _ in range(7)) / min(cost("small") for _ in range(7))
        assert ratio < 3


def test_p3_a_view_is_where_the_bytes_are(store: moorage.Store) -> None:
    put(store, "k", 7)
    one, other = store.get_array("k"), store.get_array("k")
    assert one.ctypes.data == other.ctypes.data
    assert np.frombuffer(store.get_buffer("k"), np.uint8).ctypes.data == one.ctypes.data
    with open("/proc/self/maps", encoding="utf-8") as maps:
        spans = [line.split() for line in maps if "memfd:moorage" in line]
    inside = [
        rights
        for span, rights, *_ in spans
        if int(span.split("-")[0], 16) <= one.ctypes.data < int(span.split("-")[1], 16)
    ]
    assert inside == ["r--s"]
    del one, other


def test_p3_adopt_copies_nothing(store: moorage.Store) -> None:
    room = store.empty(1 << 20, "uint8")
    room[:] = 7
    before = store.stats()
    assert store.adopt("k", room)
    after = store.stats()
    assert after.bytes_copied_in == before.bytes_copied_in
    assert (after.adoptions, after.adopt_copies) == (1, 0)
    del room


# ---- P4 ----


def test_p4_memory_keeps_its_address_through_everything(store: moorage.Store) -> None:
    """A device that is told once where a region lies has to be right for ever."""

    def regions() -> set[str]:
        with open("/proc/self/maps", encoding="utf-8") as maps:
            return {line.split()[0] for line in maps if "memfd:moorage" in line and line.split()[1] in ("r--s", "rw-s")}

    put(store, "k", 7)
    view = store.get_array("k")
    before, address = regions(), view.ctypes.data
    for n in range(100):
        put(store, f"k{n % 20}", n)
        store.get_array(f"k{n % 20}", mode="cow")
    overwrite_free(store)
    store.trim()
    in_child(lambda: 0)
    gc.collect()
    assert regions() == before and store.get_array("k").ctypes.data == address
    del view


def registered() -> tuple[list[str], list[str]]:
    """What registering memory leaves behind: locked or pinned pages, and the descriptor of a ring or a device."""
    with open("/proc/self/status", encoding="utf-8") as status:
        pages = [line for line in status if line.startswith(("VmLck:", "VmPin:"))]
    opened = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # of the listing itself
            opened.append(os.readlink(f"/proc/self/fd/{fd}"))
    return pages, sorted(opened)


def test_p4_no_call_registers_memory(store: moorage.Store) -> None:
    """Neither the store's nor the caller's. A device gets to know a region once, and here is none."""
    before = registered()
    data = np.full(SIZE, 7, np.uint8)
    room = store.empty(SIZE, "uint8")
    store.put("small", b"x" * 2000)
    store.put_tensor("k", data)
    store.put_parts("parts", data, b"more")
    store.adopt("room", room)
    kept = [store.get_array("k", mode=mode) for mode in ("view", "cow", "copy")]  # type: ignore[arg-type]
    assert registered() == before
    with store.get_buffer("small"):
        store.get_into("k", data)
        store.get("parts")
        assert registered() == before
    kept.clear()
    del room
    store.clear()
    store.trim()
    assert registered() == before


# ---- P5 ----


def refusals(store: moorage.Store) -> list[tuple[Callable[[], Any], type[Exception], type[Exception], str]]:
    """Calls that are refused: what they raise, of which builtin class that is too, and what the text has to name."""
    view = store.get_array("k")
    return [
        (lambda: store.put("big", bytes(8 << 20)), moorage.CapacityError, MemoryError, "capacity"),
        (lambda: store.put("k", b"", if_exists="raise"), moorage.ExistsError, FileExistsError, "'?k'?|if_exists"),
        (lambda: store.put("k", b"", if_exists="x"), moorage.InvalidArgumentError, ValueError, "if_exists"),  # type: ignore[arg-type]
        (lambda: store.put("", b""), moorage.InvalidArgumentError, ValueError, "key"),
        (lambda: store.put("k" * 5000, b""), moorage.InvalidArgumentError, ValueError, "key"),
        (lambda: store.put("k", b"", meta=bytes(5000)), moorage.InvalidArgumentError, ValueError, "meta"),
        (lambda: store.put("k", "text"), TypeError, TypeError, "data.*encode"),
        (lambda: store.put_tensor("k", np.array(["a"])), moorage.UnsupportedError, TypeError, "string"),
        (lambda: store.put_tensor("k", np.array([object()])), moorage.UnsupportedError, TypeError, "object"),
        (lambda: store.get_array("absent"), moorage.NotFoundError, KeyError, "absent"),
        (lambda: store.get_buffer("absent"), moorage.NotFoundError, KeyError, "absent"),
        (lambda: store.get_array("k", mode="x"), moorage.InvalidArgumentError, ValueError, "mode"),  # type: ignore[arg-type]
        (lambda: store.get_into("k", bytearray(5)), moorage.TooSmallError, ValueError, "nbytes.*holds 5"),
        (lambda: store.get_into("k", b"12345"), moorage.ReadOnlyError, TypeError, "out.*read-only"),
        (lambda: store.get_into("k", view), moorage.ReadOnlyError, TypeError, "read-only"),
        (lambda: store.get_into("k", bytearray(5), offset=SIZE + 1), moorage.MoorageError, ValueError, "offset"),
        (
            lambda: store.get_into("k", bytearray(SIZE), nbytes=SIZE + 1),
            moorage.MoorageError,
            ValueError,
            "nbytes",
        ),
        (lambda: store.remove("absent"), moorage.NotFoundError, KeyError, "absent"),
        (lambda: store.pin("absent"), moorage.NotFoundError, KeyError, "absent"),
        (lambda: store.describe("absent"), moorage.NotFoundError, KeyError, "absent"),
        (lambda: store.pop_tensor("k"), moorage.BusyError, BlockingIOError, "k|view"),
        (lambda: store.empty(8 << 20, "uint8"), moorage.CapacityError, MemoryError, "capacity"),
        (lambda: store.empty(-1, "uint8"), ValueError, ValueError, "shape"),
        (lambda: store.import_safetensors("/nowhere/a"), moorage.IOFailedError, OSError, "/nowhere/a"),
        (lambda: store.export_safetensors("/nowhere/a", ["k"]), moorage.IOFailedError, OSError, "/nowhere"),
        (lambda: store.export_safetensors("/tmp/x", ["absent"]), moorage.NotFoundError, KeyError, "absent"),
    ]


def test_p5_a_refusal_names_the_cause_and_changes_nothing(store: moorage.Store) -> None:
    put(store, "k", 7)
    store.put("other", b"other", meta=b"about")
    cases = refusals(store)
    sequence = store.stats().last_seq
    for call, kind, builtin, text in cases:
        with pytest.raises(kind, match=text) as caught:
            call()
        assert isinstance(caught.value, builtin), caught.value
        del caught
        stats = store.stats()
        assert (stats.objects, stats.last_seq) == (2, sequence)
        assert is_all(store.get_array("k"), 7) and store.get("other") == b"other"
        assert store.describe("other").meta == b"about"
    cases.clear()
    del call
    gc.collect()
    assert store.borrows() == [], "a refused call left a view behind"
    used = store.stats().used
    assert used < 2 * SIZE, "a refused call left memory behind"


def test_p5_a_destination_that_is_too_small_is_not_touched(store: moorage.Store) -> None:
    put(store, "k", 7)
    outs = [bytearray(b"\xaa" * 10), bytearray(b"\xaa" * (SIZE - 11))]
    with pytest.raises(moorage.TooSmallError):
        store.get_into("k", outs)
    assert set(outs[0]) | set(outs[1]) == {0xAA}


def test_p5_a_destination_inside_a_store_is_refused(store: moorage.Store) -> None:
    """Python takes the memory for writable: only the store knows better."""
    put(store, "k", 7)
    put(store, "other", 8)
    view, room = store.get_array("k"), store.empty(SIZE, "uint8")
    room[:] = 6
    store.adopt("room", room)
    for array in (view, room):
        alias = (ctypes.c_uint8 * SIZE).from_address(array.ctypes.data)
        with pytest.raises(moorage.ReadOnlyError, match="read-only"):
            store.get_into("other", alias)
    assert is_all(view, 7) and is_all(room, 6)
    del view, room, array


@pytest.mark.parametrize("change", [-1, 1], ids=["cut off", "too long"])
def test_p5_a_file_of_another_length_is_refused(store: moorage.Store, tmp_path: Path, change: int) -> None:
    header = json.dumps({"a": {"dtype": "U8", "shape": [SIZE], "data_offsets": [0, SIZE]}}).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(SIZE + change))
    with pytest.raises(moorage.FormatError, match="a.safetensors.*100000 bytes"):
        store.import_safetensors(path)
    assert store.keys() == [] and store.stats().used == 0


def test_p5_a_closed_store_says_so() -> None:
    store = moorage.Store("1MiB")
    store.put("k", b"v")
    store.close()
    for call in (
        lambda: store.get("k"),
        lambda: store.put("k", b""),
        lambda: "k" in store,
        lambda: len(store),
        store.stats,
    ):
        with pytest.raises(moorage.ClosedError, match="closed"):
            call()


# ---- P6 ----


def test_p6_every_byte_that_is_copied_is_counted(store: moorage.Store) -> None:
    def counted(work: Callable[[], Any]) -> tuple[int, int]:
        before = store.stats()
        work()
        after = store.stats()
        return after.bytes_copied_in - before.bytes_copied_in, after.bytes_copied_out - before.bytes_copied_out

    data = bytes(SIZE)
    assert counted(lambda: store.put("k", data)) == (SIZE, 0)
    assert counted(lambda: store.put_parts("parts", data, data[:10])) == (SIZE + 10, 0)
    assert counted(lambda: store.put_tensor("t", np.zeros(SIZE * 2, np.uint8)[::2])) == (SIZE, 0)
    assert counted(lambda: store.put("k", data, if_exists="keep")) == (0, 0)
    assert counted(lambda: store.get_array("k")) == (0, 0)
    assert counted(lambda: store.get_buffer("k")) == (0, 0)
    assert counted(lambda: store.get_array("k", mode="cow")) == (0, 0)
    assert counted(lambda: store.get_array("k", mode="copy")) == (0, SIZE)
    assert counted(lambda: store.get("k")) == (0, SIZE)
    assert counted(lambda: store.get_into("k", bytearray(100), offset=50, nbytes=70)) == (0, 70)
    store.put("small", b"x" * 1000)
    assert counted(lambda: store.get_array("small", mode="cow")) == (0, 1000)


def test_p6_what_is_borrowed_can_be_seen(store: moorage.Store) -> None:
    put(store, "k", 7)
    put(store, "gone", 8)
    views = [store.get_array("k"), store.get_array("k", mode="cow"), store.get_array("gone")]
    room = store.empty(100, "uint8")
    store.remove("gone")
    seen = {borrow.key: borrow for borrow in store.borrows() if borrow.key}
    assert (seen["k"].views, seen["k"].unnamed) == (2, False)
    assert (seen["gone"].views, seen["gone"].unnamed, seen["gone"].nbytes) == (1, True, SIZE)
    stats = store.stats()
    assert (stats.borrowed_objects, stats.windows, stats.objects) == (3, 1, 1)
    assert stats.borrowed_bytes >= 2 * SIZE + 100
    assert store.describe("k").views == 2
    views.clear()
    del room
    stats = store.stats()
    assert (stats.borrowed_objects, stats.borrowed_bytes, stats.windows) == (0, 0, 0)


def test_p6_operations_are_counted(store: moorage.Store) -> None:
    before = store.stats()
    put(store, "a", 1)
    put(store, "b", 1)
    store.get_buffer("a")
    store.get("absent")
    store.get_array("b")
    store.put("small", bytes(512))
    assert [len(store.get(key) or b"") for key in ("a", "small")] == [SIZE, 512]  # one of them is asked for its size
    store.remove("small")
    store.remove("a")
    after = store.stats()
    for name, expected in {"puts": 3, "gets": 4, "misses": 1, "removes": 2, "objects": 1}.items():
        assert getattr(after, name) - getattr(before, name) == expected, name
    assert after.used + after.free_warm + after.free_cold == after.capacity


# ---- P7 ----


def test_p7_a_child_is_answered_at_once_whatever_the_parent_was_doing() -> None:
    """Threads of the parent hold every lock there is while it forks."""
    run_prepared(
        """
        import os, sys, threading, time
        import moorage
        store = moorage.Store("8MiB")
        done = False
        def work(n):
            while not done:
                try:
                    store.put(f"k{n}", b"x" * 200_000)
                    store.get_array(f"k{n}", mode="cow"), store.keys(), store.stats(), store.borrows()
                    store.remove(f"k{n}")
                    moorage.Store("1MiB").close()
                except moorage.CapacityError:
                    pass
        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads: thread.start()
        for n in range(30):
            pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    store.get("k0")
                except moorage.ForkedError:
                    status = 0
                os._exit(status)
            deadline = time.monotonic() + 20
            ended = 0
            while not ended and time.monotonic() < deadline:
                time.sleep(0.001)
                ended, status = os.waitpid(pid, os.WNOHANG)
            if not ended:
                os.kill(pid, 9)
                print("a child hangs", file=sys.stderr)
                break
            if status != 0:
                print("a child ended with", status, file=sys.stderr)
                break
        done = True
        for thread in threads: thread.join(20)
        """,
        torch=False,
        timeout=60,
    ).cleanly()


def test_p7_close_does_not_wait_for_views() -> None:
    store = moorage.Store("4MiB")
    put(store, "k", 7)
    view = store.get_array("k")
    began = time.monotonic()
    store.close(wait=True)
    assert time.monotonic() - began < 2
    assert is_all(view, 7)


def test_p7_the_program_ends_while_threads_are_inside() -> None:
    run_prepared(
        """
        import threading, time
        import moorage
        store = moorage.Store("64MiB")
        def work(n):
            data = bytes(10 << 20)
            while True:
                store.put(f"k{n}", data)
        for n in range(3):
            threading.Thread(target=work, args=(n,), daemon=True).start()
        time.sleep(0.1)
        """,
        torch=False,
        timeout=30,
    ).cleanly()


def test_p7_a_long_copy_ends_when_the_store_is_closed() -> None:
    """Between two copies the thread is told that the store is closed; sooner or later it is in the middle of one."""
    data = np.zeros(512 << 20, np.uint8)
    for _ in range(10):
        store = moorage.Store("1GiB")
        ended: list[object] = []

        def work(store: moorage.Store = store, ended: list[object] = ended) -> None:
            try:
                while True:
                    ended.append(store.put("k", data))
            except moorage.MoorageError as error:
                ended.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        time.sleep(0.05)
        store.close()
        thread.join(30)
        assert not thread.is_alive()
        assert isinstance(ended[-1], (moorage.CancelledError, moorage.ClosedError)), ended
        if isinstance(ended[-1], moorage.CancelledError):
            return
    pytest.fail("no copy was stopped")


def test_p7_letting_go_needs_no_interpreter_state() -> None:
    """A view that goes while another exception is on its way, in a thread that is ending, in a __del__."""
    with moorage.Store("1MiB") as store:
        put(store, "k", 7)

        class Holder:
            def __init__(self) -> None:
                self.view = store.get_array("k")

            def __del__(self) -> None:
                del self.view

        def fail() -> None:
            holder = Holder()
            raise LookupError(str(holder.view[0]))

        with pytest.raises(LookupError):
            fail()
        sys.exc_info()
        thread = threading.Thread(target=Holder)
        thread.start()
        thread.join(30)
        gc.collect()
        assert store.borrows() == []
