"""Many threads, interrupts, and every way in which an interpreter ends: no hang, no crash, nothing half done."""

from __future__ import annotations

import contextlib
import gc
import os
import random
import threading
import time
from collections.abc import Iterator
from textwrap import dedent
from typing import Any, Callable

import numpy as np
import pytest
from programs import run, run_prepared

import moorage

with contextlib.suppress(ImportError):  # before threads do it, by their first pop_tensor
    import torch

    torch.set_num_threads(1)

SECONDS = 2.0
SIZES = (100, 5_000, 70_000, 300_000)


@pytest.fixture
def store() -> Iterator[moorage.Store]:
    with moorage.Store("64MiB") as opened:
        yield opened
        gc.collect()
        assert opened.borrows() == []


def together(works: list[Callable[[], Any]], timeout: float = 60) -> list[BaseException]:
    """Runs all of them at once; what they raised."""
    raised: list[BaseException] = []

    def guarded(work: Callable[[], Any]) -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=guarded, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + timeout
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
        assert not thread.is_alive(), "a thread hangs"
    return raised


class Hammer:
    """Operations on few keys. An object is one byte repeated, and its size tells which: foreign, torn or recycled bytes
    show.
    """

    def __init__(self, store: moorage.Store, seed: int, seconds: float) -> None:
        self.store = store
        self.random = random.Random(seed)
        self.until = time.monotonic() + seconds
        self.views: list[np.ndarray[Any, Any]] = []
        self.done = 0

    def content(self) -> np.ndarray[Any, Any]:
        byte = self.random.randrange(256)
        return np.full(self.random.choice(SIZES) + byte, byte, np.uint8)

    @staticmethod
    def check(array: np.ndarray[Any, Any]) -> None:
        byte = array[0]
        assert len(array) - int(byte) in SIZES and bool((array == byte).all()), "foreign or torn bytes"

    def key(self) -> str:
        return f"k{self.random.randrange(4)}"

    def put(self) -> None:
        self.store.put_tensor(self.key(), self.content(), if_exists=self.random.choice(["replace", "keep"]))

    def adopt(self) -> None:
        content = self.content()
        room = self.store.empty(content.shape, content.dtype)
        room[:] = content
        self.store.adopt(self.key(), room)
        if self.random.random() < 0.5:
            self.views.append(room)

    def get(self) -> None:
        array = self.store.get_array(self.key(), mode=self.random.choice(["view", "cow", "copy"]))
        self.check(array)
        if array.flags.writeable:
            array[:] = 0
        elif self.random.random() < 0.5:
            self.views.append(array)

    def buffer(self) -> None:
        self.check(np.frombuffer(self.store.get_buffer(self.key()), np.uint8))

    def read(self) -> None:
        found = self.store.get(self.key())
        if found is not None:
            self.check(np.frombuffer(found, np.uint8))

    def read_into(self) -> None:
        room = np.zeros(max(SIZES) + 256, np.uint8)
        self.check(room[: self.store.get_into(self.key(), room)])

    def remove(self) -> None:
        self.store.remove(self.key(), missing_ok=True)

    def pop(self) -> None:
        taken = self.store.pop_tensor(self.key())
        taken = taken if isinstance(taken, np.ndarray) else taken.numpy()
        self.check(taken)
        taken[:] = 0  # exclusive: nobody may see this

    def let_go(self) -> None:
        if self.views:
            self.check(self.views.pop(self.random.randrange(len(self.views))))

    def run(self) -> None:
        steps = [self.put, self.adopt, self.get, self.get, self.buffer, self.read, self.read_into, self.remove]
        steps += [self.pop, self.let_go, self.let_go]
        while time.monotonic() < self.until:
            with contextlib.suppress(moorage.NotFoundError, moorage.BusyError, moorage.CapacityError):
                self.random.choice(steps)()
            self.done += 1
            if len(self.views) > 20:
                self.views.clear()
        for view in self.views:
            self.check(view)
        self.views.clear()


def hammer(store: moorage.Store, seconds: float) -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    hammers = [Hammer(store, seed + i, seconds) for i in range(6)]
    assert together([one.run for one in hammers], timeout=seconds + 60) == []
    assert all(one.done for one in hammers)


def test_everything_at_once_on_few_keys(store: moorage.Store) -> None:
    hammer(store, SECONDS)


