"""`moorage bench register`: what follows from its figures, and that it runs."""

from __future__ import annotations

import errno
import importlib.util
import json
import re
import textwrap
from pathlib import Path

import pytest
from programs import Ended, run

from moorage.bench import main
from moorage.bench.register import figures, memory, ring, show, verbs
from moorage.bench.register.figures import BOUND, Measured, Row, break_even


def rows(fixed: float, each: float, copy: float, kind: str = memory.SMALL) -> list[Row]:
    """Registering costs fixed + each * bytes, copying copy * bytes."""
    sizes = [4**k << 10 for k in range(3, 11)]
    return [
        Row(kind, n, fixed + each * n, 0, 9 * each * n, n / 4096, n, copy * n, 2 * copy * n, n / 4096) for n in sizes
    ]


@pytest.mark.parametrize(
    ("fixed", "each", "copy", "expected"),
    [
        # (16 us + 0.02 ns a byte) / k = 0.1 ns a byte
        (16_000, 0.02, 0.1, {1: 200_000, 2: 88_889, 10: None, 100: None}),
        (16_000, 0.2, 0.1, {1: None, 10: None, 100: None}),
        (0, 0.05, 0.1, {1: None, 2: None}),
    ],
)
def test_break_even(fixed: float, each: float, copy: float, expected: dict[int, int | None]) -> None:
    for uses, size in expected.items():
        found = break_even(rows(fixed, each, copy), uses)
        if size is not None:
            assert found.size == pytest.approx(size, rel=0.001) and not found.kept
        elif each / uses > copy:
            assert found.size is None
        else:
            assert (found.size, found.kept) == (64 << 10, True)
    assert break_even([], 1).size is None


def test_break_even_is_where_it_turns_last() -> None:
    """In a cache copying is cheap: registering may win at first, lose in the middle, and win again."""
    some = [Row("", n, 10, 0, 0, 0, 0, copy, 0, 0) for n, copy in [(1, 11), (2, 9), (3, 5), (4, 15), (5, 20)]]
    assert break_even(some, 1).size == round(3.5)


@pytest.mark.parametrize("copy", [0.001, 0.1, 10, 1000])
def test_the_conclusion_is_a_lower_bound(copy: float) -> None:
    measured = Measured(rows=[*rows(16_000, 0.02, copy), *rows(1000, 0.002, copy, memory.THP)])
    measured.by_ranges = [(0, 1000.0), (10_000, 1500.0)]
    lines = show.conclusion(measured)
    assert lines[0] == BOUND == "Lower bound: kernel pinning only; a network card adds its own cost."
    text = " ".join(lines)
    assert "on the fly" not in text and "cannot be told from this" in text
    assert "With 10000 ranges registered before, one more costs 1.50 x that with 0." in text
    assert re.search(r"THP: pinning costs 1/\d+\.\d of that of 4 KiB pages", text)
    assert show.conclusion(Measured())[0] == BOUND


@pytest.mark.parametrize("copy", [0.001, 0.1, 10, 1000])
@pytest.mark.parametrize(("software", "emulated"), [(True, False), (False, True), (True, True)])
def test_what_is_no_card_recommends_nothing(copy: float, software: bool, emulated: bool) -> None:
    measured = Measured(rows=rows(16_000, 0.02, copy), device="rxe0", software=software, emulated=emulated)
    lines = show.conclusion(measured)
    assert lines[0] == (f"rxe0 {figures.SOFTWARE}" if software else figures.EMULATED)
    assert (figures.EMULATED in lines) == emulated
    assert "on the fly" not in " ".join(lines) and "cannot be told from this" in lines[-1]


def test_the_conclusion_with_a_card() -> None:
    """16 us + 0.02 ns a byte against 0.1 ns a byte to copy: from 200 kB on."""
    measured = Measured(rows=rows(16_000, 0.02, 0.1), device="mlx5_0")
    lines = show.conclusion(measured)
    assert BOUND not in lines and "cannot be told" not in " ".join(lines)
    assert (
        "4 KiB pages, touched before: from 195 KiB on, registering on the fly for a single transfer costs less than "
        "copying." in lines
    )
    assert "4 KiB pages: registered once and used ten times, it pays at every size that was measured." in lines
    measured.rows = rows(16_000, 0.02, 0.001)
    text = " ".join(show.conclusion(measured))
    assert "never register for a single transfer" in text and "on the fly" not in text


def _probe() -> None:
    try:
        ring.Ring().close()
    except ring.NoPinning as error:
        pytest.skip(f"probed {error}")


def test_it_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _probe()
    path = tmp_path / "register.json"
    assert main(["register", "--quick", "--sizes", "64KiB,2MiB", "--json", str(path)]) == 0
    content = json.loads(path.read_text())
    found = {(row["kind"], row["size"]): row for row in content["rows"]}
    small = found[memory.SMALL, 2 << 20]
    assert small["faults_untouched"] >= 512 and small["faults_fresh"] >= 512
    assert all(row["pin"] > 0 and row["copy_warm"] > 0 for row in content["rows"])
    assert [count for count, _ in content["by_ranges"]] == [0, 10, 100, 1000]
    assert [one[0] for one in content["by_threads"]] == [1, 2, 4, 8]
    assert len(content["opening"]) == 3
    assert [one["uses"] for one in content["break_even"][memory.SMALL]] == list(figures.REUSE)
    assert content["conclusion"][0] == BOUND
    shown = capsys.readouterr().out
    for line in ("Registering beside copying", "Conclusion", BOUND):
        assert line in shown


