"""Fixtures of the Python tests.

Which route to the library is tested comes from the environment (MOORAGE_ROUTE=ctypes); build.sh runs everything once
on each. After every test the store it opened must have no view left, and the process as many descriptors and
mappings of stores as before.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import fake_verbs
import pytest

import moorage
from moorage import _lib

# What these test does not depend on the route, and takes long.
ONE_ROUTE = {
    f"test_{name}.py"
    for name in (
        "abi",
        "bench",
        "bench_disk",
        "bench_disk_figures",
        "bench_disk_place",
        "bench_register",
        "docs",
        "doctor",
        "doctor_rdma",
        "examples",
        "import",
        "kv_bench",
        "kv_figures",
        "kv_workload",
        "peers",
        "timings",
    )
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if _lib.wanted_route() == "ctypes":
        once = pytest.mark.skip(reason="probed the route: these run once, on the builtin one")
        for item in items:
            if item.path.name in ONE_ROUTE:
                item.add_marker(once)


def descriptors() -> int:
    """Open descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))


def mappings() -> int:
    """Mappings of store memory in this process. Its memfds carry the project's name."""
    return sum("memfd:moorage" in line for line in Path("/proc/self/maps").read_text().splitlines())


def eventually(true: Callable[[], bool], seconds: float = 5.0) -> bool:
    """Waits for what happens behind the caller's back, such as a closed store being unmapped."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True


@pytest.fixture(autouse=True, scope="module")
def collections_are_short() -> None:
    """What has been imported by now is not gone through every time."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    gc.unfreeze()


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """No test leaves a region mapped or a descriptor open."""
    with moorage.Store("1MiB"):
        pass  # what the library opens once, it has opened now
    assert eventually(lambda: mappings() == 0), "a region was mapped before the test"
    before = descriptors()
    yield
    if not eventually(lambda: mappings() == 0, 0.02):  # it is unmapped behind the test's back
        gc.collect()  # slow with torch, and seldom needed
    assert eventually(lambda: mappings() == 0), f"{mappings()} mappings of stores are left"
    assert eventually(lambda: descriptors() <= before), f"{descriptors() - before} descriptors are left"


@pytest.fixture
def open_store() -> Iterator[Callable[..., moorage.Store]]:
    """Opens stores that are checked and closed at the end: no view may be left."""
    stores: list[moorage.Store] = []

    def open_one(capacity: int | str = "64MiB", **options: object) -> moorage.Store:
        stores.append(moorage.Store(capacity, **options))  # type: ignore[arg-type]
        return stores[-1]

    yield open_one
    for store in stores:
        try:
            if store.borrows():
                gc.collect()
            assert [one for one in store.borrows() if not one.child] == [], "views are left"
            # The end of a child is told behind its back.
            assert eventually(lambda store=store: store.borrows() == []), "a child's are left"
        except moorage.ClosedError:
            continue
        finally:
            store.close(wait=True)


@pytest.fixture
def store(open_store: Callable[..., moorage.Store]) -> moorage.Store:
    return open_store()


@pytest.fixture(scope="session", name="fake_verbs")
def _fake_verbs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for LD_LIBRARY_PATH, with a libibverbs.so.1 that has devices."""
    return fake_verbs.build(tmp_path_factory.mktemp("verbs"))
