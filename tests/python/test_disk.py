"""A store with a disk: demotion, reading back, persistence, exact times."""

from __future__ import annotations

import gc
import mmap
import os
import threading
from pathlib import Path

import numpy as np
import pytest

import moorage
from moorage import Store

MIB = 1 << 20
KIB = 1 << 10


def array(number: int, nbytes: int = 256 * KIB) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, nbytes, dtype=np.uint8)


def aligned(nbytes: int, offset: int = 0) -> np.ndarray:
    """Memory that begins at a page, or `offset` bytes behind one."""
    return np.frombuffer(mmap.mmap(-1, nbytes + mmap.PAGESIZE), dtype=np.uint8)[offset : offset + nbytes]


@pytest.fixture
def store(tmp_path: Path):
    with Store("4MiB", disk=tmp_path, disk_capacity="64MiB") as store:
        yield store


def demoted(store: Store, *keys: str) -> None:
    """Puts others until memory has none of the keys."""
    fillers = []
    while not all(store.describe(key).on_disk for key in keys):
        assert len(fillers) < 40, "memory does not let go of them"
        fillers.append(f"filler {len(fillers)}")
        store.put_tensor(fillers[-1], array(len(fillers), MIB))
    for key in fillers:
        store.remove(key)


def test_a_full_memory_goes_to_disk_and_comes_back(store: Store):
    for number in range(60):
        assert store.put_tensor(f"kv/{number}", array(number).reshape(8, -1))
    assert len(store) == 60
    assert sorted(store.keys("kv/"), key=lambda key: int(key[3:])) == [f"kv/{n}" for n in range(60)]
    for number in range(60):
        view = store.get_array(f"kv/{number}")
        assert view.shape == (8, 32 * KIB)
        assert np.array_equal(view.reshape(-1), array(number))
    stats = store.disk_stats()
    assert stats.demotions > 0 and stats.promotions > 0
    assert stats.by_uring_fixed + stats.by_uring + stats.by_direct + stats.by_buffered > 0
    assert stats.bytes_read >= stats.promotions * 256 * KIB


def test_a_read_is_one_transfer_into_the_region(store: Store):
    store.put_tensor("a", array(1))
    demoted(store, "a")
    before, copied = store.disk_stats(), store.stats().bytes_copied_out
    view = store.get_array("a")
    after = store.disk_stats()
    assert store.is_registered(view.__array_interface__["data"][0], view.nbytes), "the view lies in the region"
    assert np.array_equal(view, array(1))
    assert after.reads == before.reads + 1
    assert after.bytes_bounced == before.bytes_bounced, "no byte was copied by the CPU"
    assert store.stats().bytes_copied_out == copied


def test_get_into_reads_straight_into_aligned_memory(store: Store):
    data = array(2, 256 * KIB + 100)
    store.put_tensor("a", data)
    demoted(store, "a")
    out = aligned(data.nbytes)
    before = store.disk_stats()
    assert store.get_into("a", out) == data.nbytes
    assert np.array_equal(out, data)
    after = store.disk_stats()
    assert after.bytes_bounced - before.bytes_bounced <= 4096, "but for the last block"
    assert store.describe("a").on_disk
    for offset, nbytes in ((1, 1000), (4096, 8192), (5000, None), (0, 1), (data.nbytes, 0)):
        want = data[offset:] if nbytes is None else data[offset : offset + nbytes]
        for shift in (0, 1, 512):
            guarded = aligned(want.nbytes + 64, shift)
            guarded[:] = 0xA5
            into = guarded[32 : 32 + want.nbytes]
            assert store.get_into("a", into, offset=offset, nbytes=nbytes) == want.nbytes
            assert np.array_equal(into, want)
            assert (guarded[:32] == 0xA5).all() and (guarded[32 + want.nbytes :] == 0xA5).all()


def test_wrong_destinations_are_refused_as_those_of_memory_are(store: Store):
    store.put_tensor("a", array(2))
    demoted(store, "a")
    with pytest.raises(moorage.TooSmallError):
        store.get_into("a", bytearray(100))
    with pytest.raises(moorage.InvalidArgumentError):
        store.get_into("a", bytearray(100), offset=256 * KIB + 1)
    with pytest.raises(KeyError):
        store.get_into("nobody", bytearray(100))


