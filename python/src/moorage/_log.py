"""The logger "moorage": the only way in which the package and the library say something unasked, each thing once."""

from __future__ import annotations

import atexit
import ctypes
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._lib import Library

# Numbers as in capi/layout.h.
_NOTICES = {
    1: 'mode "cow" copied where a window was asked for: mappings or addresses are nearly used up (vm.max_map_count, '
    "RLIMIT_AS), the store has huge pages, or somebody closed its descriptor; further copies are counted "
    '(stats().window_copies), not logged; mode "view" needs none',
    2: "a forked child cannot be followed (no descriptor left, or more children than can be told apart): what was "
    "viewed when it started is kept for ever; further ones are counted (stats().children_unfollowed), not logged",
    3: "the disk of a store is used in a slower way than it could be, or cannot be written (no io_uring, no O_DIRECT, "
    "memory that cannot be pinned, a journal that fails); disk_stats() counts what went which way, and moorage doctor "
    "DIR says why",
    4: "the directory of a store was damaged when it was opened; what could not be read is left out "
    "(disk_stats().lost_objects), everything else is there and is checked when it is read",
}


def warning(text: str, *values: object) -> None:
    import logging  # not before there is something to say: it takes a while

    logging.getLogger("moorage").warning(text, *values)


def info(text: str, *values: object) -> None:
    import logging

    logging.getLogger("moorage").info(text, *values)


def _tell(number: int | None) -> int:
    try:
        warning(_NOTICES[number or 0])
        return 0
    except Exception:  # of a handler of the program's; it would come out anywhere
        return 0


_callback: Any = None  # for good: the library has its address


def listen(library: Library) -> None:
    """Has the library's notices told on the main thread, between two instructions of it."""
    global _callback
    if not library.builtin:
        warning("every call goes through ctypes, several times slower: this Python does not show its C API")
    try:
        later = ctypes.cast(ctypes.pythonapi["Py_AddPendingCall"], ctypes.c_void_p)
    except AttributeError:
        return  # another Python
    _callback = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(_tell)
    library.python.moor_py_listen(later, ctypes.cast(_callback, ctypes.c_void_p))
    atexit.register(library.python.moor_py_listen, None, None)
