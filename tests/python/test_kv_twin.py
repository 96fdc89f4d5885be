"""The KV benchmark's twin: the same pattern by fio, which need not be installed."""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from kv_runs import on_disk, plan, run

from moorage.bench.disk import fio
from moorage.bench.kv import twin, verify
from moorage.bench.kv.compare import bystander, compare, content
from moorage.bench.kv.compare.fio import Fio
from moorage.bench.kv.compare.objects import Object
from moorage.bench.kv.data import Data

MIB = 1 << 20


@pytest.fixture
def disk() -> Iterator[Path]:
    """A folder on a device."""
    parent = on_disk()
    if parent is None:
        pytest.skip("probed /var/tmp, the home and this folder: none lies on a block device")
    with tempfile.TemporaryDirectory(dir=parent) as made:
        yield Path(made)


def _figures(read_ms: float = 0.0, write_ms: float = 0.0, seconds: float = 10.0) -> dict[str, Any]:
    """Objects of 3 MiB and a few small ones; the times of all operations, added up."""
    sums = {"read": read_ms, "write": write_ms}
    return {
        "seconds": seconds,
        "operations": {
            kind: {"storage": {"operations": 5, "total": {"sum": sums[kind]}, "busy_gib_per_s": 2.0}} for kind in sums
        },
        "sizes": [
            {"kind": kind, "median": size, "bytes": nbytes}
            for kind in sums if sums[kind]
            for size, nbytes in ((5000, 50_000), (3 * MIB, 90 * MIB))
        ],
    }  # fmt: skip


def _options(one: fio.Pattern, seconds: float | None = 1.0) -> dict[str, str]:
    return dict(option.split("=", 1) for option in one.options("/f", seconds))


def test_the_twin_has_the_sizes_and_the_depth_of_the_run() -> None:
    made = twin.patterns(_figures(read_ms=38_000), flying=32, budget=100 * MIB)
    assert set(made) == {"read"}
    found = _options(made["read"])
    assert made["read"].jobs == 4 and made["read"].size == 3 * MIB
    assert {"bs": str(MIB), "iodepth": "3", "iodepth_batch_submit": "3", "rw": "randread:3"}.items() <= found.items()
    assert {"direct": "1", "ioengine": "io_uring", "numjobs": "4", "runtime": "1000ms"}.items() <= found.items()
    assert made["read"].share * 4 <= 100 * MIB and made["read"].share % (3 * MIB) == 0
    # A path that waits for one call for each object.
    waits = _options(twin.patterns(_figures(read_ms=38_000), flying=0, budget=100 * MIB)["read"])
    assert {"ioengine": "psync", "bs": str(3 * MIB), "direct": "1"}.items() <= waits.items()
    assert "iodepth" not in waits


def test_writes_are_durable_and_one_now_and_then_is_left_out() -> None:
    both = twin.patterns(_figures(read_ms=20_000, write_ms=10_000), 32, 100 * MIB)
    assert {kind: one.jobs for kind, one in both.items()} == {"read": 2, "write": 1}
    # Each object in one request: fio would not wait for several before it syncs.
    assert {"fsync": "1", "bs": str(3 * MIB), "iodepth": "1"}.items() <= _options(both["write"]).items()
    assert set(twin.patterns(_figures(read_ms=20_000, write_ms=10), 32, 100 * MIB)) == {"read"}
    # All of it together is less than one at a time: who did more.
    assert set(twin.patterns(_figures(read_ms=20, write_ms=10), 32, 100 * MIB)) == {"read"}
    assert twin.patterns(_figures(), 32, 100 * MIB) == {}


