"""Several ranks of the KV benchmark: windows that begin together, and histograms that are merged."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from kv_runs import SMALL

from moorage.bench.kv import distributions, main, planning, ranks, start, verify
from moorage.bench.kv import flags as flags_
from moorage.bench.kv.records import OpRecord, read

WORDS = [*SMALL, "--num-users", "2", "--backend", "buffered", "--arrival", "closed", "--log-level", "ERROR"]


def test_ranks_have_seeds_of_their_own_and_are_merged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "together.json"
    given = [*WORDS, "--cache-dir", str(tmp_path), "--duration", "0.4", "--seed", "3", "--output", str(output)]
    assert main([*given, "--ranks", "2", "--trials", "2"]) == 0
    assert verify.problems(str(output)) == []
    found = json.loads(output.read_text())
    each = [json.loads((tmp_path / name).read_text()) for name in found["results"]]
    assert [one["seed"] for one in each] == [3, 4]
    assert each[0]["schedule"]["sha256"] != each[1]["schedule"]["sha256"]
    trials = [trial for one in each for trial in one["trials"]]
    ops = []
    for name, one in zip(found["results"], each):
        for i, trial in enumerate(one["trials"]):
            first, last = trial["facts"]["window_ns"]
            records = read(str(tmp_path / name.replace(".json", f".t{i}.ops.csv.gz")), OpRecord)
            ops += [op for op in records if op.kind == "read" and first <= op.t3 < last]
    pooled = distributions.histogram(op.total for op in ops)
    whole = distributions.merged(trial["histograms"]["read.storage.total"] for trial in trials)
    assert distributions.encoded(whole) == distributions.encoded(pooled)
    merged = found["merged_ms"]["read.storage.total"]
    assert merged["n"] == len(ops) and merged["p50"] == pooled.get_value_at_percentile(50) / 1e6
    p95 = [trial["figures"]["operations"]["read"]["storage"]["total"]["p95"] for trial in trials]
    known = [value for value in p95 if value is not None]
    assert merged["largest_p95_of_ranks"] == (max(known) if known else None)
    sums = [sum(one["trials"][i]["headline"]["requests_per_s"] for one in each) for i in range(2)]
    rate = found["added_up"]["requests_per_s"]
    assert (rate["min"], rate["max"]) == (pytest.approx(min(sums)), pytest.approx(max(sums)))
    assert "Windows" in capsys.readouterr().out


def test_windows_begin_together(tmp_path: Path) -> None:
    """The second has twenty times as much to write before."""
    results = []
    for i, users in enumerate(("2", "40")):
        words = [*WORDS, "--num-users", users, "--workers", "2", "--decode-only", "--duration", "0.5"]
        words += ["--cache-dir", str(tmp_path), "--output", str(tmp_path / f"{i}.json")]
        results.append((tmp_path / f"{i}.json", words))
    pairs = [socket.socketpair() for _ in results]
    threads = []
    for (_, words), (_, theirs) in zip(results, pairs):
        fd = theirs.detach()
        threads.append(threading.Thread(target=lambda words=words, fd=fd: main([*words, "--rank-fd", str(fd)])))
        threads[-1].start()
    assert start.give([ours for ours, _ in pairs])
    for thread in threads:
        thread.join()
    facts = [json.loads(path.read_text())["trials"][0] for path, _ in results]
    assert facts[1]["facts"]["before"]["objects"] == 20 * facts[0]["facts"]["before"]["objects"]
    one = ranks._windows(facts)
    spent = facts[1]["facts"]["before"]["seconds"]
    assert one["began_apart_ms"] < max(100, spent * 500)
    for ours, _ in pairs:
        ours.close()


def test_windows_that_are_apart_are_told() -> None:
    def rank(began: int, last: int) -> dict[str, Any]:
        return {"facts": {"began_monotonic_ns": began, "window_ns": [0, last]}}

    assert ranks._windows([rank(100, 1000), rank(100, 1000)]) == {"began_apart_ms": 0.0, "common": 1.0}
    found = ranks._windows([rank(0, 3_000_000), rank(1_000_000, 3_000_000)])
    assert found == {"began_apart_ms": 1.0, "common": 0.5}
    assert ranks._windows([rank(0, 10), rank(100, 10)])["common"] == 0


def test_nobody_waits_for_a_rank_that_has_ended() -> None:
    pairs = [socket.socketpair() for _ in range(2)]
    waiting = start.Together(pairs[0][1].detach())
    said: list[BaseException] = []

    def wait() -> None:
        try:
            waiting.moment()
        except start.Alone as error:
            said.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    pairs[1][1].close()
    assert not start.give([ours for ours, _ in pairs])
    for ours, _ in pairs:
        ours.close()
    thread.join(10)
    waiting.close()
    assert "another rank" in str(said[0])


def test_a_rank_that_fails_fails_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ranks.Failed, match="rank 0 ended with status 2: .*--cache-dir"):
        ranks.run(["--cache-dir", "/nowhere/at/all"], 2, 1, 1.0, str(tmp_path) + "/")
    assert ranks.arguments(["--ranks", "2", "--model", "x", "--seed=4", "--decode-only", "--slo-read-p95", "1"]) == [
        "--model",
        "x",
        "--decode-only",
    ]


@pytest.mark.timeout(60)
def test_who_waits_for_a_rank_that_fails_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = ranks._Rank.begun

    def begun(number: int, words: Any) -> Any:
        return real(number, [*words, "--backend", "tape"] if number else words)

    monkeypatch.setattr(ranks._Rank, "begun", begun)
    words = [*WORDS, "--cache-dir", str(tmp_path), "--duration", "30"]
    with pytest.raises(ranks.Failed, match="rank 0 ended with status 2: .*another rank.*rank 1 ended .*tape"):
        ranks.run(words, 2, 1, 1.0, str(tmp_path) + "/")
    assert list(tmp_path.iterdir()) == []


def test_limits_are_those_of_all_ranks(tmp_path: Path) -> None:
    words = [*WORDS, "--cache-dir", str(tmp_path), "--duration", "0.4", "--ranks", "2"]
    words += ["--output", str(tmp_path / "all.json")]
    assert main([*words, "--performance-profile", "throughput"]) == 0
    found = json.loads((tmp_path / "all.json").read_text())
    assert [one["met"] for one in found["limits"]] == [True]
    assert main([*words, "--slo-read-p95", "0.000001"]) == 1


def test_room_is_asked_for_all_ranks(tmp_path: Path) -> None:
    words = ["--model", "tiny-1b", "--num-users", "4", "--decode-only", "--gpu-mem-gb", "0", "--cpu-mem-gb", "0"]
    words += ["--storage-capacity-gb", "2.5", "--cache-dir", str(tmp_path)]
    assert planning.plan(flags_.parse(words)).needs.before < 2.5 * 2**30
    with pytest.raises(planning.fit.InvalidArgumentError, match="each of 2 ranks"):
        planning.plan(flags_.parse([*words, "--ranks", "2"]))


def test_a_term_signal_leaves_no_rank(tmp_path: Path) -> None:
    words = [*WORDS, "--cache-dir", str(tmp_path), "--duration", "60", "--ranks", "2"]
    one = subprocess.Popen(
        [sys.executable, "-m", "moorage", "kv-bench", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        end = time.monotonic() + 60
        while len(list(tmp_path.glob("moorage-kv-*/t0/*.npy"))) < 2 and time.monotonic() < end:
            time.sleep(0.05)
        one.send_signal(signal.SIGTERM)
        assert one.wait(30) != 0
        while list(tmp_path.iterdir()) and time.monotonic() < end:
            time.sleep(0.05)
    finally:
        with pytest.raises(ProcessLookupError):  # none of its processes is left
            os.killpg(one.pid, signal.SIGKILL)
    assert list(tmp_path.iterdir()) == []
