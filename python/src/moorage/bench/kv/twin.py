"""The same by fio: what does the device give to a program that does nothing else, with objects of this size, so many at
a time, past the page cache?
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..disk import fio, threads
from .data import Data
from .figures import GIB
from .lane import rounded

KINDS = ("read", "write")
_LARGEST_FILE = 1 << 30
SMALLEST_FILE = 64 << 20
_PART = 8 << 20
MEMORY = "the directory lies in memory: there is no device that fio could be asked about"


def middle(sizes: Sequence[int]) -> int:
    """The size below which half of the bytes lie, in whole pages: fio has one size for all."""
    half, below = sum(sizes) / 2, 0
    for size in sorted(sizes):
        below += size
        if below >= half:
            return rounded(size)
    raise ValueError("no sizes")


def patterns(found: dict[str, Any], flying: int, budget: int) -> dict[str, fio.Pattern]:
    """Of a run's figures: the storage tier's reads and writes, as many at a time as were in flight on average.

    flying  chunks of an object that the run's path has in flight
    budget  bytes that a file may have
    """
    made = {}
    busier = max(KINDS, key=lambda kind: float(found["operations"][kind]["storage"]["total"]["sum"]))
    for kind in KINDS:
        one = found["operations"][kind]["storage"]
        sizes = [(c["median"], c["bytes"]) for c in found["sizes"] if c["kind"] == kind]
        if not sizes:
            continue
        jobs = round(in_flight(one, found["seconds"])) or int(kind == busier)
        if not jobs:  # a write now and then is nobody's neighbour
            continue
        size = rounded(max(sizes, key=lambda pair: pair[1])[0])
        share = max(1, min(budget, _LARGEST_FILE) // jobs // size) * size
        if kind == "read":
            made[kind] = fio.Pattern(size, jobs, share, flying=flying, scattered=True)
        else:  # in one request: fio would not wait for several of them before it syncs
            one_at_once = min(flying, 1)
            made[kind] = fio.Pattern(size, jobs, share, size, one_at_once, write=True, scattered=True)
    return made


def in_flight(one: dict[str, Any], seconds: float) -> float:
    """Operations at a time, on average: the time of all of them over the time that passed."""
    return float(one["total"]["sum"]) / 1000 / seconds


def job_file(made: dict[str, fio.Pattern], files: dict[str, str], seconds: float) -> str:
    """As fio reads it; its jobs go side by side, as reads and writes of the run did."""
    sections = [[f"[{kind}]", "new_group=1", *one.options(files[kind], seconds)] for kind, one in made.items()]
    return "\n\n".join("\n".join(lines) for lines in sections) + "\n"


def room(where: str, kinds: int) -> int:
    """Bytes that each file may have: a quarter of what is free, in all."""
    return shutil.disk_usage(where).free // 4 // max(kinds, 1)


def fill(path: str, nbytes: int, data: Data) -> None:
    """A file of bytes that nothing can compress, on the device when this returns."""
    part = np.empty(min(_PART, nbytes), np.uint8)
    with open(path, "xb", buffering=0) as file:
        for number, at in enumerate(range(0, nbytes, len(part))):
            data.fill(f"{os.path.basename(path)}/{number}", part)
            rest = part.data[: nbytes - at]
            while len(rest):
                rest = rest[file.write(rest) :]
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def lacking(seconds: float) -> str | None:
    """Why it is not run."""
    return fio.lacking() if seconds else "not asked for: --fio-seconds 0"


@dataclass(frozen=True)
class Twin:
    """What it was told, and what it got; or why it was not run."""

    job: str
    ran: dict[str, dict[str, float]]
    lacking: str | None


def run(made: dict[str, fio.Pattern], where: str, seconds: float, data: Data, memory: bool) -> Twin:
    """Raises nothing for a fio that fails: it is no part of the run."""
    files = {kind: os.path.join(where, f"fio.{kind}") for kind in made}
    text = job_file(made, files, seconds or 1)
    why = MEMORY if memory else lacking(seconds)
    if why is None and not made:
        why = "nothing was read from storage or written to it"
    if why is not None:
        return Twin(text, {}, why)
    try:
        for kind, one in made.items():
            fill(files[kind], one.jobs * one.share, data)
        job = os.path.join(where, "twin.fio")
        with open(job, "w", encoding="utf-8") as file:
            file.write(text)
        return Twin(text, _ran(fio.call(["fio", "--output-format=json", job], seconds), made), None)
    except (OSError, ValueError, KeyError) as error:
        return Twin(text, {}, f"{type(error).__name__}: {error}")
    finally:
        for path in files.values():
            if os.path.exists(path):
                os.unlink(path)


def facts(one: Twin, found: dict[str, Any]) -> dict[str, Any]:
    """For the JSON; `beside` follows from the rest."""
    return {"job": one.job, "lacking": one.lacking, "ran": one.ran, "beside": beside(found, one.ran)}


def _ran(text: str, made: dict[str, fio.Pattern]) -> dict[str, dict[str, float]]:
    return {kind: _one(one, made[kind].jobs) for kind, one in fio.parse(text).items()}


def _one(ran: threads.Ran, jobs: int) -> dict[str, float]:
    return {"jobs": jobs, "gib_per_s": ran.nbytes / GIB / (ran.wall / 1e9), "cpu_s_per_gib": cpu(ran)}


def cpu(ran: threads.Ran) -> float:
    return ran.cpu / 1e9 / (ran.nbytes / GIB) if ran.nbytes else 0.0


def beside(found: dict[str, Any], ran: dict[str, dict[str, float]]) -> dict[str, dict[str, float | None]]:
    """One operation of the run beside one job of fio, which do the same: the load of the run may be thin, and then its
    bandwidth is no figure of the way to the device.
    """
    shown = {}
    for kind, theirs in ran.items():
        one = found["operations"][kind]["storage"]
        each = theirs["gib_per_s"] / theirs["jobs"]
        ours = one["busy_gib_per_s"]
        shown[kind] = {
            "in_flight": in_flight(one, found["seconds"]), "gib_per_s_of_one": ours, "fio_gib_per_s_of_one": each,
            "of_fio": ours / each if ours and each else None,
        }  # fmt: skip
    return shown
