"""Fork: a child keeps the views it has, can do nothing to its parent, and nothing is forgotten when it ends."""

from __future__ import annotations

import copy
import ctypes
import gc
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from children import Child, eventually, in_child
from pressure import overwrite_free
from programs import run_prepared

import moorage

SIZE = 128 << 10  # large enough for a window


@pytest.fixture
def store() -> Iterator[moorage.Store]:
    with moorage.Store("4MiB") as opened:
        yield opened
        gc.collect()
        eventually(lambda: opened.stats().held_bytes == 0 and opened.stats().children == 0)


def filled(byte: int) -> bytes:
    return bytes([byte]) * SIZE


def is_all(array: np.ndarray, byte: int) -> bool:
    return array.size == SIZE and bool((array == byte).all())


def nothing_held(store: moorage.Store) -> None:
    eventually(lambda: store.stats().held_bytes == 0)


# ---- the store in a child ----

OPERATIONS = {
    "put": lambda s: s.put("k", b"x"),
    "put_tensor": lambda s: s.put_tensor("k", np.zeros(3)),
    "put_parts": lambda s: s.put_parts("k", b"x", b"y"),
    "get": lambda s: s.get("k"),
    "get_array": lambda s: s.get_array("k"),
    "get_buffer": lambda s: s.get_buffer("k"),
    "get_into": lambda s: s.get_into("k", bytearray(SIZE)),
    "empty": lambda s: s.empty(3, "int8"),
    "remove": lambda s: s.remove("k"),
    "clear": lambda s: s.clear(),
    "pin": lambda s: s.pin("k"),
    "unpin": lambda s: s.unpin("k"),
    "in": lambda s: "k" in s,
    "len": lambda s: len(s),
    "exists": lambda s: s.exists(["k"]),
    "count_leading": lambda s: s.count_leading(["k"]),
    "keys": lambda s: s.keys(),
    "describe": lambda s: s.describe("k"),
    "stats": lambda s: s.stats(),
    "borrows": lambda s: s.borrows(),
    "trim": lambda s: s.trim(),
    "import_safetensors": lambda s: s.import_safetensors("/nowhere"),
    "export_safetensors": lambda s: s.export_safetensors("/nowhere", ["k"]),
    "a new store": lambda s: moorage.Store("1MiB"),
}


def test_every_operation_in_a_child_raises_forked_error_at_once(store: moorage.Store) -> None:
    store.put("k", filled(1))

    def work() -> list[str]:
        wrong = []
        began = time.monotonic()
        for name, operation in OPERATIONS.items():
            try:
                operation(store)
                wrong.append(f"{name}: nothing raised")
            except moorage.ForkedError as error:
                if "spawn" not in str(error) or "forkserver" not in str(error):
                    wrong.append(f"{name}: {error}")
        if time.monotonic() - began > 5:
            wrong.append("not at once")
        store.close()  # no harm
        repr(store)
        return wrong

    assert in_child(work) == "[]"
    assert store.get("k") == filled(1)


def test_torch_getters_in_a_child_raise_forked_error(store: moorage.Store) -> None:
    torch = pytest.importorskip("torch")
    store.put("k", filled(1))

    def work() -> bool:
        for operation in (
            lambda: store.get_tensor("k"),
            lambda: store.get_tensors(["k"]),
            lambda: store.pop_tensor("k"),
            lambda: store.put_tensor("k", torch.zeros(2)),
            lambda: store.empty(2, torch.int8),
        ):
            with pytest.raises(moorage.ForkedError, match="spawn"):
                operation()
        return True

    assert in_child(work) == "True"


def test_a_store_cannot_be_pickled_or_copied(store: moorage.Store) -> None:
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match=r"cannot be pickled.*[Ss]end the tensors"):
            attempt(store)


# ---- what a child keeps ----


