"""A tier in memory: what it stores it copies in, and what it gives out it copies out."""

from __future__ import annotations

from time import monotonic_ns

import numpy as np

from ..lane import Bytes, Lane
from .path import Meaning, Path, Stamps

_NONE = "there is no device: all of it is host"


class Memory(Path):
    meaning = Meaning(1, _NONE, _NONE, False)

    def __init__(self, name: str) -> None:
        self.name = name
        self._kept: dict[str, Bytes] = {}

    def write(self, key: str, data: Bytes, tokens: int, lane: Lane) -> Stamps:
        begin = monotonic_ns()
        self._kept[key] = np.array(data)
        return Stamps(begin, begin, copy=monotonic_ns() - begin)

    def read(self, key: str, nbytes: int, lane: Lane) -> tuple[Bytes, Stamps]:
        begin = monotonic_ns()
        data = np.array(self._kept[key])
        return data, Stamps(begin, begin, copy=monotonic_ns() - begin)

    def held(self, key: str) -> Bytes:
        """Without a copy: for what is moved to the tier below."""
        return self._kept[key]

    def delete(self, key: str) -> None:
        del self._kept[key]
