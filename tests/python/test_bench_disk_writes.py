"""`moorage bench disk`: what is written is there, as lasting as was said, and nothing beside it is in the figures."""

from __future__ import annotations

import json
import os
import shutil
import stat
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

np = pytest.importorskip("numpy")

from moorage.bench.disk import command, figures, fio_writes, ours, pace, puts, threads, writes  # noqa: E402
from moorage.bench.disk.figures import Op  # noqa: E402
from moorage.bench.disk.place import System  # noqa: E402
from moorage.bench.disk.rounds import Rounds, Side  # noqa: E402
from moorage.bench.register import memory  # noqa: E402

KIB, MIB = 1 << 10, 1 << 20


def _direct(folder: Path) -> None:
    path = folder / "direct"
    path.write_bytes(bytes(4096))
    try:
        os.close(os.open(path, os.O_RDWR | os.O_DIRECT))
    except OSError as error:
        pytest.skip(f"probed O_DIRECT: {error}")
    finally:
        path.unlink()


def _all(folder: Path) -> list[writes.Writing]:
    _direct(folder)
    return [*writes.rows(str(folder), memory.SMALL), *puts.rows(str(folder), memory.SMALL)]


_NAMES = [writes.DIRECT, writes.SYNCED, puts.NONE, puts.BATCH, puts.EACH, puts.PERSIST]


def _targets(folder: Path, size: int, count: int) -> list[Any]:
    return writes.targets(str(folder / "written"), size, count)


# ---- what is written ----


def test_no_two_pages_are_alike() -> None:
    base = np.frombuffer(np.random.default_rng(1).bytes(16 * KIB), np.uint64)
    seen = set()
    for run in (1, 2):
        one = writes.Bytes(base, run, memory.SMALL)
        for i in (0, 1, -1):
            data = bytes(one.of(i))
            assert len(data) == 16 * KIB
            seen |= {data[at : at + 4 * KIB] for at in range(0, len(data), 4 * KIB)}
        one.close()
    assert len(seen) == 2 * 3 * 4


@pytest.mark.parametrize("size", [4 * KIB, 64 * KIB, 3 * MIB + 4 * KIB])
def test_every_row_writes_what_it_has_to(tmp_path: Path, size: int) -> None:
    """The round that is not kept compares every byte."""
    made, objects = _all(tmp_path), _targets(tmp_path, size, 6)
    assert [row.name for row in made] == _NAMES
    turns = Rounds([Side(row, False) for row in made], objects, 2, lambda: None)
    turns.go(1)
    assert not turns.lost
    for side in turns.sides:
        for one in side.passes:
            assert len(one.ops) == 6 and one.nbytes == 6 * size
            assert all(op.t0 <= op.t1 <= op.t2 <= op.t3 and op.device > 0 for op in one.ops), side.row.name
            if side.row.name in (puts.NONE, puts.BATCH, puts.EACH, puts.PERSIST):
                assert all(sum(op.parts.values()) == op.host for op in one.ops if op.parts), side.row.name
                assert all(op.parts for op in one.ops)
    for row in made:
        row.done()
    assert not list(tmp_path.iterdir()), "what was made is removed"


@pytest.mark.parametrize("name", _NAMES)
def test_what_was_not_written_is_found(tmp_path: Path, name: str) -> None:
    """Bytes of an earlier pass are not those of this one."""
    row, objects = next(row for row in _all(tmp_path) if row.name == name), _targets(tmp_path, 64 * KIB, 4)
    try:
        row.prepare(objects)
        row.begin(objects, 1)
        row.run(objects, 1, False)
        row.end()
        row.compare(objects)
        row._run += 1
        with pytest.raises(ValueError, match="object 0 of 65536 bytes was written wrong"):
            row.compare(objects)
    finally:
        row.done()


