"""A disk that goes wrong under a store, as only a kernel can show it, and jobs of a store that has one."""

from __future__ import annotations

import asyncio
import os
import resource
import select
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import eventually
from test_disk import KIB, MIB, aligned, array, demoted

import moorage
from moorage import Store


@pytest.fixture
def store(tmp_path: Path):
    with Store("4MiB", disk=tmp_path, disk_capacity="64MiB") as store:
        yield store


# ---- file systems ----


def in_mounts_of_its_own(code: str, folder: Path, **env: str) -> str:
    """Runs a program that may mount, and whose mounts go with it. Its `at` is a folder."""
    probe = subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False)
    if probe.returncode != 0:
        pytest.skip(f"probed unshare -m: {probe.stderr.decode().strip()}")
    head = f"import os, subprocess, sys\nfrom pathlib import Path\nimport numpy as np\nat = Path({str(folder)!r})\n"
    done = subprocess.run(
        ["unshare", "-m", sys.executable, "-c", head + textwrap.dedent(code)],
        env={**os.environ, **env}, capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    said, error = done.stdout.decode(), done.stderr.decode()
    if said.startswith("skip"):
        pytest.skip("probed " + said[5:].strip())
    assert done.returncode == 0, f"{said}\n{error}"
    return said


def test_a_file_system_that_turns_read_only(tmp_path: Path):
    """As the kernel does it to a file system with errors: what is there can be read, nothing can be written."""
    said = in_mounts_of_its_own(
        """
        import moorage
        image, place = at / "image", at / "mount"
        place.mkdir()
        with open(image, "wb") as f:
            f.truncate(64 << 20)
        def run(*words):
            done = subprocess.run(words, capture_output=True)
            if done.returncode != 0:
                print("skip", *words, done.stderr.decode())
                sys.exit(0)
        run("mkfs.ext4", "-q", str(image))
        run("mount", "-o", "loop,errors=remount-ro", str(image), str(place))
        device = next(words[0] for words in map(str.split, open("/proc/mounts")) if words[1] == str(place))
        trigger = Path("/sys/fs/ext4", os.path.basename(device), "trigger_fs_error")
        if not trigger.exists():
            print("skip", trigger)
            sys.exit(0)

        def array(number):
            return np.full(256 << 10, number, np.uint8)

        def wrong(number):
            return not np.array_equal(store.get_array(f"k{number}"), array(number))

        store = moorage.Store("4MiB", disk=place / "kv", disk_capacity="32MiB", durability="each")
        for number in range(30):
            store.put_tensor(f"k{number}", array(number))
        store.flush()
        trigger.write_text("1")
        stored = 30
        try:
            for stored in range(30, 100):
                store.put_tensor(f"k{stored}", array(stored))
            print("no error")
        except moorage.CapacityError as error:
            print(type(error).__name__, error, end="\\n---\\n")
        try:
            store.persist([f"k{stored - 1}"])
            print("no error")
        except moorage.IOFailedError as error:
            print(type(error).__name__, error, end="\\n---\\n")
        there = [n for n in range(30, stored)]
        assert not any(map(wrong, there)), "memory stays usable"
        store.remove(f"k{there[0]}")
        assert not any(map(wrong, range(30))), "what is on disk can be read"
        timings = store.timings()
        assert timings.inconsistent == 0
        assert sum(one.failed for one in timings.summaries) > 0
        assert min(one.total for one in timings.recent if one.outcome == "failed") > 0
        try:
            store.close()
        except moorage.IOFailedError as error:  # what has to be written at the end
            assert "read-only" in str(error)
        try:
            store.keys()
        except moorage.ClosedError:
            pass
        try:
            moorage.Store("4MiB", disk=place / "kv", disk_capacity="32MiB")
        except moorage.IOFailedError as error:
            print(type(error).__name__, error, end="\\n---\\n")
        """,
        tmp_path,
    )
    assert "no error" not in said
    full, persist, again = said.split("\n---\n")[:3]
    assert full.startswith("CapacityError")
    assert "disk failed" in full
    assert persist.startswith("IOFailedError")
    assert again.startswith("IOFailedError")
    assert "read-only" in again


def test_a_read_only_mount_is_refused(tmp_path: Path):
    with Store("4MiB", disk=tmp_path / "kv", disk_capacity="16MiB") as store:
        store.put_tensor("a", array(1))
        store.flush()
    before = sorted((path.name, path.stat().st_size) for path in (tmp_path / "kv").iterdir())
    said = in_mounts_of_its_own(
        """
        import moorage
        for words in (["mount", "--bind", str(at), str(at)], ["mount", "-o", "remount,ro,bind", str(at)]):
            done = subprocess.run(words, capture_output=True)
            if done.returncode != 0:
                print("skip", *words, done.stderr.decode())
                sys.exit(0)
        for name in ("kv", "new"):
            try:
                moorage.Store("4MiB", disk=at / name, disk_capacity="16MiB")
            except moorage.IOFailedError as error:
                print(error)
        """,
        tmp_path,
    )
    lines = said.splitlines()
    assert len(lines) == 2
    assert all("read-only" in line for line in lines), said
    assert "kv" in lines[0] and "new" in lines[1]
    assert sorted((path.name, path.stat().st_size) for path in (tmp_path / "kv").iterdir()) == before
    with Store("4MiB", disk=tmp_path / "kv", disk_capacity="16MiB") as store:
        assert np.array_equal(store.get_array("a"), array(1))


def test_a_directory_that_is_removed(tmp_path: Path):
    """What is there can be read to the end, and the next store begins a new directory."""
    place = tmp_path / "kv"
    with Store("4MiB", disk=place, disk_capacity="64MiB") as store:
        store.put_tensor("a", array(1))
        demoted(store, "a")
        shutil.rmtree(place)
        out = aligned(256 * KIB)
        store.get_into("a", out)
        assert np.array_equal(out, array(1))
        store.put_tensor("b", array(2))
        assert np.array_equal(store.get_array("b"), array(2))
    with Store("4MiB", disk=place, disk_capacity="64MiB") as store:
        assert store.keys() == []


@pytest.mark.parametrize("which", ["journal-", "segment-"])
def test_a_newer_format_is_refused(tmp_path: Path, which: str):
    """The version stands in both copies of a file's first page."""
    with Store("4MiB", disk=tmp_path, disk_capacity="16MiB") as store:
        store.put_tensor("a", array(1))
        store.flush()
    path = max(tmp_path.glob(which + "*"))
    content = path.read_bytes()
    with path.open("r+b") as file:
        for copy in (0, 2048):
            file.seek(copy + 12)
            file.write(b"\2")
    with pytest.raises(moorage.FormatError, match=path.name) as caught:
        Store("4MiB", disk=tmp_path, disk_capacity="16MiB")
    assert "newer" in str(caught.value)
    path.write_bytes(content)
    with Store("4MiB", disk=tmp_path, disk_capacity="16MiB") as store:
        assert np.array_equal(store.get_array("a"), array(1))


@pytest.mark.parametrize("place", [0, 40, 2048 + 20])
def test_a_flipped_bit_in_a_segments_header_loses_nothing(tmp_path: Path, place: int):
    """There are two copies; what describes the objects stands in the journal."""
    with Store("4MiB", disk=tmp_path, disk_capacity="16MiB") as store:
        for number in range(8):
            store.put_tensor(f"k{number}", array(number))
        store.flush()
    path = min(tmp_path.glob("segment-*"))
    content = path.read_bytes()[place : place + 1]
    with path.open("r+b") as file:
        file.seek(place)
        file.write(bytes([content[0] ^ 4]))
    with Store("4MiB", disk=tmp_path, disk_capacity="16MiB") as store:
        for number in range(8):
            assert np.array_equal(store.get_array(f"k{number}"), array(number))


def test_the_second_owner_is_told_the_first(tmp_path: Path):
    with Store("4MiB", disk=tmp_path, disk_capacity="16MiB"):
        code = f"""
            import moorage
            try:
                moorage.Store("4MiB", disk={str(tmp_path)!r})
            except moorage.BusyError as error:
                print(error)
        """
        python = [sys.executable, "-c", textwrap.dedent(code)]
        done = subprocess.run(python, capture_output=True, check=True, timeout=60)
        assert str(os.getpid()) in done.stdout.decode()
        assert str(tmp_path) in done.stdout.decode()


# ---- the mapped path ----


def test_faults_of_a_mapping_are_the_devices_time(tmp_path: Path):
    with Store("4MiB", disk=tmp_path, disk_capacity="64MiB", read_path="mmap", promote="never", verify="off") as store:
        data, out = array(1, 2 * MIB), aligned(2 * MIB)
        out[:] = 0
        store.put_tensor("a", data)
        demoted(store, "a")
        before = resource.getrusage(resource.RUSAGE_SELF)
        store.get_into("a", out)
        after = resource.getrusage(resource.RUSAGE_SELF)
        assert np.array_equal(out, data)
        faults = after.ru_minflt - before.ru_minflt + after.ru_majflt - before.ru_majflt
        assert faults >= 2 * MIB // (64 * KIB), "pages of the mapping were faulted in, 64 KiB around each at most"
        (one,) = [one for one in store.timings().recent if one.kind == "get_into"]
        assert one.path == "mapped"
        assert one.parts["copy"] > 0, "each byte is copied"
        assert one.device > 0
        assert one.device >= one.host - one.parts["copy"] - one.parts["other"], "faults and reads are not host"
        assert one.host + one.device == one.total


# ---- what is submitted ----


def readable(queue: moorage.JobQueue) -> bool:
    return bool(select.select([queue], [], [], 20)[0])


def test_every_kind_of_job_over_a_disk(store: Store):
    """Submit, eventfd, drain with a result for each key; nobody waits in a call."""
    keys = [f"k{number}" for number in range(24)]
    queue = moorage.JobQueue()

    def drained(job: moorage.Job) -> None:
        found: list[object] = []
        while not (found and found[-1].last):
            assert readable(queue)
            found += [one for one in queue.drain() if one.job is job]
        assert len(found) == len(job)
        return found

    arrays = {key: array(number) for number, key in enumerate(keys)}
    drained(store.submit_put_tensors(arrays, queue=queue))
    drained(store.submit_persist(keys, queue=queue))
    job = store.submit_exists([*keys, "none"], queue=queue)
    drained(job)
    assert job.results() == [True] * 24 + [False]
    job = store.prefetch(keys[:4], queue=queue)
    drained(job)
    assert job.results() == [True] * 4
    assert len(store) == 24, "more than memory holds"
    outs = {key: aligned(256 * KIB) for key in keys}
    job = store.submit_get_into(outs, queue=queue)
    drained(job)
    assert job.results() == [256 * KIB] * 24
    assert all(np.array_equal(outs[key], arrays[key]) for key in keys)
    for part in (keys[:8], keys[8:16], keys[16:]):  # held together, so no more than memory has room for
        job = store.submit_get(part, kind="array", queue=queue)
        drained(job)
        assert all(np.array_equal(view, arrays[key]) for key, view in zip(part, job.results()))
        del job
    job = store.submit_remove([*keys, "none"], missing_ok=True, queue=queue)
    drained(job)
    assert job.results() == [True] * 24 + [False]
    assert len(store) == 0
    queue.close()


def test_jobs_over_a_disk_are_awaited_and_cancelled(store: Store):
    keys = [f"k{number}" for number in range(40)]
    arrays = {key: array(number) for number, key in enumerate(keys)}
    outs = {key: aligned(256 * KIB) for key in keys}

    async def work() -> None:
        assert await store.submit_put_tensors(arrays) == [True] * 40
        assert await store.submit_get_into(outs) == [256 * KIB] * 40
        assert await store.submit_exists(keys) == [True] * 40

    asyncio.run(work())
    assert all(np.array_equal(outs[key], arrays[key]) for key in keys)
    for out in outs.values():
        out[:] = 0xA5
    job = store.submit_get_into(outs)
    job.cancel()
    job.wait()
    begun = 0
    for key in keys:
        if (outs[key] == 0xA5).all():
            continue
        begun += 1
        assert np.array_equal(outs[key], arrays[key]), "begun is finished, and nothing is written after that"
    cancelled = sum(one.cancelled for one in store.timings().summaries if one.kind == "get_into")
    assert begun + cancelled == 40
    eventually(lambda: store.stats().borrowed_objects == 0)


def test_a_thread_keeps_its_pace_beside_prefetches(tmp_path: Path):
    """Nobody who waits for the disk holds the interpreter: turns of a loop per second, alone and beside prefetches."""
    with Store("4MiB", disk=tmp_path, disk_capacity="64MiB") as store:
        keys = [f"k{number}" for number in range(64)]
        for number, key in enumerate(keys):
            store.put_tensor(key, array(number))

        def seconds() -> float:
            began = time.perf_counter()
            for _ in range(1000):
                sum(range(200))
            return time.perf_counter() - began

        best = 0.0
        for _ in range(40):
            reads, alone = store.disk_stats().reads, min(seconds(), seconds())
            job = store.prefetch(keys)
            beside = seconds()
            if not job.done:  # they were outstanding all the time
                best = max(best, alone / beside)
            job.wait()
            assert store.disk_stats().reads >= reads + 40, "memory has 16 of them"
            if best >= 0.9:
                return
        assert best >= 0.8, f"{best:.2f} of its own pace, in the best of 40 rounds"
