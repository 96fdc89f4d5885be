"""moorage doctor: what it finds is there, and nothing that is missing, damaged or forbidden ends it."""

from __future__ import annotations

import errno
import json
import platform
import subprocess
import sys
import types
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from programs import run

import moorage
from moorage.doctor import command, kernel, memory, python, rdma
from moorage.doctor.row import OK, PROBLEM, Row, rows
from moorage.doctor.system import System, amount, limits, numbers


def found(checks: Any, system: System | None = None) -> dict[str, Row]:
    return {row.what: row for row in rows(checks, system or System())}


def files(root: Path, **texts: str) -> System:
    """A system with these files; "__" stands for the slash."""
    for name, text in texts.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return System(str(root))


def test_this_machine() -> None:
    done = run("import sys; from moorage.__main__ import main; sys.exit(main(['doctor', '--json']))").cleanly()
    answer = json.loads(done.out)
    assert answer["usable"] is True
    named = {row["what"]: row for row in answer["rows"]}
    assert len(named) == len(answer["rows"])
    for what in (
        "memory limit", "RLIMIT_AS", "RLIMIT_MEMLOCK", "huge pages", "THP, private memory", "THP, shared memory",
        "vm.max_map_count", "vm.overcommit_memory", "/dev/shm", "kernel", "C library", "memfd", "io_uring",
        "RDMA library", "RDMA devices", "Python", "start method", "numpy", "torch", "library", "route", "a store",
    ):  # fmt: skip
        row = named[what]
        assert row["means"] and row["found"] and row["verdict"] in ("ok", "note", "problem"), row
        assert "\n" not in row["means"] + row["change"]
        assert row["verdict"] == "ok" or row["change"], f"{what}: how is it changed?"
    with moorage.Store() as store:
        assert amount(store.stats().capacity) in named["a store"]["found"]


def test_it_imports_neither_numpy_nor_torch() -> None:
    run(
        """
        import sys
        from moorage.__main__ import main
        assert main(["doctor", "--json"]) == 0
        assert not {"numpy", "torch"} & set(sys.modules)
        """
    ).cleanly()