def test_views_of_every_mode_stay_in_a_child_while_the_parent_replaces_and_removes(store: moorage.Store) -> None:
    for name in ("removed", "replaced", "window", "buffer"):
        store.put(name, filled(7))
    views = [
        store.get_array("removed"),
        store.get_array("replaced"),
        store.get_array("window", mode="cow"),
        np.asarray(memoryview(store.get_buffer("buffer"))),
    ]

    def work(wait: object) -> list[bool]:
        before = [is_all(view, 7) for view in views]
        wait()  # type: ignore[operator]
        return before + [is_all(view, 7) for view in views]

    child = Child(work)
    expected = [True] * 2 * len(views)
    views.clear()
    for name in ("removed", "window", "buffer"):
        store.remove(name)
    store.put("replaced", filled(8))
    eventually(lambda: store.stats().held_bytes >= 4 * SIZE)
    assert overwrite_free(store) > 0
    child.go()
    assert child.result() == str(expected)
    nothing_held(store)
    assert overwrite_free(store) > (3 << 20)


def test_torch_views_stay_in_a_child(store: moorage.Store) -> None:
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    store.put_tensor("k", torch.full((SIZE,), 7, dtype=torch.uint8))
    views = [store.get_tensor("k", mode=mode)[5:] for mode in ("view", "cow")]

    def work(wait: object) -> list[bool]:
        wait()  # type: ignore[operator]
        return [bool((view.numpy() == 7).all()) for view in views]

    child = Child(work)
    views.clear()
    store.remove("k")
    overwrite_free(store)
    child.go()
    assert child.result() == "[True, True]"


def test_get_fork_release_get_release_replace(store: moorage.Store) -> None:
    """The sequence in which one epoch a cell would forget that the child has a view."""
    store.put("k", filled(7))
    view = store.get_array("k")

    def work(wait: object) -> bool:
        wait()  # type: ignore[operator]
        return is_all(view, 7)

    child = Child(work)
    del view
    view = store.get_array("k")
    del view
    store.put("k", filled(8))
    eventually(lambda: store.stats().held_bytes >= SIZE, timeout=5)
    overwrite_free(store)
    child.go()
    view = np.zeros(0)
    assert child.result() == "True"
    nothing_held(store)


def test_two_children_each_with_a_view_of_its_own_time(store: moorage.Store) -> None:
    store.put("k", filled(7))
    first_view = store.get_array("k")

    def first(wait: object) -> bool:
        wait()  # type: ignore[operator]
        return is_all(first_view, 7)

    one = Child(first)
    del first_view
    second_view = store.get_array("k")

    def second(wait: object) -> bool:
        wait()  # type: ignore[operator]
        return is_all(second_view, 7)

    two = Child(second)
    del second_view
    first_view = second_view = np.zeros(0)
    store.remove("k")
    overwrite_free(store)
    one.go()
    assert one.result() == "True"
    overwrite_free(store)
    assert store.stats().held_bytes >= SIZE
    two.go()
    assert two.result() == "True"
    nothing_held(store)


def test_what_is_viewed_after_the_fork_is_not_held(store: moorage.Store) -> None:
    store.put("before", filled(1))
    child = Child(lambda wait: wait())
    store.put("after", filled(2))
    for name in ("before", "after"):
        view = store.get_array(name)
        assert view[0] in (1, 2)
        del view
        store.remove(name)
    assert store.stats().held_bytes == 0
    child.go()
    child.result()


def test_a_held_object_cannot_be_popped(store: moorage.Store) -> None:
    pytest.importorskip("torch")
    store.put("k", filled(7))
    view = store.get_array("k")
    child = Child(lambda wait: wait())
    del view
    with pytest.raises(moorage.BusyError):
        store.pop_tensor("k")
    assert store.get("k") == filled(7)
    child.go()
    child.result()
    eventually(lambda: store.stats().children == 0)
    assert bool((store.pop_tensor("k").numpy() == 7).all())


def test_views_in_a_child_outlive_the_store() -> None:
    store = moorage.Store("1MiB")
    store.put("k", filled(7))
    view = store.get_array("k")

    def work(wait: object) -> bool:
        wait()  # type: ignore[operator]
        return is_all(view, 7)

    child = Child(work)
    del view
    store.close(wait=True)
    time.sleep(0.05)
    view = np.zeros(0)
    child.go()
    assert child.result() == "True"


