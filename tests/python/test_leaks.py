"""Nothing is left: not by stores that are opened and closed ten thousand times, not by a process that is killed."""

from __future__ import annotations

import gc
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from leaks import descriptors, mappings, memory, settled, threads

import moorage

MINUTES = float(os.environ.get("MOORAGE_SOAK_MINUTES", "0"))


def cycle(n: int) -> None:
    """A life of a store: objects in and out in every way, views that end before and after its close."""
    store = moorage.Store("2MiB")
    store.put("bytes", b"x" * 1000)
    store.put_tensor("array", np.full(50_000, n % 256, np.uint8))
    room = store.empty(70_000, "uint8")
    room[:] = 3
    store.adopt("adopted", room)
    kept = [store.get_array(key, mode=mode) for key in ("array", "adopted") for mode in ("view", "cow")]  # type: ignore[arg-type]
    kept.append(np.asarray(memoryview(store.get_buffer("bytes"))))
    with pytest.raises(KeyError):
        store.get_array("absent")
    store.remove("bytes")
    if n % 2:
        kept.clear()
        del room
    store.close()


def cycles(count: int, quiet: pytest.MonkeyPatch) -> None:
    """Runs them after as many as it takes to have everything that is made only once."""
    quiet.setattr(logging.getLogger("moorage"), "disabled", True)  # pytest keeps every record
    for n in range(50):
        cycle(n)
    gc.collect()
    assert settled(mappings, 0)
    before = descriptors(), threads(), memory()
    for n in range(count):
        cycle(n)
    gc.collect()
    assert settled(mappings, 0)
    assert settled(descriptors, before[0])
    # Go keeps a thread for each system call that blocked beside others: some more by chance, never one a store.
    assert settled(threads, before[1] + 6), f"{threads() - before[1]} threads more after {count} stores"
    grown = memory() - before[2]
    print(f"{grown} KiB more after {count} stores")
    assert grown < 8 << 10, f"{grown} KiB more after {count} stores"


def test_300_stores_leave_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    cycles(300, monkeypatch)


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.skipif(not MINUTES, reason="MOORAGE_SOAK_MINUTES is not set")
def test_soak_10000_stores_leave_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    cycles(10_000, monkeypatch)


def test_10000_adoptions_leave_no_mapping() -> None:
    """Whatever their size, and whatever was protected beside them."""
    with moorage.Store("64MiB") as store:
        held = []
        for n, size in enumerate([4096, 1 << 20, 3_000_000, 9_000_000]):  # protected all the time
            held.append(store.empty(size, "uint8"))
            assert store.adopt(f"held{n}", held[-1])
        before = mappings()
        for n in range(10_000):
            room = store.empty((n % 5 + 1) << (10 + n % 3 * 5), "uint8")
            room[0] = 1
            assert store.adopt("k", room)
            del room
            store.remove("k")
        assert store.stats().held_bytes == 0
        assert mappings() <= before


def test_objects_that_come_and_go_leave_nothing() -> None:
    with moorage.Store("16MiB") as store:
        for n in range(3000):
            key = f"k{n % 50}" if n % 3 else f"once{n}"
            store.put(key, b"x" * (n % 5000), meta=b"m" * (n % 100))
            array = store.get_array(key)
            if n % 7 == 0:
                store.get_array(key, mode="cow")
            if not n % 3:
                store.remove(key)
            if n == 1000:
                gc.collect()
                before = store.stats().metadata, memory(), descriptors()
            del array
        store.clear()
        after = store.stats()
        assert (after.objects, after.used, after.borrowed_objects, after.windows) == (0, 0, 0, 0)
        assert after.metadata <= before[0] * 1.1 and descriptors() == before[2]
        assert memory() - before[1] < 4 << 10


