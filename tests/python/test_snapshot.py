"""Snapshots: many objects held together, read without asking the store, in forked children too."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import random
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

import numpy as np
import pytest
from children import Child, eventually, in_child
from pressure import overwrite_free
from programs import run_prepared

import moorage
from moorage import _abi, _lib

SIZE = 128 << 10  # large enough for a window
MODES = ("view", "cow", "copy")


@pytest.fixture
def store() -> Iterator[moorage.Store]:
    with moorage.Store("8MiB") as opened:
        yield opened
        if opened.borrows():
            gc.collect()
        eventually(lambda: opened.stats().held_bytes == 0 and opened.stats().children == 0)
        assert opened.borrows() == [], "views are left"


def filled(byte: int) -> bytes:
    return bytes([byte]) * SIZE


def is_all(array: Any, byte: int) -> bool:
    return bool(len(array) == SIZE and (np.asarray(array) == byte).all())


def fill(store: moorage.Store, count: int = 4) -> dict[str, int]:
    wanted = {f"train/{i}": 10 + i for i in range(count)}
    for key, byte in wanted.items():
        store.put(key, filled(byte))
    return wanted


def same(snapshot: moorage.Snapshot, wanted: dict[str, int], mode: Any = "view") -> bool:
    return set(snapshot) == set(wanted) and all(
        is_all(snapshot.get_array(key, mode=mode), byte) for key, byte in wanted.items()
    )


# ---- a mapping ----


def test_it_is_an_immutable_mapping(store: moorage.Store) -> None:
    wanted = fill(store)
    store.put("other", b"x")
    with store.snapshot(prefix="train/") as snapshot:
        assert isinstance(snapshot, Mapping)
        assert not isinstance(snapshot, MutableMapping)
        assert sorted(snapshot) == sorted(snapshot.keys()) == sorted(wanted)
        assert len(snapshot) == 4
        assert "train/0" in snapshot
        assert "other" not in snapshot
        assert 5 not in snapshot and [] not in snapshot
        assert snapshot == snapshot and snapshot != dict.fromkeys(wanted)
        assert len({snapshot, snapshot}) == 1
        assert snapshot.get("nothing") is None and snapshot.get("nothing", 7) == 7
        assert "4 objects" in repr(snapshot)
        for change in (
            lambda: snapshot.__setitem__("train/0", 1),  # type: ignore[attr-defined]
            lambda: snapshot.__delitem__("train/0"),  # type: ignore[attr-defined]
            lambda: snapshot.clear(),  # type: ignore[attr-defined]
            lambda: setattr(snapshot, "name", 1),
        ):
            with pytest.raises(AttributeError):
                change()
        info = snapshot.info()
        assert (info.objects, info.nbytes, info.forked) == (4, 4 * SIZE, False)


def test_values_are_torch_tensors_in_the_mode_of_the_store() -> None:
    torch = pytest.importorskip("torch")
    for mode in MODES:
        with moorage.Store("8MiB", mode=mode) as store:
            store.put_tensor("t", torch.arange(SIZE, dtype=torch.float32).reshape(-1, 4))
            store.put_tensor("half", torch.ones(3, dtype=torch.bfloat16, requires_grad=True))
            with store.snapshot() as snapshot:
                tensors = dict(snapshot)
                for key, t in tensors.items():
                    expected = store.get_tensor(key)
                    assert t.dtype == expected.dtype and t.shape == expected.shape and torch.equal(t, expected)
                    expected = None
                address = store.get_tensor("t", mode="view").data_ptr()
                assert (tensors["t"].data_ptr() == address) == (mode == "view")
                assert snapshot.get_tensor("t", mode="view").data_ptr() == address
                own = snapshot.get_tensor("t", mode="copy")
                own.zero_()
                window = snapshot.get_tensor("t", mode="cow")
                window.fill_(3)
                assert torch.equal(snapshot["t"], store.get_tensor("t")) and not bool((snapshot["t"] == 3).all())
                assert store.stats().windows == (2 if mode == "cow" else 1)
                del tensors, t, window


def test_arrays_and_buffers_are_as_those_of_the_store(store: moorage.Store) -> None:
    store.put_tensor("zero-d", np.array(7.5))
    store.put_tensor("empty", np.zeros((0, 3), np.int16))
    store.put("bytes", b"abc", meta=b"m")
    store.put_tensor("matrix", np.arange(12, dtype=np.complex64).reshape(3, 4), meta=b"layer")
    with store.snapshot() as snapshot:
        for key in store.keys(""):
            ours, theirs = snapshot.get_array(key), store.get_array(key)
            assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
            np.testing.assert_array_equal(ours, theirs)
            assert not ours.flags.writeable
            assert snapshot.get_array(key, mode="cow").flags.writeable
            for mode in MODES:
                one, two = snapshot.get_buffer(key, mode=mode), store.get_buffer(key, mode=mode)
                assert (one.dtype, one.shape, one.meta, one.seq) == (two.dtype, two.shape, two.meta, two.seq)
                assert bytes(memoryview(one)) == bytes(memoryview(two))
                assert memoryview(one).readonly == (mode == "view")
        ours = theirs = one = two = None


def test_a_look_up_does_not_ask_the_store(store: moorage.Store) -> None:
    fill(store)
    with store.snapshot() as snapshot:
        before = store.stats()
        assert is_all(snapshot.get_array("train/1"), 11)
        assert snapshot.get("nothing") is None
        after = store.stats()
        assert (after.gets, after.misses) == (before.gets, before.misses)


def test_torch_and_numpy_from_before_dlpack_1(store: moorage.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr("moorage.torch.HAS_DLPACK_1", False)
    monkeypatch.setattr("moorage.numpy.HAS_DLPACK_1", False)
    wanted = fill(store, 2)
    store.put_tensor("brain", torch.ones(3, dtype=torch.bfloat16))
    with store.snapshot() as snapshot:
        for mode in MODES:
            for key, byte in wanted.items():
                assert is_all(snapshot.get_tensor(key, mode=mode), byte)
                assert is_all(snapshot.get_array(key, mode=mode), byte)
        assert torch.equal(snapshot["brain"], torch.ones(3, dtype=torch.bfloat16))
        with pytest.raises(ValueError, match="mode"):
            snapshot.get_tensor("brain", mode="own")  # type: ignore[arg-type]
        assert in_child(lambda: is_all(snapshot["train/1"], 11)) == "True"


# ---- which objects ----


def test_keys_or_a_prefix(store: moorage.Store) -> None:
    fill(store)
    store.put("é\0ü", b"1")
    store.put("漢字" * 600, b"2")
    for keys in (["train/2", "train/0"], iter(["train/2", "train/0"]), {"train/2": 1, "train/0": 2}):
        assert list(store.snapshot(keys)) == ["train/2", "train/0"]
    assert len(store.snapshot(["train/1", "train/1"])) == 1
    assert list(store.snapshot([])) == list(store.snapshot(prefix="none")) == []
    assert set(store.snapshot()) == set(store.keys())
    with store.snapshot(prefix="é\0") as snapshot:
        assert bytes(memoryview(snapshot.get_buffer("é\0ü"))) == b"1"
    with store.snapshot(prefix="漢字") as snapshot:
        assert bytes(memoryview(snapshot.get_buffer("漢字" * 600))) == b"2"


def test_many_keys_all_of_them_right(store: moorage.Store) -> None:
    for alphabet in "0123456789abcdef", "0123456789éü漢😀":
        words = {"".join(random.Random(n).choices(alphabet, k=1 + n % 40)): n for n in range(3000)}
        for word, n in words.items():
            store.put(word, n.to_bytes(4, "little"))
        with store.snapshot() as snapshot:
            assert set(snapshot) == set(words)
            for word, n in words.items():
                assert bytes(memoryview(snapshot.get_buffer(word))) == n.to_bytes(4, "little")
        store.clear()


def test_names_that_are_not_utf8(store: moorage.Store) -> None:
    """C programs may use any bytes."""
    library, name = _lib.load(), b"\xff\x00caf\xc3\xa9"
    assert library.c.moor_put(store._id, name, len(name), None, 0, None, None) == 0
    store.put("ascii", b"1")
    with store.snapshot() as snapshot:
        assert set(snapshot) == {"ascii", name.decode("utf-8", "surrogateescape")}
        assert snapshot.get_buffer(name.decode("utf-8", "surrogateescape")).nbytes == 0
        assert bytes(memoryview(snapshot.get_buffer("ascii"))) == b"1"


def test_a_missing_key_is_named_and_nothing_stays_borrowed(store: moorage.Store) -> None:
    fill(store)
    with pytest.raises(moorage.NotFoundError, match="no such key") as raised:
        store.snapshot(["train/0", "train/1", "no such key", "train/2"])
    assert isinstance(raised.value, KeyError)
    assert store.borrows() == []
    with store.snapshot() as snapshot:
        for get in (snapshot.get_array, snapshot.get_buffer):
            with pytest.raises(KeyError, match="another key"):
                get("another key")
        if has_torch():
            for get in (snapshot.get_tensor, snapshot.__getitem__):
                with pytest.raises(KeyError, match="another key"):
                    get("another key")


def has_torch() -> bool:
    try:
        import torch  # noqa: F401
    except ImportError:
        return False
    return True


WRONG = {
    "keys: a str": (lambda s, m: s.snapshot("train/0"), TypeError, "keys"),
    "keys: bytes": (lambda s, m: s.snapshot(b"train/0"), TypeError, "keys"),
    "keys: a number": (lambda s, m: s.snapshot(5), TypeError, "keys"),
    "keys: of numbers": (lambda s, m: s.snapshot([5]), TypeError, "key must be a str"),
    "keys: an empty one": (lambda s, m: s.snapshot([""]), ValueError, "keys"),
    "keys: a long one": (lambda s, m: s.snapshot(["k" * 4097]), ValueError, "keys"),
    "keys: a surrogate": (lambda s, m: s.snapshot(["\ud800"]), ValueError, "surrogate"),
    "prefix: a number": (lambda s, m: s.snapshot(prefix=5), TypeError, "prefix"),
    "prefix: None": (lambda s, m: s.snapshot(prefix=None), TypeError, "prefix"),
    "prefix: a long one": (lambda s, m: s.snapshot(prefix="k" * 4097), ValueError, "prefix"),
    "prefix: a surrogate": (lambda s, m: s.snapshot(prefix="\ud800"), ValueError, "prefix"),
    "both": (lambda s, m: s.snapshot(["train/0"], "train/"), ValueError, "keys and prefix"),
    "key: a number": (lambda s, m: m.get_array(0), TypeError, "key must be a str"),
    "key: a list": (lambda s, m: m.get_buffer([]), TypeError, "key must be a str"),
    "key: None": (lambda s, m: m[None], TypeError, "key must be a str"),
    "key: an item that is a number": (lambda s, m: m[0], TypeError, "key must be a str"),
    "key: bytes": (lambda s, m: m.get(b"train/0"), TypeError, "key must be a str"),
    "mode: of an array": (lambda s, m: m.get_array("train/0", mode="own"), ValueError, "mode"),
    "mode: None": (lambda s, m: m.get_buffer("train/0", mode=None), ValueError, "mode"),
    "mode: a list": (lambda s, m: m.get_buffer("train/0", mode=[]), ValueError, "mode"),
}


@pytest.mark.parametrize(("call", "kind", "text"), WRONG.values(), ids=WRONG)
def test_wrong_arguments_are_named(store: moorage.Store, call: Any, kind: type[Exception], text: str) -> None:
    wanted = fill(store, 2)
    with store.snapshot() as snapshot:
        with pytest.raises(kind, match=text):
            call(store, snapshot)
        assert same(snapshot, wanted)


def test_wrong_modes_of_tensors_are_named(store: moorage.Store) -> None:
    pytest.importorskip("torch")
    fill(store, 1)
    with store.snapshot() as snapshot:
        for mode in ("own", 5, [], b"view", object()):
            with pytest.raises(ValueError, match="mode"):
                snapshot.get_tensor("train/0", mode=mode)  # type: ignore[arg-type]


def test_what_a_snapshot_is_made_of_crashes_nobody(store: moorage.Store) -> None:
    """Underscores are no fence."""
    fill(store, 1)
    with store.snapshot() as snapshot:
        if has_torch():
            assert is_all(snapshot["train/0"], 10)
            for number in (-1, 5, "x", None, 1.5, [], 2**63):
                with pytest.raises((TypeError, ValueError, moorage.MoorageError)):
                    snapshot._tensor(number, None)  # type: ignore[misc]
            with pytest.raises(TypeError):
                snapshot._tensor(0)  # type: ignore[misc]
        for number in (1, 2**63):
            with pytest.raises(moorage.InvalidArgumentError, match="index"):
                snapshot._buffer(number, "view")
    for wrong in (lambda: moorage.Snapshot(), lambda: len(moorage.Snapshot.__new__(moorage.Snapshot))):  # type: ignore[call-arg]
        with pytest.raises((TypeError, AttributeError)):
            wrong()


# ---- how long it lives ----


def test_it_holds_its_objects_through_everything(store: moorage.Store) -> None:
    wanted = fill(store)
    snapshot = store.snapshot()
    store.put("train/0", filled(99))
    store.remove("train/1")
    store.clear()
    store.trim()
    overwrite_free(store)
    assert same(snapshot, wanted)
    assert sorted(one.key for one in store.borrows()) == sorted(wanted)
    array = snapshot.get_array("train/2")
    snapshot.close()
    overwrite_free(store)
    assert is_all(array, 12)
    assert [one.key for one in store.borrows()] == ["train/2"]


def test_eviction_spares_it() -> None:
    with moorage.Store("2MiB", eviction="s3fifo") as store:
        wanted = fill(store)
        with store.snapshot(prefix="train/") as snapshot:
            for i in range(100):
                store.put(f"more/{i}", filled(1))
            assert store.stats().evictions > 0
            assert same(snapshot, wanted)


def test_what_it_gave_out_outlives_it_in_any_order(store: moorage.Store) -> None:
    fill(store)
    seed = random.randrange(1 << 30)
    print("seed", seed)
    draw = random.Random(seed)
    for _ in range(50):
        things: list[Any] = [store.snapshot(), store.snapshot(["train/1"])]
        things += [things[i % 2].get_array("train/1", mode=mode) for i in range(2) for mode in MODES]
        things += [things[0].get_buffer("train/1"), things[0].get_array("train/1")[5:]]
        if has_torch():
            things += [things[0]["train/1"], things[1].get_tensor("train/1", mode="view").view(2, -1)]
        draw.shuffle(things)
        while things:
            things.pop()
        assert store.borrows() == []


def test_it_outlives_close() -> None:
    store = moorage.Store("8MiB", mode="view")
    wanted = fill(store)
    snapshot = store.snapshot()
    store.close(wait=True)
    assert same(snapshot, wanted)
    for mode in MODES:
        assert same(snapshot, wanted, mode)
    if has_torch():
        assert is_all(snapshot["train/0"], 10)
    assert snapshot.info().objects == 4
    array = snapshot.get_array("train/0")
    del store
    snapshot.close()
    assert is_all(array, 10)


def test_dropping_it_gives_everything_back_without_a_collection(store: moorage.Store) -> None:
    fill(store)
    gc.disable()
    try:
        snapshot = store.snapshot()
        snapshot.get_array("train/0")
        if has_torch():
            assert is_all(snapshot["train/0"], 10)
        del snapshot
        assert store.borrows() == []
    finally:
        gc.enable()


def test_a_closed_one_is_empty_and_its_getters_say_so(store: moorage.Store) -> None:
    fill(store)
    with store.snapshot() as snapshot:
        snapshot.get_array("train/0")
    snapshot.close()
    assert len(snapshot) == 0 and list(snapshot) == [] and "train/0" not in snapshot
    assert "closed" in repr(snapshot)
    for get in (snapshot.get_array, snapshot.get_buffer, snapshot.get_tensor, snapshot.__getitem__, snapshot.get):
        with pytest.raises(moorage.ClosedError, match="snapshot"):
            get("train/0")
    with pytest.raises(moorage.ClosedError, match="snapshot"):
        snapshot.info()


def test_close_among_look_ups_in_other_threads(store: moorage.Store) -> None:
    """Each look-up gives the right bytes, or says that the snapshot is closed."""
    wanted = fill(store)
    torch = has_torch()
    wrong: list[BaseException | str] = []
    for _ in range(60):
        snapshot = store.snapshot()
        begin = threading.Barrier(4)

        def read(mode: Any, snapshot: moorage.Snapshot = snapshot, begin: threading.Barrier = begin) -> None:
            begin.wait()
            try:
                while True:
                    for key, byte in wanted.items():
                        t = snapshot.get_tensor(key, mode=mode) if torch else snapshot.get_array(key, mode=mode)
                        if int(t[0]) != byte:
                            wrong.append(key)
            except moorage.ClosedError:
                pass
            except BaseException as error:
                wrong.append(error)

        threads = [threading.Thread(target=read, args=(mode,)) for mode in MODES]
        for thread in threads:
            thread.start()
        begin.wait()
        time.sleep(0.001)
        snapshot.close()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_pickling_and_copying_say_what_to_do(store: moorage.Store) -> None:
    fill(store, 1)
    with store.snapshot() as snapshot:
        for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match=r'store\.snapshot\(\).*"fork"'):
                attempt(snapshot)
    for attempt in (pickle.dumps, copy.copy):
        with pytest.raises(TypeError, match=r"store\.snapshot\(\)"):
            attempt(store)


def test_a_program_may_end_with_one_open() -> None:
    kept = "import sys; sys.modules['keep'] = snapshot"
    for end in ("", "del store", "store.close()", kept, "import os; os._exit(0)"):
        run_prepared(
            f"""
            import moorage
            store = moorage.Store("1MiB")
            store.put("k", bytes(100_000))
            snapshot = store.snapshot()
            circle = [snapshot, snapshot.get_array("k"), snapshot.get_array("k", mode="cow")]
            circle.append(circle)
            import logging
            logging.disable()  # close says that there are views
            {end}
            """,
            torch=False,
        ).cleanly()


# ---- in forked children ----


def read_everything(snapshot: moorage.Snapshot, wanted: dict[str, int]) -> bool:
    good = all(same(snapshot, wanted, mode) for mode in MODES)
    for key, byte in wanted.items():
        window = snapshot.get_array(key, mode="cow")
        window[:] = 255  # its own
        good = good and is_all(memoryview(snapshot.get_buffer(key)), byte)
    if has_torch():
        import torch

        torch.set_num_threads(1)
        good = good and all(is_all(t, wanted[key]) for key, t in snapshot.items())
    return good


@pytest.mark.parametrize("mode", MODES)
def test_look_ups_in_a_child_and_a_grandchild(mode: Any) -> None:
    with moorage.Store("8MiB", mode=mode) as store:
        wanted = fill(store)
        snapshot = store.snapshot()

        def work() -> tuple[bool, str, bool, int]:
            good = read_everything(snapshot, wanted)
            below = in_child(lambda: read_everything(snapshot, wanted) and snapshot.info().forked)
            info = snapshot.info()
            return good, below, info.forked, info.child_window_copies

        assert in_child(work) == "(True, 'True', True, 0)"
        assert read_everything(snapshot, wanted)
        assert snapshot.info().forked is False
        snapshot.close()
        eventually(lambda: store.stats().held_bytes == 0)


def test_windows_of_a_child_are_counted_while_they_last(store: moorage.Store) -> None:
    fill(store)
    snapshot = store.snapshot()

    def work() -> list[int]:
        windows = [snapshot.get_array(key, mode="cow") for key in snapshot]
        counts = [snapshot.info().child_windows]
        windows.pop()
        counts.append(snapshot.info().child_windows)
        del windows
        return [*counts, snapshot.info().child_windows, snapshot.info().child_bytes_copied]

    assert in_child(work) == f"{[4, 3, 0, 0]}"
    assert snapshot.info().child_windows == 0
    snapshot.close()


def test_without_the_descriptor_a_child_copies_and_counts(store: moorage.Store) -> None:
    wanted = fill(store)
    snapshot = store.snapshot()

    def work() -> tuple[bool, int, int, int]:
        for name in os.listdir("/proc/self/fd"):
            try:
                if "memfd:moorage" in os.readlink(f"/proc/self/fd/{name}"):
                    os.close(int(name))
            except OSError:  # the one of the listing
                continue
        good = same(snapshot, wanted, "cow") and same(snapshot, wanted)
        info = snapshot.info()
        return good, info.child_windows, info.child_window_copies, info.child_bytes_copied

    assert in_child(work) == f"{(True, 0, 4, 4 * SIZE)}"
    snapshot.close()


def test_the_parent_goes_on_while_a_child_reads(store: moorage.Store) -> None:
    wanted = fill(store)
    snapshot = store.snapshot()

    def work(wait: Any) -> bool:
        wait()
        return read_everything(snapshot, wanted)

    child = Child(work)
    store.put("train/0", filled(77))
    store.remove("train/1")
    store.clear()
    snapshot.close()
    store.trim()
    overwrite_free(store)
    assert store.stats().held_bytes >= 4 * SIZE
    child.go()
    assert child.result() == "True"
    eventually(lambda: store.stats().held_bytes == 0)
    assert store.stats().used == 0


def test_eviction_in_the_parent_spares_what_a_child_reads() -> None:
    with moorage.Store("2MiB", eviction="s3fifo") as store:
        wanted = fill(store)
        snapshot = store.snapshot()

        def work(wait: Any) -> bool:
            wait()
            return read_everything(snapshot, wanted)

        child = Child(work)
        snapshot.close()
        for i in range(100):
            store.put(f"more/{i}", filled(1))
        assert store.stats().evictions > 0
        child.go()
        assert child.result() == "True"


def test_the_store_is_closed_while_a_child_reads() -> None:
    store = moorage.Store("8MiB")
    wanted = fill(store)
    snapshot = store.snapshot()

    def work(wait: Any) -> bool:
        wait()
        return read_everything(snapshot, wanted)

    child = Child(work)
    snapshot.close()
    store.close()
    child.go()
    assert child.result() == "True"


def test_closing_it_in_a_child_leaves_the_parents_as_it_is(store: moorage.Store) -> None:
    wanted = fill(store)
    snapshot = store.snapshot()

    def work() -> bool:
        array = snapshot.get_array("train/0")
        snapshot.close()
        with pytest.raises(moorage.ClosedError):
            snapshot.get_array("train/0")
        return is_all(array, 10)

    assert in_child(work) == "True"
    assert same(snapshot, wanted)
    snapshot.close()


def test_a_child_killed_in_the_middle_holds_nothing(store: moorage.Store) -> None:
    fill(store)
    snapshot = store.snapshot()
    child = Child(lambda wait: [read_everything(snapshot, {}) for _ in range(10**9)])
    snapshot.close()
    store.clear()
    child.kill()
    child.reap()
    eventually(lambda: store.stats().held_bytes == 0)


def test_a_store_in_a_child_names_the_snapshot(store: moorage.Store) -> None:
    def work() -> str:
        with pytest.raises(moorage.ForkedError) as raised:
            store.snapshot()
        return str(raised.value)

    assert "store.snapshot()" in in_child(work)


# ---- sets ----


def items(byte: int, count: int = 20) -> dict[str, np.ndarray]:
    return {f"set/{i}": np.full(100 + i, byte, np.uint8) for i in range(count)}


def test_a_set_of_every_kind_of_array(store: moorage.Store) -> None:
    arrays = {
        "plain": np.arange(12, dtype=np.float32).reshape(3, 4),
        "strided": np.arange(12)[::-2],
        "transposed": np.arange(12, dtype=np.int16).reshape(3, 4).T,
        "big-endian": np.arange(5, dtype=">f8"),
        "bool": np.array([True, False]),
        "complex": np.array([1 + 2j]),
        "scalar": np.float32(2.5),
        "0-d": np.array(7),
        "empty": np.zeros((0, 3), np.int32),
        "read-only": np.frombuffer(b"12345678", np.int64),
        "expanded": np.broadcast_to(np.arange(3), (4, 3)),
        "field": np.zeros(3, dtype=[("a", "u1"), ("b", "<i4")])["b"],
    }
    assert store.put_tensors(arrays, atomic=True) == dict.fromkeys(arrays, True)
    for key, array in arrays.items():
        got = store.get_array(key)
        assert got.shape == np.shape(array) and got.dtype == array.dtype.newbyteorder("="), key
        np.testing.assert_array_equal(got, np.asarray(array), err_msg=key)
    got = None
    ml_dtypes = pytest.importorskip("ml_dtypes")
    eighths = np.arange(8).astype(ml_dtypes.float8_e4m3fn)
    store.put_tensors({"eighths": eighths, "brain": eighths.astype(ml_dtypes.bfloat16)}, atomic=True)
    assert store.describe("eighths").dtype == "float8_e4m3fn" and store.describe("brain").dtype == "bfloat16"
    assert (store.get_array("eighths") == eighths).all()


def test_a_set_of_every_kind_of_tensor(store: moorage.Store) -> None:
    torch = pytest.importorskip("torch")

    class Producer:
        """Another library's tensor."""

        def __init__(self, t: Any) -> None:
            self.t = t

        def __dlpack__(self, **how: Any) -> Any:
            return self.t.__dlpack__()

        def __dlpack_device__(self) -> Any:
            return self.t.__dlpack_device__()

    base = torch.arange(24.0)
    tensors = {
        "plain": base,
        "strided": base[::3],
        "transposed": base.reshape(4, 6).t(),
        "expanded": torch.ones(1).expand(5),
        "parameter": torch.nn.Parameter(torch.randn(3)),
        "grad": (torch.randn(3, requires_grad=True) * 2),
        "conj": torch.randn(3, dtype=torch.complex64).conj(),
        "neg": torch.randn(3, dtype=torch.complex64).conj().imag,
        "0-d": torch.tensor(5),
        "empty": torch.zeros(0, 4),
        "bfloat16": torch.ones(3, dtype=torch.bfloat16),
        "bool": torch.tensor([True, False]),
    }
    mixed = {**tensors, "array": np.arange(3), "producer": Producer(base[1:7:2])}
    assert store.put_tensors(mixed.items(), atomic=True) == dict.fromkeys(mixed, True)
    for key, t in {**tensors, "producer": base[1:7:2]}.items():
        got = store.get_tensor(key)
        assert got.dtype == t.dtype and got.shape == t.shape and torch.equal(got, t.detach()), key


