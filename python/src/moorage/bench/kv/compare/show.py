"""The tables of a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...._table import Table
from ...._table import size as bytes_
from ..report import number

_GIB = 1 << 30
_CRC = (
    "zlib.crc32 of all bytes, in the thread that reads, for files; CRC-32C of each 256 KiB, by the store itself, for "
    "Moorage: not the same code"
)


def tables(content: dict[str, Any], tmpfs: dict[str, Any] | None = None) -> list[Table]:
    """`tmpfs`: the same comparison, in memory."""
    where = "memory, not storage" if content["memory"] else content["device"]
    what = f"{content['objects']} objects of {bytes_(content['smallest'])} to {bytes_(content['largest'])} on {where}"
    depths = list(dict.fromkeys(row["depth"] for row in content["rows"]))
    shown = []
    for depth in depths:
        rows = [row for row in content["rows"] if row["depth"] == depth]
        shown += [_figures(what, depth, rows), _changes(depth, rows)]
    deepest = [row for row in content["rows"] if row["depth"] == depths[-1] and row["total"]["n"]]
    shown += [_author(depths[-1], deepest), _reviewer(depths[-1], deepest, content["memory"], tmpfs)]
    means: list[Sequence[str]] = [(row["path"], row["device_is"]) for row in deepest]
    means.append(("+ CRC", _CRC))
    shown.append(Table("Device is", ("", ""), means, left=2))
    if content["missing"]:
        shown.append(Table("Not compared", ("",), [(text,) for text in content["missing"]]))
    return shown


def _figures(what: str, depth: int, rows: Sequence[dict[str, Any]]) -> Table:
    columns = (
        "path", "copies", "GiB/s", "of fio", "total ms", "device", "host", "of it copy", "of it CRC", "copy probe",
        "CPU s/GiB", "faults", "bus bytes per byte", "bandwidth left", "cold",
    )  # fmt: skip
    return Table(
        f"{what}, {depth} at a time: means of whole objects",
        columns,
        [
            (
                row["path"], str(row["cpu_copies_per_byte"]), number(row["gib_per_s"]),
                "-" if row["of_fio"] is None else f"{row['of_fio']:.0%}",
                *(number(row[part]["mean"]) for part in ("total", "device", "host", "copy", "verify", "probe")),
                number(row["cpu_s_per_gib"]), number(row["minor_faults_per_operation"]),
                number(row["bus_bytes_per_byte"]),
                "-" if row["bandwidth_left"] is None else f"{row['bandwidth_left']:.0%}", cold(row),
            )
            for row in rows
        ],
    )  # fmt: skip


def cold(row: dict[str, Any]) -> str:
    """The page cache before each pass, or else the device's counter, must say so."""
    cached = [value for value in row["cached"] if value is not None]
    read = [value for value in row["device_bytes"] if value is not None]
    if any(value > 0.05 for value in cached):
        return "NO"
    if read:
        return "yes" if sum(read) >= 0.95 * row["nbytes"] else "NO"
    return "yes" if cached else "unproved"


def _changes(depth: int, rows: Sequence[dict[str, Any]]) -> Table:
    """Shares of device and host are not compared across paths: what they mean differs."""
    shown: list[Sequence[str]] = [
        (row["path"], *(percent(row["against"][name]) for name in ("total", "gib_per_s", "cpu_per_gib")))
        for row in rows if row["path"] != row["against"]["total"]["base"]
    ]  # fmt: skip
    base = rows[0]["against"]["total"]["base"]
    columns = ("new", "total", "GiB/s", "CPU s/GiB")
    return Table(f"From {base} (old) to each (new), {depth} at a time: change, and its 95 % interval", columns, shown)


def percent(change: dict[str, Any]) -> str:
    """+ is more than the base."""
    if change["ratio"] is None:
        return "-"
    text = f"{change['ratio'] - 1:+.0%}"
    if change["interval"]:
        low, high = change["interval"]
        text += f" ({low - 1:+.0%} to {high - 1:+.0%})"
    return text


def _author(depth: int, rows: Sequence[dict[str, Any]]) -> Table:
    columns = ("path", "device P95 ms", "host P95 ms", "total P95 ms", "tokens/s", "P95 of a request ms")
    return Table(
        f"In the author's layout, {depth} at a time (a request reads one object; -: fewer than ten samples beyond)",
        columns,
        [
            (
                row["path"], *(number(row[part]["p95"]) for part in ("device", "host", "total")),
                number(row["tokens_per_s"]), number(row["total"]["p95"]),
            )
            for row in rows
        ],
    )  # fmt: skip


_REVIEWED = (("read host P95 ms", "host"), ("read total P95 ms", "total"), ("GiB/s", ""))


def _reviewer(depth: int, rows: Sequence[dict[str, Any]], memory: bool, tmpfs: dict[str, Any] | None) -> Table:
    elsewhere = {row["path"]: row for row in (tmpfs["rows"] if tmpfs else []) if row["depth"] == depth}
    shown: list[Sequence[str]] = []
    for row in rows:
        here, there = (row, None) if memory else (elsewhere.get(row["path"]), row)
        for name, part in _REVIEWED:
            shown.append((row["path"], name, _reviewed(here, part), _reviewed(there, part)))
    return Table(f"In the reviewer's layout, {depth} at a time", ("path", "figure", "tmpfs", "disk"), shown, left=2)


def _reviewed(row: dict[str, Any] | None, part: str) -> str:
    if row is None:
        return "not run"
    return number(row[part]["p95"] if part else row["gib_per_s"])


def draw(path: str, content: dict[str, Any]) -> None:
    """Mean of total, as device and host, by path and depth."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    depths = list(dict.fromkeys(row["depth"] for row in content["rows"]))
    figure, panels = pyplot.subplots(
        1, len(depths), figsize=(6 * len(depths), 5), layout="constrained", squeeze=False, sharey=False
    )
    for panel, depth in zip(panels[0], depths):
        rows = [row for row in content["rows"] if row["depth"] == depth]
        rows = [row for row in rows if row["total"]["n"]]
        names = [row["path"] for row in rows]
        device = [row["device"]["mean"] for row in rows]
        panel.barh(names, device, label="device")
        panel.barh(names, [row["host"]["mean"] for row in rows], left=device, label="host")
        panel.set(xlabel="mean ms of an object", title=f"{depth} at a time")
        panel.invert_yaxis()
        panel.legend(fontsize="small")
    figure.suptitle("memory, not storage" if content["memory"] else content["device"], fontsize="small")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
