"""The KV benchmark and the device's state: preconditioning that is kept, discards, deduplication."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kv_runs import SMALL, plan, run

from moorage.bench.disk.place import Counters, System
from moorage.bench.kv import dedup, kept, main, planning, verify
from moorage.bench.kv.data import Data
from moorage.bench.kv.folder import preconditioned
from moorage.bench.kv.settle import settle
from moorage.errors import InvalidArgumentError

MIB = 1 << 20


# ---- settling ----


def _discarding(times: int) -> Iterator[Counters]:
    """A device that is told of a MiB more each time it is asked, so often; the first answer is before all of it."""
    n = 0
    while True:
        yield Counters(0, 0, 0, 0, 0, n, n * MIB)
        n = min(n + 1, times)


def test_discards_are_waited_for(tmp_path: Path) -> None:
    device = _discarding(5)
    found = settle(str(tmp_path), lambda: next(device))
    assert found.quiet and (found.discards, found.discarded_bytes) == (5, 5 * MIB)
    assert found.seconds > 0.3
    without = settle(str(tmp_path), lambda: None)
    assert without.quiet and without.discards == 0


def test_discards_without_an_end_are_told(tmp_path: Path) -> None:
    device = _discarding(10**6)
    begin = time.monotonic()
    found = settle(str(tmp_path), lambda: next(device), longest=0.5)
    assert not found.quiet and found.discards > 3 and time.monotonic() - begin < 30


def test_the_kernels_count_of_discards(tmp_path: Path) -> None:
    path = tmp_path / "block/sda/stat"
    path.parent.mkdir(parents=True)
    path.write_text("1 0 16 3 4 0 32 5 0 6 7 8 0 2048 9 10 11\n")
    found = System(str(tmp_path)).counters("sda")
    assert found is not None and (found.discards, found.discarded, found.written) == (8, MIB, 32 * 512)
    path.write_text("1 0 16 3 4 0 32 5 0 6 7\n")  # of a kernel that does not count them
    found = System(str(tmp_path)).counters("sda")
    assert found is not None and (found.discards, found.discarded) == (0, 0)


def test_every_trial_settles(tmp_path: Path) -> None:
    _, found = run(tmp_path, "--max-requests", "4", "--trials", "2")
    assert all(trial["facts"]["settled"]["quiet"] for trial in found["trials"])


def test_a_trial_leaves_its_room_to_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from moorage.bench.kv import trial

    real, seen = trial.run, []

    def one(made: Any, where: str, *rest: Any) -> Any:
        seen.append(len(os.listdir(os.path.dirname(where))))
        return real(made, where, *rest)

    monkeypatch.setattr(trial, "run", one)
    run(tmp_path, "--max-requests", "4", "--trials", "3")
    assert seen == [0, 0, 0]


# ---- preconditioning that is kept ----

KEEP = ["--precondition", "--precondition-keep", "0.004", "--precondition-size-gb", "0.01", "--scale", "0.1"]


def _kept(folder: Path, *words: str) -> dict[str, Any]:
    status, found = run(folder, "--max-requests", "3", *KEEP, *words)
    assert status == 0
    said: dict[str, Any] = found["preconditioned"]
    return said


def test_a_preconditioned_folder_is_kept_and_taken_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = _kept(tmp_path)
    assert first["kept"] and not first.get("reused") and first["gib"] >= 0.009
    there = Path(preconditioned(str(tmp_path)))
    files = {path: path.stat().st_mtime_ns for path in there.rglob("*") if path.is_file()}
    assert sum(path.stat().st_size for path in files) > 0.003 * 2**30
    assert "stay for the next run" in capsys.readouterr().out
    again = _kept(tmp_path)
    assert again["reused"] and again["age_s"] > 0
    assert {name: again[name] for name in ("gib", "gib_per_s", "steady", "at")} == {
        name: first[name] for name in ("gib", "gib_per_s", "steady", "at")
    }
    assert {path: path.stat().st_mtime_ns for path in there.rglob("*") if path.is_file()} == files
    said = capsys.readouterr().out
    assert "hours old" in said and "written to the device since" in said
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {there.name}


def _change(there: Path, **state: Any) -> None:
    path = there / "state.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **state}))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda there: _change(there, device="sdz"), "sdz"),
        (lambda there: _change(there, gib_kept=1.0), "it has 1 GiB"),
        (lambda there: _change(there, steady=False, gib=0.001), "not steady"),
        (lambda there: (there / "objects" / "more").write_text("x"), "its files"),
    ],
    ids=["device", "size", "steady", "its files"],
)
def test_what_does_not_fit_is_made_again(change: Any, why: str, tmp_path: Path) -> None:
    _kept(tmp_path)
    change(Path(preconditioned(str(tmp_path))))
    found = _kept(tmp_path)
    assert why in found["made_again"] and not found.get("reused")
    assert _kept(tmp_path)["reused"]


def test_a_folder_of_somebody_else_is_not_touched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = Path(preconditioned(str(tmp_path)))
    there.mkdir()
    (there / "mine").write_text("mine")
    assert main([*SMALL, "--cache-dir", str(tmp_path), "--backend", "buffered", "--num-users", "1", *KEEP]) == 2
    assert "was not made by" in capsys.readouterr().err
    assert [path.name for path in there.iterdir()] == ["mine"]


def test_what_was_interrupted_is_not_taken_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "_counted", lambda made: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        kept.prepared(plan(tmp_path, *KEEP), lambda text: None)
    assert list(tmp_path.iterdir()) == []


def test_what_was_written_since_is_known_until_the_machine_restarts() -> None:
    state = {"gib_per_s": [1], "gib": 1, "steady": True, "at": 0, "gib_kept": 1, "boot": "a", "device_written": 100}

    class Made:
        pass

    def since(boot: str, written: int | None) -> Any:
        monkey = pytest.MonkeyPatch()
        monkey.setattr(kept, "_counted", lambda made: {"boot": boot, "device_written": written})
        try:
            return kept._reused(Made(), state)["written_since_bytes"]  # type: ignore[arg-type]
        finally:
            monkey.undo()

    assert since("a", 350) == 250
    assert since("b", 350) is None


def test_what_is_kept_is_not_free_for_the_run(tmp_path: Path) -> None:
    whole, less = plan(tmp_path), plan(tmp_path, "--precondition", "--precondition-keep", "1")
    assert less.capacity == pytest.approx(whole.capacity - planning.GIB, abs=256 * MIB)
    with pytest.raises(InvalidArgumentError, match="no room"):
        plan(tmp_path, "--precondition", "--precondition-keep", "900000")


# ---- deduplication and compression ----


def _kinds(**rates: tuple[float, float, float]) -> dict[str, Any]:
    """Of each kind: how fast it is written and read, and what it takes."""
    noise = (1.0, 1.1, 0.95, 1.05)
    return {
        kind: {"write": [w * x for x in noise], "read": [r * x for x in reversed(noise)], "allocated": [a] * 4}
        for kind, (w, r, a) in {"unlike": (1, 1, 1), "alike": (1, 1, 1), "compressible": (1, 1, 1), **rates}.items()
    }


@pytest.mark.parametrize(
    ("rates", "said"),
    [
        ({}, "no sign"),
        ({"alike": (3.0, 1.0, 1.0)}, r"signs of deduplication \(write 3.0 x as fast\)$"),
        ({"compressible": (2.0, 2.0, 1.0)}, "signs of compression .write 2.0 x as fast, read 2.0 x as fast"),
        ({"compressible": (1.0, 1.0, 0.1)}, "signs of compression .it takes 10% of its bytes"),
        ({"alike": (1.2, 1.0, 1.0), "compressible": (0.5, 0.5, 1.0)}, "no sign"),
    ],
)
def test_signs_of_deduplication_and_compression(rates: dict[str, Any], said: str) -> None:
    import re

    assert re.search(said, dedup.verdict(_kinds(**rates)))


def test_one_round_that_was_slow_is_no_sign() -> None:
    kinds = _kinds()
    kinds["unlike"]["write"] = [0.2, 1.0, 1.0, 1.0]
    assert dedup.verdict(kinds) == dedup.NONE


def test_what_is_written_to_find_it_out() -> None:
    def pages(kind: str) -> Any:
        (part,) = (one.copy() for one in dedup._parts(kind, 0, 8 * MIB, Data(1)))
        return part.reshape(-1, 4096)

    unlike, alike, thin = (pages(kind) for kind in dedup.KINDS)
    assert len({bytes(page) for page in unlike}) == len({bytes(page) for page in thin}) == 2048
    assert len({bytes(page) for page in alike}) == 1 and len(set(bytes(alike[0]))) > 200
    assert not thin[:, 8:].any() and thin[:, :8].any()


def test_a_run_with_the_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(dedup.check, "__defaults__", (8 * MIB,))
    status, found = run(tmp_path, "--max-requests", "4", "--dedup-check")
    assert status == 0
    looked = found["dedup"]
    for one in looked["kinds"].values():
        assert len(one["write"]) == len(one["read"]) == dedup.ROUNDS and min(one["write"] + one["read"]) > 0
    assert looked["run"]["different"] == looked["run"]["pages"] and looked["run"]["compressed_to"] > 0.99
    assert "Does the device save itself work?" in capsys.readouterr().out
    path = tmp_path / "result.json"
    assert verify.problems(str(path)) == []
    found["dedup"]["verdict"] = "signs of magic"
    path.write_text(json.dumps(found))
    assert any("magic" in text for text in verify.problems(str(path)))
    assert not list(tmp_path.rglob("dedup.*"))


# ---- what a report says of the device ----


def test_who_else_reads_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    from moorage.bench.kv import trial

    real = trial._cold

    def busy(*words: Any) -> dict[str, Any]:
        return {**real(*words), "agreement": 3.0, "device_ms_per_read": 0.25, "verdict": "cold"}

    monkeypatch.setattr(trial, "_cold", busy)
    run(tmp_path, "--max-requests", "4")
    said = " ".join(capsys.readouterr().out.split())
    assert "The device read 3.0 x what was delivered: others" in said and "0.25 ms for each of its own reads" in said


def test_a_store_has_no_more_memory_than_its_writers_need(tmp_path: Path) -> None:
    """Else it would be a tier in memory that nobody has asked for."""
    words = ["--num-users", "100", "--backend", "moorage", "--max-concurrent-allocs", "4"]
    few, many = plan(tmp_path, *words).needs, plan(tmp_path, *words[:-1], "64").needs
    assert few.store == few.largest * 6 and many.store == 16 * few.store
    assert plan(tmp_path, "--num-users", "100").needs.store == 0  # files have none