class Breaks:
    """A producer that fails, or does harm, when it is asked."""

    def __init__(self, does: Any) -> None:
        self.does = does

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0

    def __dlpack__(self, **how: Any) -> Any:
        return self.does()


BAD: dict[str, tuple[Any, Any, type[Exception], str]] = {
    "object array": ("bad", lambda: np.array([object()]), moorage.UnsupportedError, "'bad'"),
    "strings": ("bad", lambda: np.array(["a"]), moorage.UnsupportedError, "'bad'"),
    "datetime": ("bad", lambda: np.array(["2020"], "M8[s]"), moorage.UnsupportedError, "'bad'"),
    "masked": ("bad", lambda: np.ma.array([1]), moorage.UnsupportedError, "'bad'"),
    "no tensor": ("bad", lambda: [1, 2], TypeError, "'bad'"),
    "None": ("bad", lambda: None, TypeError, "'bad'"),
    "a producer that raises": ("bad", lambda: Breaks(lambda: 1 / 0), ZeroDivisionError, "zero"),
    "a producer that lies": ("bad", lambda: Breaks(lambda: 5), TypeError, "capsule"),
    "too large": ("bad", lambda: np.zeros(16 << 20, np.uint8), moorage.CapacityError, "capacity"),
    "key: a number": (5, lambda: np.zeros(1), TypeError, "key must be a str"),
    "key: empty": ("", lambda: np.zeros(1), ValueError, "keys"),
    "key: too long": ("k" * 5000, lambda: np.zeros(1), ValueError, "keys"),
    "key: a surrogate": ("\ud800", lambda: np.zeros(1), ValueError, "surrogate"),
    "key: twice": ("set/3", lambda: np.zeros(1), ValueError, "set/3"),
}


