"""Distributions, and how sure they are."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9, 99.99)
BEYOND = 10
"""A percentile with fewer samples beyond it says nothing."""

_MS = 1e6
_LOWEST, _HIGHEST, _DIGITS = 1, 10**12, 3  # nanoseconds: up to a thousand seconds


def label(percentile: float) -> str:
    """p50, p999, p9999: as the keys are called."""
    return "p" + f"{percentile:g}".replace(".", "")


def percentile(values: Any, p: float) -> float | None:
    """Linear between neighbours; None with too few samples beyond it."""
    n = len(values)
    if n == 0 or n * (100 - p) / 100 < BEYOND - 1e-9:
        return None
    return float(np.percentile(values, p))


def distribution(nanoseconds: Sequence[int]) -> dict[str, Any]:
    """In milliseconds. What has too few samples is None."""
    values = np.asarray(nanoseconds, np.float64)
    found: dict[str, Any] = {"n": len(values)}
    for p in PERCENTILES:
        value = percentile(values, p)
        found[label(p)] = None if value is None else value / _MS
    found["mean"] = float(values.mean()) / _MS if len(values) else None
    found["max"] = float(values.max()) / _MS if len(values) else None
    found["sum"] = float(values.sum()) / _MS
    return found


def interval(values: Sequence[float], seed: int = 0, level: float = 95.0) -> tuple[float, float] | None:
    """A bootstrap interval of the median; None below three values."""
    if len(values) < 3:
        return None
    source = np.random.Generator(np.random.PCG64(seed))
    drawn = source.choice(np.asarray(values, np.float64), (2000, len(values)))
    low, high = np.percentile(np.median(drawn, axis=1), [(100 - level) / 2, (100 + level) / 2])
    return float(low), float(high)


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Of trials: median, extremes, coefficient of variation, interval."""
    numbers = np.asarray(values, np.float64)
    mean = float(numbers.mean())
    cv = float(numbers.std(ddof=1)) / mean if len(numbers) > 1 and mean else None
    return {
        "median": float(np.median(numbers)), "min": float(numbers.min()), "max": float(numbers.max()),
        "cv": cv, "interval": interval(values), "n": len(numbers),
    }  # fmt: skip


class NoHistogram(Exception):
    """hdrhistogram is not installed."""


def histogram(nanoseconds: Iterable[int] = ()) -> Any:
    """A log-linear histogram of three significant digits. What is below a nanosecond counts as one."""
    try:
        from hdrh.histogram import HdrHistogram
    except ImportError:
        raise NoHistogram("needs hdrhistogram: pip install 'moorage[bench]'") from None
    found = HdrHistogram(_LOWEST, _HIGHEST, _DIGITS)
    for value in nanoseconds:
        found.record_value(min(max(int(value), _LOWEST), _HIGHEST))
    return found


def encoded(found: Any) -> str:
    """As text that `decoded` and other HDR libraries read."""
    raw: bytes = found.encode()
    try:
        raw.decode("ascii")
    except UnicodeDecodeError:
        raw = base64.b64encode(raw)
    return raw.decode("ascii")


def decoded(text: str) -> Any:
    from hdrh.histogram import HdrHistogram

    return HdrHistogram.decode(text.encode())


def merged(texts: Iterable[str]) -> Any:
    """Of several ranks or trials: the pooled values, not a mean of percentiles."""
    whole = histogram()
    for text in texts:
        whole.add(decoded(text))
    return whole
