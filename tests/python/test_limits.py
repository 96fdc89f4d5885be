"""At the limits of the system: an error that names what to change, or another way that is counted."""

from __future__ import annotations

import gc
from pathlib import Path

import control_group
import numpy as np
import pytest
from leaks import settled
from programs import run, run_prepared

import moorage

MAP_COUNT = Path("/proc/sys/vm/max_map_count")
HUGE = Path("/proc/sys/vm/nr_hugepages")


def test_windows_near_the_limit_of_mappings_become_counted_copies() -> None:
    limit = int(MAP_COUNT.read_text()) if MAP_COUNT.exists() else 1 << 30
    if limit > 100_000:
        pytest.skip(f"vm.max_map_count is {limit}: the test makes as many windows")
    with moorage.Store("4MiB") as store:
        store.put("k", b"\7" * (64 << 10))
        views = []
        before = store.stats()
        while store.stats().window_copies == 0:
            assert len(views) < limit
            views += [store.get_array("k", mode="cow") for _ in range(1000)]
        stats = store.stats()
        assert stats.windows + stats.window_copies == len(views)
        assert stats.bytes_copied_out - before.bytes_copied_out == stats.window_copies * (64 << 10)
        assert stats.windows > limit // 4
        assert all(view[-1] == 7 and view.flags.writeable for view in views)
        views.clear()
        gc.collect()
        assert settled(lambda: store.stats().windows, 0)
        view = store.get_array("k", mode="cow")
        assert store.stats().windows == 1
        del view


def test_when_somebody_else_has_taken_all_mappings() -> None:
    """A copy, or an exception that says what would do; and everything works again when there are some."""
    limit = int(MAP_COUNT.read_text()) if MAP_COUNT.exists() else 1 << 30
    if limit > 300_000:
        pytest.skip(f"vm.max_map_count is {limit}: too many to take in a test")
    run_prepared(
        f"""
        import ctypes, logging
        import numpy as np
        import moorage
        logging.getLogger("moorage").disabled = True
        libc = ctypes.CDLL(None)
        libc.mmap.restype = ctypes.c_void_p
        size, page = ctypes.c_size_t, 4096
        pages = {limit} + 1000
        with moorage.Store("4MiB") as store:
            store.put("k", bytes([7]) * (64 << 10))
            kept = store.get_array("k")
            room = store.empty(64 << 10, "uint8")
            room[:] = 9
            # Every second page with other rights is a mapping of its own.
            area = libc.mmap(None, size(pages * page), 0, 0x4022, -1, ctypes.c_long(0))
            for n in range(0, pages, 2):
                if libc.mprotect(ctypes.c_void_p(area + n * page), size(page), 1) != 0:
                    break
            else:
                raise AssertionError("there was no limit")
            views = [store.get_array("k", mode="view") for _ in range(100)]
            for _ in range(2000):
                try:
                    views.append(store.get_array("k", mode="cow"))
                except moorage.NoMemoryError as error:
                    assert 'mode "view"' in str(error), error
                    break
            # Go ends the process when its own heap finds no mapping: what enters Go needs a few.
            assert libc.mprotect(ctypes.c_void_p(area), size(64 * page), 0) == 0
            try:
                adopted = store.adopt("adopted", room)
            except moorage.NoMemoryError:
                adopted = False
            libc.munmap(ctypes.c_void_p(area), size(pages * page))
            adopted = adopted or store.adopt("adopted", room)
            assert all(view[0] == view[-1] == 7 for view in views)
            assert store.get("adopted") == bytes([9]) * (64 << 10)
            del room
            views.clear()
            view = store.get_array("k", mode="cow")
            view[:] = 1
            assert kept[0] == 7
            assert store.stats().windows == 1
            del view, kept
        """,
        torch=False,
    ).cleanly()


def test_more_address_space_than_there_is() -> None:
    run_prepared(
        """
        import resource
        import moorage
        warm = moorage.Store("8MiB")  # what the library needs once
        waiting = warm.empty(3 << 20, "uint8")
        waiting[:] = 7
        assert warm.adopt("waiting", waiting)
        resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
        for _ in range(3):
            try:
                moorage.Store("64GiB")
            except moorage.MoorageError as error:
                assert isinstance(error, (MemoryError, OSError)), repr(error)
                assert "capacity" in str(error), error
            else:
                raise AssertionError("that cannot be")
        warm.put("k", b"v")
        assert moorage.Store("1MiB").put("k", b"v")
        for store in warm, moorage.Store("8MiB"):
            for n in range(3):
                room = store.empty(3 << 20, "uint8")
                room[:] = n
                assert store.adopt("adopted", room)
                assert (room == n).all() and (store.get_array("adopted") == n).all()
                del room
                store.remove("adopted")
        assert (waiting == 7).all()
        del waiting
        warm.remove("waiting")
        room = warm.empty(7 << 20, "uint8")
        room[:] = 1
        assert warm.stats().adopt_copies == 0
        """,
        torch=False,
    ).cleanly()


