"""Forked children for tests: each runs a function, can be told to go on, and says how it went."""

from __future__ import annotations

import os
import select
import signal
import time
import traceback
from typing import Any, Callable

PATIENCE = 30.0
_END = b"\0"  # a grandchild may keep the pipe open


def eventually(true: Callable[[], Any], timeout: float = PATIENCE) -> None:
    """Waits until `true()` is."""
    deadline = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < deadline, f"still not so after {timeout} s"
        time.sleep(0.005)


class Child:
    """A forked child that runs `work(wait)`; `wait()` there returns when `go()` is called here."""

    def __init__(self, work: Callable[[Callable[[], None]], Any]) -> None:
        result, self._say = os.pipe()
        go, self._go = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            self._work(work, go, result)
        os.close(self._say)
        os.close(go)
        self._result = result

    def _work(self, work: Callable[[Callable[[], None]], Any], go: int, result: int) -> None:
        status = 1
        try:
            os.close(self._go)
            os.close(result)
            said = work(lambda: os.read(go, 1))
            os.write(self._say, repr(said).encode()[:60000] + _END)
            status = 0
        except BaseException:
            os.write(self._say, traceback.format_exc().encode()[:60000] + _END)
        finally:
            os._exit(status)

    def go(self) -> None:
        os.write(self._go, b".")

    def kill(self) -> None:
        """Kills it, and leaves it a zombie."""
        os.kill(self.pid, signal.SIGKILL)

    def reap(self) -> int:
        """Waits for its end, and returns the status as os.waitpid has it."""
        deadline = time.monotonic() + PATIENCE
        for fd in (self._result, self._go):
            os.close(fd)
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return status
            if time.monotonic() > deadline:
                self.kill()
                os.waitpid(self.pid, 0)
                raise AssertionError("a child did not end")
            time.sleep(0.002)

    def result(self) -> str:
        """What `work` returned, as its repr. Fails with the child's traceback."""
        said = b""
        deadline = time.monotonic() + PATIENCE
        while not said.endswith(_END):
            ready, _, _ = select.select([self._result], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                self.kill()
                break
            chunk = os.read(self._result, 65536)
            if not chunk:
                break
            said += chunk
        status, text = self.reap(), said.rstrip(_END).decode()
        assert status == 0, f"a child ended with status {status}:\n{text}"
        return text


def in_child(work: Callable[[], Any]) -> str:
    """Runs `work` in a forked child to its end."""
    return Child(lambda wait: work()).result()