def test_with_and_without_rich(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(command, "CHECKS", (lambda _: [Row("what", "that", OK, "nothing", "not at all")],))
    for module in ("rich", "rich.console", "rich.table"):
        monkeypatch.setitem(sys.modules, module, None)
    assert command.main([]) == 0
    plain = capsys.readouterr().out
    monkeypatch.undo()
    monkeypatch.setattr(command, "CHECKS", (lambda _: [Row("what", "that", OK, "nothing", "not at all")],))
    assert command.main([]) == 0
    for shown in (plain, capsys.readouterr().out):
        assert all(text in shown for text in ("what", "that", "ok", "nothing", "not at all", "stores can be used here"))


def test_help_and_unknown_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(["--help"])
    assert ended.value.code == 0 and "--json" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        command.main(["--wrong"])
    assert ended.value.code == 2


# ---- what is missing ----


def test_nothing_can_be_read(tmp_path: Path) -> None:
    answer = found((*memory.CHECKS, *kernel.CHECKS, *rdma.CHECKS), System(str(tmp_path)))
    assert not [row for row in answer.values() if "could not be looked at" in row.means]
    assert answer["memory limit"].found == "not known"
    assert answer["vm.max_map_count"].found == "not known"
    assert answer["RDMA devices"].found == "none"


@pytest.mark.parametrize("damage", ["folder", "garbage", "empty"])
def test_files_that_are_not_what_they_should_be(tmp_path: Path, damage: str) -> None:
    for name in (
        "proc/meminfo", "proc/self/cgroup", "proc/self/mountinfo", "proc/self/maps", "proc/self/statm",
        "proc/self/status", "proc/sys/vm/max_map_count", "proc/sys/vm/overcommit_memory", "proc/sys/vm/memfd_noexec",
        "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "sys/kernel/mm/hugepages/what",
        "sys/kernel/mm/transparent_hugepage/enabled", "sys/class/infiniband/mlx5_0/ports/1/state",
        "sys/class/infiniband/mlx5_0/ports/1/link_layer", "sys/class/infiniband_verbs/uverbs0/ibdev",
        "dev/infiniband/uverbs0", "proc/self/uid_map",
    ):  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if damage == "folder":
            path.mkdir()
        else:
            path.write_bytes(b"" if damage == "empty" else b"\xff\0 0:: - : \x00 9\n0::/..\n\xb2\n")
    answer = found((*memory.CHECKS, *kernel.CHECKS, *rdma.CHECKS), System(str(tmp_path)))
    assert not [row for row in answer.values() if "could not be looked at" in row.means]


def test_a_check_that_fails_is_a_row(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def of_the_moon(_: System) -> Iterator[Row]:
        yield Row("first", "1", OK, "one")
        raise ZeroDivisionError("far away")

    monkeypatch.setattr(command, "CHECKS", (of_the_moon, memory.memlock))
    assert command.main(["--json"]) == 0
    shown = json.loads(capsys.readouterr().out)["rows"]
    assert [row["what"] for row in shown] == ["first", "of the moon", "RLIMIT_MEMLOCK"]
    assert "ZeroDivisionError: far away" in shown[1]["found"] and shown[1]["verdict"] == "note"


@pytest.mark.parametrize("broken", [(subprocess, "run"), (json, "loads"), (metadata, "version"), (Path, "with_name")])
def test_what_it_uses_is_broken(monkeypatch: pytest.MonkeyPatch, broken: tuple[Any, str]) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "no more files")

    monkeypatch.setattr(*broken, fails)
    assert len(found(command.CHECKS)) > 10


def test_nothing_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)
    answer = found((python.packages,))
    assert {row.found for row in answer.values()} == {"not installed"}
    assert answer["numpy"].verdict == "note" and "get_array" in answer["numpy"].means


@pytest.mark.parametrize(("version", "verdict"), [("2.0.2", "note"), ("2.15.0+cpu", "ok"), ("wheel of my own", "note")])
def test_versions_of_packages(monkeypatch: pytest.MonkeyPatch, version: str, verdict: str) -> None:
    monkeypatch.setattr(metadata, "version", lambda _: version)
    assert found((python.packages,))["torch"].verdict == verdict


@pytest.mark.parametrize("route", ["ctypes", "wrong"])
def test_routes(monkeypatch: pytest.MonkeyPatch, route: str) -> None:
    monkeypatch.setenv("MOORAGE_ROUTE", route)
    answer = found((python.library, python.environment))
    assert f"MOORAGE_ROUTE={route}" in answer["environment"].found
    if route == "ctypes":
        assert (answer["route"].found, answer["route"].verdict) == ("ctypes, by MOORAGE_ROUTE", "note")
    else:
        assert answer["library"].fatal and "MOORAGE_ROUTE" in answer["library"].found


@pytest.mark.parametrize("library", ["missing", "text"])
def test_without_a_library_the_status_is_1(tmp_path: Path, library: str) -> None:
    path = tmp_path / "libmoorage.so"
    if library == "text":
        path.write_text("this is no library")
    done = run(
        "import sys; from moorage.__main__ import main; sys.exit(main(['doctor', '--json']))",
        env={"MOORAGE_LIBRARY": str(path)},
    )
    answer = json.loads(done.out)
    assert (done.status, done.error, answer["usable"]) == (1, "", False)
    assert {row["what"] for row in answer["rows"] if row["fatal"]} == {"library", "a store"}


def test_other_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert "riscv64" in found((kernel.version,))["kernel"].found
    monkeypatch.undo()
    monkeypatch.setattr(platform, "release", lambda: "3.10.0-1160.el7.x86_64")
    assert "4.14" in found((kernel.version,))["kernel"].means
    monkeypatch.setattr("os.confstr", lambda _: None)
    musl = found((kernel.c_library,))["C library"]
    assert musl.fatal and musl.verdict == PROBLEM