def test_less_address_space_than_the_library_wants() -> None:
    """Go's runtime would end the process; so it is not loaded."""
    code = """
        import resource
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        limits = resource.getrlimit(resource.RLIMIT_AS)
        import moorage
        for room in (64 << 20, 900 << 20, 1200 << 20):
            resource.setrlimit(resource.RLIMIT_AS, (used + room, limits[1]))
            try:
                moorage.Store("1MiB")
            except moorage.NoMemoryError as error:
                assert "RLIMIT_AS" in str(error), error
            else:
                raise AssertionError("there is too little")
        resource.setrlimit(resource.RLIMIT_AS, limits)
        assert moorage.Store("1MiB").put("k", b"v")
    """
    run(code).cleanly()


def test_all_address_space_is_used_up(tmp_path: Path) -> None:
    """Windows, then their copies, end in an exception; what needs no addresses goes on; and so does all when there are
    some again.
    """
    run(
        f"""
        import logging, resource
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (3 << 30), resource.getrlimit(resource.RLIMIT_AS)[1]))
        import moorage, moorage.records
        logging.getLogger("moorage").disabled = True
        file = {str(tmp_path / "file.safetensors")!r}
        store = moorage.Store("64MiB")
        store.put("k", bytes([7]) * (4 << 20))
        warm = store.get_buffer("k", mode="copy")
        views = []
        try:
            for _ in range(10_000):
                views.append(store.get_buffer("k", mode="cow"))
        except moorage.NoMemoryError as error:
            assert 'mode "view"' in str(error), error
        assert 100 < len(views) < 10_000
        stats = store.stats()
        assert stats.windows <= len(views) <= stats.windows + stats.window_copies

        def refused(what):
            try:
                what()
            except MemoryError:
                return True
            return False

        assert refused(lambda: store.get_buffer("k", mode="copy"))
        assert refused(lambda: store.get("k"))
        # Go ends the process when its own heap finds no addresses: what enters Go needs some.
        del views[-64:]
        assert refused(lambda: moorage.Store("1GiB"))
        for _ in range(3):
            refused(lambda: store.export_safetensors(file, ["k"]))
            refused(lambda: store.import_safetensors(file, "in/"))
        seen = [store.get_buffer("k") for _ in range(1000)]
        assert all(memoryview(view)[-1] == 7 for view in seen)
        for n in range(2000):
            refused(lambda: store.put(f"k{{n}}", b"small"))
        store.remove("k")
        assert len(store.borrows()) == 1 and store.borrows()[0].views == 1000 + store.stats().windows
        del seen
        assert all(memoryview(view)[-1] == 7 for view in views)
        views.clear()
        store.put("k", bytes(4 << 20))
        window = store.get_buffer("k", mode="cow")
        memoryview(window)[0] = 1
        assert store.stats().windows == 1 and store.get("k")[0] == 0
        """,
    ).cleanly()


def test_near_the_limit_of_a_control_group() -> None:
    """An exception before the page is touched that would end the process; and room again after a removal."""
    limit = 192 << 20
    with control_group.limited(limit) as processes:
        run(
            f"""
            import os, importlib.util
            import moorage, moorage.records
            if importlib.util.find_spec("numpy"):
                import numpy  # not when hardly any memory is left: what it takes the store cannot refuse
            with open({str(processes)!r}, "w") as file:
                file.write(str(os.getpid()))
            with moorage.Store() as small:
                assert 32 << 20 < small.stats().capacity <= {limit // 4}, small.stats()
            store = moorage.Store("4GiB")
            block = bytes([7]) * (4 << 20)
            large = block * 4
            stored = 0
            try:
                for n in range(1024):
                    store.put(f"k{{n}}", block)
                    stored += 1
            except moorage.NoMemoryError as error:
                assert "memory limit" in str(error) or "headroom" in str(error), error
                assert isinstance(error, MemoryError)
            assert 10 < stored < {limit // (4 << 20)}, stored
            for refused in (
                lambda: store.empty(64 << 20, "uint8"),
                lambda: store.put("large", large),
                lambda: moorage.Store("1GiB", prefault="open"),
            ):
                try:
                    refused()
                except (moorage.NoMemoryError, ImportError):
                    continue
                raise AssertionError("that cannot be")
            assert len(store) == stored
            views = [store.get_buffer(f"k{{n}}") for n in range(stored)] + [store.get_buffer("k0", mode="cow")]
            assert all(memoryview(view)[-1] == 7 for view in views)
            views.clear()
            store.remove(f"k{{stored - 1}}")
            for n in range(stored - 1):
                store.put(f"k{{n}}", block)  # in memory that was touched before
            store.clear()
            assert store.trim() > 0
            for n in range(stored - 8):  # the kernel counts in batches: not to the last byte
                store.put(f"again {{n}}", block)
            store.close(wait=True)
            """,
            timeout=120,
        ).cleanly()