def test_only_the_pass_is_counted(tmp_path: Path) -> None:
    """What goes before it and after it is no part of the device's figures."""
    made = puts.rows(str(tmp_path), memory.SMALL)[0]
    objects = _targets(tmp_path, 64 * KIB, 4)
    log: list[str] = []

    def logged(name: str, real: Any) -> Any:
        return lambda *arguments: (log.append(name), real(*arguments))[1]  # type: ignore[func-returns-value]

    for name in ("begin", "run", "end", "compare"):
        setattr(made, name, logged(name, getattr(made, name)))
    turns = Rounds([Side(made, False)], objects, 1, lambda: log.append("look"))  # type: ignore[func-returns-value]
    turns.go(1)
    made.done()
    assert not turns.lost
    assert log[:6] == ["begin", "look", "run", "look", "end", "compare"] and log[6:11] == log[:5]


def test_a_pass_that_fails_closes_its_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row, objects = puts.rows(str(tmp_path), memory.SMALL)[0], _targets(tmp_path, 64 * KIB, 4)

    def broken(*arguments: object) -> Any:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(puts, "_Put", broken)
    turns = Rounds([Side(row, False)], objects, 2, lambda: None)
    turns.go(1)
    assert turns.lost == {puts.NONE: "OSError: [Errno 5] Input/output error"}
    monkeypatch.undo()
    again = Rounds([Side(row, False)], objects, 2, lambda: None)
    again.go(1)  # a second opener of the directory would be refused
    row.done()
    assert not again.lost


# ---- the end of a pass, and the records ----


class _Worker:
    def __init__(self, row: _Finishing) -> None:
        self.row = row

    def ready(self, i: int) -> None:
        pass

    def do(self, i: int) -> tuple[int, int, int]:
        return 0, 0, 0

    def drop(self) -> None:
        pass

    def check(self, i: int) -> None:
        pass

    def finish(self) -> bool:
        with self.row.mu:
            self.row.left -= 1
            if self.row.left:
                return False
        time.sleep(0.05)
        return True

    def close(self) -> None:
        pass


class _Finishing:
    def __init__(self, depth: int) -> None:
        self.mu, self.left = threading.Lock(), depth

    def worker(self, objects: Sequence[Any]) -> _Worker:
        return _Worker(self)


def test_what_finishes_a_pass_is_in_its_time() -> None:
    ran = threads.run(_Finishing(3), writes.targets("", 4096, 6), 3, check=False)
    assert ran.wall >= 50_000_000 and max(op.total for op in ran.ops) < ran.wall


@pytest.mark.parametrize("depth", [1, 3])
def test_synced_at_the_end_syncs_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, depth: int) -> None:
    row, objects = puts.rows(str(tmp_path), memory.SMALL)[1], _targets(tmp_path, 64 * KIB, 6)
    try:
        row.prepare(objects)
        row.begin(objects, depth)
        flushed: list[int] = []
        real = row._store.flush
        row._store.flush = lambda: (flushed.append(row._store.timings().recorded), real())
        row.run(objects, depth, False)
        assert len(flushed) == 1 and flushed[0] >= row._seen + len(objects), "after every put"
        row.end()
    finally:
        row.done()


def _record(durability: str, t0: int, t1: int, t2: int, t3: int, **parts: int) -> Any:
    return SimpleNamespace(t0=t0, t1=t1, t2=t2, t3=t3, durability=durability, parts=parts, verify_overlapped=0)


def test_a_put_has_the_device_of_its_write() -> None:
    row = puts.rows("", memory.SMALL)[0]
    record = _record("none", 110, 145, 175, 180, copy=15, verify=4, other=21)
    (op,) = row.stamped([Op(100, 0, 0, 200)], [record])
    assert (op.t0, op.t1, op.t2, op.t3, op.device, op.host) == (100, 145, 175, 200, 30, 70)
    assert op.parts == {"copy": 15, "verify": 4, "other": 21, ours.OUTSIDE: 30} and sum(op.parts.values()) == op.host
    assert (op.copy, op.verify) == (15, 4)


