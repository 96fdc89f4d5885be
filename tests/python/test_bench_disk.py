"""`moorage bench disk`: that every path reads what was written, that cold is proved, and what is computed."""

from __future__ import annotations

import json
import os
import random
import shutil
import stat
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

np = pytest.importorskip("numpy")

from moorage.bench import main  # noqa: E402
from moorage.bench.disk import cold, command, figures, fio, objects, ours, puts, rows, show, threads, uring  # noqa: E402
from moorage.bench.disk.figures import Op, Pass  # noqa: E402
from moorage.bench.disk.objects import Objects  # noqa: E402
from moorage.bench.disk.place import MEMORY, Counters, System  # noqa: E402
from moorage.bench.disk.rounds import Rounds, Side  # noqa: E402
from moorage.bench.register import memory  # noqa: E402

KIB, MIB = 1 << 10, 1 << 20


def _ring() -> None:
    """Skips where the kernel has no io_uring for us."""
    one = np.zeros(4096, np.uint8)
    try:
        with open(__file__, "rb") as file:
            uring.Ring(1, one.ctypes.data, 4096, [file.fileno()]).close()
    except uring.NoRing as error:
        pytest.skip(f"probed {error}")


def _direct(folder: Path) -> None:
    path = folder / "direct"
    path.write_bytes(bytes(4096))
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_DIRECT))
    except OSError as error:
        pytest.skip(f"probed O_DIRECT: {error}")
    finally:
        path.unlink()


@pytest.fixture
def some(tmp_path: Path) -> Iterator[Objects]:
    with Objects(str(tmp_path / "objects"), 64 * KIB, 6) as made:
        yield made


# ---- objects ----


def test_objects_are_files_and_what_np_save_makes_of_them(tmp_path: Path) -> None:
    with Objects(str(tmp_path / "objects"), 12 * KIB, 3) as made:
        pages = set()
        for i, one in enumerate(made):
            raw = Path(one.path).read_bytes()
            assert raw == objects.content(12 * KIB, i) and one.size == 12 * KIB
            loaded = np.load(one.npy)
            assert loaded.dtype == np.uint8 and loaded.shape == (12 * KIB,) and loaded.tobytes() == raw
            pages |= {raw[at : at + 4096] for at in range(0, len(raw), 4096)}
        assert len(pages) == 9, "two pages are alike"
    assert not (tmp_path / "objects").exists()


def test_objects_that_cannot_be_made_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        Objects(str(tmp_path / "objects"), 4096, 2)
    assert not (tmp_path / "objects").exists()


# ---- rows ----


@pytest.mark.parametrize("name", [row.name for row in rows.rows()[:-1]])
@pytest.mark.parametrize("size", [4 * KIB, 64 * KIB, 3 * MIB + 4 * KIB])
def test_every_row_reads_what_was_written(tmp_path: Path, name: str, size: int) -> None:
    if name.startswith("io_uring"):
        _ring()
    _direct(tmp_path)
    row = next(row for row in rows.rows() if row.name == name)
    with Objects(str(tmp_path / "objects"), size, 3) as made:
        reader = row.worker(made)
        try:
            for i in (0, 2, 1):
                op = threads.one(reader, i, check=True)
                assert op.t0 <= op.t1 <= op.t2 <= op.t3
                assert op.device + op.host == op.total
                assert op.verify > 0 and op.verify + op.copy <= op.host
                assert (op.copy > 0) == (name == rows.LOAD_AND_COPY)
        finally:
            reader.close()


