"""Whole programs: what has to be seen from outside, because it ends a process or is about how a process ends."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
TIMEOUT = 60


@dataclass(frozen=True)
class Ended:
    """How a program ended: its exit status (a signal's number negative), and what it wrote."""

    status: int
    out: str
    error: str

    def cleanly(self) -> Ended:
        assert (self.status, self.error) == (0, ""), f"status {self.status}\n{self.out}\n{self.error}"
        return self


def _environment(changes: dict[str, str] | None) -> dict[str, str]:
    environment = {**os.environ, **(changes or {})}
    environment.setdefault("OMP_NUM_THREADS", "1")
    environment.pop("PYTHONFAULTHANDLER", None)
    environment.pop("PYTEST_CURRENT_TEST", None)
    return environment


def run(
    code: str, *, options: tuple[str, ...] = (), env: dict[str, str] | None = None, timeout: float = TIMEOUT
) -> Ended:
    """Runs a program in a Python of its own."""
    done = subprocess.run(
        [sys.executable, *options, "-c", textwrap.dedent(code)],
        env=_environment(env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=timeout,
        check=False,
    )
    return Ended(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


class _Zygote:
    """Keeps no descriptor open, and the process ends with this one."""

    def __init__(self, modules: tuple[str, ...]) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="moorage-programs-"))
        atexit.register(shutil.rmtree, self._folder, ignore_errors=True)
        self._address = str(self._folder / "zygote")
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "zygote.py"), self._address, *modules],
            env=_environment(None),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        atexit.register(self._process.kill)

    def _connect(self) -> socket.socket:
        deadline = time.monotonic() + TIMEOUT
        while True:
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(self._address)
                return connection
            except OSError:
                connection.close()
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise
            time.sleep(0.01)

    def run(self, code: str, env: dict[str, str] | None, timeout: float) -> Ended:
        program, out, error = self._folder / "program.py", self._folder / "out", self._folder / "error"
        program.write_text(textwrap.dedent(code), encoding="utf-8")
        request = {
            "program": str(program),
            "out": str(out),
            "error": str(error),
            "environment": _environment(env),
            "timeout": timeout,
        }
        with self._connect() as connection:
            connection.sendall(json.dumps(request).encode() + b"\n")
            connection.settimeout(timeout + TIMEOUT)
            status = json.loads(connection.recv(4096))["status"]
        ended = Ended(status, out.read_text(errors="replace"), error.read_text(errors="replace"))
        if status is None:
            raise TimeoutError(f"a program did not end in {timeout} s:\n{ended.out}\n{ended.error}")
        return ended


_zygotes: dict[tuple[str, ...], _Zygote] = {}


def run_prepared(
    code: str, *, env: dict[str, str] | None = None, timeout: float = TIMEOUT, torch: bool = True
) -> Ended:
    """Runs a program in a process that has numpy, torch (if wanted) and moorage imported already, and no store."""
    modules = ("numpy", *(("torch",) if torch else ()), "moorage")
    if modules not in _zygotes:
        _zygotes[modules] = _Zygote(modules)
    return _zygotes[modules].run(code, env, timeout)
