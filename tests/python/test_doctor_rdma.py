"""moorage doctor on network cards: each thing that can be missing is named, with what changes it."""

from __future__ import annotations

import errno
import json
import os
import resource
from pathlib import Path
from typing import Any

import pytest
from programs import run
from test_doctor import files, found

from moorage.doctor import memory, rdma
from moorage.doctor.system import System

_ACTIVE, _DOWN, _INIT = "4: ACTIVE\n", "1: DOWN\n", "2: INIT\n"


def machine(
    root: Path, *, state: str = _ACTIVE, layer: str = "Ethernet\n", file: bool = True, name: str = "mlx5_0"
) -> System:
    """One with a card."""
    system = files(
        root,
        **{
            f"sys__class__infiniband__{name}__ports__1__state": state,
            f"sys__class__infiniband__{name}__ports__1__link_layer": layer,
            "sys__class__infiniband_verbs__uverbs3__ibdev": f"{name}\n",
            "sys__class__infiniband_verbs__uverbs0__ibdev": "another\n",
        },
    )
    if file:
        files(root, dev__infiniband__uverbs3="")
    return system


def answers(monkeypatch: pytest.MonkeyPatch, **by_name: dict[str, Any]) -> None:
    monkeypatch.setattr(rdma, "ask", lambda name, *_: by_name[name])


_LISTS = {"errno": 0, "devices": ["mlx5_0"]}


def test_nothing_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on most machines: nothing is wrong, and it says what would be needed."""
    answers(monkeypatch, rdma={"missing": "no such file"})
    rows = found(rdma.CHECKS, System(str(tmp_path)))
    assert {row.verdict for row in rows.values()} == {"ok"} and set(rows) == {"RDMA library", "RDMA devices"}
    assert "apt-get install libibverbs1 ibverbs-providers" in rows["RDMA library"].change
    assert rows["RDMA devices"].found == "none" and "modprobe mlx5_ib" in rows["RDMA devices"].change


@pytest.mark.parametrize(
    ("answer", "text", "change"),
    [
        ({"missing": "cannot open"}, "not here (cannot open)", "apt-get install libibverbs1"),
        ({"errno": errno.ENOSYS}, "the kernel has no verbs", "modprobe ib_uverbs"),
        ({"errno": errno.EMFILE}, "Too many open files", "dmesg"),
        ({"signal": 11}, "SIGSEGV", "reinstall rdma-core"),
        ({"errno": 0, "devices": []}, "lists no device", "apt-get install ibverbs-providers"),
        ({"errno": 0, "devices": ["other"]}, "lists other", "apt-get install ibverbs-providers"),
    ],
)
def test_what_the_library_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any], text: str, change: str
) -> None:
    answers(monkeypatch, rdma=answer)
    row = found((rdma.library,), machine(tmp_path))["RDMA library"]
    assert text in row.found and change in row.change and row.verdict == "note"


def test_nothing_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "mlx5_0: registering costs this\nsmall is copied\nlarge is registered\n"
    answers(monkeypatch, rdma=_LISTS, registering={"text": text})
    rows = found(rdma.CHECKS, machine(tmp_path))
    assert {row.verdict for row in rows.values()} == {"ok"}
    assert rows["RDMA library"].found == "lists mlx5_0" and rows["RDMA devices"].found == "mlx5_0"
    assert rows["mlx5_0, its file"].found == "/dev/infiniband/uverbs3"
    assert rows["mlx5_0, its link"].found == "port 1, Ethernet: active"
    shown = rows["mlx5_0, registering"]
    assert (shown.found, shown.means) == ("registering costs this", "small is copied; large is registered")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    row = found((rdma.devices,), machine(tmp_path, file=False))["mlx5_0, its file"]
    assert row.found == "/dev/infiniband/uverbs3 is not there" and "--device=/dev/infiniband" in row.change
    assert row.verdict == "note"


def test_a_file_that_may_not_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = machine(tmp_path)
    refused = f"{tmp_path}/dev/infiniband/uverbs3"
    access = os.access
    monkeypatch.setattr("os.access", lambda path, mode: path != refused and access(path, mode))
    row = found((rdma.devices,), system)["mlx5_0, its file"]
    assert "may not be opened" in row.found and "chmod" in row.change and row.verdict == "note"


@pytest.mark.parametrize(
    ("state", "layer", "text", "change"),
    [
        (_DOWN, "Ethernet", "port 1, Ethernet: down", "ip link set"),
        (_DOWN, "InfiniBand", "port 1, InfiniBand: down", "ibstat"),
        (_INIT, "InfiniBand", "port 1, InfiniBand: init", "opensm"),
        ("", "", "port 1, link layer not known: not known", "ip link"),
        ("\xb2: ODD", "Ethernet", "odd", "ip link"),
    ],
)
def test_a_port_without_a_link(tmp_path: Path, state: str, layer: str, text: str, change: str) -> None:
    rows = found((rdma.devices, rdma.registering), machine(tmp_path, state=state, layer=layer))
    row = rows["mlx5_0, its link"]
    assert text in row.found and change in row.change and row.verdict == "note"
    assert "mlx5_0, registering" not in rows


def test_the_best_of_several_ports(tmp_path: Path) -> None:
    system = machine(tmp_path, state=_DOWN)
    files(tmp_path, sys__class__infiniband__mlx5_0__ports__10__state=_ACTIVE)
    assert found((rdma.devices,), system)["mlx5_0, its link"].found.startswith("port 10, ")


def test_a_card_without_ports(tmp_path: Path) -> None:
    system = files(tmp_path, sys__class__infiniband__mlx5_0__board_id="x")
    assert found((rdma.devices,), system)["mlx5_0, its link"].verdict == "note"


@pytest.mark.parametrize(
    ("answer", "text"), [({"signal": 6}, "SIGABRT"), ({"failed": "the limit is 8 bytes"}, "the limit is 8 bytes")]
)
def test_what_cannot_be_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any], text: str
) -> None:
    answers(monkeypatch, registering=answer)
    row = found((rdma.registering,), machine(tmp_path))["mlx5_0, registering"]
    assert text in row.found and row.verdict == "note" and row.change


@pytest.mark.parametrize(
    ("limit", "capabilities", "users", "card", "verdict"),
    [
        (resource.RLIM_INFINITY, "0", "0 0 4294967295", True, "ok"),
        (8 << 20, "0000000000004000", "0 0 4294967295", True, "ok"),
        (8 << 20, "0000000000004000", "0 100000 65536", True, "note"),  # root in a container without root
        (8 << 20, "0000000000000000", "0 0 4294967295", True, "note"),
        (8 << 20, "0000000000000000", "0 0 4294967295", False, "ok"),  # who has no card needs no more
        (8 << 20, "what", "", True, "note"),
    ],
)
def test_memlock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, capabilities: str, users: str, card: bool, verdict: str
) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (limit, limit))
    system = machine(tmp_path) if card else System(str(tmp_path))
    files(tmp_path, proc__self__status=f"CapEff:\t{capabilities}\n", proc__self__uid_map=users)
    row = found((memory.memlock,), system)["RLIMIT_MEMLOCK"]
    assert row.verdict == verdict and (verdict == "ok" or "LimitMEMLOCK" in row.change)


_REAL = """
    import json, sys
    from dataclasses import asdict
    from moorage.doctor import rdma
    from moorage.doctor.row import rows
    from moorage.doctor.system import System
    print(json.dumps([asdict(row) for row in rows(rdma.CHECKS, System(sys.argv[1]))]))
