"""The KV benchmark run end to end, in fractions of a second: what it promises about its figures."""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import os
import resource
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kv_runs import SMALL, on_disk, run

from moorage import _lib
from moorage.bench.disk import cold
from moorage.bench.kv import environment, main, planning, records, verify
from moorage.bench.kv.cache import Cache, NoRoom, Tier
from moorage.bench.kv.data import Data
from moorage.bench.kv.engine import Engine, Rules
from moorage.bench.kv.figures import figures
from moorage.bench.kv.lane import Lane, Span
from moorage.bench.kv.models import MODELS
from moorage.bench.kv.paths.direct import Direct
from moorage.bench.kv.paths.files import Buffered, Load, LoadAndCopy, Mapped
from moorage.bench.kv.paths.memory import Memory
from moorage.bench.kv.paths.path import Lacking
from moorage.bench.kv.paths.path import Path as Way
from moorage.bench.kv.paths.uring import UringAll
from moorage.bench.kv.records import OpRecord, RequestRecord
from moorage.bench.kv.result import Names
from moorage.bench.kv.schedule import READ, READ_OR_WRITE, WRITE, Op, Request, Schedule
from moorage.bench.register import memory

WAYS = ["legacy2", "legacy1", "mmap", "buffered", "direct", "moorage"]


