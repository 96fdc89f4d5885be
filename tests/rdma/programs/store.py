"""The package with a real device: what it registers is what the kernel has, and all of that goes."""

from __future__ import annotations

import mmap
import os
import resource
import subprocess
import sys
import time

import moorage
from moorage.doctor import rdma
from moorage.doctor.row import rows
from moorage.doctor.system import System

MIB = 1 << 20


def kernel_regions() -> int:
    """How many memory regions the kernel has."""
    words = subprocess.run(["rdma", "resource", "show"], capture_output=True, text=True, check=True).stdout.split()
    return int(words[words.index("mr") + 1])


def eventually(count: int) -> None:
    end = time.monotonic() + 10
    while kernel_regions() != count:
        assert time.monotonic() < end, f"{kernel_regions()} regions, not {count}"
        time.sleep(0.01)


def what_there_is() -> None:
    found = moorage.network()
    assert found.missing == "nothing" and [(one.name, one.active) for one in found.devices] == [("rxe0", True)], found


def registered() -> None:
    store = moorage.Store("96MiB", prefault="background", register="never")
    assert store.attach_device() == "rxe0" and store.stats().register == "never"
    eventually(2)
    memory = mmap.mmap(-1, 4 * MIB)
    with store.register(memory), store.register(memory, 5000, lock=True):
        [device] = store.stats().attached
        assert kernel_regions() == device.regions == 4 and device.nbytes == 100 * MIB + 5000, device
    assert kernel_regions() == 2
    view = store.put("k", bytes(MIB)) and store.get_buffer("k")
    dropped = store.register(memory)
    del dropped
    store.close()
    view.release()
    eventually(0)


def doctor() -> None:
    """What it says of a machine that lacks nothing."""
    found = {row.what: row for row in rows(rdma.CHECKS, System())}
    for row in found.values():
        print(f"{row.what}: {row.found}: {row.means}")
        assert row.verdict == "ok", row
    assert set(found) == {
        "RDMA library", "RDMA devices", "rxe0, its file", "rxe0, its link", "rxe0, registering"
    }, found  # fmt: skip
    assert found["rxe0, its link"].found == "port 1, Ethernet: active"


def a_limit() -> None:
    """As an ordinary user, whose limit each registration counts against."""
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (MIB, MIB))
        os.setuid(1000)
        os.execv("/test/python/bin/python3", ["python3", os.path.abspath(__file__), "limit"])
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def limit() -> None:
    store = moorage.Store("1MiB")
    store.attach_device("rxe0")
    memory = mmap.mmap(-1, 600 << 10)
    with store.register(memory):
        try:
            store.register(memory)
        except moorage.NoMemoryError as error:
            print(error)
            assert str(MIB) in str(error) and str(600 << 10) in str(error), error
        else:
            raise AssertionError("every registration counts")
    store.register(memory).release()


if __name__ == "__main__":
    if sys.argv[1:] == ["limit"]:
        limit()
    else:
        a_limit()
        what_there_is()
        registered()
        doctor()
        print("ok a Python program")