"""


def test_with_the_stand_in(fake_verbs: Path, tmp_path: Path) -> None:
    """Through the library and its probes, each a program of its own."""
    machine(tmp_path, name="fake1")

    def ask(faults: str = "") -> dict[str, dict[str, str]]:
        environment = {"MOORAGE_LIBIBVERBS": str(fake_verbs / "libibverbs.so.1"), "FAKE_VERBS": faults}
        done = run(_REAL.replace("sys.argv[1]", repr(str(tmp_path))), env=environment).cleanly()
        return {row["what"]: row for row in json.loads(done.out)}

    rows = ask()
    assert rows["RDMA library"]["found"] == "lists fake0, fake1"
    assert rows["fake1, registering"]["found"].startswith("registering and deregistering costs")
    assert 'register="auto": other memory is copied' in rows["fake1, registering"]["means"]
    assert "Function not implemented" not in (rows := ask(f"list_errno={errno.ENOSYS}"))["RDMA library"]["found"]
    assert "modprobe ib_uverbs" in rows["RDMA library"]["change"]
    assert "the kernel has no support for verbs" in rows["fake1, registering"]["found"]
    assert "permission denied" in ask(f"open_errno={errno.EACCES}")["fake1, registering"]["found"]
    assert "limit" in ask(f"reg_errno={errno.ENOMEM}")["fake1, registering"]["found"]
    rows = ask("nonsense=1")  # it aborts
    assert "SIGABRT" in rows["RDMA library"]["found"] and "SIGABRT" in rows["fake1, registering"]["found"]