@pytest.fixture
def disk(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A folder on a device."""
    import tempfile

    parent = on_disk()
    if parent is None:
        pytest.skip("probed /var/tmp, the home and this folder: none lies on a block device")
    with tempfile.TemporaryDirectory(dir=parent) as made:
        yield Path(made)


def _ops(folder: Path) -> list[OpRecord]:
    return records.read(Names(str(folder / "result.json")).ops(0), OpRecord)


# ---- what is true of every run ----


@pytest.mark.parametrize("way", WAYS)
def test_host_and_device_are_total_on_every_path(way: str, disk: Path) -> None:
    # 64 KiB a token: objects of some hundred KiB, and two tiers in memory above.
    status, found = run(
        disk, "--backend", way, "--cpu-mem-gb", "0.002", "--gpu-mem-gb", "0.001", "--enable-rag", "--max-requests", "30"
    )
    assert status == 0, found["trials"][0]["facts"]["errors"]
    ops = _ops(disk)
    assert {op.kind for op in ops} == {"read", "write"} and "storage" in {op.tier for op in ops}
    for op in ops:
        assert op.t0 <= op.t1 <= op.t2 <= op.t3
        assert op.host + op.device == op.total
        assert op.copy + op.verify <= op.host
        assert op.tier == "storage" or op.device == 0
    assert verify.problems(str(disk / "result.json")) == []


def test_a_result_that_was_changed_is_found_out(tmp_path: Path) -> None:
    run(tmp_path, "--max-requests", "10")
    path = tmp_path / "result.json"
    good = json.loads(path.read_text())

    def wrong(change: Any) -> list[str]:
        content = json.loads(json.dumps(good))
        change(content)
        path.write_text(json.dumps(content))
        return verify.problems(str(path))

    def better(content: dict[str, Any]) -> None:
        content["headlines"]["storage_read_gib_per_s"]["median"] *= 2

    def faster(content: dict[str, Any]) -> None:
        content["summary"]["cache_stats"]["storage_read_p50_ms"] = 0.001

    assert wrong(lambda content: None) == []
    assert any("headlines" in text for text in wrong(better))
    assert any("summary" in text for text in wrong(faster))
    path.write_text(json.dumps(good))
    ops = _ops(tmp_path)
    records.write(Names(str(path)).ops(0), OpRecord, [ops[0]._replace(t2=ops[0].t3 + 5), *ops[1:]])
    found = verify.problems(str(path))
    assert any("was changed" in text for text in found) and any("stamps" in text for text in found)
    assert main(["verify", str(path)]) == 1
    assert main(["verify", str(tmp_path / "none.json")]) == 2


# What MLPerf's aggregator reads of each rank.
AGGREGATED = [
    ("avg_throughput_tokens_per_sec",), ("storage_throughput_tokens_per_sec",), ("cache_stats", "storage_entries"),
    ("cache_stats", "tier_storage_read_bandwidth_gbps"), ("cache_stats", "tier_storage_write_bandwidth_gbps"),
    ("cache_stats", "storage_read_device_p95_ms"), ("cache_stats", "storage_write_device_p95_ms"),
]  # fmt: skip


def test_the_keys_that_are_aggregated(tmp_path: Path) -> None:
    _, found = run(tmp_path, "--duration", "30", "--max-requests", "250", "--num-users", "8", "--decode-reads", "1")
    values = {}
    for keys in AGGREGATED:
        value = found["summary"]
        for key in keys:
            value = value[key]
        values[keys[-1]] = value
    assert all(isinstance(value, (int, float)) for value in values.values()), values
    ops = [op for op in _ops(tmp_path) if op.tier == "storage"]
    first, last = found["trials"][0]["facts"]["window_ns"]
    reads = [op for op in ops if op.kind == "read" and first <= op.t3 < last]
    seconds = (last - first) / 1e9
    assert values["tier_storage_read_bandwidth_gbps"] == pytest.approx(sum(op.nbytes for op in reads) / 2**30 / seconds)
    assert values["storage_read_device_p95_ms"] == pytest.approx(np.percentile([op.device for op in reads], 95) / 1e6)
    served = records.read(Names(str(tmp_path / "result.json")).requests(0), RequestRecord)
    tokens = sum(r.generate for r in served if first <= r.end < last)
    assert values["avg_throughput_tokens_per_sec"] == pytest.approx(tokens / seconds)
    assert len(served) == 250 and values["storage_entries"] >= 250


def test_the_result_says_on_what_and_by_what(tmp_path: Path) -> None:
    _, found = run(tmp_path, "--max-requests", "5", "--seed", "0")
    env = found["environment"]
    for name in (
        "device",
        "file_system",
        "mount_options",
        "kernel",
        "cpu",
        "memory_bytes",
        "fill_level",
        "packages",
        "stamp_ns",
    ):
        assert env[name] not in (None, ""), name
    with open(_lib.library_path(), "rb") as library:
        assert env["library_sha256"] == hashlib.sha256(library.read()).hexdigest()
    assert environment._commit(str(tmp_path / "nobody's.py")) is None
    assert found["seed"] == 0 and "--seed 0" in found["command"]
    assert len(found["schedule"]["sha256"]) == len(found["dataset_sha256"]) == 64
    assert "unofficial" in found["note"]
    assert not found["comparable"]
    meaning = found["trials"][0]["facts"]["path"]
    assert meaning["copies"] == 1 and "preadv" in meaning["read"] and "fsync" in meaning["write"]


def test_memory_is_called_memory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from moorage.bench.disk.place import System

    if not os.path.isdir("/dev/shm") or not System().place("/dev/shm").memory or not os.access("/dev/shm", os.W_OK):
        pytest.skip("probed /dev/shm: no writable tmpfs there")
    words = ["--cache-dir", "/dev/shm", "--output", str(tmp_path / "result.json"), "--backend", "buffered"]
    assert (
        main([*SMALL, *words, "--num-users", "2", "--arrival", "closed", "--max-requests", "5", "--duration", "1"]) == 0
    )
    said = capsys.readouterr().out
    assert "on memory, not storage" in said.splitlines()[0]
    found = json.loads((tmp_path / "result.json").read_text())
    assert found["environment"]["memory_backed"]
    assert found["trials"][0]["facts"]["cold"]["verdict"] == "memory, not storage"


def test_trials_have_medians_and_intervals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, found = run(tmp_path, "--max-requests", "8", "--trials", "3", "--num-users", "2")
    assert found["comparable"] and len(found["trials"]) == 3
    rates = [trial["headline"]["storage_read_gib_per_s"] for trial in found["trials"]]
    one = found["headlines"]["storage_read_gib_per_s"]
    assert (one["min"], one["median"], one["max"]) == tuple(sorted(rates))
    assert one["min"] <= one["interval"][0] <= one["interval"][1] <= one["max"]
    said = capsys.readouterr().out
    assert "3 trials" in said.splitlines()[0] and "not comparable" not in said
    if one["cv"] > 0.1:
        assert "varies by" in said
    assert verify.problems(str(tmp_path / "result.json")) == []


def test_rates_have_their_names(tmp_path: Path) -> None:
    _, found = run(tmp_path, "--max-requests", "20", "--duration", "20")
    figures = found["trials"][0]["figures"]
    read = figures["operations"]["read"]["storage"]
    assert read["gb_per_s"] == pytest.approx(read["gib_per_s"] * 2**30 / 1e9)
    assert read["iops"] == pytest.approx(read["operations"] / figures["seconds"])
    assert set(figures["tokens"]) == {
        "generated", "generated_per_wall_s", "served_from_cache_per_wall_s", "generated_per_storage_s",
        "through_storage",
    }  # fmt: skip
    usage = found["trials"][0]["facts"]["usage"]
    for name in ("cpu_s_per_gib", "minor_faults_per_operation", "context_switches_per_operation", "peak_rss_bytes"):
        assert usage[name] > 0, name
    assert usage["data_generation_cpu_s"] < usage["cpu_s"]


def test_latency_stands_beside_sizes(tmp_path: Path) -> None:
    _, found = run(tmp_path, "--max-requests", "20", "--duration", "20")
    figures = found["trials"][0]["figures"]
    reads = [one for one in figures["sizes"] if one["kind"] == "read"]
    assert sum(one["operations"] for one in reads) == figures["operations"]["read"]["storage"]["operations"]
    for one in reads:
        assert one["smallest"] <= one["median"] <= one["largest"]
    assert figures["operations"]["read"]["storage"]["ms_per_mib"]["mean"] > 0


def test_small_data_on_a_buffered_path_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, "--max-requests", "5")
    assert "would fit into memory" in capsys.readouterr().out


def test_what_the_document_names_is_there() -> None:
    import re

    here = Path(__file__).parent
    named = set(re.findall(r"`(test_\w+)`", (here.parents[1] / "docs/kv-bench.md").read_text()))
    tests = "".join(path.read_text() for path in here.glob("test_kv_*.py"))
    assert len(named) > 30
    assert {name for name in named if f"def {name}(" not in tests} == set()


# ---- really cold ----


@pytest.mark.parametrize("kind", [LoadAndCopy, Load, Mapped, Buffered])
def test_nothing_of_it_is_in_the_page_cache_before_a_read(kind: Any, disk: Path) -> None:
    way, lane, data = kind(str(disk), MODELS["tiny-1b"]), Lane(), Data(1)
    tokens, nbytes = 100, 100 * 24_576
    target = lane.write.room(nbytes)[:nbytes]
    data.fill("k", target)
    way.write("k", target, tokens, lane)
    for _ in range(2):
        assert way.residency("k")[0] == 0
        read, _ = way.read("k", nbytes, lane)
        assert data.looks_right("k", read) and bytes(read) == bytes(target)
        assert way.residency("k")[0] > 0
        del read
        way.cool("k")


def test_reads_from_the_page_cache_are_found_out(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cold, "drop", lambda fd: None)
    _, found = run(disk, "--max-requests", "40", "--backend", "buffered")
    assert found["trials"][0]["facts"]["cold"]["verdict"] == "cache_contaminated"
    monkeypatch.undo()
    # One reader: what one reads at this moment, another would find in the page cache.
    _, found = run(disk, "--max-requests", "40", "--backend", "buffered", "--num-users", "1", "--duration", "10")
    assert found["trials"][0]["facts"]["cold"]["sampled_in_page_cache"] == 0


def test_a_mapping_does_not_look_like_a_fast_device(disk: Path) -> None:
    way, lane, data = Mapped(str(disk), MODELS["tiny-1b"]), Lane(), Data(1)
    nbytes = 1000 * 24_576
    target = lane.write.room(nbytes)[:nbytes]
    data.fill("k", target)
    way.write("k", target, 1000, lane)
    begin = time.monotonic_ns()
    _, stamps = way.read("k", nbytes, lane)
    assert stamps.t2 - stamps.t1 > (time.monotonic_ns() - begin) / 2


def test_registered_memory_is_where_a_read_lands(disk: Path) -> None:
    """io_uring's: the ring knows the lane's memory, and nobody copies into it."""
    writer, lane, data = Direct(str(disk), MODELS["tiny-1b"]), Lane(), Data(1)
    nbytes = 200 * 24_576
    for key in "ab":
        target = lane.write.room(nbytes)[:nbytes]
        data.fill(key, target)
        writer.write(key, target, 200, lane)
    way = UringAll(str(disk), MODELS["tiny-1b"])
    try:
        way.prepare(["a", "b"])
    except Lacking as error:
        pytest.skip(f"probed io_uring: {error}")
    way.read("a", nbytes, lane)
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    for key in "ba" * 10:
        read, _ = way.read(key, nbytes, lane)
        assert read.ctypes.data == lane.read.address and data.looks_right(key, read)
    assert resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before <= 20
    lane.close()
    way.close()


def test_memory_of_workers_lies_in_huge_pages() -> None:
    """A drive takes small pages one at a time, which costs it half of what it could give."""
    size = 8 << 20
    probe = memory.Area(memory.THP, size)
    probe.touch()
    if not memory.has_huge_pages(probe):
        pytest.skip("probed an area of 8 MiB that asks for huge pages: it got none")
    span = Span()
    span.room(size)
    assert span._area is not None and memory.has_huge_pages(span._area)
    assert span.address % memory.HUGE == 0


def test_a_direct_read_lands_in_the_buffer_itself(disk: Path) -> None:
    try:
        way = Direct(str(disk), MODELS["tiny-1b"])
    except Lacking as error:
        pytest.skip(f"probed O_DIRECT: {error}")
    lane, data = Lane(), Data(1)
    nbytes = 200 * 24_576
    target = lane.write.room(nbytes)[:nbytes]
    data.fill("k", target)
    stamps = way.write("k", target, 200, lane)
    assert stamps.copy == 0
    way.read("k", nbytes, lane)
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    for _ in range(20):
        read, _ = way.read("k", nbytes, lane)
        assert read.ctypes.data == lane.read.address
    assert resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before <= 20
    assert way.residency("k")[0] == 0
    assert np.load(way.path("k")).shape == MODELS["tiny-1b"].shape(200)
    assert bytes(read) == bytes(target)


@pytest.mark.parametrize("tokens", [1, 3, 17])
def test_objects_that_are_no_whole_pages(tokens: int, disk: Path) -> None:
    model = MODELS["deepseek-v3"]
    nbytes = tokens * model.bytes_per_token
    lane, data = Lane(), Data(5)
    target = lane.write.room(nbytes)[:nbytes]
    data.fill("k", target)
    ways: list[Any] = [kind(str(disk), model) for kind in (LoadAndCopy, Load, Mapped, Buffered, Direct)]
    for writer in (ways[0], ways[-1]):
        writer.write("k", target, tokens, lane)
        for way in ways:
            read, _ = way.read("k", nbytes, lane)
            assert bytes(read) == bytes(target), way.name


# ---- the window ----


def _op(t0: int, t3: int, nbytes: int = 1 << 20, **more: Any) -> OpRecord:
    given = {
        "request": "u0r0", "phase": "decode", "kind": "read", "tier": "storage", "path": "p", "key": "k",
        "nbytes": nbytes, "tokens": 1, "t0": t0, "t1": t0, "t2": t3, "t3": t3, "copy": 0, "verify": 0, "probe": 0,
        "depth": 1, "error": "", **more,
    }  # fmt: skip
    return OpRecord(**given)


def test_only_what_completes_in_the_window_counts() -> None:
    s = 10**9
    ops = [_op(0, s // 2), _op(s // 2, 2 * s), _op(s, 3 * s), _op(2 * s, 9 * s), _op(s, 2 * s, error="OSError")]
    found = figures(ops, [], (s, 4 * s), {})
    read = found["operations"]["read"]["storage"]
    assert read["operations"] == 2 and read["bytes"] == 2 << 20
    assert read["gib_per_s"] == pytest.approx((2 << 20) / 2**30 / 3)
    assert found["in_flight_at_end"] == {"operations": 1, "bytes": 1 << 20}
    assert found["errors"] == 1
    assert sum(one["read_bytes"] for one in found["series"]) == 2 << 20


class _Slow(Memory):
    """Its reads take as long as they are told to."""

    def __init__(self, seconds: float) -> None:
        super().__init__("slow")
        self._seconds = seconds

    def read(self, key: str, nbytes: int, lane: Lane) -> Any:
        time.sleep(self._seconds)
        return super().read(key, nbytes, lane)


def _engine(path: Way, **rules: Any) -> Engine:
    tier = Tier("storage", path, 1 << 30, 1 << 30, 1 << 30)
    return Engine(Cache([tier]), Data(1), Rules(**{"workers": 1, "duration": 0.4, "bytes_per_token": 4096, **rules}))


def _request(number: int, at: float, *ops: Op, priority: int = 1) -> Request:
    return Request(0, number, int(at * 1e9), "batch", priority, 1, 1, ops)


def test_a_slow_reader_at_the_end_adds_no_bandwidth() -> None:
    engine = _engine(_Slow(0.6))
    write, read = Op(WRITE, "k", 4, "prefill"), Op(READ, "k", 4, "decode")
    ran = engine.run(Schedule([_request(0, 0.0, write), _request(1, 0.05, read)], [], "test"), [Lane()])
    assert [op.kind for op in ran.ops] == ["write", "read"]
    found = figures(ran.ops, ran.requests, ran.window, {"batch": 1.0})
    assert found["operations"]["read"]["storage"]["bytes"] == 0
    assert found["in_flight_at_end"]["operations"] == 1
    assert found["seconds"] == pytest.approx(0.4, rel=0.3)


def test_latency_counts_from_the_intended_arrival() -> None:
    """One worker, ten requests at once, each slow: the last has waited for all of the others."""
    engine = _engine(_Slow(0.02), duration=5.0)
    ops = Op(WRITE, "k", 1, "prefill"), Op(READ, "k", 1, "decode")
    requests = [_request(0, 0.0, ops[0]), *(_request(i, 0.01, ops[1]) for i in range(1, 11))]
    ran = engine.run(Schedule(requests, [], "test"), [Lane()])
    waits = sorted(r.end - r.arrival for r in ran.requests[1:])
    assert len(waits) == 10 and waits[-1] - waits[0] >= 9 * 0.02e9
    assert waits[-1] >= 10 * 0.02e9
    assert ran.exhausted and ran.unfinished == ran.waiting == 0
    assert all(r.storage_wall <= r.storage_sum for r in ran.requests)


def test_what_is_urgent_goes_first() -> None:
    engine = _engine(_Slow(0.02), duration=5.0)
    write, read = Op(WRITE, "k", 1, "prefill"), Op(READ, "k", 1, "decode")
    requests = [
        _request(0, 0.0, write),
        _request(1, 0.05, read),
        _request(2, 0.05, read),
        _request(3, 0.05, read, priority=3),
    ]
    ran = engine.run(Schedule(requests, [], "test"), [Lane()])
    assert [r.request for r in ran.requests] == ["u0r0", "u0r3", "u0r1", "u0r2"]


def test_no_more_requests_than_were_wanted(tmp_path: Path) -> None:
    _, found = run(tmp_path, "--max-requests", "6", "--num-users", "4", "--duration", "20")
    assert found["summary"]["total_requests"] == 6
    assert found["trials"][0]["facts"]["schedule_exhausted"]
    assert found["trials"][0]["figures"]["seconds"] < 15


def test_generation_sleeps() -> None:
    engine = _engine(Memory("m"), per_token=0.05, duration=5.0)
    ran = engine.run(Schedule([_request(0, 0.0, Op(WRITE, "k", 1, "prefill"))], [], "test"), [Lane()])
    assert ran.requests[0].slept == 50_000_000
    assert ran.requests[0].end - ran.requests[0].begin >= 50_000_000


def test_writers_are_limited() -> None:
    class Counting(Memory):
        now = most = 0

        def write(self, key: str, data: Any, tokens: int, lane: Lane) -> Any:
            Counting.now += 1
            Counting.most = max(Counting.most, Counting.now)
            time.sleep(0.01)
            Counting.now -= 1
            return super().write(key, data, tokens, lane)

    engine = _engine(Counting("m"), workers=6, max_writers=2, duration=5.0, closed=True)
    requests = [_request(i, 0.0, Op(WRITE, f"k{i}", 1, "prefill")) for i in range(18)]
    ran = engine.run(Schedule(requests, [], "test"), [Lane(i) for i in range(6)])
    assert len(ran.requests) == 18 and Counting.most == 2
    assert max(op.depth for op in ran.ops) == 2


# ---- failures ----


@pytest.mark.parametrize("failure", ["EIO", "short", "other bytes"])
def test_a_failure_fails_the_run(failure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, count = Buffered.read, [0]

    def read(self: Buffered, key: str, nbytes: int, lane: Lane) -> Any:
        count[0] += 1
        if count[0] < 5:
            return real(self, key, nbytes, lane)
        if failure == "EIO":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if failure == "short":
            os.truncate(self.path(key), 4096 + nbytes - 1)
            return real(self, key, nbytes, lane)
        data, stamps = real(self, key, nbytes, lane)
        data[:8] = 0
        return data, stamps

    monkeypatch.setattr(Buffered, "read", read)
    status, found = run(tmp_path, "--max-requests", "50")
    assert status == 1
    errors = found["trials"][0]["facts"]["errors"]
    assert {"EIO": "Input/output error", "short": "too early", "other bytes": "other bytes"}[failure] in errors[0]
    if failure != "other bytes":
        assert found["trials"][0]["figures"]["errors"] >= 1
    assert verify.problems(str(tmp_path / "result.json")) == []


def test_an_error_before_the_run_fails_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(self: Buffered, *_: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Buffered, "write", write)
    status, found = run(tmp_path, "--decode-only", "--scale", "0.1")
    assert status == 1 and "No space" in found["trials"][0]["facts"]["errors"][0]


def test_files_of_others_stay(tmp_path: Path) -> None:
    mine = [tmp_path / "a.npy", tmp_path / "moorage-kv-mine" / "b.npy"]
    mine[1].parent.mkdir()
    for path in mine:
        path.write_bytes(b"mine")
    run(tmp_path, "--max-requests", "5")
    assert all(path.read_bytes() == b"mine" for path in mine)
    left = {p.name for p in tmp_path.iterdir()}
    assert left == {"a.npy", "moorage-kv-mine", "result.json", "result.t0.ops.csv.gz", "result.t0.requests.csv.gz"}


@pytest.mark.parametrize("path", ["/etc/kv", "/proc", "/usr/bin", "/", "/nowhere/at/all"])
def test_folders_that_are_refused(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--cache-dir", path]) == 2
    assert "--cache-dir" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--decode-only", "--model", "llama2-7b", "--num-users", "100", "--storage-capacity-gb", "1"],
            r"--scale 0\.0",
        ),
        (["--model", "llama3.1-70b-instruct", "--num-users", "100", "--duration", "2"], "--workers"),
        (
            ["--backend", "tape", "--num-users", "1", "--model", "tiny-1b", "--cpu-mem-gb", "0", "--gpu-mem-gb", "0"],
            "tape",
        ),
        (["--bundle", "x.tgz"], "--output"),
        (["--output", "/nowhere/r.json"], "no such folder"),
        (["--ranks", "2", "--compare"], "--compare"),
        (["--config", "/nowhere.yaml"], "nowhere"),
        (["--upstream", "/nowhere/kv-cache.py"], "no such file"),
        (["--compare", "tape"], "tape"),
        (["--compare", "--compare-threads", "0"], "--compare-threads"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import re

    assert main([*words, "--cache-dir", str(tmp_path)]) == 2
    assert re.search(said, capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == []


def test_a_scale_that_is_proposed_fits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--decode-only", "--model", "llama3.1-8b", "--num-users", "20", "--gpu-mem-gb", "0", "--cpu-mem-gb", "0"]
    words += ["--storage-capacity-gb", "2", "--cache-dir", str(tmp_path)]
    assert main(words) == 2
    scale = capsys.readouterr().err.split("--scale ")[1].split()[0]
    from moorage.bench.kv import flags

    found = planning.plan(flags.parse([*words, "--scale", scale]))
    assert found.needs.before <= 2 << 30 < found.needs.before * 1.3


def test_a_term_signal_leaves_nothing(tmp_path: Path) -> None:
    words = [*SMALL, "--cache-dir", str(tmp_path), "--duration", "60", "--num-users", "2", "--backend", "buffered"]
    one = subprocess.Popen(
        [sys.executable, "-m", "moorage", "kv-bench", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        end = time.monotonic() + 30
        while not list(tmp_path.glob("moorage-kv-*/t0/*.npy")) and time.monotonic() < end:
            time.sleep(0.05)
        assert list(tmp_path.glob("moorage-kv-*"))
        one.terminate()
        assert one.wait(30) != 0
    finally:
        one.kill()
        one.wait()
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def feed(self: Engine, *_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Engine, "_feed", feed)
    words = [*SMALL, "--cache-dir", str(tmp_path), "--num-users", "2", "--backend", "buffered", "--duration", "30"]
    assert main(words) == 130
    assert "interrupted" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


# ---- tiers ----


def _write(cache: Cache, key: str, nbytes: int = 100) -> bool:
    done = []

    def timed(phase: str, kind: str, tier: Tier, entry: Any, lane: Lane, do: Any) -> None:
        do()
        done.append((phase, tier.name))

    return cache.write(key, np.zeros(nbytes, np.uint8), 1, "prefill", Lane(), timed)


def _where(cache: Cache) -> dict[str, str]:
    return {key: tier.name for tier in cache.tiers for key in tier.entries}


def _tiers() -> Cache:
    above = Tier("cpu", Memory("cpu"), 500, 400, 475)
    return Cache([above, Tier("storage", Memory("storage"), 300, 300, 300)])


def test_what_was_not_used_for_longest_goes_down_and_out() -> None:
    cache = _tiers()
    for key in "abcd":
        _write(cache, key)
    assert set(_where(cache).values()) == {"cpu"}
    entry = cache.pin("a")
    assert entry is not None
    cache.unpin(entry)
    _write(cache, "e")
    assert _where(cache) == {"a": "cpu", "c": "cpu", "d": "cpu", "e": "cpu", "b": "storage"}
    for key in "fghi":
        _write(cache, key)
    assert len(_where(cache)) == 7 and cache.evicted == 2 and not cache.has("b")
    assert cache.tiers[0].used == 400 and cache.tiers[1].used == 300
    got = cache.pin("a")
    assert got is not None and got.tier.name == "storage"  # nothing comes back up


def test_an_object_that_is_large_skips_a_tier_or_is_refused() -> None:
    cache = _tiers()
    cache.tiers[0].largest = 150
    _write(cache, "large", 200)
    assert _where(cache) == {"large": "storage"}
    with pytest.raises(NoRoom, match="larger than the storage tier"):
        _write(cache, "huge", 400)
    assert not cache.has("huge") and cache.tiers[1].used == 200


def test_what_is_read_does_not_leave() -> None:
    cache = Cache([Tier("storage", Memory("storage"), 300, 300, 300)])
    for key in "abc":
        _write(cache, key)
    held = cache.pin("a")
    assert held is not None
    _write(cache, "d")
    assert set(_where(cache)) == {"a", "c", "d"}
    cache.unpin(held)
    _write(cache, "c")
    assert set(_where(cache)) == {"a", "c", "d"} and cache.tiers[0].used == 300


def test_a_tier_that_fills_up_while_everybody_writes() -> None:
    cache = Cache(
        [Tier("cpu", Memory("cpu"), 4 << 14, 3 << 14, 2 << 14), Tier("storage", Memory("s"), 8 << 14, 8 << 14, 8 << 14)]
    )
    engine = Engine(cache, Data(1), Rules(workers=4, duration=10.0, bytes_per_token=4096, closed=True))
    ops = [
        (Op(WRITE, f"k{i}", 4, "prefill"), Op(READ, f"k{i}", 4, "decode"), Op(READ, f"k{i // 2}", 4, "history"))
        for i in range(200)
    ]
    ran = engine.run(
        Schedule([_request(i, 0.0, *one) for i, one in enumerate(ops)], [], "test"), [Lane(i) for i in range(4)]
    )
    assert ran.errors == [] and len(ran.requests) == 200
    assert cache.demoted > 100 and cache.evicted > 100
    for tier in cache.tiers:
        assert tier.used == sum(entry.nbytes for entry in tier.entries.values()) <= tier.limit
    assert {op.phase for op in ran.ops} >= {"evict", "prefill", "decode"}


def test_a_prefix_that_is_read_was_written(tmp_path: Path) -> None:
    run(tmp_path, "--max-requests", "60", "--duration", "20", "--enable-rag")
    shared = [op for op in _ops(tmp_path) if op.phase in ("prefix", "rag")]
    reads = [op for op in shared if op.kind == "read"]
    assert reads
    for read in reads:
        assert any(op.kind == "write" and op.key == read.key and op.t3 <= read.t0 for op in shared)


def test_a_prefix_is_stored_once() -> None:
    engine = _engine(Memory("m"), workers=4, duration=5.0, closed=True)
    ops = Op(READ_OR_WRITE, "prefix0", 8, "prefix"), Op(WRITE, "x", 1, "prefill")
    ran = engine.run(Schedule([_request(i, 0.0, ops[0]) for i in range(20)], [], "test"), [Lane(i) for i in range(4)])
    assert sum(op.kind == "write" for op in ran.ops) <= 4
    assert sum(r.hits for r in ran.requests) + sum(r.misses for r in ran.requests) == 20


# ---- data ----


def test_data_is_unique_in_every_page_and_cannot_be_compressed() -> None:
    import zlib

    data = Data(3)
    pages = set()
    for key in "abcd":
        target = np.empty(64 * 4096, np.uint8)
        data.fill(key, target)
        raw = bytes(target)
        assert len(zlib.compress(raw, 1)) > 0.99 * len(raw)
        pages |= {raw[i : i + 4096] for i in range(0, len(raw), 4096)}
        assert data.looks_right(key, target)
        target[-4096:] = 0
        assert not data.looks_right(key, target)
    assert len(pages) == 4 * 64
    again = np.empty(64 * 4096, np.uint8)
    Data(3).fill("a", again)
    assert bytes(again[:4096]) in pages
    Data(4).fill("a", again)
    assert bytes(again[:4096]) not in pages


@pytest.mark.parametrize("nbytes", [1, 7, 8, 9, 4095, 4096, 4097, 100_001, (32 << 20) + 12_345])
def test_data_of_any_length(nbytes: int) -> None:
    data, target = Data(3), np.zeros(nbytes, np.uint8)
    data.fill("k", target)
    assert data.looks_right("k", target)
    assert not data.looks_right("other", target)


def test_making_data_is_in_no_figure() -> None:
    class Slow(Data):
        def fill(self, key: str, target: Any) -> None:
            time.sleep(0.1)
            super().fill(key, target)

    engine = _engine(Memory("m"), duration=5.0)
    engine.data = Slow(1)
    ran = engine.run(Schedule([_request(0, 0.0, Op(WRITE, "k", 1, "prefill"))], [], "test"), [Lane()])
    assert ran.ops[0].total < 50_000_000


# ---- what is written beside ----


def test_files_beside(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="probed matplotlib: not installed")
    names = {name: str(tmp_path / name) for name in ("line.csv", "bundle.tgz", "plot.png")}
    words = ["--csv", names["line.csv"], "--bundle", names["bundle.tgz"], "--plot", names["plot.png"]]
    run(tmp_path, "--max-requests", "10", *words[:4])
    given = [
        *SMALL,
        "--cache-dir",
        str(tmp_path),
        "--output",
        str(tmp_path / "result.json"),
        "--num-users",
        "2",
        *words,
    ]
    given += ["--backend", "buffered", "--max-requests", "10", "--duration", "5", "--arrival", "closed"]
    # Matplotlib keeps its fonts open: in a process of its own.
    subprocess.run([sys.executable, "-m", "moorage", "kv-bench", *given], check=True, stdout=subprocess.DEVNULL)
    with open(names["line.csv"], newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 and float(rows[0]["storage_read_gib_per_s"]) > 0
    assert Path(names["plot.png"]).read_bytes()[:4] == b"\x89PNG"
    elsewhere = tmp_path / "elsewhere"
    with tarfile.open(names["bundle.tgz"]) as tar:
        for member in tar:
            tar.extract(member, elsewhere)
    assert verify.problems(str(elsewhere / "result.json")) == []


def test_a_trace_without_io(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "io.csv"
    words = [*SMALL, "--cache-dir", str(tmp_path), "--io-trace-log", str(path), "--num-users", "4", "--duration", "20"]
    assert main([*words, "--cpu-mem-gb", "0.001"]) == 0
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["Timestamp", "Operation", "Object_Size_Bytes", "Tier", "Key", "Phase"]
    assert {row["Tier"] for row in rows} == {"Tier-1", "Tier-2"}
    assert {row["Phase"] for row in rows} == {"Prefill", "Decode", "Evict"}
    assert list(tmp_path.iterdir()) == [path]


def test_a_schedule_that_was_recorded_is_the_same_work(tmp_path: Path) -> None:
    trace = tmp_path / "s.jsonl"
    _, first = run(tmp_path, "--max-requests", "12", "--record-trace", str(trace), "--duration", "20")
    _, again = run(tmp_path, "--replay-trace", str(trace), "--seed", "42", "--duration", "20")
    assert first["schedule"]["sha256"] == again["schedule"]["sha256"]
    assert first["summary"]["total_requests"] == again["summary"]["total_requests"] == 12


def test_limits_only_where_they_were_asked_for(tmp_path: Path) -> None:
    status, found = run(tmp_path, "--max-requests", "10")
    assert status == 0 and found["limits"] == []
    hits = tmp_path / "hits.json"
    hits.write_text(json.dumps({"cache_hit_rate": found["summary"]["cache_stats"]["cache_hit_rate"]}))
    status, found = run(
        tmp_path, "--max-requests", "10", "--validation-trace", str(hits), "--performance-profile", "throughput"
    )
    assert status == 0 and all(one["met"] for one in found["limits"]) and len(found["limits"]) == 2
    hits.write_text('{"cache_hit_rate": 0.1}')
    assert run(tmp_path, "--max-requests", "10", "--validation-trace", str(hits))[0] == 1
    status, found = run(tmp_path, "--max-requests", "10", "--slo-read-p95", "100000")
    assert status == 1 and found["limits"][0]["measured"] is None  # too few samples to say it


def test_the_original_beside(tmp_path: Path) -> None:
    """A stand-in that takes the original's flags, and writes its JSON."""
    program = tmp_path / "kv-cache.py"
    program.write_text(
        "import argparse, json\n"
        "p = argparse.ArgumentParser()\n"
        "for name in ('cache-dir', 'output', 'duration', 'model', 'num-users', 'gpu-mem-gb', 'num-gpus',\n"
        "             'tensor-parallel', 'cpu-mem-gb', 'generation-mode', 'rag-num-docs', 'max-requests',\n"
        "             'max-concurrent-allocs',\n"
        "             'storage-capacity-gb', 'seed'):\n"
        "    p.add_argument('--' + name)\n"
        "p.add_argument('--decode-only', action='store_true')\n"
        "a = p.parse_args()\n"
        "json.dump({'summary': {'cache_stats': {'storage_read_p95_ms': float(a.seed)}}}, open(a.output, 'w'))\n"
    )
    status, found = run(tmp_path, "--max-requests", "5", "--upstream", str(program), "--seed", "7")
    assert status == 0
    assert found["upstream"]["cache_stats"]["storage_read_p95_ms"] == 7.0
    program.write_text("raise SystemExit('it broke')")
    words = [
        *SMALL,
        "--cache-dir",
        str(tmp_path),
        "--upstream",
        str(program),
        "--max-requests",
        "1",
        "--num-users",
        "1",
    ]
    assert main([*words, "--duration", "1", "--backend", "buffered"]) == 2