def test_everything_at_once_in_a_store_that_is_often_full() -> None:
    with moorage.Store("2MiB", eviction="s3fifo") as store:
        hammer(store, SECONDS)
        gc.collect()
        assert store.borrows() == []


@pytest.mark.soak
@pytest.mark.skipif(not os.environ.get("MOORAGE_SOAK_MINUTES"), reason="MOORAGE_SOAK_MINUTES is not set")
def test_soak_everything_at_once(store: moorage.Store) -> None:
    hammer(store, 60 * float(os.environ["MOORAGE_SOAK_MINUTES"]) / 2)


# ---- close ----


@pytest.mark.parametrize("wait", [False, True])
def test_close_while_others_work(wait: bool) -> None:
    """Each of the others ends with an exception that says so; a copy that was under way may be cancelled."""
    store = moorage.Store("256MiB")
    big = np.ones(24 << 20, np.uint8)
    kept: list[Any] = []
    started = threading.Barrier(5)

    def until_closed(step: Callable[[int], Any]) -> Callable[[], None]:
        def work() -> None:
            started.wait(30)
            n = 0
            try:
                while True:
                    step(n)
                    n += 1
            except (moorage.ClosedError, moorage.CancelledError):
                return
            except moorage.BadHandleError as error:
                raise AssertionError(f"not a ClosedError: {error!r}") from error

        return work

    def get(n: int) -> None:
        array = store.get_array("k", mode=("view", "cow", "copy")[n % 3])
        assert array[-1] == 5
        if len(kept) < 50:
            kept.append(array)

    def close() -> None:
        started.wait(30)
        time.sleep(0.2)
        store.close(wait=wait)

    store.put("k", b"\5" * 100_000)
    works = [
        until_closed(lambda n: store.put("big", big)),
        until_closed(lambda n: store.put(f"small{n % 100}", b"x" * 10_000)),
        until_closed(get),
        until_closed(lambda n: (store.keys(), store.stats(), store.describe("k"), "k" in store)),
        close,
    ]
    assert together(works) == []
    assert kept and all(array[0] == 5 and array[-1] == 5 for array in kept)
    kept.clear()


def test_close_by_many_threads_at_once() -> None:
    for _ in range(20):
        store = moorage.Store("1MiB")
        store.put("k", b"x" * 1000)
        view = store.get_array("k")
        assert together([store.close] * 4 + [lambda s=store: s.close(wait=True)] * 2) == []
        assert view[-1] == ord("x")


# ---- the GIL ----


@pytest.mark.performance
def test_a_long_put_does_not_hold_the_interpreter() -> None:
    with moorage.Store("512MiB") as store:
        payload = bytes(256 << 20)
        begun = threading.Event()
        span: list[float] = []
        ticks: list[float] = []

        def put() -> None:
            begun.set()
            began = time.monotonic()
            store.put("k", payload)
            span.extend((began, time.monotonic()))

        thread = threading.Thread(target=put)
        thread.start()
        begun.wait(30)
        while thread.is_alive():
            ticks.append(time.monotonic())
            time.sleep(0.001)
        thread.join()
        within = [tick for tick in ticks if span[0] < tick < span[1]]
        assert len(within) >= 5, f"{len(within)} steps of another thread in {span[1] - span[0]:.3f} s"


# ---- Ctrl-C ----

INTERRUPTED = """
import os, signal, threading, time
import numpy as np
import moorage
store = moorage.Store("1GiB")
payload = np.ones(300 << 20, np.uint8)
def interrupt():
    time.sleep(0.03)
    os.kill(os.getpid(), signal.SIGINT)
"""


def test_ctrl_c_during_a_long_put() -> None:
    """The copy is complete or not there, and the interrupt is not lost."""
    ended = run_prepared(
        INTERRUPTED
        + """
threading.Thread(target=interrupt).start()
try:
    for i in range(100):
        store.put("big", payload)
        store.remove("big")
    print("not interrupted")
except KeyboardInterrupt:
    print("interrupted")
assert store.get("big") in (None, payload.tobytes())
store.put("after", b"works")
assert store.get("after") == b"works"
""",
        torch=False,
    ).cleanly()
    assert ended.out == "interrupted\n"


