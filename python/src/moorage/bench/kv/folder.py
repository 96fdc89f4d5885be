"""A folder that is ours alone: nothing else in the directory is looked at, changed or removed."""

from __future__ import annotations

import os
import tempfile
from contextlib import AbstractContextManager

from ...errors import InvalidArgumentError
from ..folder import new_folder

_SYSTEM = ("/etc", "/bin", "/sbin", "/usr/bin", "/usr/sbin", "/boot", "/sys", "/proc", "/dev", "/run")
_MEMORY = "/dev/shm"


def directory(path: str | None) -> str:
    """--cache-dir, made if its parent is there; the system's own directories are refused."""
    if path is None:
        return tempfile.gettempdir()
    real = os.path.realpath(path)
    for one in _SYSTEM:
        if (real == one or real.startswith(one + "/")) and not (real + "/").startswith(_MEMORY + "/"):
            raise InvalidArgumentError(f"--cache-dir {path}: nothing is written below {one}")
    if real == "/":
        raise InvalidArgumentError("--cache-dir: not the root directory itself")
    try:
        if not os.path.isdir(real):
            os.mkdir(real)
    except OSError as error:
        raise InvalidArgumentError(f"--cache-dir {path}: {error.strerror}") from None
    if not os.access(real, os.W_OK | os.X_OK):
        raise InvalidArgumentError(f"--cache-dir {path} cannot be written to")
    return real


def preconditioned(directory: str) -> str:
    """What --precondition-keep leaves there."""
    return os.path.join(directory, "moorage-kv-preconditioned")


def folder(parent: str) -> AbstractContextManager[str]:
    """A new one, removed however the command ends."""
    return new_folder(parent, "moorage-kv-")