def test_what_is_persistent_survives(tmp_path: Path):
    with Store("4MiB", disk=tmp_path, disk_capacity="64MiB") as store:
        store.put_tensor("kv/abc", array(1).reshape(16, -1), meta=b"layer 3")
        store.put_tensor("forgotten", array(2))
        store.persist(["kv/abc"])
        with pytest.raises(KeyError):
            store.persist(["nobody"])
    with Store("4MiB", disk=tmp_path, disk_capacity="64MiB") as store:
        assert store.keys() == ["kv/abc"]
        assert store.disk_stats().recovered_objects == 1
        assert store.describe("kv/abc").meta == b"layer 3"
        assert np.array_equal(store.get_array("kv/abc"), array(1).reshape(16, -1))
        store.put_tensor("more", array(3))
        store.flush()
    with Store("4MiB", disk=tmp_path, disk_capacity="64MiB") as store:
        assert sorted(store.keys()) == ["kv/abc", "more"]
        store.remove("more")
        store.flush()
    with Store("4MiB", disk=tmp_path, disk_capacity="64MiB") as store:
        assert store.keys() == ["kv/abc"]


def test_a_directory_has_one_owner(store: Store, tmp_path: Path):
    with pytest.raises(moorage.BusyError, match=str(tmp_path)):
        Store("4MiB", disk=tmp_path)


def test_a_foreign_directory_is_refused(tmp_path: Path):
    with Store("4MiB", disk=tmp_path, disk_capacity="64MiB") as store:
        store.put("a", b"a")
        store.flush()
    journals = list(tmp_path.glob("journal*"))
    assert journals
    for path in journals:
        path.write_bytes(b"this is not ours" * 1000)
    with pytest.raises(moorage.FormatError):
        Store("4MiB", disk=tmp_path)
    assert all(path.read_bytes() == b"this is not ours" * 1000 for path in journals), "nothing was changed"
    (tmp_path / "file").write_text("")
    with pytest.raises(moorage.IOFailedError, match="file"):
        Store("4MiB", disk=tmp_path / "file")


@pytest.mark.parametrize(
    "wrong",
    [
        {"disk": ""},
        {"disk": "a\0b"},
        {"disk_capacity": "1GiB"},
        {"durability": "sometimes"},
        {"verify": "maybe"},
        {"promote": "third hit"},
        {"write": "sideways"},
        {"read_path": "scenic"},
    ],
)
def test_wrong_options_name_themselves(wrong: dict[str, str]):
    with pytest.raises(moorage.InvalidArgumentError, match=next(iter(wrong)).split("_")[0]):
        Store("1MiB", **wrong)


def test_without_a_disk_the_calls_say_so():
    with Store("1MiB") as store:
        for call in (store.flush, store.disk_stats, store.timings, lambda: store.persist([])):
            with pytest.raises(moorage.UnsupportedError, match="disk"):
                call()


def test_host_and_device_are_the_total(store: Store):
    for number in range(40):
        store.put_tensor(f"k{number}", array(number))
    for number in range(40):
        store.get_array(f"k{number}")
    out = aligned(256 * KIB)
    for number in range(40):
        store.get_into(f"k{number}", out)
    timings = store.timings()
    assert timings.inconsistent == 0
    kinds = {one.kind for one in timings.summaries}
    assert {"get", "put", "demote", "get_into"} <= kinds
    for one in timings.recent:
        assert one.host + one.device == one.total
        assert min(one.parts.values()) >= 0 and sum(one.parts.values()) == one.host
        if one.path == "memory":
            assert one.device == 0
        elif one.outcome in ("ok", "background"):
            assert one.device > 0 and one.chunks > 0
    assert timings.stamp_ns > 0
    demote = timings.of("demote", background=True)
    assert demote is not None and demote.count == store.disk_stats().demotions


def test_views_outlive_demotion_and_close(tmp_path: Path):
    store = Store("4MiB", disk=tmp_path, disk_capacity="64MiB")
    store.put_tensor("a", array(1))
    view = store.get_array("a")
    for number in range(40):
        store.put_tensor(f"k{number}", array(number))
    assert np.array_equal(view, array(1))
    store.close()
    assert np.array_equal(view, array(1))
    del view
    gc.collect()


