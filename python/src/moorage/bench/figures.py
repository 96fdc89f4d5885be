"""Figures that other programs measured, in the text that `go test -bench` prints. The C benchmarks print it too.

BenchmarkGetRelease/one-2   12345678   61.2 ns/op   0 B/op   0 allocs/op
"""

from __future__ import annotations

import re
from collections.abc import Iterable

Figures = dict[str, dict[str, float]]

_LINE = re.compile(r"^(Benchmark\S*?)(?:-\d+)?\s+\d+\s+(.*)$")


def parse(lines: Iterable[str]) -> Figures:
    """By name and unit. Of a benchmark that ran several times the last counts."""
    found: Figures = {}
    for line in lines:
        match = _LINE.match(line.strip())
        if match is None:
            continue
        words = match[2].split()
        try:
            found[match[1]] = {unit: float(value) for value, unit in zip(words[::2], words[1::2])}
        except ValueError:
            continue  # something that a program printed in between
    return found


def read(paths: Iterable[str]) -> Figures:
    found: Figures = {}
    for path in paths:
        with open(path, encoding="utf-8", errors="replace") as lines:
            found.update(parse(lines))
    return found