@pytest.mark.parametrize(
    ("text", "parts"),
    [("6.18.44-fc-v669", (6, 18, 44)), ("2.0.0+cpu", (2, 0, 0)), ("", ()), ("2.1rc1", (2,)), ("x", ())],
)
def test_numbers_of_a_version(text: str, parts: tuple[int, ...]) -> None:
    assert numbers(text) == parts


# ---- limits ----

_V2 = "29 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
_V1 = "33 25 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"


def test_limits_of_version_2(tmp_path: Path) -> None:
    system = files(
        tmp_path,
        proc__meminfo="MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\n",
        proc__self__mountinfo=_V2,
        proc__self__cgroup="0::/pod/app\n",
        **{
            "sys__fs__cgroup__pod__app__memory.max": "max\n",
            "sys__fs__cgroup__pod__app__memory.high": f"{3 << 30}\n",
            "sys__fs__cgroup__pod__memory.max": f"{2 << 30}\n",
            "sys__fs__cgroup__pod__memory.current": f"{2 << 30}\n",
            "sys__fs__cgroup__pod__memory.stat": f"anon 1\ninactive_file {1 << 30}\nactive_file 0\n",
        },
    )
    assert sorted(one.limit for one in limits(system)) == [2 << 30, 3 << 30]
    row = found((memory.memory_limit,), system)["memory limit"]
    assert row.found == "2 GiB (/sys/fs/cgroup/pod/memory.max), 1 GiB not in use" and row.verdict == "ok"
    (tmp_path / "sys/fs/cgroup/pod/memory.stat").write_text("")
    assert found((memory.memory_limit,), system)["memory limit"].verdict == PROBLEM


def test_limits_of_version_1_from_inside_a_container(tmp_path: Path) -> None:
    system = files(
        tmp_path,
        proc__meminfo="MemTotal: 16777216 kB\n",
        proc__self__mountinfo=_V1.replace(" / /sys", " /docker/abc /sys"),
        proc__self__cgroup="4:cpu,memory:/docker/abc\n0::/\n",
        **{
            "sys__fs__cgroup__memory__memory.limit_in_bytes": f"{1 << 30}\n",
            "sys__fs__cgroup__memory__memory.usage_in_bytes": "4096\n",
        },
    )
    assert [one.limit for one in limits(system)] == [1 << 30]
    (tmp_path / "sys/fs/cgroup/memory/memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert list(limits(system)) == []
    assert found((memory.memory_limit,), system)["memory limit"].found == "16 GiB (the machine)"


def test_limits_that_are_low(tmp_path: Path) -> None:
    system = files(
        tmp_path,
        proc__sys__vm__max_map_count="1024",
        proc__sys__vm__overcommit_memory="2",
        proc__self__maps="one\ntwo\n",
        sys__kernel__mm__transparent_hugepage__enabled="always [madvise] never",
    )
    answer = found(memory.CHECKS, system)
    assert answer["vm.max_map_count"].found == "1024, 2 in use by this program"
    assert "384 windows" in answer["vm.max_map_count"].means and answer["vm.max_map_count"].verdict == "note"
    assert answer["vm.overcommit_memory"].verdict == "note" and "window" in answer["vm.overcommit_memory"].means
    assert answer["THP, private memory"].found == "madvise"


def test_a_limit_on_addresses() -> None:
    run(
        """
        import resource
        from moorage.doctor import memory, python
        from moorage.doctor.system import System
        import moorage
        moorage.Store("1MiB").close()
        resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
        [row] = memory.address_space(System())
        assert row.verdict == "note" and row.found.startswith("3 GiB, "), row
        [row] = python.store(System())
        assert row.fatal == ("opened" not in row.found), row
        """
    ).cleanly()


# ---- what the kernel lets us do ----


@pytest.mark.parametrize(
    ("answer", "sysctl", "text"),
    [
        ({"errno": 0}, None, "can be used"),
        ({"errno": errno.ENOSYS}, None, "ENOSYS"),
        ({"errno": errno.EPERM}, "2", "io_uring_disabled is 2"),
        ({"errno": errno.EPERM}, "1", "io_uring_disabled is 1"),
        ({"errno": errno.EPERM}, "0", "EPERM: a seccomp filter"),
        ({"errno": errno.ENOMEM}, None, "RLIMIT_MEMLOCK"),
        ({"errno": errno.EINVAL}, None, "EINVAL"),
        ({"signal": 31}, None, "SIGSYS"),
        ({"signal": 99}, None, "signal 99"),
    ],
)
def test_answers_of_io_uring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: dict[str, int], sysctl: str | None, text: str
) -> None:
    system = files(tmp_path, **({} if sysctl is None else {"proc__sys__kernel__io_uring_disabled": sysctl}))
    monkeypatch.setattr(kernel, "ask", lambda _: answer)
    row = found((kernel.io_uring,), system)["io_uring"]
    assert text in row.found
    assert (row.verdict == "ok") == (answer == {"errno": 0}) == (row.change == "")


