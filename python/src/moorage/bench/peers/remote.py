"""The driver's end of a peer's process."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Sequence
from importlib.util import find_spec
from multiprocessing import get_context
from typing import Any

from .peer import Peer
from .server import last_line
from .worker import LOG, work

_ANSWER = 120  # seconds for one request; the slowest is a server that takes the bytes of a batch
_END = 15


class Lost(Exception):
    """This peer cannot be measured any more; the text says why."""


def lacking(peer: Peer) -> str | None:
    """What has to be installed first, if anything."""
    for package, name in zip(peer.needs, peer.imports or peer.needs):
        if find_spec(name) is None:
            return f"{package} is not installed (pip install {package})"
    return None


class Remote:
    """A peer that works in a process of its own. Not safe for concurrent use."""

    def __init__(self, module: str, peer: Peer, folder: str) -> None:
        self.peer = peer
        home = os.path.join(folder, module)
        os.mkdir(home)
        self._log = os.path.join(home, LOG)
        # Forked from a server that has loaded torch and nothing else: torch is loaded once, and our own library,
        # which a fork would leave without its threads, in none before it is asked for.
        context = get_context("forkserver")
        context.set_forkserver_preload(["torch", work.__module__])
        self._mine, theirs = context.Pipe()
        self._process = context.Process(target=work, args=(theirs, module, home), daemon=True)
        self._process.start()
        theirs.close()
        self._started = False

    def ask(self, *request: Any) -> Any:
        """Raises Lost when the peer fails, dies or does not answer; it is ended then."""
        try:
            with contextlib.suppress(OSError):  # it may have said why it is gone
                self._mine.send(request)
            result = self._answer()
            self._started = True
            return result
        except (EOFError, OSError):
            self._process.join(_END)
            reason = f"{_how(self._process.exitcode)}: {last_line(self._log)}"
        self.end()
        raise Lost(reason)

    def _answer(self) -> Any:
        if not self._mine.poll(_ANSWER):
            self.end()
            raise Lost(f"no answer in {_ANSWER} s: {last_line(self._log)}")
        done, result = self._mine.recv()
        if not done:
            self.end()
            hint = f" (system packages: {self.peer.system})" if self.peer.system and not self._started else ""
            raise Lost(f"{result}{hint}")
        return result

    def end(self) -> None:
        """Lets the peer end by itself, and ends it if it does not."""
        self._mine.close()
        self._process.join(_END)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _how(status: int | None) -> str:
    if status is None:
        return "closed its connection"
    return f"died of {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"


def end_all(remotes: Sequence[Remote]) -> None:
    for remote in remotes:
        remote._mine.close()
    for remote in remotes:
        remote.end()