def test_huge_pages_are_looked_for() -> None:
    with memory.area(memory.SMALL, 4 << 20, touched=True) as one:
        assert not memory.has_huge_pages(one)
    for kind in (memory.SMALL, memory.THP, memory.MEMFD):
        with memory.area(kind, 4 << 20, touched=True) as one:
            assert kind != memory.THP or one.address % memory.HUGE == 0
    with pytest.raises(memory.Lacking, match="nr_hugepages"):
        memory.Area(memory.HUGETLB, 1 << 50)


def test_a_picture(tmp_path: Path) -> None:
    if importlib.util.find_spec("matplotlib") is None:
        pytest.skip("probed matplotlib: it is not installed")
    path = tmp_path / "register.png"
    run(
        f"""
        from moorage.bench.register import figures, show
        rows = [figures.Row(kind, 4**k << 10, *[4**k] * 8) for kind in ("small", "huge") for k in range(3, 11)]
        show.write_plot({str(path)!r}, figures.Measured(rows=rows))
        """,
        env={"MPLCONFIGDIR": str(tmp_path)},
    ).cleanly()  # by itself: matplotlib keeps files open
    assert path.stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--sizes", "many"], "--sizes"),
        (["--sizes", "2GiB"], "--sizes: 2GiB is more than 1 GiB"),
    ],
)
def test_bad_arguments(arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["register", *arguments]) == 2
    assert text in capsys.readouterr().err


def _device(verbs: Path, *arguments: str, faults: str = "", code: str = "") -> Ended:
    """Registers with a device that the stand-in for libibverbs has."""
    return run(
        "import ctypes, sys\n"
        "from moorage.bench import main\n"
        f"{textwrap.dedent(code)}\n"
        f"status = main(['register', '--device', *{list(arguments)!r}])\n"
        "fake = ctypes.CDLL('libibverbs.so.1')\n"
        "for what in ('live_contexts', 'live_pds', 'live_mrs', 'write_grants'):\n"
        "    assert fake.fake_get(what.encode()) == 0, what\n"
        "sys.exit(status)\n",
        env={"LD_LIBRARY_PATH": str(verbs), "FAKE_VERBS": faults},
    )


def test_it_registers_with_a_device(fake_verbs: Path, tmp_path: Path) -> None:
    path = tmp_path / "register.json"
    ended = _device(fake_verbs, "fake1", "--quick", "--sizes", "64KiB,2MiB", "--json", str(path))
    assert ended.status == 0, ended.error
    content = json.loads(path.read_text())
    assert content["device"] == "fake1" and not content["software"]
    assert content["machine"]["pinned by"] == "ibv_reg_mr on fake1"
    sizes = {(row["kind"], row["size"]) for row in content["rows"]}
    assert sizes >= {(memory.SMALL, 64 << 10), (memory.SMALL, 2 << 20)}
    assert [count for count, _ in content["by_ranges"]] == [0, 10, 100, 1000]
    assert [one[0] for one in content["by_threads"]] == [1, 2, 4, 8] and len(content["opening"]) == 3
    for line in ("Registering beside copying", "Conclusion", "4 KiB pages, touched before: "):
        assert line in ended.out
    assert BOUND not in ended.out


@pytest.mark.parametrize(
    ("name", "faults", "text"),
    [
        ("mlx5_7", "", "--device mlx5_7: there is no such device; there are fake0, fake1 "),
        ("mlx5_7", "devices=1", "there is no such device; there is fake0 "),
        ("mlx5_7", "devices=0", "there is no such device; there is none "),
        ("fake0", f"list_errno={errno.ENOSYS}", "--device fake0: no device can be listed.*modprobe ib_uverbs"),
        ("fake0", f"open_errno={errno.EACCES}", "fake0 cannot be opened: Permission denied.*/dev/infiniband"),
        ("fake0", f"pd_errno={errno.ENOMEM}", "fake0: ibv_alloc_pd: .*RLIMIT_MEMLOCK"),
        ("fake0", f"reg_errno={errno.ENOMEM}", "fake0: ibv_reg_mr of 65536 bytes: .*RLIMIT_MEMLOCK, ulimit -l, is"),
        ("fake0", f"reg_errno={errno.EINVAL}", "fake0: ibv_reg_mr of 65536 bytes: Invalid argument"),
    ],
)
def test_a_device_that_refuses(fake_verbs: Path, name: str, faults: str, text: str) -> None:
    ended = _device(fake_verbs, name, "--quick", faults=faults)
    assert ended.status == 2 and re.search(text, ended.error), ended.error
    assert "Traceback" not in ended.error


def test_a_device_that_refuses_later(fake_verbs: Path) -> None:
    """In the middle of it, on several threads: nothing stays registered, and it is told."""
    for after in ("Measure.threads", "Measure.opening"):
        code = f"""
        from moorage.bench.register import measure
        def late(self, *rest, call=measure.{after}):
            ctypes.CDLL("libibverbs.so.1").fake_set(b"reg_errno", 12)
            call(self, *rest)
        measure.{after} = late
        """
        ended = _device(fake_verbs, "fake0", "--quick", "--sizes", "64KiB", code=code)
        assert ended.status == 2 and "ibv_reg_mr" in ended.error and "Traceback" not in ended.error, ended.error


def test_without_libibverbs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(verbs, "_LIBRARY", str(tmp_path / "libibverbs.so.1"))
    assert main(["register", "--device", "mlx5_0"]) == 2
    assert "--device mlx5_0: " in (shown := capsys.readouterr().err) and "apt-get install libibverbs1" in shown
    monkeypatch.setattr(verbs, "_LIBRARY", "libc.so.6")
    assert main(["register", "--device", "mlx5_0"]) == 2
    assert "it is not rdma-core's" in capsys.readouterr().err


def test_without_io_uring(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(ring, "_SETUP", -1)
    assert main(["register", "--quick"]) == 2
    assert "io_uring_setup" in capsys.readouterr().err