def test_1000_swaps_of_a_set_leave_memory_flat() -> None:
    """200 names are replaced at one moment, a thousand times, and looked at together each time."""
    with moorage.Store("16MiB") as store:
        for n in range(1000):
            store.put_tensors({f"set/{i}": np.full(500 + i, n % 251, np.uint8) for i in range(200)}, atomic=True)
            with store.snapshot(prefix="set/") as snapshot:
                array = snapshot.get_array(f"set/{n % 200}")
                assert len(snapshot) == 200 and int(array[-1]) == n % 251
            del array
            if n == 200:
                gc.collect()
                before = store.stats(), memory(), descriptors(), threads()
        after = store.stats()
        assert (after.objects, after.used, after.borrowed_objects) == (200, before[0].used, 0)
        assert after.resident <= before[0].resident * 1.1 and after.metadata <= before[0].metadata * 1.1
        assert descriptors() == before[2] and settled(threads, before[3] + 6)
        assert memory() - before[1] < 4 << 10, f"{memory() - before[1]} KiB more"


def test_failures_leave_nothing() -> None:
    with moorage.Store("1MiB") as store:
        store.put("k", b"x" * 1000)
        view = store.get_array("k")
        before = store.stats()
        for _ in range(200):
            for operation, kind in (
                (lambda: store.put("big", bytes(2 << 20)), moorage.CapacityError),
                (lambda: store.put("k", b"y", if_exists="raise"), moorage.ExistsError),
                (lambda: store.put("", b"y"), ValueError),
                (lambda: store.put("k", "text"), TypeError),
                (lambda: store.put("k", b"y", meta=bytes(5000)), ValueError),
                (lambda: store.put_tensor("k", np.array([object()])), TypeError),
                (lambda: store.empty(2 << 20, "uint8"), moorage.CapacityError),
                (lambda: store.adopt("k", store.empty(10, "uint8"), if_exists="raise"), moorage.ExistsError),
                (lambda: store.get_into("k", bytearray(10)), moorage.TooSmallError),
                (lambda: store.get_into("k", view), moorage.ReadOnlyError),
                (lambda: store.get_array("absent"), KeyError),
                (lambda: store.remove("absent"), KeyError),
                (lambda: store.import_safetensors("/nowhere"), OSError),
            ):
                with pytest.raises(kind):
                    operation()
        gc.collect()
        after = store.stats()
        for name in ("used", "objects", "borrowed_objects", "windows", "pinned_objects", "last_seq"):
            assert getattr(after, name) == getattr(before, name), name
        assert store.get("k") == b"x" * 1000 and store.describe("k").views == 1
        view = None


def traces() -> set[str]:
    """What a store could have left in the system."""
    found = set()
    for folder in ("/dev/shm", "/tmp", "/dev/mqueue"):
        if os.path.isdir(folder):
            found |= {f"{folder}/{name}" for name in os.listdir(folder) if "moor" in name.lower()}
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            if "memfd:moorage" in maps.read_text():
                found.add(str(maps.parent))
        except OSError:
            continue
    return found


def test_a_killed_process_leaves_nothing() -> None:
    program = """
import os, sys, time, numpy, moorage
store = moorage.Store("64MiB", prefault="open")
store.put("k", bytes(30 << 20))
views = [store.get_array("k"), store.get_array("k", mode="cow"), store.empty(1000, "uint8")]
if os.fork() == 0:
    time.sleep(600)
print("ready", flush=True)
time.sleep(600)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, start_new_session=True
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        own = {f"/proc/{pid}" for pid in os.listdir("/proc") if pid.isdigit() and group(pid) == process.pid}
        assert len(own & traces()) == 2, "the program was to be seen"
        os.killpg(process.pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while own & traces():
        assert time.monotonic() < deadline, "memory of a killed process is still mapped"
        time.sleep(0.05)
    assert not {trace for trace in traces() if trace.startswith(("/dev/shm/moor", "/dev/mqueue"))}


def group(pid: str) -> int:
    try:
        return os.getpgid(int(pid))
    except ProcessLookupError:
        return 0
