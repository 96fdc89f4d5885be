"""The memory bus: which counters of the processor are asked, and what they are taken for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from kv_runs import run

from moorage.bench.kv import bus, report
from moorage.bench.kv.bus import Event


def _pmu(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


def _intel(sys: Path, number: int, cpus: str = "0,28") -> None:
    events = {}
    for name, code in (("read", "event=0x04,umask=0x03"), ("write", "event=0x04,umask=0x0c")):
        events[f"events/cas_count_{name}"] = code
        events[f"events/cas_count_{name}.scale"] = "6.103515625e-5"
        events[f"events/cas_count_{name}.unit"] = "MiB"
    places = {"format/event": "config:0-7", "format/umask": "config:8-15"}
    _pmu(sys / f"uncore_imc_{number}", {"type": str(20 + number), "cpumask": cpus, **places, **events})


_CLIENT = {"events/data_reads": "event=1", "events/data_writes": "event=2"}


def test_nothing_is_counted_under_two_names(tmp_path: Path) -> None:
    _intel(tmp_path, 0, cpus="0")
    _pmu(tmp_path / "uncore_imc_free_running_0", {"type": "8", **_CLIENT})
    assert {one.pmu for one in bus.events(str(tmp_path))} == {20}


def test_controllers_that_name_their_events(tmp_path: Path) -> None:
    _intel(tmp_path, 0)
    _intel(tmp_path, 1)
    _pmu(tmp_path / "cpu", {"type": "4", "events/instructions": "event=0xc0"})
    found = bus.events(str(tmp_path))
    assert len(found) == 2 * 2 * 2
    assert {(one.pmu, one.cpu) for one in found} == {(20, 0), (20, 28), (21, 0), (21, 28)}
    assert {(one.config, one.write) for one in found} == {(0x304, False), (0xC04, True)}
    assert {one.bytes_each for one in found} == {64.0}


def test_controllers_that_do_not(tmp_path: Path) -> None:
    places = {"format/event": "config:0-7", "format/rdwrmask": "config:8-9"}
    _pmu(tmp_path / "amd_umc_0", {"type": "12", "cpumask": "0", **places})
    assert bus.events(str(tmp_path)) == [Event(12, 0x10A, 0, 0, False, 64.0), Event(12, 0x20A, 0, 0, True, 64.0)]


def test_schedulers_of_a_controller_add_up(tmp_path: Path) -> None:
    events = {f"events/cas_count_{kind}_sch{n}": f"event=0x0{5 + n}" for kind in ("read", "write") for n in (0, 1)}
    scales = {f"{name}.scale": "6.103515625e-5" for name in events}
    units = {f"{name}.unit": "MiB" for name in events}
    places = {"format/event": "config:0-3,32-35", "cpumask": "0", "type": "9"}
    _pmu(tmp_path / "uncore_imc_0", {**events, **scales, **units, **places})
    assert [(one.config, one.write) for one in bus.events(str(tmp_path))] == [(5, 0), (6, 0), (5, 1), (6, 1)]
    assert bus._spread(0x15, "0-3,32-35") == 0x5 | 1 << 32


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"events/cas_count_read": "event=1,frequency=2", "events/cas_count_write": "event=1"}, "no place for"),
        ({**_CLIENT, "events/data_reads.unit": "furlong"}, "furlong"),
        ({**_CLIENT, "type": ""}, "no type"),
        ({"type": "3"}, "no counter of a memory controller .*uncore_imc"),
    ],
)
def test_what_is_not_understood_is_not_guessed(files: dict[str, str], why: str, tmp_path: Path) -> None:
    _pmu(tmp_path / "uncore_imc", {"type": "7", **files})
    with pytest.raises(bus.Lacking, match=why):
        bus.events(str(tmp_path))


class _Fake:
    """Each call has counted ten lines more."""

    left = 0

    def __init__(self, event: Event) -> None:
        if event.cpu == 99:
            raise bus.Lacking("not this one")
        self._lines = 0
        _Fake.left += 1

    def read(self) -> float:
        self._lines += 10
        return self._lines

    def close(self) -> None:
        _Fake.left -= 1


def test_all_controllers_add_up(tmp_path: Path) -> None:
    _intel(tmp_path, 0)
    _intel(tmp_path, 1)
    one = bus.Bus(str(tmp_path), _Fake)
    before = one.now()
    assert one.now().since(before) == bus.Moved(4 * 640, 4 * 640)
    one.close()
    assert _Fake.left == 0


def test_one_that_cannot_be_had_leaves_none_open(tmp_path: Path) -> None:
    _intel(tmp_path, 0, cpus="0,99")
    with pytest.raises(bus.Lacking, match="not this one"):
        bus.Bus(str(tmp_path), _Fake)
    assert _Fake.left == 0


def test_the_kernel_counts() -> None:
    """Its software clock, which every machine has: the call and what it answers are understood."""
    try:
        one = bus.Perf(Event(pmu=1, config=0, config1=0, cpu=0, write=False, bytes_each=1))
    except bus.Lacking as error:
        pytest.skip(f"probed perf_event_open: {error}")
    first = one.read()
    os.sched_yield()
    assert one.read() > first > 0
    one.close()


def test_a_refusal_names_the_remedy() -> None:
    with pytest.raises(bus.Lacking, match=r"perf_event_open: .*perf_event_paranoid|is not known"):
        bus.Perf(Event(pmu=0xFFFFFF, config=0, config1=0, cpu=0, write=False, bytes_each=1))


def test_a_run_says_what_went_over_the_bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    _intel(tmp_path / "sys", 0)
    monkeypatch.setattr(bus.Bus, "__init__", _with(bus.Bus.__init__, str(tmp_path / "sys")))
    _, found = run(tmp_path, "--max-requests", "5")
    moved = found["trials"][0]["facts"]["memory_bus"]
    assert moved == {"lacking": None, "read_bytes": 2 * 640, "written_bytes": 2 * 640}
    assert "memory bus, everybody's GiB/s" in capsys.readouterr().out
    monkeypatch.undo()
    facts = {"memory_bus": {"lacking": "no counters here"}, "usage": {"bytes": 1, "wall_s": 1.0}}
    assert report._bus(facts) == ("memory bus: not counted", "no counters here")


def _with(real: Any, sys: str) -> Any:
    return lambda self: real(self, sys, _Fake)
