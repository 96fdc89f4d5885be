"""Python, what is installed for it, and the library itself: the last word has a store that is opened."""

from __future__ import annotations

import multiprocessing
import os
import platform
import sys
from collections.abc import Iterator
from importlib import metadata

from .. import _lib
from ..errors import MoorageError
from .row import NOTE, OK, PROBLEM, Row
from .system import System, amount, numbers


def interpreter(_: System) -> Iterator[Row]:
    name, version = platform.python_implementation(), platform.python_version()
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    tested = name == "CPython" and sys.version_info[:2] >= (3, 9)
    yield Row(
        "Python",
        f"{name} {version}" + ("" if gil else ", free-threaded"),
        OK if tested else NOTE,
        "CPython 3.9 and newer are what it is made for" if tested else "other than CPython 3.9 and newer is not tested",
        "" if tested else "CPython",
    )


def fork(_: System) -> Iterator[Row]:
    chosen = multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]
    forks = chosen == "fork"
    yield Row(
        "start method",
        f"{chosen} (multiprocessing)",
        NOTE if forks else OK,
        "a forked child reads the views that it inherited; every call on a store raises ForkedError there"
        if forks
        else "workers start afresh and open stores of their own",
        'multiprocessing.set_start_method("forkserver"), DataLoader(multiprocessing_context="forkserver")'
        if forks
        else "",
    )


def packages(_: System) -> Iterator[Row]:
    """By what was installed: importing them takes seconds, and may fail."""
    for name, since, older, without in (
        ("numpy", (2, 1), "arrays go by way of the buffer protocol: read-only all the same, a little slower",
         "get_array raises ImportError"),
        ("torch", (2, 8), "tensors go by way of the older DLPack, a little slower", "get_tensor raises ImportError"),
    ):  # fmt: skip
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield Row(name, "not installed", NOTE, without, f"pip install {name}")
            continue
        old = numbers(version) < since
        newer = f"{name} {since[0]}.{since[1]} or newer"
        yield Row(name, version, NOTE if old else OK, older if old else "has DLPack 1", newer if old else "")


def library(_: System) -> Iterator[Row]:
    try:
        loaded = _lib.load()
        wanted = _lib.wanted_route()
    except (ImportError, OSError, MoorageError) as error:
        change = "install the wheel, or unset MOORAGE_LIBRARY and MOORAGE_ROUTE"
        yield Row("library", str(error), PROBLEM, "no store can be opened", change, fatal=True)
        return
    yield Row("library", f"moorage {loaded.version}, ABI level {loaded.c.moor_abi_level()}", OK, loaded.path)
    yield _route(wanted, loaded)


def _route(wanted: str, loaded: _lib.Library) -> Row:
    slower = "every call goes through ctypes: the same results, getters take several times longer"
    if wanted == "ctypes":
        return Row("route", "ctypes, by MOORAGE_ROUTE", NOTE, slower, "unset MOORAGE_ROUTE")
    if not loaded.builtin:
        return Row("route", "ctypes", NOTE, slower, "a CPython that shows its C API (not embedded with RTLD_LOCAL)")
    return Row("route", "builtin", OK, "getters are functions that the library made for this Python")


def store(_: System) -> Iterator[Row]:
    from ..store import Store

    try:
        with Store() as opened:
            opened.put("doctor", b"ahoy")
            found = opened.get("doctor")
            capacity = opened.stats().capacity
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        yield Row("a store", text, PROBLEM, "Store() cannot be used here", "what is said above, or a smaller capacity",
                  fatal=True)  # fmt: skip
        return
    if found != b"ahoy":
        yield Row("a store", f"gave back {found!r}", PROBLEM, "a bug", "please report it", fatal=True)
        return
    yield Row(
        "a store", f"opened, with a default capacity of {amount(capacity)}", OK, "put and get work", "Store(capacity)"
    )


def environment(_: System) -> Iterator[Row]:
    chosen = {name: value for name, value in os.environ.items() if name.startswith("MOORAGE_")}
    if chosen:
        found = " ".join(f"{name}={value}" for name, value in sorted(chosen.items()))
        yield Row("environment", found, OK, "what was chosen by environment variables")


CHECKS = (interpreter, fork, packages, environment, library, store)