@pytest.mark.parametrize("capacity", [1, 4096, "4KiB", "64KiB", "1MB", "1MiB", 123_457])
def test_small_capacities(capacity: int | str) -> None:
    with moorage.Store(capacity) as store:
        room = store.stats().capacity
        assert room >= 1
        with pytest.raises(moorage.CapacityError, match="capacity"):
            store.put("k", bytes(room + 1))
        assert store.put("k", b"x")
        assert store.get("k") == b"x"


@pytest.mark.parametrize("capacity", [0, -1, "0", "", "many", "1XB", "1e400GiB", 1 << 64, 1 << 62, 1.5, b"1MiB", True])
def test_capacities_that_are_none(capacity: object) -> None:
    with pytest.raises((ValueError, TypeError, MemoryError, moorage.MoorageError), match="capacity"):
        moorage.Store(capacity)  # type: ignore[arg-type]


def test_a_full_store_says_what_would_help() -> None:
    with moorage.Store("1MiB") as store:
        store.put("pinned", bytes(200_000))
        store.pin("pinned")
        store.put("viewed", bytes(300_000))
        view = store.get_array("viewed")
        with pytest.raises(
            moorage.CapacityError, match=r"800000 bytes wanted.*borrowed.*pinned.*capacity.*s3fifo"
        ) as error:
            store.put("k", bytes(800_000))
        assert isinstance(error.value, MemoryError)
        assert sorted(store.keys()) == ["pinned", "viewed"]
        del view


def test_a_full_store_that_evicts_keeps_what_is_viewed_or_pinned() -> None:
    with moorage.Store("1MiB", eviction="s3fifo") as store:
        store.put("pinned", bytes(200_000))
        store.pin("pinned")
        store.put("viewed", bytes([7]) * 200_000)
        view = store.get_array("viewed")
        for n in range(50):
            assert store.put(f"k{n}", bytes(100_000))
        assert "pinned" in store and bool((view == 7).all())
        assert store.stats().evictions >= 40
        with pytest.raises(moorage.CapacityError, match="views or unpin"):
            store.put("k", bytes(800_000))
        assert "pinned" in store
        del view


def test_huge_pages_that_are_not_there() -> None:
    if not HUGE.exists():
        pytest.skip("this kernel has no huge pages: /proc/sys/vm/nr_hugepages does not exist")
    if int(HUGE.read_text()) > 0:
        pytest.skip("vm.nr_hugepages is not 0")
    with pytest.raises(moorage.HugePagesError, match="nr_hugepages") as error:
        moorage.Store("8MiB", hugepages="require")
    assert isinstance(error.value, MemoryError)
    with moorage.Store("8MiB", hugepages="try") as store:
        assert store.stats().hugepages is False
        store.put_tensor("k", np.arange(10))
        assert bool((store.get_array("k") == np.arange(10)).all())


@pytest.mark.parametrize("prefault", ["none", "background", "open"])
def test_prefault(prefault: str) -> None:
    with moorage.Store("8MiB", prefault=prefault) as store:  # type: ignore[arg-type]
        store.put("k", b"x" * 100_000)
        assert store.get("k") == b"x" * 100_000
        if prefault == "open":
            assert store.stats().resident >= 8 << 20


@pytest.mark.parametrize("option", ["mode", "eviction", "hugepages", "prefault"])
def test_options_are_named_when_they_are_wrong(option: str) -> None:
    with pytest.raises(ValueError, match=option):
        moorage.Store("1MiB", **{option: "wrong"})  # type: ignore[arg-type]


def test_the_longest_names_and_metadata_and_one_more() -> None:
    with moorage.Store("1MiB") as store:
        assert store.put("k" * 4096, b"x", meta=b"m" * 4096)
        assert store.keys() == ["k" * 4096]
        for key, meta, word in (
            ("k" * 4097, b"", "key"),
            ("é" * 2049, b"", "key"),
            ("k", b"m" * 4097, "meta"),
            ("", b"", "key"),
        ):
            with pytest.raises(ValueError, match=word):
                store.put(key, b"x", meta=meta)
        array = np.zeros((1,) * 64, np.int8)
        assert store.put_tensor("64", array)
        assert store.get_array("64").shape == array.shape