def torch_cases() -> dict[str, Any]:
    torch = pytest.importorskip("torch")
    warnings.simplefilter("ignore")  # pytest puts them back
    return {
        "sparse": torch.eye(3).to_sparse(),
        "meta": torch.empty(3, device="meta"),
        "quantized": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
        "nested": torch.nested.nested_tensor([torch.ones(1), torch.ones(2)]),
    }


def refused(store: moorage.Store, pairs: list[Any], kind: type[Exception], text: str) -> None:
    """A set with one bad item, and nothing of it is stored or borrowed."""
    before = {key: bytes(store.get(key)) for key in store.keys("")}
    with pytest.raises(kind, match=text):
        store.put_tensors(pairs, atomic=True)
    assert {key: store.get(key) for key in store.keys("")} == before
    assert store.borrows() == []
    stats = store.stats()
    store.clear()
    assert store.stats().used == 0, stats


@pytest.mark.parametrize(("key", "make", "kind", "text"), BAD.values(), ids=BAD)
@pytest.mark.parametrize("place", [0, 10, 20])
def test_one_bad_item_and_nothing_is_stored(
    store: moorage.Store, place: int, key: Any, make: Any, kind: type[Exception], text: str
) -> None:
    store.put_tensors(items(1, 5), atomic=True)
    pairs: list[Any] = list(items(2).items())
    pairs.insert(place, (key, make()))
    refused(store, pairs, kind, text)


