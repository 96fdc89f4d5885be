"""`moorage bench --peers`: who is measured, who is named as not measured, and that nothing is left behind.

Each run is a program of its own: the processes and descriptors that it keeps until its end are no business of the
other tests.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from moorage.bench.peers import MODULES, claims, peer, tables
from moorage.bench.peers.opened import FIRST, FIRST_PLAIN, OPEN_AND_READ, OPENING
from moorage.bench.peers.peer import BATCH_HAND, BATCH_READ, HAND, PUT, READ
from moorage.bench.peers.place import file_system, place_for
from moorage.bench.peers.remote import lacking
from moorage.bench.peers.results import PeerResult, Peers
from moorage.bench.timing import Figures

psutil = pytest.importorskip("psutil")

needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="probed for torch: not installed")

# Words that name every peer and no case of the plain benchmark.
ALL = "dict,safetensors,shared,LMDB,load,Arrow,Redis,Mooncake"


def folders() -> set[Path]:
    """What runs keep their files in."""
    return {path for place in ("/dev/shm", tempfile.gettempdir()) for path in Path(place).glob("moorage-peers-*")}


def bench(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "moorage", "bench", "--peers", "--quick", "--sizes", "4KiB", *arguments]


@needs_torch
def test_who_is_installed_is_measured_and_the_rest_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    done = subprocess.run(bench("--only", ALL, "--json", str(path)), capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    content = json.loads(path.read_text())
    found = content["peers"]
    works: dict[str, set[str]] = {}
    for one in found["results"]:
        works.setdefault(one["row"], set()).add(one["work"])
        assert one["timed"]["mean"] > 0 and one["times"] > 0 and one["rounds"] >= 15
        assert one["size"] == (32768 if one["work"].startswith("batch") else 4096)
    everything = {READ, HAND, PUT, BATCH_READ, BATCH_HAND}
    assert works["Moorage, view"] | works["Moorage"] == everything
    for row in ("dict of tensors", "shared_memory, attached once", "safetensors, file open"):
        assert works[row] == everything
    for module in MODULES:
        one = peer(module)
        if lacking(one):
            assert found["missing"][one.title] == lacking(one)
            assert f"pip install {one.needs[0]}" in done.stdout
        else:
            assert (one.title in found["places"]) != (one.title in found["missing"])
    assert [claim["what"] for claim in content["claims"]] == [claim.what for claim in claims.CLAIMS]
    assert "Aims" in done.stdout.rpartition("Against the peers")[2]


PEERS_THAT_FAIL = {
    "does_not_start": "system = 'libshore1'\n    def start(self, folder): raise RuntimeError('no server')",
    "gives_other_bytes": "def fill(self, work): return {'x': Row(work, {'o': work.target}, get='o')}",
    "dies_at_the_start": "def start(self, folder): os.write(2, b'I am dying'); os.abort()",
    "dies_at_work": "def fill(self, work): return {'x': Row(work, {'os': os}, put='os.kill(os.getpid(), 9)')}",
    "raises_at_work": "def fill(self, work): return {'x': Row(work, {}, put='1 / 0')}",
    "cannot_be_imported": "needs = ('surely-not-installed',)",
}

PROGRAM = """
import json, sys
from moorage.bench.peers import MODULES, compare
found = compare.measure([4096], 0.01, lambda name: True, [*MODULES[:3], *sys.argv[1:]])
print(json.dumps([found.missing, sorted({one.row for one in found.results})]))
"""


@needs_torch
def test_a_peer_that_fails_is_a_line_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, how in PEERS_THAT_FAIL.items():
        (tmp_path / f"{name}.py").write_text(
            "import os\nfrom moorage.bench.peers.peer import Peer, Row\n\n"
            f"class PEER(Peer):\n    title = {name!r}\n    {how}\n"
        )
    command = [sys.executable, "-c", PROGRAM, *PEERS_THAT_FAIL]
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", ":".join(filter(None, sys.path)))
    before = folders()
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    missing, rows = json.loads(done.stdout)
    assert set(missing) == set(PEERS_THAT_FAIL)
    assert missing["does_not_start"] == "RuntimeError: no server (system packages: libshore1)"
    assert "gave other bytes" in missing["gives_other_bytes"]
    assert missing["dies_at_the_start"] == "died of SIGABRT: I am dying"
    assert missing["dies_at_work"].startswith("died of SIGKILL")
    assert missing["raises_at_work"].startswith("ZeroDivisionError")
    assert missing["cannot_be_imported"] == "surely-not-installed is not installed (pip install surely-not-installed)"
    assert {"Moorage", "dict of tensors", "memcpy"} <= set(rows)
    assert folders() == before


FIRST_READS_THAT_FAIL = {
    "gives_others_later": "return {'x': lambda: Opened(lambda key: work.target * 0)}",
    "dies_at_the_first_read": "return {'y': lambda: Opened(lambda key: os.kill(os.getpid(), 9))}",
    "cannot_be_opened": "return {'z': lambda: 1 / 0}",
    "opens_nothing": "return {}",
}

FIRST_READS = """
import json, sys
from dataclasses import asdict
from moorage.bench.peers import MODULES, compare
found = compare.measure([65536], 0.01, lambda name: True, [*MODULES, *sys.argv[1:]])
print(json.dumps([found.missing, [asdict(one) for one in found.results]]))
"""


@needs_torch
def test_what_is_opened_anew_is_read_for_the_first_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, how in FIRST_READS_THAT_FAIL.items():
        (tmp_path / f"{name}.py").write_text(
            "import os\nfrom moorage.bench.peers.peer import Peer\nfrom moorage.bench.peers.opened import Opened\n\n"
            f"class PEER(Peer):\n    title = {name!r}\n    def fill(self, work): return {{}}\n"
            f"    def openings(self, work, folder): {how}\n"
        )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", ":".join(filter(None, sys.path)))
    before = folders()
    command = [sys.executable, "-c", FIRST_READS, *FIRST_READS_THAT_FAIL]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    missing, results = json.loads(done.stdout)
    assert missing["gives_others_later"].startswith("RuntimeError: x gave other bytes than were stored under")
    assert missing["dies_at_the_first_read"].startswith("died of SIGKILL")
    assert missing["cannot_be_opened"].startswith("ZeroDivisionError")
    assert "opens_nothing" not in missing
    assert folders() == before

    found = {(one["row"], one["work"]): one for one in results}
    rows = {row for row, work in found if work == FIRST}
    for row in rows:
        first, opening, both = (found[row, work] for work in (FIRST, OPENING, OPEN_AND_READ))
        assert {first["size"], opening["size"], both["size"], found[row, FIRST_PLAIN]["size"]} == {65536}
        assert both["timed"]["worst"] >= opening["timed"]["mean"] > 0 and first["timed"]["mean"] > 0
        assert first["rounds"] >= 3 and first["times"] > 0
    assert found['Moorage, view, prefault="open"', FIRST]["times"] == 1
    assert found["Moorage, view, no prefault", FIRST_PLAIN]["times"] == 1
    # Nothing was mapped before, and it is read once: each object brings a page fault, unless all were had at opening.
    faults = {row: found[row, FIRST]["timed"]["faults"] for row in rows}
    assert faults.pop('Moorage, view, prefault="open"') < 0.5 and faults.pop("copy of a tensor") < 0.5
    assert {"Moorage, view, no prefault", "Moorage, default mode", "safetensors", "shared_memory"} <= set(faults)
    assert min(faults.values()) >= 1, faults
    assert not rows & {"dict of tensors", "x", "y", "z"}


@needs_torch
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_a_run_that_is_broken_off(end: signal.Signals) -> None:
    before = folders()
    with subprocess.Popen(bench("--only", ALL), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr is not None
        try:
            for line in run.stderr:
                if "measuring" in line:
                    break
            run.send_signal(signal.SIGSTOP)  # else it may have ended before its children are known
            children = psutil.Process(run.pid).children(recursive=True)
            assert len(children) >= 5
        finally:
            run.send_signal(end)
            run.send_signal(signal.SIGCONT)
        run.stderr.read()
        assert run.wait(30) != 0
    gone, alive = psutil.wait_procs(children, timeout=20)
    assert not alive, [one.cmdline() for one in alive]
    # Nobody can tidy up after itself when it is killed; its peers do, and leave the empty folder.
    left = [path for folder in folders() - before for path in folder.rglob("*") if path.is_file()]
    assert not left
    for folder in folders() - before if end == signal.SIGKILL else ():
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir()
        folder.rmdir()
    assert folders() == before


def result(row: str, work: str, size: int, times: float | None) -> PeerResult:
    low, high = (None, None) if times is None else (times * 0.9, times * 1.1)
    return PeerResult(row, work, size, Figures("", 1, 1, None, 1, 1, 1, 0), times, low, high, 9)


def test_claims_are_judged_by_what_was_measured() -> None:
    measured: dict[str, Any] = {}
    for one in claims.judge(Peers()):
        assert one.verdict == "not measured" and one.text == "not in this run"
    found = Peers([
        result("LMDB, renewed transaction", HAND, 4096, 1.5),
        result("LMDB, one transaction", HAND, 1 << 26, 0.90),
        result("Mooncake get_tensor_into", READ, 1 << 26, 0.95),
        result("Mooncake put_tensor", PUT, 4096, 15.0),
        result("Mooncake put_tensor", PUT, 1 << 26, None),
    ], {"safetensors, file open": "it is out"})  # fmt: skip
    measured = {one.what: one for one in claims.judge(found)}
    assert measured["hand-over, any size: view against LMDB"].verdict == "missed"
    assert measured["hand-over, any size: view against LMDB"].text == "0.90 x (0.81 to 0.99) at worst"
    assert measured["put_tensor, 4 KiB, against Mooncake"].verdict == "met"
    assert measured["get and read, 64 MiB: view against Mooncake get_tensor_into"].verdict == "met"
    assert measured["put_tensor, 64 MiB, against Mooncake"].verdict == "not measured"
    assert measured["read again, 64 MiB, kept open: view against safetensors"].text == "it is out"


def test_reading_again_and_for_the_first_time_are_judged_apart() -> None:
    prefault, plain, size = 'Moorage, view, prefault="open"', "Moorage, view, no prefault", 1 << 26
    found = Peers([
        result("LMDB, one transaction", READ, size, 0.9),
        result("torch.load(mmap=True), once", READ, size, 1.0),
        result("torch.load(mmap=True), each time", READ, size, 1.8),
        result("LMDB, one transaction", FIRST, size, 1.5),
        result("LMDB, one transaction", FIRST_PLAIN, size, 1.1),
        result("torch.load(mmap=True)", FIRST, 4096, 9),
        *(result(row, OPEN_AND_READ, size, times) for row, times in ((prefault, 1), (plain, 0.2))),
        result("LMDB, one transaction", OPEN_AND_READ, size, 0.25),
    ], {"safetensors, file open": "it is out"})  # fmt: skip
    for one, mean in zip(found.results[-3:], (8, 1, 2)):
        one.timed.mean = mean
    judged = claims.judge(found)
    measured = {one.what: (one.verdict, one.text) for one in judged if one.what.startswith("read ")}
    first, again = "read for the first time, 64 MiB", "read again, 64 MiB"
    assert measured == {
        f"{again}, kept open: view against LMDB": ("missed", "0.90 x (0.81 to 0.99)"),
        f"{again}, kept open: view against safetensors": ("not measured", "it is out"),
        f"{again}, kept open: view against torch.load(mmap=True)": ("missed", "1.00 x (0.90 to 1.10)"),
        f"{again}, loaded for every get: view against torch.load(mmap=True)": ("met", "1.80 x (1.62 to 1.98)"),
        f'{first}, prefault="open": view against LMDB': ("met", "1.50 x (1.35 to 1.65); 0.25 x with the opening"),
        f'{first}, prefault="open": view against safetensors': ("not measured", "it is out"),
        f'{first}, prefault="open": view against torch.load(mmap=True)': ("not measured", "not in this run"),
        f"{first}, no prefault: view against LMDB": ("missed", "1.10 x (0.99 to 1.21); 2.00 x with the opening"),
        f"{first}, no prefault: view against safetensors": ("not measured", "it is out"),
        f"{first}, no prefault: view against torch.load(mmap=True)": ("not measured", "not in this run"),
    }
    assert "read at the speed of memory" in next(one.why for one in judged if one.verdict == "missed")
    titles = [table.title for table in tables.tables(found, judged)]
    assert titles[0].startswith("Get and read again") and titles[3] == "Of a first read"
    assert "each object once): 32 x 4 KiB" in titles[1] and "each object once): 8 x 64 MiB" in titles[2]


def test_without_torch_nobody_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    from moorage.bench.peers import compare

    monkeypatch.setattr(compare, "find_spec", lambda name: None)
    assert compare.measure([4096], 0.01, lambda name: True).missing == {
        "all": "torch is not installed: what is compared are tensors"
    }


def test_files_lie_in_memory_where_there_is_room(tmp_path: Path) -> None:
    assert file_system("/proc/self") == "proc"
    assert place_for(1 << 60).folder == tempfile.gettempdir()
    place = place_for(1)
    assert Path(place.folder).is_dir() and place.folder in place.text