@pytest.mark.parametrize("name", [row.name for row in rows.rows()[:-1]])
def test_a_wrong_byte_is_found(tmp_path: Path, name: str, some: Objects) -> None:
    if name.startswith("io_uring"):
        _ring()
    _direct(tmp_path)
    for path in (some[1].path, some[1].npy):
        with open(path, "r+b") as file:
            file.seek(-1, os.SEEK_END)
            last = file.read(1)
            file.seek(-1, os.SEEK_END)
            file.write(bytes([last[0] ^ 1]))
            file.flush()
            os.fsync(file.fileno())
    row = next(row for row in rows.rows() if row.name == name)
    reader = row.worker(some)
    try:
        threads.one(reader, 0, check=True)
        with pytest.raises(ValueError, match="object 1 of 65536 bytes was read wrong"):
            threads.one(reader, 1, check=True)
        reader.drop()
    finally:
        reader.close()


@pytest.mark.parametrize("name", [rows.BUFFERED, rows.DIRECT, rows.URING_ONE, rows.URING_ALL])
def test_a_short_file_is_an_error(tmp_path: Path, name: str, some: Objects) -> None:
    if name.startswith("io_uring"):
        _ring()
    _direct(tmp_path)
    os.truncate(some[1].path, 8 * KIB)
    row = next(row for row in rows.rows() if row.name == name)
    reader = row.worker(some)
    try:
        with pytest.raises(EOFError, match="ends 57344 bytes before the object"):
            reader.do(1)
        reader.do(0)
    finally:
        reader.close()


def test_a_ring_with_fewer_places_than_chunks(tmp_path: Path) -> None:
    _ring()
    path = tmp_path / "file"
    content = random.Random(1).randbytes(100 * 512 + 100)
    path.write_bytes(content)
    memory = np.zeros(len(content), np.uint8)
    with open(path, "rb") as file:
        ring = uring.Ring(3, memory.ctypes.data, len(content), [file.fileno()])
        try:
            for _ in range(50):  # around the rings several times
                memory[:] = 0
                begin, end = ring.read(0, 0, len(content), 512)
                assert begin < end and memory.tobytes() == content
        finally:
            ring.close()
        ring.close()


def test_a_ring_says_what_failed(tmp_path: Path) -> None:
    """And nothing of it comes in later: the next read finds only its own."""
    _ring()
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 256)
    memory = np.zeros(64 * KIB, np.uint8)
    closed = os.open(tmp_path, os.O_RDONLY)
    with open(path, "rb") as file:
        ring = uring.Ring(4, memory.ctypes.data, 64 * KIB, [file.fileno(), closed])
        os.close(closed)
        try:
            with pytest.raises(OSError, match="Is a directory"):
                ring.read(1, 0, 64 * KIB, 4 * KIB)
            ring.read(0, 0, 64 * KIB, 4 * KIB)
            assert memory.tobytes() == path.read_bytes()
        finally:
            ring.close()


@pytest.mark.parametrize("pages", [memory.SMALL, memory.THP])
@pytest.mark.parametrize("size", [64 * KIB, 4 * MIB])
def test_buffers_are_of_the_pages_that_were_asked_for(pages: str, size: int) -> None:
    area = rows.buffer(size, pages)
    try:
        view = area.view()
        assert len(view) == size and not view.readonly
        view[0], view[-1] = 7, 8
        assert np.frombuffer(view, np.uint8).ctypes.data == area.address
        huge = memory.has_huge_pages(area)
        view.release()
    finally:
        area.close()
    if pages == memory.THP and not huge:
        pytest.skip("probed transparent huge pages: the kernel gives none")
    assert huge == (pages == memory.THP)


def test_a_mapping_shows_its_reads_as_device(tmp_path: Path) -> None:
    """Mapping is quick and reads nothing: were that called device, the drive would stand under host."""
    if System().place(str(tmp_path)).memory:
        pytest.skip("probed the temporary directory: it lies in memory")
    row = next(row for row in rows.rows() if row.name == rows.MAPPED)
    with Objects(str(tmp_path / "objects"), 4 * MIB, 4) as made:
        row.cool(made)
        ops = row.run(made, 1, check=False).ops
    assert sum(op.device for op in ops) > sum(op.total for op in ops) / 2


# ---- cold ----