def test_one_bad_tensor_and_nothing_is_stored(store: moorage.Store) -> None:
    for name, t in torch_cases().items():
        refused(store, [*items(2).items(), (name, t)], moorage.UnsupportedError, f"'{name}'")


def test_what_is_no_set_is_refused(store: moorage.Store) -> None:
    for wrong in (5, [5], [("a",)], [("a", np.zeros(1), 3)], "abc", None):
        for atomic in (True, False):
            with pytest.raises(TypeError, match="items"):
                store.put_tensors(wrong, atomic=atomic)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="if_exists"):
        store.put_tensors({}, atomic=True, if_exists="never")  # type: ignore[arg-type]
    assert store.put_tensors({}, atomic=True) == {}


def test_a_producer_that_moves_the_memory_of_another_item(store: moorage.Store) -> None:
    torch = pytest.importorskip("torch")
    victim = torch.zeros(1000, dtype=torch.uint8)
    other = torch.ones(3, dtype=torch.uint8)

    def harm() -> Any:
        victim.resize_(4 << 20)
        victim.fill_(7)
        return other.__dlpack__()

    store.put_tensors([("victim", victim), ("breaks", Breaks(harm))], atomic=True)
    got = store.get_array("victim")
    assert len(got) in (1000, 4 << 20) and set(np.unique(got)) == {7}


