"""Long file operations: in a thread of their own, so that Ctrl-C and `progress` work in the caller's.

A callback from C is no place for either: an exception that Python raises on entry to it, as it does for a signal, is
printed and lost.
"""

from __future__ import annotations

import ctypes
import threading
from typing import Any, Callable

from . import _abi
from ._lib import Library
from .errors import NoMemoryError

Step = Callable[[int, int], object]


class _Job:
    def __init__(
        self, library: Library, operation: Callable[[_abi.FileOptions], int], if_exists: int, asks: bool
    ) -> None:
        self._library = library
        self._operation = operation
        self._callback = _abi.Progress(self._step)
        self._options = _abi.FileOptions(ctypes.sizeof(_abi.FileOptions), if_exists, self._callback, None)
        self._asks = asks
        self.moved = threading.Event()
        self.answered = threading.Event()
        self.latest: tuple[int, int] | None = None
        self.stop = False
        self.finished = False
        self.status = _abi.CANCELLED
        self.text = ""

    def _step(self, _: Any, done: int, total: int) -> int:
        """With a `progress`, waits for what it says: after the last step there is no way back."""
        self.answered.clear()
        if self.stop:  # looked at after the clear: whoever sets it sets `answered` then
            return 1
        self.latest = (done, total)
        self.moved.set()
        if self._asks:
            self.answered.wait()
        return int(self.stop)

    def work(self) -> None:
        try:
            self.status = self._operation(self._options)
            if self.status < 0:
                self.text = self._library.last_error()  # of this thread
        finally:
            self.finished = True
            self.moved.set()


def run(
    library: Library, operation: Callable[[_abi.FileOptions], int], if_exists: int, progress: Step | None
) -> tuple[int, str]:
    """Status and text of the operation. An exception in `progress`, or from a signal, cancels it and comes out here."""
    job = _Job(library, operation, if_exists, progress is not None)
    thread = threading.Thread(target=job.work, name="moorage-file", daemon=True)
    try:
        thread.start()
    except RuntimeError as error:  # Python's word for it
        raise NoMemoryError(f"no thread can be started for the file ({error}); see RLIMIT_AS and ulimit -u") from None
    try:
        finished = False
        while not finished:
            job.moved.wait()
            job.moved.clear()
            finished = job.finished
            step, job.latest = job.latest, None
            if progress is not None and step is not None:
                progress(*step)
                job.answered.set()
    except BaseException:
        job.stop = True
        job.answered.set()
        thread.join()
        raise
    thread.join()
    return job.status, job.text
