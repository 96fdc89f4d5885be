"""A folder for as long as a command runs."""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def new_folder(parent: str, prefix: str) -> Iterator[str]:
    """Inside `parent`, and removed however this ends, SIGTERM included."""
    folder = tempfile.mkdtemp(prefix=prefix, dir=parent)
    before = signal.getsignal(signal.SIGTERM)
    ours = before is signal.SIG_DFL and threading.current_thread() is threading.main_thread()
    try:
        if ours:
            signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if ours:
            signal.signal(signal.SIGTERM, before)