def test_other_threads_go_on_while_one_waits_for_the_disk(store: Store):
    """A get of an object on disk releases the GIL, small objects too."""
    store.put("small", b"x" * 100)
    demoted(store, "small")
    stop, turns = threading.Event(), [0]

    def spin() -> None:
        while not stop.is_set():
            turns[0] += 1

    thread = threading.Thread(target=spin)
    thread.start()
    try:
        for _ in range(20):
            assert store.get("small") == b"x" * 100
            demoted(store, "small")
    finally:
        stop.set()
        thread.join()
    assert turns[0] > 0


def test_snapshots_and_batches_bring_in_what_is_on_disk(store: Store):
    keys = [f"k{n}" for n in range(8)]
    store.put_tensors({key: array(n, 64 * KIB) for n, key in enumerate(keys)}, atomic=True)
    demoted(store, *keys)
    with store.snapshot(keys) as snapshot:
        for n, key in enumerate(keys):
            assert np.array_equal(snapshot.get_array(key), array(n, 64 * KIB))
    demoted(store, *keys)
    with store.snapshot(prefix="k") as snapshot:
        assert sorted(snapshot) == keys
    torch = pytest.importorskip("torch", reason="probed torch: not there")
    demoted(store, *keys)
    for n, tensor in enumerate(store.get_tensors(keys)):
        assert torch.equal(tensor, torch.from_numpy(array(n, 64 * KIB)))


def test_promote(tmp_path: Path):
    for promote, resident in (("always", [True, True]), ("second hit", [False, True]), ("never", [False, False])):
        with Store("4MiB", disk=tmp_path / promote, disk_capacity="64MiB", promote=promote) as store:
            store.put_tensor("a", array(1))
            demoted(store, "a")
            for want in resident:
                view = store.get_array("a")
                assert np.array_equal(view, array(1))
                del view
                assert store.describe("a").on_disk != want


def test_a_full_disk(tmp_path: Path):
    with Store("2MiB", disk=tmp_path / "none", disk_capacity="8MiB") as store:
        stored = 0
        with pytest.raises(moorage.CapacityError, match="disk"):
            for stored in range(100):
                store.put_tensor(f"k{stored}", array(stored))
        for number in range(stored):
            assert np.array_equal(store.get_array(f"k{number}"), array(number))
    with Store("2MiB", disk=tmp_path / "fifo", disk_capacity="8MiB", eviction="s3fifo") as store:
        for number in range(100):
            store.put_tensor(f"k{number}", array(number))
        assert store.disk_stats().evictions > 0
        assert "k99" in store


@pytest.mark.parametrize("read_path", ["direct", "buffered", "mmap"])
@pytest.mark.parametrize("verify", ["always", "off"])
def test_every_read_path_brings_the_same(tmp_path: Path, read_path: str, verify: str):
    with Store("4MiB", disk=tmp_path, disk_capacity="64MiB", read_path=read_path, verify=verify) as store:
        data = array(1, 2 * MIB + 100)
        store.put_tensor("a", data)
        demoted(store, "a")
        out = aligned(data.nbytes)
        assert store.get_into("a", out) == data.nbytes
        assert np.array_equal(out, data)
        assert np.array_equal(store.get_array("a"), data)
        timings = store.timings()
        assert timings.inconsistent == 0
        (path,) = timings.of("get_into").paths
        if read_path == "direct":
            assert path in ("uring_fixed", "uring", "direct", "buffered")
        else:
            assert path == {"buffered": "buffered", "mmap": "mapped"}[read_path]


def test_write_through(tmp_path: Path):
    with Store("4MiB", disk=tmp_path, disk_capacity="64MiB", write="through") as store:
        store.put_tensor("a", array(1))
        store.put("b", b"bytes")
        assert store.disk_stats().objects == 2
    with Store("4MiB", disk=tmp_path, disk_capacity="64MiB") as store:
        assert store.get("b") == b"bytes"


def test_a_child_is_told(store: Store):
    store.put("a", b"a")
    pid = os.fork()
    if pid == 0:
        try:
            store.flush()
        except moorage.ForkedError:
            os._exit(0)
        os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0