def test_answers_of_memfd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for answer in ({"step": "memfd_create", "errno": errno.ENOSYS}, {"signal": 31}):
        monkeypatch.setattr(kernel, "ask", lambda _, answer=answer: answer)
        row = found((kernel.memfd,), System(str(tmp_path)))["memfd"]
        assert row.fatal and "seccomp" in row.change
    assert "memfd_noexec" in found((kernel.memfd,), files(tmp_path, proc__sys__vm__memfd_noexec="2"))["memfd"].change


_FILTERED = """
    import ctypes, json, struct, sys
    libc = ctypes.CDLL(None)
    def statement(code, jt, jf, k): return struct.pack("HBBI", code, jt, jf, k)
    program = (statement(0x20, 0, 0, 0) + statement(0x15, 0, 1, 425) + statement(0x06, 0, 0, {action})
               + statement(0x06, 0, 0, 0x7FFF0000))
    code = ctypes.create_string_buffer(program)
    head = ctypes.create_string_buffer(struct.pack("HxxxxxxP", 4, ctypes.addressof(code)))
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    if libc.prctl(22, 2, head, 0, 0) != 0:
        sys.exit(77)
    from moorage.__main__ import main
    sys.exit(main(["doctor", "--json"]))
"""


@pytest.mark.parametrize(("action", "text"), [(0x50001, "EPERM"), (0x50026, "ENOSYS"), (0x80000000, "SIGSYS")])
def test_a_real_seccomp_filter_of_io_uring(action: int, text: str) -> None:
    if platform.machine() != "x86_64":
        pytest.skip("probed platform.machine(): the filter is for x86-64")
    done = run(_FILTERED.replace("{action}", str(action)))
    if done.status == 77:
        pytest.skip("probed prctl(PR_SET_SECCOMP): refused here")
    assert (done.status, done.error) == (0, "")
    row = next(row for row in json.loads(done.out)["rows"] if row["what"] == "io_uring")
    if "io_uring_disabled" not in row["found"]:
        assert text in row["found"] and "seccomp" in row["found"] + row["change"] and row["verdict"] == "note"


def test_a_store_that_gives_back_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moorage.store.Store.get", lambda *_: b"what?")
    row = found((python.store,))["a store"]
    assert row.fatal and "what?" in row.found


def test_the_start_method_is_not_settled_by_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    import multiprocessing

    asked = types.SimpleNamespace(allow_none=None)

    def get_start_method(allow_none: bool = False) -> None:
        asked.allow_none = allow_none

    monkeypatch.setattr(multiprocessing, "get_start_method", get_start_method)
    row = found((python.fork,))["start method"]
    assert asked.allow_none is True
    assert row.found.split()[0] == multiprocessing.get_all_start_methods()[0]
