"""A process that has imported what the programs under test import, and forks one for each: importing torch takes
seconds. It never opens a store, so a program that it forks is as good as one that was started.

zygote.py SOCKET MODULE...  listens on a Unix socket. A connection carries one request, in JSON: {"program", "out",
"error", "environment", "timeout"}, and gets {"status"} back: the exit status, a signal's number negative, or null when
the time was over. It ends with the process that started it.
"""

import contextlib
import importlib
import json
import os
import resource
import signal
import socket
import sys
import time

for _name in sys.argv[2:]:
    importlib.import_module(_name)


def _become(request):
    """In the forked process: what a process that was just started has."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    for number, path in ((0, os.devnull), (1, request["out"]), (2, request["error"])):
        fd = os.open(path, flags if number else os.O_RDONLY, 0o600)
        os.dup2(fd, number)
        os.close(fd)
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv[:] = [request["program"]]


def _wait(pid, timeout):
    deadline = time.monotonic() + timeout
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            break
        if time.monotonic() > deadline:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return None
        time.sleep(0.002)
    with contextlib.suppress(ProcessLookupError):  # descendants
        os.killpg(pid, signal.SIGKILL)
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def _request(listener, starter):
    """The next connection, and what it asks for."""
    while True:
        try:
            connection, _ = listener.accept()
        except socket.timeout:
            if os.getppid() != starter:
                os._exit(0)
            continue
        connection.settimeout(None)
        asked = b""
        while not asked.endswith(b"\n"):
            asked += connection.recv(65536)
        return connection, json.loads(asked)


def _serve(path):
    """Returns in each forked process, with what it is to run."""
    starter = os.getppid()
    listener = socket.socket(socket.AF_UNIX)
    listener.settimeout(0.5)
    listener.bind(path)
    listener.listen()
    while True:
        connection, request = _request(listener, starter)
        pid = os.fork()
        if pid == 0:
            listener.close()
            connection.close()
            _become(request)
            with open(request["program"], encoding="utf-8") as file:
                return compile(file.read(), request["program"], "exec")
        connection.sendall(json.dumps({"status": _wait(pid, request["timeout"])}).encode())
        connection.close()


# At the top, so that the program's names are those of __main__ and the interpreter ends as it always does.
_code = _serve(sys.argv[1])
exec(_code)