def test_a_child_may_let_go_of_its_views(store: moorage.Store) -> None:
    store.put("k", filled(7))
    views = [store.get_array("k"), store.get_array("k", mode="cow"), store.get_buffer("k")]

    def work() -> int:
        views.clear()
        return gc.collect() * 0

    assert in_child(work) == "0"
    assert is_all(views[0], 7)
    assert {b.key: b.views for b in store.borrows()} == {"k": 3}


# ---- how a child ends ----


def test_a_grandchild_outlives_the_child(store: moorage.Store) -> None:
    store.put("k", filled(7))
    view = store.get_array("k")
    ready, say_ready = os.pipe()
    go, say_go = os.pipe()
    answer, say_answer = os.pipe()

    def work() -> int:
        if os.fork() == 0:
            os.write(say_ready, b".")
            os.read(go, 1)
            os.write(say_answer, b"yes" if is_all(view, 7) else b"no")
            os._exit(0)
        return 0

    in_child(work)
    os.read(ready, 1)
    del view
    store.remove("k")
    time.sleep(0.1)
    overwrite_free(store)
    assert store.stats().held_bytes >= SIZE, "the hold ended with the child, not with the grandchild"
    os.write(say_go, b".")
    assert os.read(answer, 3) == b"yes"
    nothing_held(store)
    view = np.zeros(0)
    for fd in (ready, say_ready, go, say_go, answer, say_answer):
        os.close(fd)


def test_a_child_that_closes_every_descriptor_is_still_known_to_live(store: moorage.Store) -> None:
    store.put("k", filled(7))
    view = store.get_array("k")
    shared = np.ndarray(4, np.uint8, buffer=__import__("mmap").mmap(-1, 4096))

    def work(wait: object) -> None:
        os.closerange(3, 4096)
        shared[0] = 1
        while not shared[1]:
            time.sleep(0.002)
        shared[2] = 1 + is_all(view, 7)
        os._exit(0)

    child = Child(work)
    eventually(lambda: shared[0])
    del view
    store.remove("k")
    time.sleep(0.15)
    overwrite_free(store)
    assert store.stats().held_bytes >= SIZE, "the pipe was believed"
    shared[1] = 1
    eventually(lambda: shared[2])
    assert shared[2] == 2
    assert child.reap() == 0
    nothing_held(store)
    view = np.zeros(0)


def test_a_killed_child_is_noticed_before_it_is_reaped(store: moorage.Store) -> None:
    store.put("k", filled(7))
    view = store.get_array("k")
    child = Child(lambda wait: wait())
    del view
    store.remove("k")
    assert store.stats().held_bytes >= SIZE
    child.kill()
    nothing_held(store)
    assert child.reap() == signal.SIGKILL


def test_exec_in_the_child_ends_the_hold(store: moorage.Store) -> None:
    store.put("k", filled(7))
    view = store.get_array("k")
    child = Child(lambda wait: os.execv("/bin/sleep", ["sleep", "30"]))
    del view
    store.remove("k")
    nothing_held(store)
    assert os.waitpid(child.pid, os.WNOHANG) == (0, 0), "the child was to live"
    child.kill()
    child.reap()


def test_a_child_that_forks_and_ends_leaves_nothing(store: moorage.Store) -> None:
    store.put("k", filled(7))
    view = store.get_array("k")

    def work() -> None:
        for _ in range(3):
            pid = os.fork()
            if pid == 0:
                os._exit(not is_all(view, 7))
            assert os.waitpid(pid, 0)[1] == 0

    in_child(work)
    del view
    view = np.zeros(0)
    store.remove("k")
    nothing_held(store)


# ---- what a child can do ----


def writer_mappings() -> list[tuple[int, int]]:
    """Where a region or window can be written to in this process."""
    found = []
    with open("/proc/self/maps", encoding="utf-8") as maps:
        for line in maps:
            if "/memfd:moorage (" in line and line.split()[1][1] == "w":
                begin, end = line.split()[0].split("-")
                found.append((int(begin, 16), int(end, 16)))
    return found