def test_if_exists_of_a_set(store: moorage.Store) -> None:
    store.put_tensors(items(1, 3), atomic=True)
    assert store.put_tensors(items(2, 5), atomic=True, if_exists="keep") == {
        **dict.fromkeys(items(1, 3), False), "set/3": True, "set/4": True
    }  # fmt: skip
    assert [int(store.get_array(f"set/{i}")[0]) for i in range(5)] == [1, 1, 1, 2, 2]
    with pytest.raises(moorage.ExistsError, match="set/"):
        store.put_tensors({"new": np.zeros(1), **items(3, 5)}, atomic=True, if_exists="raise")
    assert "new" not in store
    assert [int(store.get_array(f"set/{i}")[0]) for i in range(5)] == [1, 1, 1, 2, 2]
    assert store.put_tensors({"new": np.zeros(1)}, atomic=True, if_exists="raise") == {"new": True}
    assert all(store.put_tensors(items(4, 5), atomic=True).values())
    assert [int(store.get_array(f"set/{i}")[0]) for i in range(5)] == [4] * 5


def test_a_snapshot_never_mixes_two_sets(store: moorage.Store) -> None:
    """Nor do exists and get_tensors, while sets are swapped and other objects come and go."""
    keys = list(items(0))
    store.put_tensors(items(0), atomic=True)
    done = threading.Event()
    wrong: list[Any] = []

    def read(take: Any) -> None:
        while not done.is_set():
            try:
                with take() as snapshot:
                    found = {int(snapshot.get_array(key)[0]) for key in snapshot}
                    if len(found) != 1 or len(snapshot) != len(keys):
                        wrong.append((len(snapshot), found))
            except Exception as error:
                wrong.append(error)

    takes = [lambda: store.snapshot(prefix="set/"), lambda: store.snapshot(keys)]
    threads = [threading.Thread(target=read, args=(take,)) for take in takes]
    for thread in threads:
        thread.start()
    for n in range(200):
        store.put_tensors(items(n % 250), atomic=True)
        store.put(f"other/{n % 7}", b"x")
    done.set()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_set_appears_as_a_whole(store: moorage.Store) -> None:
    keys = list(items(0))
    found: list[bool] = []

    def watch() -> None:
        while not found or not found[-1]:
            seen = store.exists(keys)
            if any(seen) != all(seen):
                found.append(False)
                return
            if all(seen):
                found.append(True)

    for _ in range(50):
        found.clear()
        thread = threading.Thread(target=watch)
        thread.start()
        store.put_tensors(items(1), atomic=True)
        thread.join()
        assert found == [True]
        store.clear()


