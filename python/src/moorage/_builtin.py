"""The builtin route: functions that the library made for this Python, each bound to what it works on.

Those that hand something out give it, or what `SecondLook` gives in its place. The others answer with their result,
or a negative int (the status of a failure), or None: the arguments are not what they know, look at them.
"""

from __future__ import annotations

from typing import Any

from . import buffer
from ._lib import Library
from ._look import SecondLook
from .dlpack import carrier_type

# The order of the table in capi/pybuiltin.c.
_TENSOR, _TENSORS, _ARRAY, _BUFFER, _READ, _INTO, _HAS, _PUT, _PUT_ARRAY, _PUT_TENSOR = range(10)
_PUT_PARTS, _INTO_TENSOR, _PUT_MANY = range(10, 13)


class BuiltinRoute:
    """The functions of one store."""

    def __init__(self, library: Library, store: int, look: SecondLook) -> None:
        self._library = library
        self._store = store
        self._look = look
        bind = library.python.moor_py_bind
        self.buffer = bind(_BUFFER, (store, look.buffer, buffer.maker(library, "builtin").type))  # (key, mode)
        self.read = bind(_READ, store)  # (key)
        self.into = bind(_INTO, store)  # (key, out, offset, nbytes) -> bytes copied
        self.has = bind(_HAS, store)  # (key)
        self.put = bind(_PUT, store)  # (key, data, if_exists, meta) -> outcome
        self.put_parts = bind(_PUT_PARTS, store)  # (key, tuple of buffers, if_exists, meta) -> outcome
        self.put_array = bind(_PUT_ARRAY, store)  # (key, array, if_exists, meta, code << 8 | bits) -> outcome

    def put_many(self, torch: Any, numpy: Any) -> Any:
        """put_many(keys, tensors, if_exists, from) -> outcomes, from number `from` on up to the first tensor that has
        to be put by itself, or sooner; None when one of the keys cannot be used. All are lists. From number -1: all of
        them as one set, and a status, or None when one of them has to be looked at. `torch` and `numpy`, our modules,
        are None as long as nobody has used them.
        """
        array = numpy and numpy.ARRAY
        bound = (self._store, array, *(torch.FOR_BATCHES if torch else (None,) * 4))
        return self._library.python.moor_py_bind(_PUT_MANY, bound)

    def torch(self, module: Any) -> tuple[Any, Any, Any, Any]:
        """tensor(key, mode), tensors(keys, mode), put_tensor(key, tensor, if_exists, meta) -> outcome, and
        into_tensor(key, tensor, offset, nbytes) -> bytes copied.
        """
        module.use_exchange(self._library)
        bind = self._library.python.moor_py_bind
        usual = self._look.mode
        return (
            bind(_TENSOR, (self._store, usual, self._look.tensor, module.from_dlpack)),
            bind(_TENSORS, (self._store, usual, module.from_dlpack)),
            bind(_PUT_TENSOR, self._store),
            bind(_INTO_TENSOR, self._store),
        )

    def numpy(self, module: Any) -> Any:
        """array(key, mode)"""
        carrier = carrier_type(self._library)
        return self._library.python.moor_py_bind(_ARRAY, (self._store, self._look.array, carrier, module.from_dlpack))