def test_cold_is_seen(tmp_path: Path) -> None:
    if System().place(str(tmp_path)).memory:
        pytest.skip("probed the temporary directory: it lies in memory")
    with Objects(str(tmp_path / "objects"), 256 * KIB, 2) as made:
        row = rows.rows()[1]
        row.cool(made)
        assert row.residency(made) == (0, 2 * (256 + 4) * KIB), "the header makes a page more"
        np.load(made[0].npy)
        here, _ = row.residency(made)
        assert 256 * KIB <= here < 512 * KIB
        row.cool(made)
        assert row.residency(made)[0] == 0


def test_looking_brings_nothing_in(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.touch()
    with open(path, "rb") as file:
        assert cold.resident(file.fileno()) == (0, 0)
    with pytest.raises(OSError):
        cold.resident(-1)


def test_memory_is_never_cold() -> None:
    if not os.path.isdir("/dev/shm") or not System().place("/dev/shm").memory:
        pytest.skip("probed /dev/shm: it is not in memory")
    path = f"/dev/shm/moorage-test-{os.getpid()}"
    try:
        with Objects(path, 64 * KIB, 1) as made:
            row = rows.rows()[1]
            row.cool(made)
            here, everything = row.residency(made)
            assert here == everything > 0
    finally:
        shutil.rmtree(path, ignore_errors=True)
    one = Pass([Op(0, 1, 2, 3)], 4096, 10, 1, 0, 0, 1.0, Counters(1, 4096, 0, 0, 0), 10)
    assert figures.result("x", 4096, 1, False, 0, [one]).cold is False


# ---- threads and rounds ----


class _Reader(rows.Worker):
    live = 0

    def __init__(self, made: Sequence[Any], fails: int = -1) -> None:
        super().__init__(made)
        self.fails, self.seen = fails, []  # type: ignore[var-annotated]
        type(self).live += 1

    def do(self, i: int) -> tuple[int, int, int]:
        if i == self.fails:
            raise OSError(5, "Input/output error")
        self.seen.append(i)
        begin = threads._clock()
        return begin, threads._clock(), 0

    def check(self, i: int) -> None:
        pass

    def close(self) -> None:
        type(self).live -= 1


class _Row(rows.Row):
    def __init__(self, name: str, log: list[str], fails: int = -1) -> None:
        self.made: list[_Reader] = []
        super().__init__(name, 0, "", self._new)
        self.log, self.fails = log, fails

    def _new(self, made: Sequence[Any]) -> _Reader:
        self.made.append(_Reader(made, self.fails))
        return self.made[-1]

    def cool(self, made: Sequence[Any]) -> None:
        self.log.append(self.name)

    def residency(self, made: Sequence[Any]) -> tuple[int, int]:
        return 0, 1


FAKES = [objects.Object("", "", 100, 0)] * 10


@pytest.mark.parametrize("depth", [1, 3, 10, 16])
def test_every_object_is_read_once_by_as_many_threads(depth: int) -> None:
    row = _Row("x", [])
    ran = threads.run(row, FAKES, depth, check=True)
    assert len(row.made) == depth and len(ran.ops) == 10 and ran.nbytes == 1000
    assert sorted(i for reader in row.made for i in reader.seen) == list(range(10))
    assert ran.wall >= max(op.total for op in ran.ops)
    assert _Reader.live == 0


def test_a_failure_in_one_thread_ends_all() -> None:
    before = threading.active_count()
    with pytest.raises(OSError, match="Input/output error"):
        threads.run(_Row("x", [], fails=7), FAKES, 4, check=False)
    assert threading.active_count() == before and _Reader.live == 0


def test_rounds_go_forwards_and_then_in_the_opposite_order() -> None:
    log: list[str] = []
    sides = [Side(_Row(name, log), False) for name in "ABC"]
    turns = Rounds(sides, FAKES, 2, lambda: None)
    turns.go(2)
    assert "".join(log) == "ABC" + "ABCCBA" * 2
    assert [len(side.passes) for side in sides] == [4, 4, 4] and not turns.lost
    assert all(one.device is None and one.resident == 0 for one in sides[0].passes)


def test_a_row_that_fails_is_named_and_the_others_go_on() -> None:
    log: list[str] = []
    sides = [Side(_Row("A", log), False), Side(_Row("B", log, fails=3), True), Side(_Row("C", log), False)]
    turns = Rounds(sides, FAKES, 1, lambda: None)
    turns.go(1)
    assert "".join(log) == "ABC" + "ACCA"
    assert turns.lost == {"B, verified": "OSError: [Errno 5] Input/output error"}
    assert [side.row.name for side in turns.sides] == ["A", "C"]


def test_the_row_that_reads_nothing_delivers_nothing(some: Objects) -> None:
    ran = rows.rows()[-1].run(some, 2, check=True)
    assert ran.nbytes == 0 and len(ran.ops) == 6 and all(op.device == 0 for op in ran.ops)


# ---- ours ----


def _record(t0: int, t1: int, t2: int, t3: int, sequence: int = 1, **parts: int) -> Any:
    return SimpleNamespace(t0=t0, t1=t1, t2=t2, t3=t3, sequence=sequence, kind="get", parts=parts, verify_overlapped=7)


def test_operations_take_the_device_time_of_the_store() -> None:
    (op,) = ours.paired([Op(100, 0, 0, 200)], [_record(110, 120, 180, 190, verify=5, copy=3)])
    assert op == Op(100, 120, 180, 200, 3, 5, {"verify": 5, "copy": 3, ours.OUTSIDE: 20}, 7)
    assert (op.device, op.host) == (60, 40)
    with pytest.raises(ValueError, match="1 of 1 operations have no record"):
        ours.paired([Op(100, 0, 0, 200)], [_record(90, 120, 180, 190)])


def test_each_record_belongs_to_one_operation() -> None:
    """However they overlap, every operation gets a record that lies inside it, and each record is used once."""
    for seed in range(300):
        source = random.Random(seed)
        ops, records = [], []
        for _ in range(source.randrange(1, 30)):
            t0, r0, t1, t2, r3, t3 = sorted(source.sample(range(2000), 6))
            ops.append(Op(t0, 0, 0, t3))
            records.append(_record(r0, t1, t2, r3))
        source.shuffle(records)
        found = ours.paired(ops, records)
        assert sorted((op.t0, op.t3) for op in found) == sorted((op.t0, op.t3) for op in ops), f"seed {seed}"
        assert sorted((op.t1, op.t2) for op in found) == sorted((one.t1, one.t2) for one in records), f"seed {seed}"
        assert all(op.t0 <= op.t1 <= op.t2 <= op.t3 for op in found), f"seed {seed}"


class _Store:
    """What the rows use of a store with a disk."""

    opened: list[_Store] = []

    def __init__(
        self, capacity: int, *, disk: str, disk_capacity: int, promote: str, verify: str, hugepages: str
    ) -> None:
        assert hugepages == "auto"
        os.makedirs(disk, exist_ok=True)
        self.folder, self.promote, self.verify, self.closed = disk, promote, verify, False
        self.recent: list[Any] = []
        type(self).opened.append(self)

    def put(self, key: str, data: bytes) -> None:
        Path(self.folder, key).write_bytes(data)

    def flush(self) -> None:
        pass

    def exists(self, key: str) -> bool:
        return Path(self.folder, key).exists()

    def _read(self, key: str) -> bytes:
        t0 = threads._clock()
        data = Path(self.folder, key).read_bytes()
        self.recent.append(_record(t0, t0, threads._clock(), threads._clock(), len(self.recent) + 1))
        return data

    def get_into(self, key: str, out: memoryview) -> int:
        data = self._read(key)
        out[: len(data)] = data
        return len(data)

    def get_array(self, key: str) -> Any:
        return np.frombuffer(self._read(key), np.uint8)

    def timings(self) -> Any:
        return SimpleNamespace(recent=tuple(self.recent))

    def close(self) -> None:
        self.closed = True

    def __enter__(self) -> _Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def test_our_rows_read_with_a_store_that_has_nothing_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, some: Objects
) -> None:
    monkeypatch.setattr(ours, "Store", _Store)
    monkeypatch.setattr(_Store, "opened", [])
    made = ours.rows(str(tmp_path), 4, memory.THP)
    assert [(row.name, verify) for row, verify in made] == [
        (ours.INTO, False), (ours.VIEW, False), (ours.INTO, True), (ours.VIEW, True)
    ]  # fmt: skip
    turns = Rounds([Side(row, verify) for row, verify in made], some, 2, lambda: None)
    turns.go(1)
    assert not turns.lost
    # Two directories, each written by one store and read by another.
    assert [(one.verify, one.promote) for one in _Store.opened] == [("off", "never")] * 2 + [("always", "never")] * 2
    assert [one.closed for one in _Store.opened] == [True, False, True, False]
    for side in turns.sides:
        assert all(len(one.ops) == 6 for one in side.passes)
        side.row.done()
    assert all(one.closed for one in _Store.opened) and not list(tmp_path.glob("store-*"))