# ---- waiting ----


def adopted(store: moorage.Store) -> None:
    room = store.empty(100, "uint8")
    room[:] = 1
    store.adopt("last", room)


def imported(store: moorage.Store, folder: Any) -> None:
    store.put_tensor("from/last", np.zeros(3))
    store.export_safetensors(folder / "one.safetensors", ["from/last"], prefix="from/")
    store.import_safetensors(folder / "one.safetensors")


WAYS = {
    "put": lambda s, folder: s.put("last", b"x"),
    "put_parts": lambda s, folder: s.put_parts("last", b"x", b"y"),
    "put_tensor": lambda s, folder: s.put_tensor("last", np.zeros(3)),
    "put_tensors": lambda s, folder: s.put_tensors({"a": np.zeros(1), "last": np.zeros(3)}),
    "a set": lambda s, folder: s.put_tensors({"a": np.zeros(1), "last": np.zeros(3)}, atomic=True),
    "adopt": lambda s, folder: adopted(s),
    "import": imported,
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_whoever_waits_is_woken_by(store: moorage.Store, way: Any, tmp_path: Any) -> None:
    store.put("first", b"x")
    ends: list[Any] = []

    def wait() -> None:
        try:
            store.wait(["first", "last"], 20)
            ends.append(store.exists(["first", "last"]))
        except moorage.MoorageError as error:
            ends.append(error)

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.02)
    assert ends == []
    way(store, tmp_path)
    for thread in threads:
        thread.join()
    assert ends == [[True, True]] * 3


