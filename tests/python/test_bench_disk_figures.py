"""`moorage bench disk`: what is computed from what was measured."""

from __future__ import annotations

import dataclasses
import importlib.util
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from programs import run

pytest.importorskip("numpy")

from moorage.bench.disk import aims, figures, ours, puts, show  # noqa: E402
from moorage.bench.disk.figures import Op, Pass, Result  # noqa: E402
from moorage.bench.disk.pace import Pace  # noqa: E402
from moorage.bench.disk.place import Counters  # noqa: E402

KIB, MIB = 1 << 10, 1 << 20


def test_a_spread_is_the_nearest_rank() -> None:
    ordered = list(range(1, 201))
    random.Random(2).shuffle(ordered)
    assert figures.spread(ordered) == figures.Spread(100, 190, 198, 200)
    assert figures.spread([7]) == figures.Spread(7, None, None, 7)
    assert figures.spread(range(20)).p95 == 18 and figures.spread(range(20)).p99 is None
    assert figures.spread(range(19)).p95 is None and figures.spread(range(100)).p99 == 98


def _pass(wall: int, cpu: int, total: int, **more: Any) -> Pass:
    """A GiB in four operations."""
    ops = [Op(0, 10, 10 + total // 2, total)] * 4
    fields = {"minor": 2, "major": 2, "resident": 0.0, "device": None, **more}
    return Pass(ops, 1 << 30, wall, cpu, **fields)


def test_a_result() -> None:
    device = Counters(reads=1000, nbytes=1 << 30, read_ms=500, written=1 << 29, queue_ms=4000)
    passes = [
        _pass(10**9, 10**9, 100, device=device, device_wall=2 * 10**9),
        _pass(2 * 10**9, 3 * 10**9, 200, device=device, device_wall=2 * 10**9, resident=0.005),
        _pass(4 * 10**9, 2 * 10**9, 300, device=device, device_wall=10**9),
    ]
    one = figures.result("x", 1 << 28, 4, True, 2, passes)
    assert (one.gib_s, one.cpu_s_gib, one.faults, one.copies) == (0.5, 2.0, 1.0, 2)
    assert (one.operations, one.rounds, one.cpu_ns) == (12, 3, 5 * 10**8)
    assert one.total == figures.Spread(200, None, None, 300)
    assert one.device == figures.Spread(100, None, None, 150)
    assert one.host == figures.Spread(100, None, None, 150)
    assert (one.queue, one.request_ms, one.from_device, one.others) == (2.0, 0.5, 1.0, 0.5)
    assert one.resident == 0.005 and one.cold


def test_parts_are_means_and_add_up() -> None:
    source = random.Random(4)
    ops = []
    for _ in range(50):
        parts = {name: source.randrange(100) for name in ("lookup", "verify", "outside")}
        before = parts["lookup"]
        ops.append(Op(0, before, before + 10, before + 10 + parts["verify"] + parts["outside"], parts=parts))
    one = figures.result("x", 1, 1, False, 0, [Pass(ops, 1, 1, 1, 0, 0, 0.0, None)])
    assert sum(one.parts.values()) == pytest.approx(sum(op.host for op in ops) / 50)
    assert "outside" in show.tables({}, figures.Measured([one]))[3].columns


def test_what_is_not_cold() -> None:
    def of(resident: float | None, read: float | None) -> bool | None:
        device = None if read is None else Counters(1, round(read * (1 << 30)), 0, 0, 0)
        made = _pass(1, 1, 20, resident=resident, device=device, device_wall=1)
        return figures.result("x", 1, 1, False, 0, [_pass(1, 1, 20), made]).cold

    assert of(0.0, 1.0) is True and of(0.0, 0.96) is True
    assert of(0.0, 0.94) is False, "not all came from the device"
    assert of(0.02, 1.0) is False, "some was in the page cache"
    assert of(0.0, None) is None, "the device does not say"
    assert of(0.02, None) is False


def test_ratios_are_those_of_the_rounds() -> None:
    ours_, base = [_pass(100, 10, 50), _pass(400, 40, 50), _pass(100, 10, 50)], [
        _pass(200, 100, 100), _pass(400, 100, 100), _pass(400, 100, 100)
    ]  # fmt: skip
    found = figures.ratios(ours_, base)
    assert found == {"gib_s": 2.0, "cpu": 0.1, "total": 0.5}
    assert figures.ratios(base, base) == {"gib_s": 1.0, "cpu": 1.0, "total": 1.0}
    assert figures.of_fio(ours_, base) == 2.0
    without = [dataclasses.replace(one, ops=[]) for one in base]
    assert set(figures.ratios(ours_, without)) == {"gib_s", "cpu"}


def test_host_and_device_are_total() -> None:
    source = random.Random(3)
    for _ in range(1000):
        op = Op(*(source.randrange(1 << 62) for _ in range(4)))
        assert op.host + op.device == op.total


def _ours(size: int, depth: int, verify: bool, row: str = ours.INTO, **more: Any) -> Result:
    fields = {
        "operations": 8, "rounds": 2, "gib_s": 1.0, "cpu_s_gib": 0.02, "cpu_ns": 1, "faults": 0.5, "copies": 0,
        "host_share": 0.01, "ratios": {"of_fio": 0.97, "cpu": 0.1}, **more,
    }  # fmt: skip
    return Result(row, size, depth, verify, **fields)


_LOOKS = [
    figures.ReadPass(ours.INTO, 16 * MIB, depth, cost) for depth, cost in ((1, 0.01), (4, 0.01), (16, 0.005))
]  # fmt: skip


def _judged(*results: Result, pace: Sequence[Pace] = ()) -> figures.Measured:
    return figures.Measured([*results], read_passes=_LOOKS, pace=[*pace])


def test_aims_are_judged_by_the_worst() -> None:
    def verdicts(*results: Result) -> list[str]:
        return [one.verdict for one in aims.judge(_judged(*results))][:6]

    large, small = _ours(16 * MIB, 1, False), _ours(64 * KIB, 1, False, cpu_s_gib=0.3)
    checked = _ours(16 * MIB, 4, True, cpu_s_gib=0.032)
    assert verdicts() == ["not measured"] * 6
    assert verdicts(_ours(16 * MIB, 1, False, row="np.load")) == ["not measured"] * 6
    assert verdicts(large, small, _ours(16 * MIB, 4, False), checked) == ["met"] * 6
    for i, miss in enumerate(
        (
            _ours(64 * KIB, 1, False, ratios={"of_fio": 0.94}),
            _ours(16 * MIB, 1, False, cpu_s_gib=0.031),
            _ours(MIB, 16, False, ratios={"cpu": 0.26}),
            _ours(16 * MIB, 1, True, row=ours.INTO, cpu_s_gib=0.034),
            _ours(16 * MIB, 1, False, host_share=0.051),
            _ours(64 * KIB, 16, True, faults=1.1),
        )
    ):
        assert verdicts(large, miss)[i] == "missed", i
    # What verifying adds is told by a look at bytes that lie as its own do: the same row, the same depth.
    cheap = [_ours(16 * MIB, 16, False), _ours(16 * MIB, 16, True, cpu_s_gib=0.032)]
    assert verdicts(*cheap)[3] == "missed"
    assert verdicts(*(dataclasses.replace(one, row=ours.VIEW) for one in cheap))[3] == "not measured"
    # Deeper than 1 is not compared with fio, and verified reads one at a time may take their time.
    assert verdicts(large, _ours(MIB, 4, False, ratios={"of_fio": 0.5}))[0] == "met"
    assert verdicts(large, _ours(16 * MIB, 1, True, host_share=0.5))[4] == "met"


def test_writes_are_judged_beside_fio_with_the_same_syncs() -> None:
    def verdicts(*results: Result) -> list[str]:
        return [one.verdict for one in aims.judge(_judged(*results))][6:9]

    def put(row: str, share: float, size: int = 64 * KIB) -> Result:
        return _ours(size, 4, False, row=row, ratios={"of_fio": share}, writes=True)

    good = [put(row, 0.91) for row in (puts.NONE, puts.BATCH, puts.EACH, puts.PERSIST)]
    assert verdicts() == ["not measured"] * 3
    assert verdicts(*good) == ["met"] * 3
    for row, at in ((puts.NONE, 0), (puts.BATCH, 1), (puts.EACH, 2), (puts.PERSIST, 2)):
        assert verdicts(*good, put(row, 0.89))[at] == "missed", row
        assert verdicts(*good, put(row, 0.5, 4 * KIB)) == ["met"] * 3, "from 64 KiB on"


def test_a_pace_is_judged_by_the_median() -> None:
    def tried(*ratios: float) -> str:
        made = [Pace(before=90, beside=100 * ratio, after=110, outstanding=64, gib_s=1) for ratio in ratios]
        assert [one.ratio for one in made] == pytest.approx(ratios)
        shown = show.tables({}, _judged(pace=made))
        assert any("64 prefetches outstanding" in table.title for table in shown)
        return aims.judge(_judged(pace=made))[9].verdict

    assert tried(0.1, 0.91, 0.95) == "met" and tried(0.89, 0.89, 2) == "missed"
    assert aims.judge(_judged())[9].verdict == "not measured"


def test_aims_are_judged_at_each_size_and_depth() -> None:
    """A good place says nothing about another one."""
    results = [_ours(16 * MIB, 1, False), _ours(16 * MIB, 4, False, cpu_s_gib=0.5), _ours(MIB, 1, False)]
    pace = [Pace(before=1, beside=1, after=1, outstanding=64, gib_s=1)]
    found = {(n, depth, one.what): one.verdict for n, depth, one in aims.judge_each(_judged(*results, pace=pace))}
    cpu = "processor, from 16 MiB on, not verified"
    assert found[16 * MIB, 1, cpu] == "met" and found[16 * MIB, 4, cpu] == "missed" and (MIB, 1, cpu) not in found
    assert not [what for *_, what in found if "pace" in what], "it has no size"


def test_a_write_has_arrived_when_the_device_says_so() -> None:
    def of(read: float, written: float) -> Result:
        device = Counters(
            reads=7, nbytes=round(read * (1 << 30)), read_ms=700, written=round(written * (1 << 30)), queue_ms=4000
        )  # fmt: skip
        made = _pass(1, 1, 20, resident=None, device=device, device_wall=1)
        return figures.result("x", 1, 1, False, 0, [made], writes=True)

    assert of(0, 1).cold is True and of(1, 0.9).cold is False
    one = of(0.5, 1.25)
    assert (one.from_device, one.others, one.request_ms) == (1.25, 0.75, None)
    without = figures.result("x", 1, 1, False, 0, [_pass(1, 1, 20, resident=None)], writes=True)
    assert without.cold is None


def test_without_numbers_nothing_is_shown() -> None:
    """What was not asked of a row stays empty: no zero that nobody has measured."""
    one = Result("fio", 4096, 1, False, 0, 2, gib_s=1.0, cpu_s_gib=0.1, cpu_ns=0, faults=0, copies=0)
    measured = figures.Measured([one])
    (_, cost, times, *_) = show.tables({}, measured)
    shown = {name: text for name, text in zip(cost.columns, cost.rows[0]) if text}
    assert shown == {
        "path": "fio", "verify": "off", "GiB/s": "1.00", "CPU s/GiB": "0.100", "copies": "0", "depth": "1",
        "cold": "unknown",
    }  # fmt: skip
    assert not times.rows


def test_a_picture(tmp_path: Path) -> None:
    """In a program of its own: what matplotlib opens stays open."""
    if importlib.util.find_spec("matplotlib") is None:
        pytest.skip("probed matplotlib: it is not installed")
    path = tmp_path / "disk.png"
    run(f"""
        from moorage.bench.disk import figures, rows, show
        one = figures.Pass([figures.Op(0, 10, 60, 100)] * 4, 1 << 30, 10**9, 10**9, 0, 0, 0.0, None)
        measured = figures.Measured()
        for depth in (1, 4):
            for size in (4096, 65536):
                for name in ("a", rows.NOTHING):
                    measured.results.append(figures.result(name, size, depth, False, 0, [one]))
        show.write_plot({str(path)!r}, measured)
    """).cleanly()
    assert path.read_bytes().startswith(b"\x89PNG")
