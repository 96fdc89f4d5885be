"""The figures as tables, JSON and a picture; and the conclusion, which is computed from them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from ..report import Table, duration, size
from .figures import REUSE, BreakEven, Measured, Row, break_even, slope

_COLUMNS = (
    "memory", "size", "pin", "unpin", "pin untouched", "faults", "touch", "copy warm", "copy fresh", "faults",
    "pin+unpin / copy",
)  # fmt: skip


def tables(facts: dict[str, Any], measured: Measured) -> list[Table]:
    shown = [Table("Machine", ("", ""), [(name, str(value)) for name, value in facts.items()], left=2)]
    shown.append(Table("Registering beside copying", _COLUMNS, [_row(row) for row in measured.rows], left=1))
    shown.append(
        Table(
            "Registered once, used k times: pays from this size on",
            ("memory", *(f"k = {uses}" for uses in REUSE)),
            [(kind, *(_even(break_even(measured.of(kind), uses)) for uses in REUSE)) for kind in measured.kinds()],
        )
    )
    if measured.by_ranges:
        rows: list[Sequence[str]] = [(f"{count}", _call(ns)) for count, ns in measured.by_ranges]
        shown.append(Table("One range of 64 KiB more", ("registered before", "pin"), rows))
    if measured.by_threads:
        rows = [(f"{n}", f"{rate:.0f}", f"{gain:.2f}") for n, rate, gain in measured.by_threads]
        shown.append(Table("Registering 1 MiB on several threads", ("threads", "a second", "x one thread"), rows))
    if measured.opening:
        rows = [(how, f"{seconds:.3f} s") for how, seconds in measured.opening]
        shown.append(Table("A store's memory, in slabs of 64 MiB", ("", "for each GiB"), rows))
    if measured.missing:
        shown.append(Table("Not measured", ("",), [(text,) for text in measured.missing]))
    shown.append(Table("Conclusion", ("",), [(line,) for line in conclusion(measured)]))
    return shown


def _row(row: Row) -> Sequence[str]:
    return (
        row.kind, size(row.size), _call(row.pin), _call(row.unpin), _call(row.pin_untouched),
        f"{row.faults_untouched:.0f}", duration(row.touch), duration(row.copy_warm), duration(row.copy_fresh),
        f"{row.faults_fresh:.0f}", f"{row.registered(1) / row.copy_warm:.2f}",
    )  # fmt: skip


def _call(ns: float) -> str:
    """Of what remains of a call when the empty call is taken off, this much can be told."""
    return duration(ns) if ns >= 100 else "< 100 ns"


def _even(one: BreakEven) -> str:
    if one.size is None:
        return "never"
    return f"{size(one.size)}{' or less' if one.kept else ''}"


def conclusion(measured: Measured) -> list[str]:
    """Sentences. From pinning alone nothing follows for a single transfer: what a card adds is not in it."""
    lines = measured.caveats()
    told = not lines
    for kind in measured.kinds():
        rows = measured.of(kind)
        last = rows[-1]
        register, copy = slope(rows)
        lines.append(
            f"{kind}, {size(last.size)}: {duration(register)} for each MiB to pin and unpin, {duration(copy)} to copy, "
            f"{last.registered(1) / last.copy_warm:.2f} x; not yet touched, pinning takes "
            f"{last.pin_untouched / last.pin:.1f} x as long, for {last.faults_untouched:.0f} page faults."
        )
    kinds = measured.kinds()
    if len(kinds) > 1:
        small = measured.of(kinds[0])[-1]
        for kind in kinds[1:]:
            same = next((row for row in measured.of(kind) if row.size == small.size), None)
            if same is not None:
                gain = f"1/{small.pin / same.pin:.1f}"
                lines.append(f"{kind}: pinning costs {gain} of that of {kinds[0]} at {size(small.size)}.")
    if len(measured.by_ranges) > 1:
        (few, first), (many, last_ns) = measured.by_ranges[0], measured.by_ranges[-1]
        lines.append(f"With {many} ranges registered before, one more costs {last_ns / first:.2f} x that with {few}.")
    lines.extend(_advice(measured) if told else _CANNOT_BE_TOLD)
    return lines


_CANNOT_BE_TOLD = (
    "Whether to register for a single transfer cannot be told from this. Copy what is small or used once; register "
    "what is used again and again, once, and keep it registered.",
)


def _advice(measured: Measured) -> Iterator[str]:
    """With a card's own cost in the figures."""
    for kind in measured.kinds():
        once, often = (break_even(measured.of(kind), uses) for uses in (1, 10))
        if once.size is None:
            yield f"{kind}: never register for a single transfer: copying costs less at every size that was measured."
        else:
            yield (
                f"{kind}, touched before: {_from(once)}, registering on the fly for a single transfer costs less than "
                "copying."
            )
        if often.size is not None:
            yield f"{kind}: registered once and used ten times, it pays {_from(often)}."


def _from(one: BreakEven) -> str:
    return "at every size that was measured" if one.kept else f"from {size(one.size or 0)} on"


def write_json(path: str, facts: dict[str, Any], measured: Measured) -> None:
    content = {
        "machine": facts,
        **asdict(measured),
        "break_even": {
            kind: [asdict(break_even(measured.of(kind), uses)) for uses in REUSE] for kind in measured.kinds()
        },
        "conclusion": conclusion(measured),
    }
    with open(path, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
        file.write("\n")


def write_plot(path: str, measured: Measured) -> None:
    """Time over size: registering for k uses, solid; copying, dashed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    kinds = measured.kinds()
    figure, panels = pyplot.subplots(
        1, len(kinds), figsize=(6.5 * len(kinds), 6), sharey=True, squeeze=False, layout="constrained"
    )
    for panel, kind in zip(panels[0], kinds):
        rows = measured.of(kind)
        sizes = [row.size for row in rows]
        for i, uses in enumerate(REUSE):
            panel.plot(
                sizes,
                [row.registered(uses) for row in rows],
                f"C{i}o-",
                label="pinned, used once" if uses == 1 else f"pinned, each of {uses} uses",
            )
        panel.plot(sizes, [row.pin_untouched for row in rows], "C7:", label="pinned, not touched before")
        panel.plot(sizes, [row.copy_warm for row in rows], "k--", label="copied, warm")
        panel.plot(sizes, [row.copy_fresh for row in rows], "k:", label="copied into fresh pages")
        panel.set(title=kind, xscale="log", yscale="log", xlabel="bytes")
        panel.xaxis.set_major_formatter(lambda n, _: size(int(n)))
        panel.set_xticks([4**k << 10 for k in range(3, 11, 2)], minor=False)
        panel.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
        panel.yaxis.set_major_formatter(lambda t, _: duration(t))
        panel.grid(alpha=0.3)
        panel.legend(fontsize="small")
    figure.suptitle(" ".join(measured.caveats()) or measured.device, fontsize="small")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
