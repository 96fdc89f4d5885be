"""Loads libmoorage.so, on first use, and declares its functions. The only module that calls CDLL or PyDLL.

There are two routes to the same library. *builtin*: C functions that the library makes for the running Python
(capi/py*.c), for the calls that are made often. *ctypes*: everything through ctypes, for Pythons where those
cannot be made. MOORAGE_ROUTE=ctypes forces the second. What is called rarely goes through ctypes on both.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from array import array
from collections.abc import Iterable
from ctypes import byref
from itertools import accumulate
from typing import Any

from . import _abi, _log, errors

_LIBRARY = "MOORAGE_LIBRARY"
_ROUTE = "MOORAGE_ROUTE"


def library_path() -> str:
    """The file that `load` takes: MOORAGE_LIBRARY if it is set, else the one in this package."""
    return os.environ.get(_LIBRARY) or os.path.join(os.path.dirname(os.path.abspath(__file__)), "libmoorage.so")


def wanted_route() -> str:
    """ "builtin" or "ctypes", from the environment. "builtin" falls back where it is not possible."""
    route = os.environ.get(_ROUTE) or "builtin"
    if route not in ("builtin", "ctypes"):
        raise errors.InvalidArgumentError(f"{_ROUTE} must be builtin or ctypes, not {route!r}")
    return route


class Library:
    """The loaded library.

    `c` releases the GIL round each call and converts its arguments. `hot` does not convert; `quick` does not convert
    and keeps the GIL, which is for look-ups that neither copy nor wait.
    """

    c: Any
    hot: Any
    quick: Any
    python: Any

    def __init__(self, path: str) -> None:
        if not os.path.exists(path):
            raise ImportError(
                f"moorage: the library {path} does not exist; install the wheel, or set {_LIBRARY} to a libmoorage.so"
            )
        _check_address_space()
        self.path = path
        self.c = ctypes.CDLL(path)
        self.hot = ctypes.CDLL(path)
        self.quick = ctypes.PyDLL(path)
        self.python = ctypes.PyDLL(path)
        self._check_level()
        for name, (result, arguments) in _abi.FUNCTIONS.items():
            function = self._declare(self.c, name, result)
            function.argtypes = arguments
            if name in _abi.HOT:
                self._declare(self.hot, name, result)
                self._declare(self.quick, name, result)
        self.builtin = self._find_builtin()

    def _declare(self, library: Any, name: str, result: Any) -> Any:
        try:
            function = getattr(library, name)
        except AttributeError:
            raise ImportError(f"moorage: {self.path} has no {name}; it belongs to another version") from None
        function.restype = result
        return function

    def _check_level(self) -> None:
        level = self._declare(self.c, "moor_abi_level", ctypes.c_int32)()
        if level < _abi.ABI_LEVEL:
            raise ImportError(
                f"moorage: {self.path} has ABI level {level}, and this package needs {_abi.ABI_LEVEL}; "
                "package and library must come from one wheel"
            )

    def _find_builtin(self) -> bool:
        """Whether the library can make functions and types for this Python."""
        if not hasattr(self.python, "moor_py_ready"):
            return False
        for name, (result, arguments) in _abi.PYTHON_FUNCTIONS.items():
            self._declare(self.python, name, result).argtypes = arguments
        return sys.implementation.name == "cpython" and bool(self.python.moor_py_ready() == _abi.OK)

    @property
    def version(self) -> str:
        text: bytes = self.c.moor_version()
        return text.decode()

    def last_error(self) -> str:
        """The text of the last call that failed on this thread."""
        text: bytes = self.c.moor_last_error()
        return text.decode("utf-8", "backslashreplace")


# What Go's runtime, the threads of it and a first store take of it; it ends the process when it cannot have them.
_ADDRESS_SPACE = 2 << 30


def _check_address_space() -> None:
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        used = 0
    if limit - used < _ADDRESS_SPACE:
        raise errors.NoMemoryError(
            f"RLIMIT_AS leaves {max(limit - used, 0) >> 20} MiB of address space, and the library wants "
            f"{_ADDRESS_SPACE >> 20} MiB (of addresses, not of memory); raise it (ulimit -v), and limit memory by a "
            "control group instead"
        )


_lock = threading.Lock()
_loaded: Library | None = None


def load() -> Library:
    """The library, loaded the first time."""
    global _loaded
    if _loaded is None:
        with _lock:
            if _loaded is None:
                _loaded = Library(library_path())
                _log.listen(_loaded)
    return _loaded


def encode_key(key: object, name: str = "key") -> bytes:
    """A key as the library wants it. TypeError when it is no str, ValueError when it is not valid Unicode."""
    if not isinstance(key, str):
        raise TypeError(f"{name} must be a str, not {type(key).__name__}")
    try:
        return key.encode()
    except UnicodeEncodeError:
        raise errors.InvalidArgumentError(
            f"{name} {key!r} holds a lone surrogate, which cannot be written as UTF-8"
        ) from None


def decode_key(key: bytes) -> str:
    """C programs may use keys that are not UTF-8; those come with surrogates, and Python cannot ask for them."""
    return key.decode("utf-8", "surrogateescape")


class PackedKeys:
    """Many keys as one `moor_keys`."""

    __slots__ = ("_bytes", "_ends", "count", "struct")

    def __init__(self, keys: Iterable[object]) -> None:
        encoded = [encode_key(key) for key in keys]
        self.count = len(encoded)
        self._bytes = b"".join(encoded)
        self._ends = array("Q", accumulate(map(len, encoded)))
        self.struct = _abi.Keys(
            ctypes.cast(ctypes.c_char_p(self._bytes), ctypes.c_void_p),
            self._ends.buffer_info()[0],
            self.count,
        )

    def pointer(self) -> Any:
        return byref(self.struct)


def key_list(keys: Iterable[str], name: str = "keys") -> list[str]:
    """Keys as a list. A single str is surely a mistake: it would be taken letter by letter."""
    if isinstance(keys, (str, bytes, bytearray, memoryview)):  # a released one of these has no certain length
        raise TypeError(f"{name} must be several keys, for example a list of str; this is one {type(keys).__name__}")
    try:
        several = iter(keys)
    except TypeError:
        raise TypeError(f"{name} must be several keys, for example a list of str, not {type(keys).__name__}") from None
    return list(several)  # of our own: another thread may change the caller's


class PutCall:
    """Options and result of one put, and what has to live as long as they do."""

    __slots__ = ("_meta", "options", "result")

    def __init__(self, if_exists: int, meta: Any = b"", flags: int = 0) -> None:
        self._meta = as_meta(meta)
        self.options = _abi.PutOptions(ctypes.sizeof(_abi.PutOptions), if_exists, None, len(self._meta), flags, 0)
        if self._meta:
            self.options.meta = ctypes.cast(ctypes.c_char_p(self._meta), ctypes.c_void_p)
        self.result = _abi.PutResult()

    def outcome(self, status: int) -> int:
        """The outcome, or the status of a failure: what the builtins return."""
        return status if status < 0 else int(self.result.outcome)


def as_meta(meta: Any) -> bytes:
    if type(meta) is bytes:
        return meta
    try:
        view = memoryview(meta)
        if view.nbytes > _abi.MAX_META:  # before it is copied: an expanded array may claim terabytes
            raise errors.InvalidArgumentError(f"meta has {view.nbytes} bytes; at most {_abi.MAX_META} are kept")
        return view.tobytes()
    except TypeError:
        raise TypeError(f"meta must be bytes, not {type(meta).__name__}") from None
    except ValueError as error:
        raise errors.InvalidArgumentError(f"meta gives no buffer: {error}") from None
