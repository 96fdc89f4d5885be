"""The store's own stamps of an operation, found among its last ones."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import byref, c_uint64
from typing import Any

from .... import _abi, timings
from ..lane import rounded
from .path import Stamps

_LAST = 64


class Times:
    """Asked by the thread that has made the call, right after it. Safe for concurrent use."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.without = 0

    def of(self, kinds: Sequence[str], nbytes: int, begin: int, end: int) -> Stamps:
        """Of the call that lasted from `begin` to `end`. A record belongs to it that lies within, as close to its
        beginning as possible: nothing that waits lies between a call's beginning and the store's first stamp. A call
        without one had nothing to do with the device.
        """
        numbers = {timings.KINDS.index(kind) for kind in kinds}
        sizes = (nbytes, rounded(nbytes))
        fitting = [
            one
            for one in self._last()
            if one.kind in numbers and one.bytes in sizes and begin <= one.t0 and one.t3 <= end and one.t1 < one.t2
        ]
        if not fitting:
            self.without += 1
            return Stamps(begin, begin, memory=True)
        one = min(fitting, key=lambda record: int(record.t0))
        return Stamps(int(one.t1), int(one.t2), int(one.copy), int(one.verify))

    def _last(self) -> Any:
        operations = (_abi.Operation * _LAST)()
        found = c_uint64()
        self._store._check(self._store._c.moor_list_operations(self._store._id, operations, _LAST, byref(found)))
        return operations[: found.value]
