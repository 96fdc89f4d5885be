"""Is there room for it? Asked before anything is written."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import InvalidArgumentError

GIB = 1 << 30
_SPARE = 0.9
"""Of the memory that is available."""


@dataclass(frozen=True)
class Needs:
    """Bytes."""

    before: int
    """Of storage before the run: all of it will be read, so all must fit."""
    objects: int
    """Of all objects that may come into being; when not all fit, those that were not used for longest leave."""
    largest: int
    tiers: int
    """Of memory for the tiers in memory, as far as they can be filled."""
    lanes: int
    """Of memory for the workers: data to be written, and what is read."""
    store: int = 0
    """Of memory for the store itself."""


def check(needs: Needs, *, capacity: int, memory: int, scale: float, what: str) -> None:
    """InvalidArgumentError names the flag, and a value with which it would fit."""
    disk = max(needs.before, needs.largest)
    if disk > capacity:
        raise InvalidArgumentError(
            f"{what} needs {disk / GIB:.1f} GiB on disk, and {capacity / GIB:.1f} GiB may be used: "
            f"--scale {_scale(scale, capacity / disk)} makes all objects smaller, --num-users makes them fewer"
        )
    wanted = needs.tiers + needs.lanes + needs.store
    if wanted > memory * _SPARE:
        raise InvalidArgumentError(
            f"{what} needs {wanted / GIB:.1f} GiB of memory ({needs.tiers / GIB:.1f} for tiers, "
            f"{(needs.lanes + needs.store) / GIB:.1f} for workers), and {memory / GIB:.1f} GiB are available: --scale "
            f"{_scale(scale, memory * _SPARE / wanted)} makes all of it smaller, --workers, --max-concurrent-allocs, "
            "--cpu-mem-gb and --gpu-mem-gb a part of it"
        )


def _scale(scale: float, factor: float) -> str:
    """Rounded down to two digits, with some room."""
    value = scale * factor * 0.95
    digits = f"{value:.1e}"
    rounded = float(digits)
    if rounded > value:
        mantissa, exponent = digits.split("e")
        rounded = float(f"{float(mantissa) - 0.1:.1f}e{exponent}")
    return f"{rounded:g}"
