"""The builtin route: functions that the library made for this Python, bound to a store."""

from __future__ import annotations

from typing import Any, NamedTuple

from . import buffer
from ._lib import Library


class BuiltinRoute(NamedTuple):
    """In the order of moor_py_bind.

    Each answers with its result, with a negative int (the status of a failure), or with None: the arguments are not
    what it knows, look at them. `tensor` and `tensors` may give DLPack capsules where a torch tensor is wanted, and
    `tensors` gives a list when all is well and a tuple when some of it needs a second look.
    """

    tensor: Any  # (key, mode)
    capsule: Any  # (key, mode)
    unversioned: Any  # (key, mode)
    tensors: Any  # (keys, mode)
    read: Any  # (key)
    has: Any  # (key)
    put: Any  # (key, data, if_exists, meta) -> outcome
    put_array: Any  # (key, array, if_exists, meta, code << 8 | bits) -> outcome
    put_tensor: Any  # (key, tensor, if_exists, meta) -> outcome
    buffer: Any  # (key, mode)


def bind(library: Library, store: int) -> BuiltinRoute:
    return BuiltinRoute(*library.python.moor_py_bind(store, buffer.maker(library, "builtin").type))
