"""What a store says about the times of its operations, made from the structs of the C ABI."""

from __future__ import annotations

import ctypes
import re
from ctypes import c_int64, c_uint32, c_uint64
from pathlib import Path

import pytest

from moorage import timings

TIMES = ("total", "device", "host", *timings.PARTS, "verify_overlapped")


class Distribution(ctypes.Structure):
    _fields_ = [("count", c_uint64)] + [(n, c_int64) for n in ("sum", "min", "max", "p50", "p95", "p99", "p999")]


class Timing(ctypes.Structure):
    _fields_ = [
        ("kind", c_uint32), ("outcome", c_uint32), ("count", c_uint64), ("failed", c_uint64), ("cancelled", c_uint64),
        ("bytes", c_uint64), ("shared", c_uint64), ("paths", c_uint64 * 8), ("chunks", c_uint64),
        ("chunk_sum", c_int64), ("chunk_max", c_int64), *((name, Distribution) for name in TIMES),
    ]  # fmt: skip


class Operation(ctypes.Structure):
    _fields_ = [("sequence", c_uint64)]
    _fields_ += [
        (n, c_uint32) for n in ("kind", "outcome", "path", "durability", "flags", "depth", "chunks", "reserved")
    ]
    _fields_ += [("bytes", c_uint64)]
    _fields_ += [
        (n, c_int64)
        for n in (
            "t0",
            "t1",
            "t2",
            "t3",
            *timings.PARTS[:-1],
            "verify_overlapped",
            "chunk_min",
            "chunk_max",
            "chunk_sum",
        )
    ]


class Info(ctypes.Structure):
    _fields_ = [
        (n, c_uint64) for n in ("recorded", "inconsistent", "trace_written", "trace_dropped", "stamp_ps", "record_ps")
    ]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("kindNames", timings.KINDS),
        ("classNames", timings.CLASSES),
        ("pathNames", timings.PATHS),
        ("durabilityNames", timings.DURABILITIES),
    ],
)
def test_the_words_are_those_of_the_core(name: str, words: tuple[str, ...]) -> None:
    source = (Path(__file__).parents[2] / "core/tier/timing/words.go").read_text()
    found = re.search(rf"\b{name}\s*= \[\.\.\.\]string\{{(.*?)\}}", source, re.DOTALL)
    assert found is not None
    assert tuple(re.findall(r'"(\w+)"', found[1])) == words


def test_a_summary_has_every_field() -> None:
    raw = Timing(kind=1, outcome=0, count=9, failed=2, cancelled=3, bytes=4096, shared=4, chunks=8, chunk_sum=20)
    raw.chunk_max = 7
    raw.paths[1], raw.paths[4] = 5, 4
    for i, name in enumerate(TIMES):
        setattr(raw, name, Distribution(9, 90 + i, 1, 20, 10, 18, 19, 20))
    found = timings.read(Info(9, 0, 3, 1, 27_500, 144_000), [raw], [])
    one = found.of("get_into")
    assert one is not None and found.of("put") is None and found.of("get_into", background=True) is None
    assert (one.count, one.failed, one.cancelled, one.nbytes, one.shared) == (9, 2, 3, 4096, 4)
    assert one.paths == {"uring_fixed": 5, "buffered": 4}
    assert (one.chunks, one.chunk_mean, one.chunk_max) == (8, 2.5, 7)
    assert one.total.mean == 10 and (one.total.p50, one.total.p95, one.total.p99, one.total.p999) == (10, 18, 19, 20)
    sums = [one.total.sum, one.device.sum, one.host.sum, *(one.parts[name].sum for name in timings.PARTS)]
    assert [*sums, one.verify_overlapped.sum] == [90 + i for i in range(len(TIMES))]
    assert (found.recorded, found.trace_written, found.trace_dropped) == (9, 3, 1)
    assert (found.stamp_ns, found.record_ns) == (27.5, 144.0)


def test_host_and_device_are_total() -> None:
    raw = Operation(sequence=7, kind=0, outcome=2, path=2, durability=3, flags=1, depth=4, chunks=2, bytes=100)
    raw.t0, raw.t1, raw.t2, raw.t3, raw.lookup, raw.verify, raw.chunk_sum = 100, 130, 190, 200, 5, 10, 11
    (one,) = timings.read(Info(), [], [raw]).recent
    assert (one.total, one.device, one.host) == (100, 60, 40)
    assert one.parts["other"] == 25 and sum(one.parts.values()) == one.host
    assert (one.kind, one.outcome, one.path, one.durability, one.shared) == ("get", "failed", "uring", "each", True)
    assert one.chunk_mean == 5.5


def test_a_newer_library_may_know_more_words() -> None:
    (one,) = timings.read(Info(), [], [Operation(kind=99)]).recent
    assert one.kind == "unknown 99"


def test_nothing_has_a_mean() -> None:
    assert timings.Distribution(0, 0, 0, 0, 0, 0, 0, 0).mean == 0


@pytest.mark.parametrize("document", ["timings.md", "disk-tier.md"])
def test_the_document_names_tests_that_are_there(document: str) -> None:
    repo = Path(__file__).parents[2]
    named = set(re.findall(r"`((?:Test|test_)\w+)`", (repo / "docs" / document).read_text()))
    sources = [*repo.glob("core/**/*_test.go"), *repo.glob("tests/python/test_*.py")]
    there = {name for path in sources for name in re.findall(r"(?:func|def) (\w+)\(", path.read_text())}
    assert named and named <= there, named - there