def test_a_put_that_somebody_else_has_written_had_no_device() -> None:
    row = puts.rows("", memory.SMALL)[0]
    ops, records = [], []
    for at in (0, 1000, 2000, 3000):
        ops.append(Op(at, 0, 0, at + 100))
        records.append(_record("none", at + 10, at + 40, at + 80, at + 90, copy=10, verify=0))
    records[3] = _record("no_write", 3010, 3010, 3010, 3020, copy=10, verify=0)
    found = row.stamped(ops, records)
    assert [op.device for op in found] == [40, 40, 40, 0] and [op.total for op in found] == [100] * 4
    records[2] = _record("no_write", 2010, 2010, 2010, 2020, copy=10, verify=0)
    with pytest.raises(ValueError, match="2 of 4 objects were written before"):
        row.stamped(ops, records)


# ---- fio ----

_REPORT = {
    "jobs": [
        {
            "jobname": "write", "error": 0, "job_runtime": 2000, "usr_cpu": 2.5, "sys_cpu": 7.5, "minf": 3, "majf": 1,
            "read": {"io_bytes": 7, "runtime": 7}, "write": {"io_bytes": 1 << 30, "runtime": 500},
        }
    ]
}  # fmt: skip
_KINDS = [fio_writes.Write, fio_writes.WriteEnd, fio_writes.WriteEach]


@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize("size", [64 * KIB, 4 * MIB, 64 * MIB])
def test_fio_writes_in_the_same_pattern(kind: Any, size: int) -> None:
    words = kind(fio_writes.File("/a"), 1.0).command(writes.targets("", size, 8), 4)
    assert {"--rw=write", "--numjobs=4", f"--size={2 * size}", f"--offset_increment={2 * size}"} <= set(words)
    assert {"--direct=1", "--fixedbufs=1", "--registerfiles=1", "--ioengine=io_uring"} <= set(words)
    synced = {word for word in words if "sync" in word}
    assert (
        synced
        == {fio_writes.Write: set(), fio_writes.WriteEnd: {"--end_fsync=1"}, fio_writes.WriteEach: {"--fdatasync=1"}}[
            kind
        ]
    )
    # fio starts the sync when a request is submitted: whole objects, one by one, are what it can sync.
    each = kind is fio_writes.WriteEach
    assert f"--bs={size if each else min(size, MIB)}" in words
    assert ("--iodepth=1" in words) == (each or size == 64 * KIB)
    assert ("--time_based=1" in words) == (kind is not fio_writes.WriteEnd), "the sync is that of one pass"


def test_fio_writes_are_read_from_its_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bin" / "fio"
    path.parent.mkdir()
    path.write_text(f"#!/bin/sh\necho '{json.dumps(_REPORT)}'\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")
    file = fio_writes.File(str(tmp_path))
    for kind in _KINDS:
        row = kind(file, 0.1)
        side = Side(row, False)
        turns = Rounds([side], _targets(tmp_path, 64 * KIB, 2), 2, lambda: None)
        turns.go(1)
        assert not turns.lost and row.twin == row.name
        assert figures.result(row.name, 64 * KIB, 2, False, 0, side.passes, writes=True).gib_s == 2.0
    assert os.path.getsize(file.path) == 128 * KIB, "one file for all"
    row.done()
    assert not os.path.exists(file.path)


@pytest.mark.parametrize("kind", _KINDS)
def test_a_real_fio_writes(tmp_path: Path, kind: Any) -> None:
    if shutil.which("fio") is None:
        pytest.skip("probed PATH: fio is not installed")
    _direct(tmp_path)
    row = kind(fio_writes.File(str(tmp_path)), 0.1)
    objects = _targets(tmp_path, MIB, 4)
    row.prepare(objects)
    before = (tmp_path / "fio-write.bin").read_bytes()
    ran = row.run(objects, 2, False)
    assert ran.nbytes >= 4 * MIB and ran.wall > 0 and ran.cpu >= 0
    assert kind is not fio_writes.WriteEnd or ran.nbytes == 4 * MIB, "one pass"
    after = (tmp_path / "fio-write.bin").read_bytes()
    assert len(after) == len(before) and after != before, "it writes over what is there"


