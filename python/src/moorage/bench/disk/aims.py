"""The aims for reading from disk, each judged by what was measured."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Callable

from ..aims import Judged, Verdict
from ..report import size
from . import ours, puts
from .figures import Measured, Result

_KIB, _MIB = 1 << 10, 1 << 20
_LARGE = 16 * _MIB
_OURS = (ours.INTO, ours.VIEW)

_Judge = Callable[[Measured], "Verdict | None"]


def judge(measured: Measured) -> list[Judged]:
    found = []
    for what, limit, one in _AIMS:
        verdict = one(measured)
        if verdict is None:
            found.append(Judged(what, limit, "", "not measured"))
        else:
            found.append(Judged(what, limit, verdict.text, "met" if verdict.met else "missed"))
    return found


def judge_each(measured: Measured) -> list[tuple[int, int, Judged]]:
    """Size, depth, and what was measured of an aim there, for all that has been."""
    keys = sorted({(one.size, one.depth) for one in measured.results})
    found = []
    for key in keys:
        here = replace(
            measured, results=[one for one in measured.results if (one.size, one.depth) == key], pace=[]
        )  # fmt: skip
        found += [(*key, one) for one in judge(here) if one.text]
    return found


def _of(measured: Measured, *, verify: bool, smallest: int = 0, rows: Sequence[str] = _OURS) -> list[Result]:
    return [
        one for one in measured.results
        if one.row in rows and one.verify == verify and one.size >= smallest and one.operations
    ]  # fmt: skip


def _worst(results: Sequence[Result], figure: Callable[[Result], float], form: str, limit: float) -> Verdict | None:
    """The highest of them against the most that it may be."""
    if not results:
        return None
    worst = max(results, key=figure)
    where = f"{worst.row}, {size(worst.size)}, {worst.depth} at a time"
    return Verdict(f"{form.format(figure(worst))}: {where}", figure(worst) <= limit)


def _beside_fio(m: Measured) -> Verdict | None:
    known = [one for one in _of(m, verify=False, smallest=64 * _KIB) if one.depth == 1 and "of_fio" in one.ratios]
    if not known:
        return None
    worst = min(known, key=lambda one: one.ratios["of_fio"])
    share = worst.ratios["of_fio"]
    return Verdict(f"{share:.2f} x: {worst.row}, {size(worst.size)}", share >= 0.95)


def _cpu(m: Measured) -> Verdict | None:
    return _worst(_of(m, verify=False, smallest=_LARGE), lambda one: one.cpu_s_gib, "{:.3f} s/GiB", 0.03)


def _beside_two_copies(m: Measured) -> Verdict | None:
    known = [one for one in _of(m, verify=False) if "cpu" in one.ratios]
    return _worst(known, lambda one: one.ratios["cpu"], "{:.2f} x", 0.25)


def _verifying(m: Measured) -> Verdict | None:
    """What verifying adds, in passes over the bytes where the same row has put them."""
    once = {(one.row, one.size, one.depth): one.cpu_s_gib for one in m.read_passes}
    plain = {(one.row, one.size, one.depth): one.cpu_s_gib for one in _of(m, verify=False, smallest=_LARGE)}
    known = [
        one for one in _of(m, verify=True, smallest=_LARGE)
        if (one.row, one.size, one.depth) in plain and once.get((one.row, one.size, one.depth))
    ]  # fmt: skip

    def passes(one: Result) -> float:
        key = one.row, one.size, one.depth
        return (one.cpu_s_gib - plain[key]) / once[key]

    return _worst(known, passes, "+ {:.2f} passes", 1.3)


def _host(m: Measured) -> Verdict | None:
    verified = [one for one in _of(m, verify=True, smallest=_LARGE) if one.depth >= 4]
    return _worst(
        _of(m, verify=False, smallest=_LARGE) + verified, lambda one: one.host_share or 0, "{:.1%}", 0.05
    )  # fmt: skip


def _faults(m: Measured) -> Verdict | None:
    return _worst(_of(m, verify=False) + _of(m, verify=True), lambda one: one.faults, "{:.2f}", 1)


def _writes(*rows: str) -> _Judge:
    """The lowest share of fio's throughput that these have."""

    def judge(m: Measured) -> Verdict | None:
        known = [
            one for one in m.results if one.row in rows and one.size >= 64 * _KIB and "of_fio" in one.ratios
        ]  # fmt: skip
        if not known:
            return None
        worst = min(known, key=lambda one: one.ratios["of_fio"])
        share = worst.ratios["of_fio"]
        return Verdict(f"{share:.2f} x: {worst.row}, {size(worst.size)}, {worst.depth} at a time", share >= 0.9)

    return judge


def _pace(m: Measured) -> Verdict | None:
    """The median of the tries, as for all that is measured in rounds."""
    if not m.pace:
        return None
    share = statistics.median(one.ratio for one in m.pace)
    came = statistics.median(one.gib_s for one in m.pace)
    return Verdict(f"{share:.1%} while {came:.2f} GiB/s came in", share >= 0.9)


_AIMS: tuple[tuple[str, str, _Judge], ...] = (
    ("read from 64 KiB on, 1 at a time, beside fio", ">= 0.95 x", _beside_fio),
    ("processor, from 16 MiB on, not verified", "<= 0.03 s/GiB", _cpu),
    ("processor, not verified, beside two copies", "<= 0.25 x", _beside_two_copies),
    ("verifying adds, from 16 MiB on", "<= 1.3 passes over the bytes", _verifying),
    ("host, from 16 MiB on; verified: at 4 at a time and more", "<= 5 % of total", _host),
    ("page faults of a read", "<= 1", _faults),
    ("write from 64 KiB on, never synced, beside fio", ">= 0.9 x", _writes(puts.NONE)),
    ("write from 64 KiB on, synced at the end, beside fio", ">= 0.9 x", _writes(puts.BATCH)),
    ("write from 64 KiB on, synced each, beside fio", ">= 0.9 x", _writes(puts.EACH, puts.PERSIST)),
    ("another thread's pace beside 64 prefetches", ">= 90 % of its own", _pace),
)
