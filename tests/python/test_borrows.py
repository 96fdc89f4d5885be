"""Who holds the memory: `borrows()`, and in debug mode from where."""

from __future__ import annotations

import gc
import inspect
import logging
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from leaks import memory, settled
from programs import run, run_prepared

import moorage

try:
    import torch
except ImportError:
    torch = None  # type: ignore[assignment]


@pytest.fixture
def debugged(open_store: Callable[..., moorage.Store]) -> moorage.Store:
    store = open_store(debug=True)
    store.put_tensor("k", np.arange(100_000, dtype=np.float32))
    return store


def traces(store: moorage.Store, key: str = "k") -> tuple[str, ...]:
    found = [one for one in store.borrows() if one.key == key]
    assert len(found) <= 1
    return found[0].traces if found else ()


def here(offset: int = 0) -> str:
    """The caller's line, as a traceback shows it."""
    frame = inspect.currentframe()
    assert frame is not None and frame.f_back is not None
    return f'File "{__file__}", line {frame.f_back.f_lineno + offset}, in '


GETTERS: dict[str, Callable[[moorage.Store], Any]] = {
    "array": lambda store: store.get_array("k"),
    "array, cow": lambda store: store.get_array("k", mode="cow"),
    "buffer": lambda store: store.get_buffer("k"),
    "buffer, cow": lambda store: store.get_buffer("k", mode="cow"),
    "memoryview": lambda store: memoryview(store.get_buffer("k"))[4:8],
    "slice of an array": lambda store: store.get_array("k")[5:7].reshape(2, 1),
    "tensor": lambda store: store.get_tensor("k", mode="view"),
    "tensor, cow": lambda store: store.get_tensor("k"),
    "tensors": lambda store: store.get_tensors(["k"], mode="view")[0],
    "slice of a tensor": lambda store: store.get_tensor("k")[5:7].unsqueeze(0),
    "storage": lambda store: store.get_tensor("k").untyped_storage(),
    "array of a tensor": lambda store: store.get_tensor("k").numpy()[3:],
    "tensor of a buffer": lambda store: torch.frombuffer(store.get_buffer("k", mode="cow"), dtype=torch.uint8)[1:],
}


@pytest.mark.parametrize("how", list(GETTERS))
def test_a_view_is_listed_as_long_as_its_bytes_are_held(debugged: moorage.Store, how: str) -> None:
    if torch is None and ("tensor" in how or how == "storage"):
        pytest.skip("probed torch: not installed")
    held = GETTERS[how](debugged)
    gc.collect()
    [borrow] = debugged.borrows()
    assert (borrow.key, borrow.views, len(borrow.traces)) == ("k", 1, 1)
    assert f'File "{__file__}"' in borrow.traces[0] and "GETTERS[how](debugged)" in borrow.traces[0]
    assert "moorage/store.py" not in borrow.traces[0] and "MainThread" in borrow.traces[0]
    del held
    gc.collect()
    assert debugged.borrows() == []


def test_the_line_and_the_function(debugged: moorage.Store) -> None:
    def taken_in_here() -> Any:
        return debugged.get_array("k"), here()

    view, line = taken_in_here()
    called = here(-1)
    [trace] = traces(debugged)
    assert line + "taken_in_here" in trace and called + "test_the_line" in trace
    del view


def test_copies_hold_nothing(debugged: moorage.Store) -> None:
    debugged.put("small", b"x" * 100)
    copies = [debugged.get_array("k", mode="copy"), debugged.get_array("small", mode="cow"), debugged.get("k")]
    assert debugged.borrows() == [] and traces(debugged) == ()
    del copies


def test_generations_of_a_key_are_told_apart(debugged: moorage.Store) -> None:
    old = debugged.get_array("k")
    old_line = here(-1)
    debugged.put_tensor("k", np.ones(4))
    new = debugged.get_array("k")
    new_line = here(-1)
    by_name = {borrow.unnamed: borrow.traces for borrow in debugged.borrows()}
    assert old_line in by_name[True][0] and new_line in by_name[False][0]
    del old
    assert [borrow.unnamed for borrow in debugged.borrows()] == [False]
    del new


