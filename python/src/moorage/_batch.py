"""Many puts as few calls: what is plain goes through the library together, the rest one by one."""

from __future__ import annotations

from typing import Any, Callable

from . import _abi
from .errors import MoorageError


class BatchPut:
    """One `put_tensors`, in the order of the pairs.

    `put_many` (see `_builtin`) takes runs of tensors. `put_one` takes those that stand alone, and those that failed, to
    have the words for it: trying one again later comes to the same as long as no key comes twice.
    """

    def __init__(
        self, put_many: Callable[..., Any], put_one: Callable[[Any, Any], bool], fail: Callable[[int], None], how: int
    ) -> None:
        self._put_many = put_many
        self._put_one = put_one
        self._fail = fail
        self._how = how
        self.results: dict[Any, Any] = {}
        self.first: Exception | None = None

    def put(self, keys: list[Any], tensors: list[Any]) -> None:
        if len(set(keys)) != len(keys):
            self._take(keys, tensors, [None] * len(keys))
            return
        done = 0
        while done < len(keys):
            outcomes = self._put_many(keys, tensors, self._how, done)
            if outcomes is None:  # one of the keys cannot be used
                outcomes = [None] * (len(keys) - done)
            elif not outcomes:  # the next tensor has to be looked at
                outcomes = [None]
            end = done + len(outcomes)
            self._take(keys[done:end], tensors[done:end], outcomes)
            done = end

    def _take(self, keys: list[Any], tensors: list[Any], outcomes: list[int | None]) -> None:
        if outcomes.count(_abi.STORED) == len(keys):
            self.results.update(dict.fromkeys(keys, True))
            return
        for key, t, outcome in zip(keys, tensors, outcomes):
            if outcome is not None and outcome >= 0:
                self.results[key] = outcome != _abi.KEPT
            else:
                self._alone(key, t, outcome)

    def _alone(self, key: Any, t: Any, status: int | None) -> None:
        try:
            if status == _abi.CANCELLED:  # by close(): another try would find the store closed
                self._fail(status)
            self.results[key] = self._put_one(key, t)
        except (MoorageError, TypeError, ValueError) as error:
            self.results[key] = error
            self.first = self.first or error