def test_chunks_of_an_object_are_alike() -> None:
    found = _options(fio.Pattern(MIB + MIB // 2, 1, 6 * MIB))
    assert found["bs"] == str(768 << 10) and found["iodepth"] == "2"
    assert "time_based" not in _options(fio.Pattern(MIB, 1, MIB), None)
    assert twin.middle([4096, 4096, 3 * MIB - 5]) == 3 * MIB


def test_one_operation_stands_beside_one_job() -> None:
    """The load may be thin: what all of it got by wall time is no figure of the way."""
    shown = twin.beside(_figures(read_ms=38_000), {"read": {"jobs": 4, "gib_per_s": 10.0, "cpu_s_per_gib": 0.1}})
    assert shown["read"]["of_fio"] == pytest.approx(2.0 / 2.5) and shown["read"]["in_flight"] == pytest.approx(3.8)


# fio in name: it writes down how it was called, and answers with a GiB in half a second for each job of its file.
_STAND_IN = """#!/usr/bin/env python3
import json, os, sys
words, names = sys.argv[1:], ["read"]
job = [word for word in words if not word.startswith("--")]
text = open(job[0]).read() if job else "\\n".join(word.lstrip("-") for word in words)
if job:
    names = [line.strip("[]") for line in text.splitlines() if line.startswith("[")]
for line in text.splitlines():
    if line.startswith("filename="):
        assert os.path.getsize(line[9:]) > 0
with open(os.environ["FIO_CALLS"], "a") as file:
    file.write(text + "\\n")
one = {"error": 0, "job_runtime": 500, "usr_cpu": 5.0, "sys_cpu": 5.0, "minf": 0, "majf": 0}
print(json.dumps({"jobs": [{"jobname": n, **one, n: {"io_bytes": 1 << 30, "runtime": 500}} for n in names]}))
"""


def _stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str = _STAND_IN) -> Path:
    """The file in which it writes down how it was called."""
    path = folder / "bin" / "fio"
    path.parent.mkdir()
    path.write_text(script)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("FIO_CALLS", str(folder / "calls"))
    return folder / "calls"


def test_a_run_has_its_twin(
    tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = _stand_in(tmp_path, monkeypatch)
    status, found = run(disk, "--max-requests", "20", "--scale", "0.1")
    assert status == 0 and found["fio"]["lacking"] is None
    assert found["fio"]["job"] in calls.read_text()
    one = found["fio"]["ran"]["read"] if "read" in found["fio"]["ran"] else found["fio"]["ran"]["write"]
    assert one["gib_per_s"] == 2.0 and one["cpu_s_per_gib"] == pytest.approx(0.05)
    said = capsys.readouterr().out
    assert "The same by fio" in said and "rw=rand" in said
    assert verify.problems(str(disk / "result.json")) == []
    kind = next(iter(found["fio"]["beside"]))
    found["fio"]["beside"][kind]["of_fio"] = 3.0
    (disk / "result.json").write_text(json.dumps(found))
    assert any("of_fio" in text for text in verify.problems(str(disk / "result.json")))
    assert not [path for path in disk.rglob("*fio*")]


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("#!/bin/sh\necho no such engine >&2\nexit 1\n", "no such engine"),
        ("#!/bin/sh\necho nothing\n", "substring not found"),
    ],
)
def test_a_fio_that_fails_fails_nothing_else(
    script: str, why: str, tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _stand_in(tmp_path, monkeypatch, script)
    status, found = run(disk, "--max-requests", "10", "--scale", "0.1")
    assert status == 0 and why in found["fio"]["lacking"] and found["fio"]["ran"] == {}


def test_without_fio_its_job_is_shown(disk: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    _, found = run(disk, "--max-requests", "10", "--scale", "0.1")
    assert "not installed" in found["fio"]["lacking"] and "direct=1" in found["fio"]["job"]
    said = capsys.readouterr().out
    assert "not run" in said and "apt install fio" in said
    _, found = run(disk, "--max-requests", "10", "--scale", "0.1", "--fio-seconds", "0")
    assert "--fio-seconds 0" in found["fio"]["lacking"]


def test_memory_has_no_twin(tmp_path: Path) -> None:
    made = {"read": fio.Pattern(4096, 1, 4096)}
    assert twin.run(made, str(tmp_path), 1.0, Data(1), memory=True).lacking == twin.MEMORY
    assert list(tmp_path.iterdir()) == []


def test_paths_are_compared_with_fio(tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bystander, "_ALONE", 0.01)
    calls = _stand_in(tmp_path, monkeypatch)
    words = ["--compare", "legacy1", "--compare-threads", "1,3", "--compare-gib", "0.002", "--trials", "1"]
    compared = compare(plan(disk, *words), str(disk), lambda text: None)
    found = content(compared)
    rows = [row for row in found["rows"] if row["path"] == "fio"]
    assert [row["depth"] for row in rows] == [1, 3] and all(row["gib_per_s"] == 2.0 for row in rows)
    for row in found["rows"]:
        if row["path"] == "fio":
            assert row["of_fio"] is None
            continue
        (raw,) = (one for one in compared.rows[row["depth"]] if one.title == row["path"])
        assert row["of_fio"] == pytest.approx(median(one.gib_per_s / 2 for one in raw.passes))
    assert calls.read_text().count("numjobs=3\n") == calls.read_text().count("numjobs=1\n") == 5
    assert "time_based" not in calls.read_text()
    assert not [path for path in disk.rglob("fio.*")]


def test_a_comparison_goes_on_without_fio(tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bystander, "_ALONE", 0.01)
    _stand_in(tmp_path, monkeypatch, "#!/bin/sh\nexit 1\n")
    words = ["--compare", "legacy1", "--compare-threads", "1", "--compare-gib", "0.002", "--trials", "1"]
    found = content(compare(plan(disk, *words), str(disk), lambda text: None))
    assert {row["name"] for row in found["rows"]} == {"legacy2", "legacy1"}
    assert any(text.startswith("fio, 1 at a time") for text in found["missing"])


def test_a_real_fio_reads_each_object_once(disk: Path) -> None:
    if shutil.which("fio") is None:
        pytest.skip("probed PATH: fio is not installed")
    one = Fio(str(disk), [Object(f"k{i}", 1, MIB) for i in range(8)], Data(1))
    one.prepare(2)
    done = one.run(2, lambda: None)
    assert done.nbytes == 8 * MIB and done.wall > 0
    one.close()
    made = {kind: fio.Pattern(MIB, 1, 8 * MIB, write=kind == "write", scattered=True) for kind in twin.KINDS}
    ran = twin.run(made, str(disk), 0.2, Data(1), memory=False)
    assert ran.lacking is None and all(value["gib_per_s"] > 0 for value in ran.ran.values())
    assert set(ran.ran) == set(twin.KINDS)