def test_wait_looks_once_or_for_a_time(store: moorage.Store) -> None:
    store.put("there", b"x")
    for timeout in (0, 0.0, None, 5, np.float32(1), True, 10**400):
        store.wait(["there"], timeout)
        store.wait([], timeout)
        store.wait(iter(["there", "there"]), timeout)
    began = time.monotonic()
    with pytest.raises(moorage.WaitTimeoutError, match="absent") as raised:
        store.wait(["there", "absent"], 0)
    assert time.monotonic() - began < 1
    assert isinstance(raised.value, TimeoutError)
    with pytest.raises(TimeoutError, match="absent"):
        store.wait(["there", "absent"], 0.12)
    assert 0.12 <= time.monotonic() - began < 5


WRONG_WAITS: list[tuple[Any, Any, type[Exception], str]] = [
    ("there", 1, TypeError, "keys"),
    (5, 1, TypeError, "keys"),
    ([5], 1, TypeError, "key must be a str"),
    ([""], 1, ValueError, "keys"),
    (["there"], -1, ValueError, "timeout"),
    (["there"], float("nan"), ValueError, "timeout"),
    (["there"], -(10**400), ValueError, "timeout"),
    (["there"], "1", TypeError, "timeout"),
    (["there"], b"1", TypeError, "timeout"),
    (["there"], [], TypeError, "timeout"),
    (["there"], 1j, TypeError, "timeout"),
]