def test_reading_faults_no_pages(store: Store):
    """In steady state memory is used again, and what is read into was touched before."""
    import resource

    data = array(1, MIB)
    out = aligned(MIB)
    out[:] = 0
    store.put_tensor("a", data)
    demoted(store, "a")
    for _ in range(10):
        store.get_into("a", out)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(100):
        store.get_into("a", out)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    assert np.array_equal(out, data)
    assert faults <= 300, f"{faults} page faults in 100 reads of 1 MiB, which has 256 pages"


def test_a_trace_has_a_line_for_each_operation(tmp_path: Path):
    import json

    path = tmp_path / "trace.jsonl"
    with Store("4MiB", disk=tmp_path / "disk", disk_capacity="64MiB", trace=path) as store:
        store.put_tensor("a", array(1))
        store.persist(["a"])
        demoted(store, "a")
        store.get_array("a")
        recorded = store.timings().recorded
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    operations = [line for line in lines if "t0" in line]
    assert len(operations) >= recorded
    assert {"put", "persist", "get"} <= {line["kind"] for line in operations}
    with pytest.raises(moorage.IOFailedError, match="trace"):
        Store("4MiB", disk=tmp_path / "disk", disk_capacity="64MiB", trace=tmp_path)
    with pytest.raises(moorage.InvalidArgumentError, match="trace"):
        Store("4MiB", trace=path)


@pytest.mark.parametrize("durability", ["each", "batch", "none"])
def test_a_sync_that_is_waited_for_is_the_devices_time(tmp_path: Path, durability: str):
    with Store("4MiB", disk=tmp_path, disk_capacity="64MiB", durability=durability, write="through") as store:
        for number in range(5):
            store.put_tensor(f"k{number}", array(number, 64 * KIB))
        timings = store.timings()
        assert timings.inconsistent == 0
        writes = [one for one in timings.recent if one.kind == "put" and one.path != "memory"]
        assert len(writes) == 5
        assert {one.durability for one in writes} == {durability}
        if durability == "each":  # a sync takes longer than all the rest, but for what the first write makes ready
            assert sum(one.device for one in writes[1:]) > sum(one.host for one in writes[1:])


def test_damage_is_told_and_nothing_wrong_is_served(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with Store("4MiB", disk=tmp_path, disk_capacity="64MiB") as store:
        for number in range(50):
            store.put_tensor(f"k{number}", array(number, 8 * KIB))
        store.flush()
    journal = max(tmp_path.glob("journal-*"), key=lambda path: path.stat().st_size)
    content = bytearray(journal.read_bytes())
    content[len(content) // 2] ^= 1
    journal.write_bytes(content)
    with caplog.at_level("WARNING", "moorage"), Store("4MiB", disk=tmp_path, disk_capacity="64MiB") as store:
        assert store.disk_stats().lost_objects > 0
        found = store.keys()
        for key in found:
            assert np.array_equal(store.get_array(key), array(int(key[1:]), 8 * KIB))
        assert any("damaged" in record.message for record in caplog.records)


def test_a_key_of_a_job_has_its_wait_in_its_record(store: Store):
    """As of a batch: one record for each object, all of which begin when they were asked for."""
    keys = [f"k{number}" for number in range(24)]
    store.put_tensors({key: array(number, 64 * KIB) for number, key in enumerate(keys)}, atomic=True)

    def records(kind: str, since: int) -> list[moorage.timings.Operation]:
        found = [one for one in store.timings().recent if one.sequence > since and one.kind == kind]
        assert len(found) == len(keys)
        assert len({one.t0 for one in found}) == 1
        for one in found:
            assert one.host + one.device == one.total
            assert min(one.parts.values()) >= 0
            assert sum(one.parts.values()) == one.host
        return found

    assert [one.parts["queue_wait"] for one in records("put", 0)][-1] > 0
    demoted(store, *keys)
    for submit, kind in ((store.prefetch, "prefetch"), (store.submit_remove, "remove")):
        before = store.timings().recorded
        job = submit(keys)
        job.wait()
        waits = sorted(one.wait_ns for one in job.timings())
        found = records(kind, before)
        for wait, part in zip(waits, sorted(one.parts["queue_wait"] for one in found)):
            assert part >= wait
        assert store.timings().inconsistent == 0
