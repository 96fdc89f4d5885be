"""What to do when a getter's short way did not give a tensor, an array or a buffer."""

from __future__ import annotations

from typing import Any

from . import _abi, _parse
from ._lib import Library, encode_key
from .errors import NotFoundError, error_for


class SecondLook:
    """For one store: raises what there is to raise, or takes the long way.

    `instead` is what came in place of the result: a status; None, when the arguments are not what the short way knows
    (or numpy refused the dtype); or a capsule that torch refused. It knows no Store: the functions bound to a store
    hold this, and would keep it alive.
    """

    def __init__(self, library: Library, plain: Any, mode: int) -> None:
        self._library = library
        self._plain = plain
        self.mode = mode

    def number(self, mode: Any) -> int:
        return self.mode if mode is None else _parse.choice(mode, "mode", _abi.MODES)

    def fail(self, status: int, key: Any = None) -> None:
        """Raises what a status stands for."""
        if status == _abi.NOT_FOUND and key is not None:
            raise NotFoundError(f"no object under key {key!r}")
        raise error_for(status, self._library.last_error())

    def settle(self, result: Any, key: Any) -> Any:
        """A result that may be a status (an int), or None for a key that was not understood."""
        if result is None:
            encode_key(key)
            raise TypeError(f"key {key!r} cannot be used")
        if type(result) is int:
            self.fail(result, key)
        return result

    def tensor(self, key: Any, mode: Any, instead: Any) -> Any:
        if instead is None:
            instead = self._plain.capsule(key, self.number(mode))
        from . import torch

        return torch.from_capsule(self.settle(instead, key), self._plain.capsules)

    def array(self, key: Any, mode: Any, instead: Any) -> Any:
        if instead is not None:
            self.settle(instead, key)
        from . import numpy

        return numpy.from_buffer(self.buffer(key, mode, None))

    def buffer(self, key: Any, mode: Any, instead: Any) -> Any:
        if instead is None:
            instead = self._plain.buffer_or_status(key, _parse.choice(mode, "mode", _abi.MODES))
        return self.settle(instead, key)
