"""--dedup-check: does the device, or what lies above it, save itself work on data that is alike or can be compressed?

This tool's data is neither. Where the answer is yes, figures of other tools with other data say something else.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import zlib
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any, Callable

import numpy as np

from ..disk import cold
from .data import PAGE, Data
from .figures import GIB
from .lane import Bytes, Span
from .paths import direct
from .paths.path import Lacking

ROUNDS = 4
_BYTES = 128 << 20
_PART = 8 << 20
_FASTER = 1.25
"""In every round: what is left to chance is not that much."""
_SMALLER = 0.9

UNLIKE, ALIKE, COMPRESSIBLE = "unlike", "alike", "compressible"
NONE = "no sign of deduplication or compression"
KINDS = (UNLIKE, ALIKE, COMPRESSIBLE)
MEANS = {
    UNLIKE: "as the run's: no two pages alike, nothing to compress",
    ALIKE: "one page that cannot be compressed, again and again",
    COMPRESSIBLE: "no two pages alike, but zeros except for eight bytes",
}


def check(folder: str, data: Data, note: Callable[[str], None], most: int = _BYTES) -> dict[str, Any]:
    """Files of each kind in turns, forwards and backwards, written and read past the page cache where that is possible:
    GiB/s of each round, and the share of their bytes that the file system says they take. `verdict` follows from these.
    """
    nbytes = max(_PART, min(most, shutil.disk_usage(folder).free // 8) // _PART * _PART)
    flags = os.O_DIRECT
    try:
        direct.probe(folder)
    except Lacking:
        flags = 0
    found: dict[str, Any] = {
        "bytes": nbytes, "direct": bool(flags),
        "kinds": {kind: {"means": MEANS[kind], "write": [], "read": [], "allocated": []} for kind in KINDS},
    }  # fmt: skip
    for n in range(ROUNDS):
        note(f"looking for deduplication and compression, round {n + 1} of {ROUNDS}")
        for kind in KINDS if n % 2 == 0 else reversed(KINDS):
            path = os.path.join(folder, f"dedup.{kind}")
            try:
                one = found["kinds"][kind]
                one["write"].append(nbytes / GIB / _written(path, nbytes, flags, _parts(kind, n, nbytes, data)))
                one["allocated"].append(os.stat(path).st_blocks * 512 / nbytes)
                one["read"].append(nbytes / GIB / _read(path, nbytes, flags))
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
    found["verdict"] = verdict(found["kinds"])
    return found


def _parts(kind: str, n: int, nbytes: int, data: Data) -> Iterable[Bytes]:
    """Always the same memory, filled while no clock runs."""
    room = Span()
    part = room.room(_PART)[:_PART]
    if kind == ALIKE:
        data.fill(f"dedup/{n}", part[:PAGE])
        part.reshape(-1, PAGE)[1:] = part[:PAGE]
    for number in range(nbytes // _PART):
        if kind == UNLIKE:
            data.fill(f"dedup/{n}/{number}", part)
        elif kind == COMPRESSIBLE:
            data.fill(f"dedup/{n}/{number}", part)
            part.reshape(-1, PAGE)[:, 8:] = 0
        yield part


def _written(path: str, nbytes: int, flags: int, parts: Iterable[Bytes]) -> float:
    """Seconds of writing and of fsync, in which nothing is made."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | flags, 0o600)
    took = 0.0
    try:
        for part in parts:
            begin = time.monotonic()
            done = 0
            while done < len(part):
                done += os.write(fd, part[done:].data)
            took += time.monotonic() - begin
        begin = time.monotonic()
        os.fsync(fd)
        return took + time.monotonic() - begin
    finally:
        os.close(fd)


def _read(path: str, nbytes: int, flags: int) -> float:
    """Seconds."""
    room = Span()
    part = room.room(_PART)[:_PART]
    fd = os.open(path, os.O_RDONLY | flags)
    try:
        cold.drop(fd)
        begin = time.monotonic()
        done = 0
        while done < nbytes:
            n = os.preadv(fd, [part.data], done)
            if n == 0:
                raise OSError(f"{path} ends {nbytes - done} bytes too early")
            done += n
        return time.monotonic() - begin
    finally:
        os.close(fd)


# ---- what to make of it ----


def verdict(kinds: dict[str, Any]) -> str:
    """A sentence. A kind is suspected that was faster in every round, or takes less room."""
    said = []
    for kind, word in ((ALIKE, "deduplication"), (COMPRESSIBLE, "compression")):
        signs = [
            f"{what} {ratio(kinds, kind, what):.1f} x as fast"
            for what in ("write", "read") if min(_ratios(kinds, kind, what)) > _FASTER
        ]  # fmt: skip
        if median(kinds[kind]["allocated"]) < _SMALLER * median(kinds[UNLIKE]["allocated"]):
            signs.append(f"it takes {median(kinds[kind]['allocated']):.0%} of its bytes")
        if signs:
            said.append(f"signs of {word} ({', '.join(signs)})")
    return "; ".join(said) or NONE


def _ratios(kinds: dict[str, Any], kind: str, what: str) -> list[float]:
    return [a / b for a, b in zip(kinds[kind][what], kinds[UNLIKE][what])]


def ratio(kinds: dict[str, Any], kind: str, what: str) -> float:
    """Of GiB/s, to data that is unlike: the median of the rounds."""
    return median(_ratios(kinds, kind, what))


def of_run(keys: Sequence[str], data: Data, pages: int = 256) -> dict[str, Any]:
    """The first pages of so many objects of the run itself: how many differ, and what compression leaves of them."""
    target = np.empty(pages * PAGE, np.uint8)
    seen: set[bytes] = set()
    packed = 0
    for key in keys:
        data.fill(key, target)
        raw = target.tobytes()
        seen |= {raw[at : at + PAGE] for at in range(0, len(raw), PAGE)}
        packed += len(zlib.compress(raw, 1))
    everything = len(keys) * pages
    return {"pages": everything, "different": len(seen), "compressed_to": packed / max(1, everything * PAGE)}