def test_what_is_produced_in_place(debugged: moorage.Store) -> None:
    first, second = debugged.empty(10, "int8"), debugged.empty((2, 2), "float64")
    line = here(-1)
    reserved = debugged.borrows()
    assert [(one.reserved, one.views, len(one.traces)) for one in reserved] == [(True, 1, 1)] * 2
    assert all(line in one.traces[0] for one in reserved)
    debugged.adopt("made", first)
    assert line in traces(debugged, "made")[0]
    del first, second
    popped = debugged.pop_tensor("made")
    [borrow] = debugged.borrows()
    assert borrow.unnamed and here(-2) in borrow.traces[0]
    del popped
    assert debugged.borrows() == []


def test_views_of_many_threads(debugged: moorage.Store) -> None:
    taken, let_go = threading.Barrier(5), threading.Barrier(5)

    def work() -> None:
        view = debugged.get_array("k")[1:]
        taken.wait()
        let_go.wait()
        del view

    threads = [threading.Thread(target=work, name=f"reader {n}") for n in range(4)]
    for thread in threads:
        thread.start()
    taken.wait()
    found = traces(debugged)
    assert sorted(trace.partition("\n")[0] for trace in found) == [
        f"Thread 'reader {n}' (most recent call last):" for n in range(4)
    ]
    let_go.wait()
    for thread in threads:
        thread.join()
    assert traces(debugged) == ()


def test_a_view_that_ends_on_another_thread(debugged: moorage.Store) -> None:
    views = [debugged.get_array("k") for _ in range(10)]
    assert len(traces(debugged)) == 10
    thread = threading.Thread(target=views.clear)
    thread.start()
    thread.join()
    assert traces(debugged) == ()


def test_a_released_buffer(debugged: moorage.Store) -> None:
    buffer = debugged.get_buffer("k")
    assert len(traces(debugged)) == 1
    buffer.release()
    assert traces(debugged) == ()


def test_notes_of_ended_views_go_by_themselves(debugged: moorage.Store) -> None:
    """Nobody has to call `borrows` for it."""
    kept = debugged.get_array("k")
    grown: list[int] = []

    def work() -> None:  # on a stack of its own: traces are small there
        for count in (5000, 20_000):
            before = memory()
            for _ in range(count):
                debugged.get_array("k")
                debugged.get_buffer("k").release()
            grown.append(memory() - before)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert grown[1] < 1024, grown  # KiB; the C side of 40 000 notes alone would be 1.9 MiB
    assert len(traces(debugged)) == 1
    del kept


def test_a_store_that_goes_before_its_views() -> None:
    for _ in range(200):
        store = moorage.Store("1MiB", debug=True)
        store.put("k", b"abc")
        view = store.get_array("k")
        store.close()
        del store
        assert bytes(view) == b"abc"
        del view


def test_closing_tells_where(debugged: moorage.Store, caplog: pytest.LogCaptureFixture) -> None:
    view = debugged.get_array("k")
    line = here(-1)
    with caplog.at_level(logging.INFO, "moorage"):
        debugged.close()
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert line in caplog.records[1].getMessage()
    assert view[1] == 1
    del view


def test_snapshots_and_what_they_hand_out(debugged: moorage.Store) -> None:
    first = debugged.snapshot()
    first_line = here(-1)
    debugged.put_tensor("k", np.ones(4))
    second, third = debugged.snapshot(prefix="k"), debugged.snapshot(["k"])
    second_line = here(-1)
    views = [first.get_array("k"), first.get_buffer("k")]
    if torch is not None:
        views += [first["k"][3:], first.get_tensor("k", mode="view")]
    for borrow in debugged.borrows():
        assert borrow.views == len(borrow.traces) == (1 + len(views) if borrow.unnamed else 2), borrow
        of_snapshots = [trace for trace in borrow.traces if trace.startswith("a snapshot, Thread")]
        assert len(of_snapshots) == (1 if borrow.unnamed else 2)
        assert all((first_line if borrow.unnamed else second_line) in trace for trace in of_snapshots)
        assert all("test_snapshots_and_what" in trace for trace in borrow.traces)
    views.clear()
    first.close()
    third.close()
    gc.collect()
    [borrow] = debugged.borrows()
    assert borrow.views == len(borrow.traces) == 1
    assert second["k"].tolist() == [1] * 4 if torch else True
    del second
    assert debugged.borrows() == []


