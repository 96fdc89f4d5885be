"""A peer's server: it never outlives the process that started it."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from typing import Callable

_DEATH = 1  # PR_SET_PDEATHSIG
_SECONDS = 20


class Server:
    """A program that runs until end(), or until this process is gone in whatever way."""

    def __init__(self, command: Sequence[str], folder: str) -> None:
        self.name = os.path.basename(command[0])
        self.log = os.path.join(folder, "server.log")
        prctl = ctypes.CDLL(None).prctl
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, start_new_session=True,
                preexec_fn=lambda: prctl(_DEATH, signal.SIGKILL),
            )  # fmt: skip

    def wait(self, ready: Callable[[], bool]) -> None:
        """Until it answers. Raises RuntimeError with what it said last when it does not."""
        end = time.monotonic() + _SECONDS
        while not ready():
            status = self.process.poll()
            if status is not None or time.monotonic() > end:
                self.end()
                how = "did not answer" if status is None else f"ended with status {status}"
                raise RuntimeError(f"{self.name} {how}: {last_line(self.log)}")
            time.sleep(0.02)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def answers(address: str | tuple[str, int]) -> Callable[[], bool]:
    """Whether somebody listens there: a Unix socket, or host and port."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET

    def ask() -> bool:
        with socket.socket(family, socket.SOCK_STREAM) as one:
            one.settimeout(1)
            return one.connect_ex(address) == 0

    return ask


def last_line(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as log:
            lines = [line.strip() for line in log if line.strip()]
    except OSError:
        lines = []
    return lines[-1][:300] if lines else "it said nothing"