def test_a_child_that_writes_wherever_it_can_changes_nothing(store: moorage.Store) -> None:
    torch = pytest.importorskip("torch")
    for name in ("plain", "window", "popped", "pinned"):
        store.put(name, filled(7))
    window = store.get_tensor("window", mode="cow")
    array = store.get_array("window", mode="cow")
    popped = store.pop_tensor("popped")
    room = store.empty(SIZE, torch.uint8)
    popped.numpy()[:] = room.numpy()[:] = 6

    def work() -> bool:
        window.numpy()[:] = array[:] = popped.numpy()[:] = room.numpy()[:] = 0x5A
        spans = writer_mappings()
        for begin, end in spans:
            ctypes.memset(begin, 0x5A, end - begin)
        return len(spans) >= 1

    assert in_child(work) == "True"
    for name in ("plain", "window", "pinned"):
        assert store.get(name) == filled(7)
    for kept, byte in ((window, 7), (popped, 6), (room, 6)):
        assert is_all(kept.numpy(), byte)
    assert is_all(array, 7)
    assert store.adopt("room", room)
    assert store.get("room") == filled(6)


def test_what_a_child_writes_to_a_window_stays_there(store: moorage.Store) -> None:
    store.put("k", filled(7))
    window = store.get_array("k", mode="cow")

    def work() -> bool:
        window[:] = 9
        return is_all(window, 9)

    assert in_child(work) == "True"
    assert is_all(window, 7)


# ---- the ways to fork ----