def test_ctrl_c_during_an_import(tmp_path: Any) -> None:
    safetensors = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "big.safetensors"
    safetensors.save_file({f"t{i}": np.full(16 << 20, i, np.uint8) for i in range(8)}, path)
    ended = run_prepared(
        INTERRUPTED
        + f"""
def progress(done, total):
    if done >= total // 4 and not fired:
        fired.append(1)
        signal.raise_signal(signal.SIGINT)
fired = []
try:
    store.import_safetensors({str(path)!r}, progress=progress)
    print("not interrupted")
except KeyboardInterrupt:
    print("interrupted", len(store))
threading.Thread(target=interrupt).start()
try:
    for i in range(100):
        assert store.import_safetensors({str(path)!r}, prefix=f"{{i}}/") == 8
        store.clear()
    print("not interrupted")
except KeyboardInterrupt:
    print("interrupted", len(store) % 8)
store.clear()
assert store.import_safetensors({str(path)!r}) == 8
""",
        torch=False,
    ).cleanly()
    assert ended.out == "interrupted 0\ninterrupted 0\n"


# ---- the end of an interpreter ----

BEGIN = """
import atexit, gc, os, sys, threading, time
import numpy as np
import moorage
store = moorage.Store("8MiB")
store.put("small", b"s" * 1000)
store.put("large", b"l" * 200_000)
"""

# Each ends its program in another way; all of them have to end with status 0 and without a word.
ENDINGS = {
    "nothing held": "",
    "views and store as globals": """
        a, b, c = store.get_array("large"), store.get_array("large", mode="cow"), store.get_buffer("small")
        m = memoryview(c)
        """,
    "views outlive the store": """
        a = store.get_array("large")
        store.close()
        del store
        """,
    "store without close": "view = store.get_array('large'); del view",
    "in a cycle": """
        class Node: pass
        one, two = Node(), Node()
        one.other, two.other = two, one
        one.store, one.view, two.view = store, store.get_array("large"), store.get_buffer("large")
        del one, two, store
        """,
    "in a cycle with __del__": """
        class Node:
            def __del__(self):
                assert self.view[0] == 108
        one = Node()
        one.me, one.store, one.view = one, store, store.get_array("large", mode="cow")
        del one, store
        """,
    "atexit uses the store": """
        def last():
            assert store.get("small") == b"s" * 1000
            view = store.get_array("large")
            store.put("late", b"x")
            store.close()
            assert view[0] == 108
        atexit.register(last)
        """,
    "atexit opens a store": """
        def last():
            other = moorage.Store("1MiB")
            other.put("k", b"v")
            globals()["kept"] = other.get_buffer("k"), other
        atexit.register(last)
        """,
    "views in sys": "sys.kept = [store.get_array('large'), store.get_buffer('small'), store]",
    "views in a module that goes late": """
        import builtins
        builtins.kept = [store.get_array("large", mode="cow"), memoryview(store.get_buffer("small"))]
        """,
    "modules deleted by hand": """
        kept = [store.get_array("large"), store.get_buffer("large"), store]
        for name in [name for name in sys.modules if name.startswith("moorage")]:
            del sys.modules[name]
        del moorage
        gc.collect()
        """,
    "globals cleared": """
        kept = [store.get_array("large"), store.get_buffer("large"), store, moorage]
        globals().clear()
        """,
    "daemon threads that go on": """
        def work():
            while True:
                store.put("churn", b"c" * 100_000)
                store.get_array("large"), store.get_buffer("churn"), store.get("small")
        for _ in range(3):
            threading.Thread(target=work, daemon=True).start()
        time.sleep(0.1)
        """,
    "a thread outlives the main one": """
        def work():
            time.sleep(0.1)
            assert store.get_array("large")[0] == 108
            store.close()
        threading.Thread(target=work).start()
        """,
    "sys.exit in a thread": """
        def work():
            view = store.get_array("large")
            sys.exit(3)
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert store.get("small") == b"s" * 1000
        """,
    "sys.exit with views": "view = store.get_array('large'); sys.exit(0)",
    "os._exit with views": "view = store.get_array('large', mode='cow'); os._exit(0)",
    "os._exit during a put": """
        big = bytes(6 << 20)
        threading.Thread(target=lambda: store.put("big", big), daemon=True).start()
        os._exit(0)
        """,
    "reservations and late tensors": """
        room = store.empty(200_000, "uint8")
        adopted = store.empty(10, "float32")
        store.adopt("adopted", adopted)
        """,
    "views in thread locals": """
        local = threading.local()
        def work():
            local.view, local.store = store.get_array("large"), store
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        """,
    "finalizers of other objects": """
        import weakref
        class Thing: pass
        thing = Thing()
        view = store.get_array("large")
        weakref.finalize(thing, lambda: store.get("small"))
        """,
}