# ---- how it is switched on ----


@pytest.mark.parametrize(("text", "on"), [("1", True), ("0", False), ("", False)])
def test_the_environment_decides_for_all(monkeypatch: pytest.MonkeyPatch, text: str, on: bool) -> None:
    monkeypatch.setenv("MOORAGE_DEBUG", text)
    for debug, expected in ((None, on), (True, True), (False, False)):
        with moorage.Store("1MiB", debug=debug) as store:
            store.put("k", b"v")
            view = store.get_buffer("k")
            assert len(traces(store)) == expected
            del view


def test_words_that_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TypeError, match="debug must be"):
        moorage.Store("1MiB", debug="yes")  # type: ignore[arg-type]
    monkeypatch.setenv("MOORAGE_DEBUG", "yes")
    with pytest.raises(ValueError, match="MOORAGE_DEBUG must be 0 or 1"):
        moorage.Store("1MiB")


def test_without_it_nothing_of_it_is_there() -> None:
    run(
        """
        import sys, moorage
        store = moorage.Store("1MiB")
        store.put("k", b"v")
        view = store.get_buffer("k")
        assert store.borrows()[0].traces == ()
        assert "moorage._debug" not in sys.modules and "traceback" not in sys.modules, sorted(sys.modules)
        if store._route_name == "builtin":
            assert type(store._buffer).__name__ == "builtin_function_or_method"
        """,
        options=("-S",),
    ).cleanly()


def test_errors_are_the_same(debugged: moorage.Store) -> None:
    with pytest.raises(moorage.NotFoundError, match="'none'"):
        debugged.get_array("none")
    with pytest.raises(moorage.NotFoundError, match="'none'"):
        debugged.get_buffer("none")
    with pytest.raises(TypeError, match="key must be a str"):
        debugged.get_array(1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="mode"):
        debugged.get_array("k", mode="what")  # type: ignore[arg-type]
    assert debugged.borrows() == []


# ---- the end of processes ----


def test_views_that_live_until_the_interpreter_ends() -> None:
    run_prepared(
        """
        import threading, moorage
        store = moorage.Store("4MiB", debug=True)
        store.put_tensor("k", __import__("numpy").ones(100_000))
        views = [store.get_array("k"), store.get_buffer("k"), memoryview(store.get_buffer("k")), store.empty(9, "int8")]
        threading.Thread(target=lambda: views.append(store.get_array("k"))).start()
        """,
        torch=False,
    ).cleanly()


def test_a_forked_child_lets_go_of_its_own() -> None:
    run_prepared(
        """
        import os, moorage
        store = moorage.Store("4MiB", debug=True)
        store.put("k", bytes(100_000))
        views = [store.get_array("k"), store.get_buffer("k"), store.get_array("k", mode="cow")]
        child = os.fork()
        if child == 0:
            views.clear()
            try:
                store.borrows()
            except moorage.ForkedError:
                os._exit(7)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert len(store.borrows()[0].traces) == 3
        views.clear()
        """,
        torch=False,
    ).cleanly()


def test_nothing_is_forgotten_under_load(debugged: moorage.Store) -> None:
    """Threads take and drop views of a few keys; in the end the traces are those of what is kept."""
    for n in range(4):
        debugged.put(f"k{n}", bytes(1000))
    kept: list[Any] = []

    def work(seed: int) -> None:
        for n in range(500):
            view = debugged.get_array(f"k{(n + seed) % 4}")
            if n % 100 == 0:
                kept.append(view)
                debugged.borrows()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert settled(lambda: sum(one.views for one in debugged.borrows()), 20)
    for one in debugged.borrows():
        assert one.views == len(one.traces)
    assert sum(one.views for one in debugged.borrows()) == 20
    kept.clear()