def test_processes_that_are_not_forks_of_ours_are_unaffected(store: moorage.Store) -> None:
    store.put("k", filled(7))
    view = store.get_array("k")
    assert subprocess.run(["/bin/true"], check=False).returncode == 0
    assert subprocess.run(["/bin/true"], preexec_fn=lambda: None, check=False).returncode == 0  # noqa: PLW1509
    assert os.system("true") == 0
    pid = os.posix_spawn("/bin/true", ["true"], {})
    assert os.waitpid(pid, 0)[1] == 0
    with os.popen("echo hello") as pipe:
        assert pipe.read() == "hello\n"
    own = subprocess.run(
        [sys.executable, "-c", "import moorage; s = moorage.Store('1MiB'); s.put('a', b'b'); print(s.get('a'))"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (own.stdout, own.stderr) == ("b'b'\n", "")
    assert is_all(view, 7)
    del view
    store.remove("k")
    nothing_held(store)


def test_forks_from_several_threads(store: moorage.Store) -> None:
    store.put("k", filled(7))
    view = store.get_array("k")
    wrong: list[str] = []

    def forks() -> None:
        for _ in range(10):
            pid = os.fork()
            if pid == 0:
                os._exit(0 if view[0] == 7 and view[-1] == 7 else 1)
            if os.waitpid(pid, 0)[1] != 0:
                wrong.append("a child saw other bytes")

    threads = [threading.Thread(target=forks) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert wrong == []
    view = np.zeros(0)
    store.remove("k")
    nothing_held(store)


def test_forks_while_other_threads_put_and_get(store: moorage.Store) -> None:
    store.put("held", filled(7))
    view = store.get_array("held")
    done = threading.Event()
    wrong: list[str] = []

    def work(number: int) -> None:
        randomness = random.Random(number)
        while not done.is_set():
            key = f"k{randomness.randrange(4)}"
            byte = randomness.randrange(100, 200)
            try:
                if randomness.random() < 0.5:
                    store.put(key, filled(byte))
                else:
                    got = store.get_array(key)
                    if got.min() != got.max():
                        wrong.append(f"{key} is torn")
            except (KeyError, moorage.CapacityError):
                continue
            except BaseException as error:
                wrong.append(repr(error))
                return

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(25):
        pid = os.fork()
        if pid == 0:
            os._exit(0 if view[0] == 7 and view[SIZE // 2] == 7 and view[-1] == 7 else 1)
        if os.waitpid(pid, 0)[1] != 0:
            wrong.append("a child saw other bytes")
    done.set()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert wrong == []
    store.clear()
    del view
    nothing_held(store)


def test_a_thousand_forks_leave_no_descriptor() -> None:
    run_prepared(
        """
        import os, time
        import moorage

        def descriptors():
            return len(os.listdir("/proc/self/fd"))

        store = moorage.Store("1MiB")
        store.put("k", bytes([7]) * 100_000)
        view = store.get_array("k")
        before = descriptors()
        for _ in range(1000):
            pid = os.fork()
            if pid == 0:
                os._exit(0 if view[0] == 7 else 1)
            assert os.waitpid(pid, 0)[1] == 0
        del view
        store.remove("k")
        deadline = time.monotonic() + 30
        while descriptors() > before or store.stats().held_bytes or store.stats().children:
            assert time.monotonic() < deadline, (descriptors(), before, store.stats())
            time.sleep(0.01)
        assert store.stats().children_unfollowed == 0
        """,
        torch=False,
    ).cleanly()


def test_a_child_that_cannot_be_followed_is_held_for_ever_and_counted() -> None:
    """Without a descriptor for pipe and token nobody can say when it ends."""
    run_prepared(
        """
        import os, resource
        import moorage
        store = moorage.Store("1MiB")
        store.put("k", bytes([7]) * 100_000)
        store.put("other", bytes([6]) * 100_000)
        view = store.get_array("k")
        taken = []
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, hard))
        try:
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass
        pid = os.fork()
        if pid == 0:
            os._exit(0 if (view == 7).all() else 1)
        assert os.waitpid(pid, 0)[1] == 0
        for fd in taken:
            os.close(fd)
        assert store.stats().children_unfollowed == 1
        del view
        store.remove("k")
        store.remove("other")
        held = store.stats().held_bytes
        assert 100_000 <= held < 200_000, held
        """,
        torch=False,
    ).cleanly()


def test_multiprocessing_pool_reads_views_while_the_parent_churns() -> None:
    run_prepared(
        """
        import multiprocessing, time
        import numpy as np
        import moorage

        store = moorage.Store("8MiB")
        for i in range(8):
            store.put_tensor(f"k{i}", np.full(100_000, i, np.uint8))
        views = [store.get_array(f"k{i}") for i in range(8)]

        def check(i):
            return bool((views[i % 8] == i % 8).all())

        with multiprocessing.get_context("fork").Pool(2) as pool:
            kept, views[:] = list(views), []
            kept.clear()
            waiting = []
            for i in range(40):
                waiting.append(pool.apply_async(check, (i,)))
                store.put_tensor(f"k{i % 8}", np.full(100_000, 200, np.uint8))
                store.put_tensor("more", np.full(500_000, 201, np.uint8))
            assert all(one.get(60) for one in waiting)
            assert store.stats().held_bytes >= 800_000
        deadline = time.monotonic() + 30
        while store.stats().held_bytes:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        """,
        torch=False,
    ).cleanly()


def test_dataloader_workers_read_views_while_the_parent_churns() -> None:
    pytest.importorskip("torch")
    run_prepared(
        """
        import time
        import torch
        import moorage
        torch.set_num_threads(1)

        store = moorage.Store("16MiB")
        for i in range(64):
            store.put_tensor(f"k{i}", torch.full((20_000,), i, dtype=torch.float32))

        class Items(torch.utils.data.Dataset):
            def __init__(self):
                self.views = [store.get_tensor(f"k{i}", mode="view") for i in range(64)]
            def __len__(self):
                return len(self.views)
            def __getitem__(self, i):
                return i, self.views[i]

        items = Items()
        loader = torch.utils.data.DataLoader(items, batch_size=8, num_workers=2, multiprocessing_context="fork")
        batches = iter(loader)
        kept = items.views
        items.views = []
        del kept
        seen = 0
        for step, (numbers, values) in enumerate(batches):
            for i, value in zip(numbers.tolist(), values):
                assert bool((value == i).all()), (i, value)
                seen += 1
            for i in range(step * 8, step * 8 + 8):
                store.remove(f"k{i}")
                store.put_tensor(f"new{i}", torch.full((20_000,), -1.0))
        assert seen == 64, seen
        del batches, loader, numbers, values, value
        deadline = time.monotonic() + 30
        while store.stats().held_bytes:
            assert time.monotonic() < deadline, store.stats()
            time.sleep(0.01)
        """,
    ).cleanly()