QUIET = "import logging; logging.getLogger('moorage').disabled = True\n"  # that views are left is told on purpose


def ending(name: str) -> str:
    return QUIET + BEGIN + dedent(ENDINGS[name])


@pytest.mark.parametrize("name", ENDINGS)
def test_an_interpreter_ends_without_a_word(name: str) -> None:
    run_prepared(ending(name), torch=False, timeout=30).cleanly()


# Not among them: daemon threads that are inside torch at the end. torch.from_dlpack by itself aborts then.
TORCH_ENDINGS = {
    "globals": """
        views = [store.get_tensor("large", mode=mode) for mode in ("view", "cow", "copy")]
        taken = store.pop_tensor("small")
        """,
    "a parameter, gradients": """
        import torch
        store.put_tensor("w", torch.ones(100, 100))
        layer = torch.nn.Linear(100, 100)
        layer.weight = torch.nn.Parameter(store.get_tensor("w"))
        loss = layer(torch.ones(2, 100)).sum()
        loss.backward()
        """,
    "threads that are waited for": """
        done = threading.Event()
        def work():
            while not done.is_set():
                store.get_tensor("large", mode="view"), store.get_tensor("large")
        thread = threading.Thread(target=work)
        thread.start()
        atexit.register(thread.join)
        time.sleep(0.1)
        done.set()
        """,
}


@pytest.mark.parametrize("name", TORCH_ENDINGS)
def test_an_interpreter_with_torch_ends_without_a_word(name: str) -> None:
    pytest.importorskip("torch")
    run_prepared(QUIET + BEGIN + dedent(TORCH_ENDINGS[name]), timeout=30).cleanly()


@pytest.mark.parametrize(
    "options, env",
    [
        (("-W", "error"), {}),
        (("-X", "faulthandler"), {}),
        (("-X", "dev"), {}),
        ((), {"PYTHONMALLOC": "debug"}),
        (("-I", "-B"), None),
    ],
    ids=["warnings are errors", "faulthandler", "dev mode", "malloc debug", "isolated"],
)
def test_under_other_settings_of_python(options: tuple[str, ...], env: dict[str, str] | None) -> None:
    if env is None:  # isolated: PYTHONPATH is not looked at
        path = os.path.dirname(os.path.dirname(os.path.abspath(moorage.__file__)))
        prologue = f"import sys; sys.path.insert(0, {path!r})\n"
    else:
        prologue = ""
    run(prologue + ending("views and store as globals"), options=options, env=env).cleanly()
    run(prologue + ending("in a cycle with __del__"), options=options, env=env).cleanly()


def test_torch_is_imported_while_another_thread_puts_and_gets() -> None:
    pytest.importorskip("torch")
    run_prepared(
        QUIET
        + BEGIN
        + """
failed, done, n = [], threading.Event(), 0
def work():
    try:
        while not done.is_set():
            store.put_tensor("array", np.arange(100))
            store.adopt("adopted", store.empty(100, "uint8"))
            store.get_into("small", np.zeros(1000, np.uint8))
    except BaseException as error:
        failed.append(error)
thread = threading.Thread(target=work)
thread.start()
try:
    import torch
    assert store.get_tensor("array").sum() == 4950
finally:
    done.set()
    thread.join()
assert not failed, failed
""",
        torch=False,
    ).cleanly()


def test_close_with_views_is_told_to_the_log(store: moorage.Store, caplog: pytest.LogCaptureFixture) -> None:
    other = moorage.Store("1MiB")
    for i in range(12):
        other.put(f"k{i}", b"x")
    views = [other.get_array(f"k{i}") for i in range(12)]
    other.close()
    assert len(caplog.records) == 1
    text = caplog.records[0].getMessage()
    assert "12" in text and text.count("'k") == 10 and "..." in text
    other.close()
    assert len(caplog.records) == 1
    del views


def test_interpreters_end_while_other_threads_let_go_of_views() -> None:
    """Releases need no interpreter lock and no store that is open."""
    run_prepared(
        QUIET
        + BEGIN
        + """
views = [store.get_array("large") for _ in range(2000)]
def work():
    time.sleep(0.02)
    while views:
        views.pop()
for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
store.close()
""",
        torch=False,
    ).cleanly()
