"""`moorage bench`: what it says, not how fast the machine is."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from moorage.bench import aims, figures, main, report
from moorage.bench.measured import Measured
from moorage.bench.timing import Statement, compare

np = pytest.importorskip("numpy")


def test_a_run_writes_what_it_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bench.json"
    assert main(["--quick", "--sizes", "4KiB,64KiB", "--only", "get_array,put_tensor", "--json", str(path)]) == 0
    content = json.loads(path.read_text())
    found = {(one["case"], one["size"]): one["timed"] for one in content["results"]}
    assert set(found) == {(case, size) for case in ("get_array", "put_tensor") for size in (4096, 65536)}
    assert found["get_array", 4096]["case"]["copied"] == 0
    assert found["put_tensor", 65536]["case"]["copied"] == 65536
    assert [aim["what"] for aim in content["aims"]] == [aim.what for aim in aims.AIMS]
    shown = capsys.readouterr().out
    assert "64 KiB" in shown
    for aim in aims.AIMS:
        assert aim.what in shown


def test_without_rich_the_same_is_shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rich")
    table = report.Table("Title", ("what", "size"), [("one", "4 KiB"), ("two", "1 GiB")])
    report.show([table])
    rich = capsys.readouterr().out
    monkeypatch.setitem(sys.modules, "rich.console", None)
    report.show([table])
    plain = capsys.readouterr().out
    assert plain == "Title\n  what   size\n  one   4 KiB\n  two   1 GiB\n\n"
    for word in plain.split():
        assert word in rich


def test_plot_without_matplotlib_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["--plot", "x.png"]) == 2
    assert "pip install 'moorage[bench]'" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--sizes", "many"], ["--figures", "/nonexistent/file"]])
def test_bad_arguments_stop_before_measuring(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith("moorage bench: ")


def test_without_torch_its_cases_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    path = tmp_path / "bench.json"
    assert main(["--quick", "--sizes", "4KiB", "--only", "get_tensor", "--json", str(path)]) == 0
    content = json.loads(path.read_text())
    assert content["results"] == []
    assert "get_tensor view: needs torch" in content["missing"]


def test_figures_of_other_programs_are_read() -> None:
    found = figures.parse(
        [
            "goos: linux",
            "BenchmarkGetReleaseCores-2   1   2280164757 ns/op   48.60 one-ns   1.9 x-one-core   1.95 x-probe",
            "BenchmarkGetRelease/one-2   2170599   103.6 ns/op   0 B/op   0 allocs/op",
            "BenchmarkC/get_buffer 602000 150.0 ns/op 100.0 ns/crossing 1.500 x-crossing",
            "BenchmarkBroken-2   12   not a number",
            "PASS",
        ]
    )
    assert found["BenchmarkGetRelease/one"] == {"ns/op": 103.6, "B/op": 0, "allocs/op": 0}
    judged = {one.what: one for one in aims.judge(Measured(elsewhere=found))}
    assert judged["Get + Release in Go, one core"].verdict == "met"
    assert judged["Get + Release in Go, two cores"].verdict == "met"
    assert judged["moor_get_buffer + release from C"].verdict == "met"
    assert judged["fork with 10 M objects"].verdict == "not measured"


def test_a_busy_second_core_is_no_verdict() -> None:
    found = figures.parse(["BenchmarkGetReleaseCores-2 1 9 ns/op 48.6 one-ns 1.1 x-one-core 1.2 x-probe"])
    judged = {one.what: one for one in aims.judge(Measured(elsewhere=found))}
    assert judged["Get + Release in Go, two cores"].verdict == "not measured"
    assert "busy" in judged["Get + Release in Go, two cores"].text


def test_statements_are_timed_against_their_floor() -> None:
    twice = Statement("work(a); work(a)", {"work": sum}, lambda n: [range(2000)] * n)
    once = Statement("work(a)", {"work": sum}, lambda n: [range(2000)] * n)
    found = compare(twice, once, seconds=0.1)
    assert 1.5 < found.ratio < 2.5
    assert found.case.p50 <= found.case.worst
    assert found.case.p99 is None or found.case.p50 <= found.case.p99 <= found.case.worst


def test_what_can_be_used_once_is_made_as_often_as_it_is_used() -> None:
    made: list[int] = []
    used: list[int] = []

    def make(n: int) -> list[int]:
        fresh = list(range(len(made), len(made) + n))
        made.extend(fresh)
        return fresh

    statement = Statement("use(a)", {"use": used.append}, make, most=3)
    compare(statement, Statement("pass", {}), seconds=0.01)
    assert used == made == list(range(statement.calls))