# ---- the command ----


def test_writes_are_measured_beside_their_twins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for fio; without it that is said."""
    _direct(tmp_path)
    plan = command.Plan(str(tmp_path / "dir"), [64 * KIB], [1, 2], pairs=1, least=0, fio_seconds=0.1, parts=["writes"])
    os.mkdir(plan.folder)
    place = System().place(plan.folder)
    path = tmp_path / "bin" / "fio"
    path.parent.mkdir()
    monkeypatch.setenv("PATH", str(path.parent))
    without = command.measure(replace(plan, depths=[1], only=["O_DIRECT", "fio"]), place)
    assert [text for text in without.missing if text.startswith(fio_writes.EACH) and "not installed" in text]
    assert not any("of_fio" in one.ratios for one in without.results)

    path.write_text(f"#!/bin/sh\necho '{json.dumps(_REPORT)}'\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    measured = command.measure(plan, place)
    assert not os.listdir(plan.folder), "what was made is removed"
    assert not measured.missing
    found = {(one.row, one.depth): one for one in measured.results}
    assert len(found) == 2 * (len(_NAMES) + len(_KINDS))
    for (name, _), one in found.items():
        assert one.writes and one.gib_s > 0
        assert ("of_fio" in one.ratios) == (name in _NAMES)
        assert one.ratios["gib_s"] == 1 if name == writes.DIRECT else "gib_s" in one.ratios
        if not place.memory and place.device:
            assert one.cold or name not in _NAMES, "it has arrived at the device"
    for name in _NAMES:
        assert not one.operations or found[name, 1].operations == 2 * plan.count(64 * KIB, 1)
    assert (found[puts.NONE, 1].copies, found[puts.PERSIST, 1].copies) == (1, 0)


# ---- the pace of another thread ----


def test_a_pace_is_what_lies_between_two_moments() -> None:
    loop = pace.Loop()
    loop.marks = [10**9 + i * 10**6 for i in range(1000)]
    whole = pace._TURNS * 1000
    assert loop.pace(10**9, 2 * 10**9) == pytest.approx(whole)
    assert loop.pace(10**9 + 500 * 10**6, 2 * 10**9) == pytest.approx(whole)
    assert loop.pace(2 * 10**9, 3 * 10**9) == 0


def test_a_pace_is_measured_while_bytes_come_in(tmp_path: Path) -> None:
    with pace.Ahead(str(tmp_path / "ahead"), 64 * KIB) as ahead:
        found = pace.measure(ahead, 0.2)
        done = ahead.store.timings().of("prefetch")
    assert min(found.before, found.beside, found.after) > 0 and found.outstanding == 64
    assert found.gib_s > 0 and done is not None and done.nbytes > 0
    assert not list(tmp_path.iterdir())


def test_so_many_prefetches_are_outstanding(tmp_path: Path) -> None:
    """Between the two moments, even if the group that follows is half done."""
    log: list[int] = []
    with pace.Ahead(str(tmp_path / "ahead"), 4 * KIB) as ahead:
        real = ahead.store.prefetch

        def prefetch(keys: list[str]) -> Any:
            log.append(len(keys))
            job = real(keys)
            return SimpleNamespace(results=lambda: (log.append(-len(keys)), job.results()))

        ahead.store.prefetch = prefetch
        begin, end, _ = ahead.run(0.05)
    assert begin < end and sum(log) == 0, "none is left"
    last = max(i for i, keys in enumerate(log) if keys > 0)
    for i in range(4, last + 2):  # and the wait after which the clock was read
        assert sum(log[: i + 1]) - pace._GROUP // 2 >= pace.OUTSTANDING, i