@pytest.mark.parametrize(("keys", "timeout", "kind", "text"), WRONG_WAITS)
def test_wrong_waits_are_named(store: moorage.Store, keys: Any, timeout: Any, kind: type[Exception], text: str) -> None:
    store.put("there", b"x")
    with pytest.raises(kind, match=text):
        store.wait(keys, timeout)


def test_close_ends_a_wait() -> None:
    """Whether it comes in the middle of a piece of the wait, or between two."""
    for delay in (0.005, 0.05, 0.06):
        store = moorage.Store("1MiB")
        ends: list[type[BaseException]] = []

        def wait(store: moorage.Store = store, ends: list[type[BaseException]] = ends) -> None:
            try:
                store.wait(["never"], None)
            except BaseException as raised:
                ends.append(type(raised))

        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(delay)
        store.close()
        thread.join(10)
        assert ends == [moorage.CancelledError]
        with pytest.raises(moorage.ClosedError):
            store.wait(["never"], None)


def test_close_between_two_pieces_of_a_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the one before, without luck."""
    store = moorage.Store("1MiB")
    real, calls = store._c, []

    class Calls:
        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

        def moor_wait(self, *arguments: Any) -> int:
            calls.append(arguments)
            if len(calls) == 2:
                store.close()
            return int(real.moor_wait(*arguments))

    monkeypatch.setattr(store, "_c", Calls())
    with pytest.raises(moorage.CancelledError):
        store.wait(["never"], None)
    assert _abi.STATUS["MOOR_ERR_CANCELLED"] == moorage.CancelledError.status


def test_ctrl_c_ends_a_wait() -> None:
    ended = run_prepared(
        """
        import os, signal, threading, time, moorage
        store = moorage.Store("1MiB")
        began = time.monotonic()
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            store.wait(["never"], None)
        except KeyboardInterrupt:
            print("interrupted", time.monotonic() - began < 5)
        store.put("k", b"v")  # and the store is as it was
        store.wait(["k"], None)
        """,
        torch=False,
    ).cleanly()
    assert ended.out == "interrupted True\n"


def test_a_forked_child_cannot_wait(store: moorage.Store) -> None:
    def work() -> str:
        with pytest.raises(moorage.ForkedError):
            store.wait(["never"], None)
        with pytest.raises(moorage.ForkedError):
            store.put_tensors({"a": np.zeros(1)}, atomic=True)
        return "refused"

    assert in_child(work) == "'refused'"
