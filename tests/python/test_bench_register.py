"""`moorage bench register`: what follows from its figures, and that it runs."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest
from programs import run

from moorage.bench import main
from moorage.bench.register import figures, memory, ring, show
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
        (["--device", "mlx5_0"], "--device mlx5_0"),
        (["--sizes", "many"], "--sizes"),
        (["--sizes", "2GiB"], "--sizes: 2GiB is more than 1 GiB"),
    ],
)
def test_bad_arguments(arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["register", *arguments]) == 2
    assert text in capsys.readouterr().err


def test_without_io_uring(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(ring, "_SETUP", -1)
    assert main(["register", "--quick"]) == 2
    assert "io_uring_setup" in capsys.readouterr().err