def test_our_rows_with_a_real_store(tmp_path: Path, some: Objects) -> None:
    made = ours.rows(str(tmp_path), 4, memory.THP)
    turns = Rounds([Side(row, verify) for row, verify in made], some, 2, lambda: None)
    try:
        turns.go(1)
        assert not turns.lost
        for side in turns.sides:
            assert all(op.device > 0 for one in side.passes for op in one.ops), "it was read from disk each time"
    finally:
        for row, _ in made:
            row.done()


def test_a_read_pass_looks_at_every_byte_where_it_lies(
    tmp_path: Path, some: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store's own memory, or the caller's: it is what the checksums have to go through."""
    seen: list[tuple[bytes, int]] = []
    monkeypatch.setattr(ours, "look", lambda data, n: seen.append((bytes(memoryview(data)[:n]), n)))
    wanted = sorted((objects.content(some.size, i), some.size) for i in range(6))
    made = ours.rows(str(tmp_path), 2, memory.THP)
    try:
        for row, verify in made:
            if not verify:
                assert isinstance(row, ours.Disk)
                row.prepare(some)
                assert row.read_pass(some, 2) >= 0
                assert sorted(seen) == wanted
                seen.clear()
        monkeypatch.undo()
        assert 0 < made[0][0].read_pass(some, 2) < 10, "seconds of the processor for a GiB"  # type: ignore[attr-defined]
    finally:
        for row, _ in made:
            row.done()


# ---- fio ----

_REPORT = {
    "jobs": [
        {
            "jobname": "read", "error": 0, "job_runtime": 2000, "usr_cpu": 2.5, "sys_cpu": 7.5, "minf": 3, "majf": 1,
            "read": {"io_bytes": 1 << 30, "runtime": 500},
        }
    ]
}  # fmt: skip


def _fake_fio(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "bin" / "fio"
    path.parent.mkdir()
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")


def test_fio_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, some: Objects) -> None:
    _fake_fio(tmp_path, f"echo 'a warning'; echo '{json.dumps(_REPORT)}'", monkeypatch)
    row = fio.Fio(str(tmp_path), 0.1)
    assert row.lacking() is None
    side = Side(row, False)
    turns = Rounds([side], some, 2, lambda: None)
    turns.go(1)
    assert not turns.lost
    one = figures.result(row.name, some.size, 2, False, 0, side.passes)
    assert (one.gib_s, one.cpu_s_gib, one.operations, one.total) == (2.0, 0.2, 0, None)
    content = b"".join(objects.content(some.size, i) for i in range(6))
    assert (tmp_path / "fio.bin").read_bytes() == content
    row.done()
    assert not (tmp_path / "fio.bin").exists()
    row.done()


@pytest.mark.parametrize(
    ("size", "chunk", "depth", "batch"), [(64 * KIB, 64 * KIB, 1, 1), (4 * MIB, MIB, 4, 4), (64 * MIB, MIB, 32, None)]
)
def test_fio_has_the_same_pattern(size: int, chunk: int, depth: int, batch: int | None) -> None:
    words = fio.Fio("/a:b", 1.0).command([objects.Object("", "", size, 0)] * 8, 4)
    assert {f"--bs={chunk}", f"--iodepth={depth}", "--numjobs=4", f"--size={2 * size}"} <= set(words)
    assert {"--direct=1", "--fixedbufs=1", "--registerfiles=1", "--ioengine=io_uring"} <= set(words)
    assert (f"--iodepth_batch_submit={batch}" in words) == (batch is not None)
    assert "--filename=/a\\:b/fio.bin" in words


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo bad option >&2; exit 1", "fio ended with 1: .*bad option"),
        (f"echo '{json.dumps(_REPORT)}' | sed 's/error\": 0/error\": 5/'", "fio: Input/output error"),
        ("echo nothing", "substring not found"),
    ],
)
def test_a_fio_that_fails_is_no_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, some: Objects, script: str, why: str
) -> None:
    _fake_fio(tmp_path, script, monkeypatch)
    row = fio.Fio(str(tmp_path), 0.1)
    row.prepare(some)
    with pytest.raises((OSError, ValueError), match=why):
        row.run(some, 1, False)


def test_a_real_fio(tmp_path: Path) -> None:
    if shutil.which("fio") is None:
        pytest.skip("probed PATH: fio is not installed")
    _ring()
    _direct(tmp_path)
    row = fio.Fio(str(tmp_path), 0.5)
    with Objects(str(tmp_path / "objects"), MIB, 4) as made:
        row.prepare(made)
        ran = row.run(made, 2, False)
    assert ran.nbytes > 0 and ran.wall >= 50_000_000 and ran.cpu > 0


# ---- the command ----


def test_everything_is_measured(tmp_path: Path) -> None:
    _ring()
    _direct(tmp_path)
    sizes, depths, names = (4 * KIB, 64 * KIB), (1, 2), [row.name for row in rows.rows()]
    place = System().place(str(tmp_path))
    plan = command.Plan(
        str(tmp_path), sizes, depths, pairs=1, least=0, fio_seconds=0.1, verify_all=True, parts=["reads"]
    )
    measured = command.measure(plan, place)
    assert not list(tmp_path.iterdir()), "what was made is removed"
    found = {(one.row, one.size, one.depth, one.verify): one for one in measured.results}
    looked = {(one.row, one.size, one.depth) for one in measured.read_passes}
    assert looked == {(row, size, depth) for row in (ours.INTO, ours.VIEW) for size in sizes for depth in depths}
    for size in sizes:
        for depth in depths:
            for name in names:
                assert found[name, size, depth, False].operations == 2 * plan.count(size, depth)
                assert name == rows.NOTHING or (found[name, size, depth, True].verified or 0) > 0
    copied, direct = found[rows.LOAD_AND_COPY, 64 * KIB, 1, False], found[rows.DIRECT, 64 * KIB, 1, False]
    assert copied.ratios["gib_s"] == copied.ratios["cpu"] == copied.ratios["total"] == 1
    assert (copied.copies, direct.copies) == (2, 0)
    assert direct.faults < 1, "the buffer is used again"
    for one in found.values():
        assert set(one.ratios) <= {"gib_s", "cpu", "total", "of_fio"}
        if one.total is not None and one.device is not None and one.host is not None:
            assert max(one.device.worst, one.host.worst) <= one.total.worst
    if not place.memory and place.device:
        assert all(one.cold for key, one in found.items() if key[0] != rows.NOTHING)
    assert set(measured.definitions) >= set(names)


def test_it_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_MOST_OBJECTS", 8)
    path = tmp_path / "disk.json"
    words = "np.load,buffered,(nothing),never synced"
    chosen = ["--sizes", "64KiB", "--depths", "2", "--only", words, "--json", str(path)]
    assert main(["disk", "--dir", str(tmp_path), "--quick", *chosen]) == 0
    assert list(tmp_path.iterdir()) == [path], "what was made is removed"
    content = json.loads(path.read_text())
    names = [rows.LOAD_AND_COPY, rows.LOAD, rows.BUFFERED, rows.NOTHING, puts.NONE]
    assert [one["row"] for one in content["results"]] == names
    assert all(one["total"]["p50"] > 0 for one in content["results"])
    place = System().place(str(tmp_path))
    assert content["machine"]["device"] == place.title
    assert content["machine"]["command"].startswith("moorage bench disk --dir")
    out = capsys.readouterr().out
    titles = ("64 KiB, 2 at a time", "writes, 64 KiB, 2 at a time")
    for text in (*names, *content["definitions"].values(), *show.MEANINGS, *content["missing"], *titles):
        assert text in out
    assert ("NVMe" in out) == (bool(place.parts) and all(part.startswith("nvme") for part in place.parts))


def test_memory_is_labelled(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_MOST_OBJECTS", 8)
    if not os.path.isdir("/dev/shm") or not System().place("/dev/shm").memory:
        pytest.skip("probed /dev/shm: it is not in memory")
    assert main(["disk", "--dir", "/dev/shm", "--quick", "--sizes", "64KiB", "--depths", "1", "--only", "np.load"]) == 0
    out = capsys.readouterr().out
    assert MEMORY in out.splitlines()[2] and "any storage: /dev/shm is memory, not storage" in out
    assert "NVMe" not in out and " NO " in out
    assert not [name for name in os.listdir("/dev/shm") if name.startswith("moorage-bench-")]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--dir", "/nonexistent"], "No such file"),
        (["--sizes", "many"], "--sizes"),
        (["--sizes", "5000"], "multiple of 4096"),
        (["--sizes", "4GiB"], "less than 2 GiB"),
        (["--depths", "few"], "--depths must be numbers"),
        (["--depths", "0"], "from 1 to 256"),
        (["--sizes", "1GiB", "--depths", "256"], "choose smaller"),
        (["--what", "writes,peace"], "--what: there are reads, writes, pace, not 'peace'"),
    ],
)
def test_bad_arguments_stop_before_measuring(
    arguments: list[str], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if "--dir" not in arguments:
        arguments = ["--dir", str(tmp_path), *arguments]
    assert main(["disk", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("moorage bench disk: ") and why in error
    assert not list(tmp_path.iterdir())


def test_what_does_not_fit_into_memory_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command.machine, "available_memory", lambda: 3 * 64 * KIB)
    plan = command.Plan(str(tmp_path), [64 * KIB], [1, 2], pairs=1, least=0, fio_seconds=0.1, only=["np.load"])
    measured = command.measure(plan, System().place(str(tmp_path)))
    assert "64 KiB, 2 at a time: not enough memory is free" in measured.missing
    assert {one.depth for one in measured.results} == {1}


@pytest.mark.parametrize("depths", [[1], [1, 4, 16], [3]])
def test_each_thread_has_an_equal_share(depths: list[int]) -> None:
    plan = command.Plan("", [], depths, pairs=1, least=64 * MIB, fio_seconds=1)
    for size in (4 * KIB, MIB, 256 * MIB):
        counts = [plan.count(size, depth) for depth in depths]
        assert all(count >= 4 and count % depth == 0 for count, depth in zip(counts, depths))
        assert plan.objects(size) == max(counts)
        assert size == 256 * MIB or all(count * size >= MIB for count in counts)
