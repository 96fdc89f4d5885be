"""The figures as tables, JSON and a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ..report import Table, duration, size
from . import aims
from .figures import COLD, WARM, Measured, Result, Spread
from .pace import Pace
from .rows import NOTHING

_COST = (
    "path", "verify", "GiB/s", "x base", "% of fio", "CPU s/GiB", "x base", "CPU/op", "faults/op", "copies", "depth",
    "queue", "request", "cached", "from device", "others", "cold",
)  # fmt: skip
_WRITE_COST = (*_COST[:-5], "to device", "others", "arrived")
_TIMES = (
    "path", "verify", "ops", "total p50", "p95", "p99", "x base", "device p50", "p95", "p99", "host p50", "p95", "p99",
    "copy", "verified",
)  # fmt: skip

MEANINGS = {
    "GiB/s": "bytes delivered over the time from the first t0 to the last t3 of a pass; median of the passes",
    "x base": "the figure to its left divided by the base's in the same round, median of the rounds; above 1 is more",
    "% of fio": "GiB/s over that of fio with the same size and depth in the same round, median of the rounds",
    "total": "t3 - t0: call entered to result in hand, checked where verify is on",
    "device": "t2 - t1, by each path's own definition, below; not the drive's latency: block layer, driver, file "
    "system and the delay until it is reaped are in it. Figures of different definitions have no ratio",
    "host": "(t1 - t0) + (t3 - t2); host + device = total for each operation, not for percentiles",
    "CPU s/GiB": "processor time of the whole process, kernel included, for each GiB delivered",
    "CPU/op": "the same for each operation; the row that reads nothing is what measuring takes",
    "faults/op": "page faults of the process, minor and major, for each operation",
    "copies": "by the processor, for each byte delivered; what a drive writes by itself is none",
    "depth": "operations at a time, each in a thread of its own",
    "queue": "mean number of requests in the device's queue, as the kernel counts it, for everybody who uses it",
    "request": "mean time of a request to the device, as the kernel counts it, for everybody who uses it",
    "cached": "of the files, in the page cache before a pass (mincore); the worst pass",
    "from device": "bytes that the device has read (its sectors) for each one delivered; the least of the passes",
    "others": "bytes that the device has moved for somebody else for each one delivered, median of the passes: where "
    "this is more than a little, the other figures are not those of a machine at rest",
    "cold": f"at most {WARM:.0%} was cached, and at least {COLD:.0%} came from the device",
    "to device": "bytes that the device has written (its sectors) for each one delivered; the least of the passes",
    "arrived": f"at least {COLD:.0%} of what was written had reached the device when the pass ended",
    "copy, verified": "medians, parts of host",
    "overlapped": "checksums computed while later chunks were in flight: inside device, a part of nothing",
    "outside": "the part of host that is not the store's: Python, ctypes and the ABI, before its first stamp and after "
    "its last",
}


def tables(facts: dict[str, Any], measured: Measured) -> list[Table]:
    rows: list[Sequence[str]]
    columns: Sequence[str]
    shown = [Table("Machine", ("", ""), [(name, str(value)) for name, value in facts.items()], left=2)]
    for key in dict.fromkeys((one.writes, one.size, one.depth) for one in measured.results):
        results = [one for one in measured.results if (one.writes, one.size, one.depth) == key]
        writes, base = key[0], measured.write_base if key[0] else measured.base
        title = f"{'writes, ' if writes else ''}{size(key[1])}, {key[2]} at a time"
        columns = _WRITE_COST if writes else _COST
        shown.append(Table(f"{title}; base: {base or 'none'}", columns, [_cost(one) for one in results], left=2))
        timed = [_times(one) for one in results if one.total is not None]
        shown.append(Table(f"{title}: times", _TIMES, timed, left=2))
    inside = [one for one in measured.results if one.parts]
    if inside:
        names = list(inside[0].parts)
        rows = [
            (
                one.row, _switch(one), size(one.size), f"{one.depth}", *(duration(one.parts[name]) for name in names),
                duration(one.overlapped),
            )
            for one in inside
        ]  # fmt: skip
        columns = ("path", "verify", "size", "depth", *(name.replace("_", " ") for name in names), "overlapped")
        shown.append(Table("What host is made of: means", columns, rows, left=2))
    if measured.read_passes:
        rows = [(one.row, size(one.size), f"{one.depth}", f"{one.cpu_s_gib:.3f}") for one in measured.read_passes]
        columns = ("path", "size", "depth", "CPU s/GiB")
        shown.append(Table("Looking once at every byte that a read has just delivered, where it lies", columns, rows))
    if measured.pace:
        shown.append(_pace(measured.pace))
    rows = [
        (size(n), f"{depth}", one.what, one.limit, one.text, one.verdict) for n, depth, one in aims.judge_each(measured)
    ]
    columns = ("size", "depth", "aim", "limit", "measured", "verdict")
    shown.append(Table("Aims at each size and depth", columns, rows, left=6))
    rows = [(aim.what, aim.limit, aim.text, aim.verdict) for aim in aims.judge(measured)]
    shown.append(Table("Aims, worst case", ("aim", "limit", "measured", "verdict"), rows, left=4))
    shown.append(Table("What counts as device", ("", ""), list(measured.definitions.items()), left=2))
    shown.append(Table("Columns", ("", ""), list(MEANINGS.items()), left=2))
    if measured.missing:
        shown.append(Table("Not measured", ("",), [(text,) for text in measured.missing]))
    return shown


def _pace(tries: Sequence[Pace]) -> Table:
    rows: list[Sequence[str]] = [
        (
            *(f"{pace / 1e6:.2f}" for pace in (one.before, one.beside, one.after)), f"{one.ratio:.1%}",
            f"{one.gib_s:.2f}",
        )
        for one in tries
    ]  # fmt: skip
    columns = ("million turns/s alone", "beside", "alone again", "beside / mean of both", "GiB/s prefetched meanwhile")
    title = f"A loop in pure Python in another thread, beside {tries[0].outstanding} prefetches outstanding"
    return Table(title, columns, rows)


def _cost(one: Result) -> Sequence[str]:
    read, ratio = one.row != NOTHING, one.ratios
    return (
        one.row, _switch(one),
        f"{one.gib_s:.2f}" if read else "", _ratio(ratio.get("gib_s")), _share(ratio.get("of_fio")),
        f"{one.cpu_s_gib:.3f}" if read else "", _ratio(ratio.get("cpu")),
        duration(one.cpu_ns) if one.operations else "", f"{one.faults:.1f}" if one.operations else "",
        f"{one.copies}", f"{one.depth}", _shown(one.queue, "{:.1f}"),
        *(() if one.writes else (_request(one), _shown(one.resident, "{:.1%}"))),
        _shown(one.from_device, "{:.2f}"), _shown(one.others, "{:.2f}"), _cold(one),
    )  # fmt: skip


def _request(one: Result) -> str:
    return "" if one.request_ms is None else duration(one.request_ms * 1e6)


def _times(one: Result) -> Sequence[str]:
    return (
        one.row, _switch(one), f"{one.operations}",
        *_spread(one.total), _ratio(one.ratios.get("total")), *_spread(one.device), *_spread(one.host),
        duration(one.copy) if one.copy else "", duration(one.verified) if one.verified else "",
    )  # fmt: skip


def _switch(one: Result) -> str:
    return "on" if one.verify else "off"


def _spread(one: Spread | None) -> tuple[str, str, str]:
    """A percentile of too few operations is not shown."""
    if one is None:
        return "", "", ""
    p95, p99 = ("" if value is None else duration(value) for value in (one.p95, one.p99))
    return duration(one.p50), p95, p99


def _shown(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def _ratio(value: float | None) -> str:
    return _shown(value, "{:.2f}")


def _share(value: float | None) -> str:
    return _shown(value, "{:.0%}")


def _cold(one: Result) -> str:
    if one.row == NOTHING:
        return ""
    return {True: "yes", False: "NO", None: "unknown"}[one.cold]


def write_json(path: str, facts: dict[str, Any], measured: Measured) -> None:
    judged = [asdict(aim) for aim in aims.judge(measured)]
    results = [{**asdict(one), "cold": one.cold} for one in measured.results]
    each = [{"size": n, "depth": depth, **asdict(aim)} for n, depth, aim in aims.judge_each(measured)]
    pace = [{**asdict(one), "ratio": one.ratio} for one in measured.pace]
    content = {
        "machine": facts, **asdict(measured), "results": results, "pace": pace, "columns": MEANINGS, "aims": judged,
        "aims_at_each": each,
    }  # fmt: skip
    with open(path, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
        file.write("\n")


def write_plot(path: str, measured: Measured) -> None:
    """For each depth throughput and processor time over size; below, what the median operation of the largest size is
    made of.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    depths = sorted({one.depth for one in measured.results})
    shown = [one for one in measured.results if one.row != NOTHING]
    figure, panels = pyplot.subplots(
        3, len(depths), figsize=(6.5 * len(depths), 15), squeeze=False, layout="constrained"
    )
    titles = list(dict.fromkeys(_title(one) for one in shown))
    for column, depth in enumerate(depths):
        here = [one for one in shown if one.depth == depth]
        for panel, what, label in (
            (panels[0][column], "gib_s", "GiB/s"), (panels[1][column], "cpu_s_gib", "CPU seconds for each GiB")
        ):  # fmt: skip
            for i, title in enumerate(titles):
                points = sorted((one.size, getattr(one, what)) for one in here if _title(one) == title)
                panel.plot(*zip(*points), f"C{i % 10}{'o-' if i < 10 else 's--'}", label=title) if points else None
            panel.set(title=f"{depth} at a time", xscale="log", xlabel="bytes of an object", ylabel=label)
            panel.xaxis.set_major_formatter(lambda n, _: size(int(n)))
            panel.set_xticks(sorted({one.size for one in here}), minor=False)
            panel.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
            panel.grid(alpha=0.3)
        panels[1][column].set_yscale("log")
        _split(panels[2][column], here)
    panels[0][0].legend(fontsize="small")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _title(one: Result) -> str:
    return one.row + (", verified" if one.verify else "")


def _split(panel: Any, here: Sequence[Result]) -> None:
    largest = max((one.size for one in here), default=0)
    bars = [one for one in here if one.size == largest and one.device is not None and one.host is not None]
    names = [_title(one) for one in bars]
    device = [one.device.p50 / 1e6 for one in bars if one.device is not None]
    panel.barh(names, device, color="C0", label="device p50 (by each path's own definition)")
    panel.barh(
        names, [one.host.p50 / 1e6 for one in bars if one.host is not None], left=device, color="C1", label="host p50"
    )
    panel.invert_yaxis()
    panel.set(title=f"{size(largest)}: medians, not of the same operation", xlabel="ms")
    panel.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)
