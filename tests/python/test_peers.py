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

from moorage.bench.peers import MODULES, claims, peer
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


@needs_torch
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_a_run_that_is_broken_off(end: signal.Signals) -> None:
    before = folders()
    with subprocess.Popen(bench("--only", ALL), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr is not None
        try:
            for line in run.stderr:
                if "hand-over" in line:
                    break
            children = psutil.Process(run.pid).children(recursive=True)
            assert len(children) >= 5
        finally:
            run.send_signal(end)
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
    assert measured["get and read, 64 MiB: view against safetensors"].text == "it is out"


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
