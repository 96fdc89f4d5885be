"""The logger "moorage" is the only channel, and says each thing once."""

from __future__ import annotations

import ast
import logging
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import eventually
from programs import run_prepared

import moorage
from moorage import _lib, _log

REPO = Path(__file__).resolve().parents[2]
HUGE = Path("/proc/sys/vm/nr_hugepages")


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "moorage"]


def close_memfd_of(store: moorage.Store) -> None:
    """As a program does that closes all descriptors which are not its own."""
    before = {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if fd.isdecimal()
              and os.path.islink(f"/proc/self/fd/{fd}")}  # fmt: skip
    [fd] = [int(fd) for fd, name in before.items() if name.startswith("/memfd:moorage") and "child" not in name]
    os.close(fd)


def test_copies_in_place_of_windows(open_store: Callable[..., moorage.Store], caplog: pytest.LogCaptureFixture) -> None:
    store = open_store()
    store.put("k", bytes(100_000))
    close_memfd_of(store)
    views = [store.get_array("k", mode="cow") for _ in range(5)]
    assert store.borrows() == []  # copies, all of them
    assert eventually(lambda: said(caplog) != [])
    [text] = said(caplog)
    assert "vm.max_map_count" in text and "window_copies" in text
    del views


def test_copies_in_place_of_adoptions(store: moorage.Store, caplog: pytest.LogCaptureFixture) -> None:
    room = store.empty(8192, "int8")
    store.adopt("part", room[:100])
    store.adopt("foreign", np.ones(5))
    [text] = said(caplog)
    assert "'part'" in text and "adopt_copies" in text
    assert store.stats().adopt_copies == 2
    caplog.clear()
    assert store.adopt("whole", room)
    assert said(caplog) == []
    del room


def test_huge_pages_that_are_not_there(caplog: pytest.LogCaptureFixture) -> None:
    if not HUGE.exists() or int(HUGE.read_text()) > 0:
        pytest.skip(f"probed {HUGE}: there are huge pages, or no such file")
    moorage.Store("4MiB", hugepages="off").close()
    assert said(caplog) == []
    moorage.Store("4MiB", hugepages="try").close()
    [text] = said(caplog)
    assert "vm.nr_hugepages" in text


def test_a_child_that_cannot_be_followed() -> None:
    run_prepared(
        """
        import logging, os, resource, time
        import moorage
        told = []
        class Handler(logging.Handler):
            def emit(self, record):
                told.append(record.getMessage())
        logging.getLogger("moorage").addHandler(Handler())
        store = moorage.Store("4MiB")
        store.put("k", bytes(100))
        view = store.get_array("k")
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        used = len(os.listdir("/proc/self/fd")) - 1
        resource.setrlimit(resource.RLIMIT_NOFILE, (used, limits[1]))
        for _ in range(3):
            child = os.fork()
            if child == 0:
                os._exit(0)
            os.waitpid(child, 0)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        end = time.monotonic() + 5
        while not told and time.monotonic() < end:
            time.sleep(0.01)
        assert store.stats().children_unfollowed == 3, store.stats()
        assert len(told) == 1 and "children_unfollowed" in told[0], told
        del view
        """,
        torch=False,
    ).cleanly()


def test_a_python_without_the_short_way(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    library = _lib.load()
    monkeypatch.setattr(library, "builtin", False)
    _log.listen(library)
    [text] = said(caplog)
    assert "ctypes" in text


def test_a_handler_that_fails(
    open_store: Callable[..., moorage.Store], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object) -> None:
        called.append(True)
        raise RuntimeError("no room for the log")

    called: list[bool] = []
    monkeypatch.setattr(logging.getLogger("moorage"), "warning", fails)
    store = open_store()
    store.put("k", bytes(100_000))
    close_memfd_of(store)
    view = store.get_array("k", mode="cow")
    assert eventually(lambda: called != [])
    assert capfd.readouterr() == ("", "")
    del view


def test_nothing_is_printed_or_warned_about() -> None:
    """In a program that has everything go wrong which is told, and a log of its own."""
    done = run_prepared(
        """
        import logging, os, warnings
        import moorage
        warnings.simplefilter("error")
        logging.getLogger("moorage").addHandler(logging.NullHandler())
        store = moorage.Store("4MiB", hugepages="try")
        store.put("k", bytes(100_000))
        views = [store.get_array("k"), store.empty(5, "int8")]
        store.adopt("part", views[1][:2])
        for fd in list(os.listdir("/proc/self/fd")):
            if os.path.islink(f"/proc/self/fd/{fd}") and "memfd:moorage" in os.readlink(f"/proc/self/fd/{fd}"):
                os.close(int(fd))
        views.append(store.get_array("k", mode="cow"))
        for wrong in (lambda: store.put("k", bytes(9 << 20)), lambda: store.put(1, 2)):
            try:
                wrong()
            except (moorage.MoorageError, TypeError, ImportError):
                pass
        store.close()
        """,
        torch=False,
    )
    assert (done.status, done.out, done.error) == (0, "", "")


# ---- the sources ----

_COMMANDS = ("__main__.py", "_table.py", "bench/", "doctor/")  # their output is what they are for


def test_python_prints_in_commands_only() -> None:
    package = REPO / "python/src/moorage"
    for path in sorted(package.rglob("*.py")):
        if str(path.relative_to(package)).startswith(_COMMANDS):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            where = f"{path.relative_to(REPO)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id != "print", where
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert (node.value.id, node.attr) not in {("sys", "stderr"), ("sys", "stdout")}, where
            names = [alias.name for alias in node.names] if isinstance(node, (ast.Import, ast.ImportFrom)) else []
            assert "warnings" not in [*names, getattr(node, "module", "")], where
            assert "logging" not in names or path.name == "_log.py", f"{where}: use _log"


def test_the_library_prints_before_death_only() -> None:
    printing = {
        ".c": re.compile(r"\b(v?f?printf|v?dprintf|puts|fputs|perror|STDERR_FILENO|stderr)\b"),
        ".go": re.compile(r"\b(fmt\.(Fp|P)rint\w*|println|os\.Std(err|out)|(?<!\.)log\.[A-Z]\w*)\b\(?"),
    }
    for folder in ("capi", "core"):
        for path in sorted((REPO / folder).rglob("*")):
            if path.suffix not in printing or path.name.endswith("_test.go") or "/cmd/" in str(path):
                continue
            found = printing[path.suffix].search(re.sub(r"//.*|/\*.*?\*/", "", path.read_text(encoding="utf-8")))
            assert not found or path.name == "fault.c", f"{path.relative_to(REPO)}: {found and found[0]}"
