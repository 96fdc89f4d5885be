"""What a whole program pays: start, memory, threads, and closing a full store. Each in programs of their own."""

from __future__ import annotations

import atexit
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import lru_cache

_EMPTY = "import ctypes; ctypes.CDLL(None)"
_IMPORT = f"{_EMPTY}; import moorage"
_OPEN = f"{_IMPORT}; store = moorage.Store()"

# Nanoseconds that the main thread was ready to run, and other programs had the cores.
_WAITED = """
try:
    with open("/proc/self/schedstat") as stat:
        print(stat.read().split()[1])
except OSError:
    print(0)
"""

_FOOTPRINT = """
def field(path, name):
    with open(path) as lines:
        return sum(int(line.split()[1]) for line in lines if line.startswith(name))
print(field("/proc/self/status", "Threads"), field("/proc/self/smaps_rollup", "Private_"),
      field("/proc/self/smaps_rollup", "Private_Dirty"), field("/proc/self/smaps_rollup", "Pss:"))
"""

_CLOSE = """
import sys, time, moorage
store = moorage.Store("64MiB")
for i in range(int(sys.argv[1])):
    store.put(str(i), b"")
begin = time.perf_counter()
store.close()
print(time.perf_counter() - begin)
"""

MANY = 1_000_000


@dataclass
class Footprint:
    """More than an empty program that uses ctypes has."""

    import_ms: float
    """Wall time of `import moorage`."""
    open_ms: float
    """Wall time of the first Store()."""
    threads: int
    """All threads of a program with a store."""
    private_mib: float
    """Private pages, clean and dirty."""
    dirty_mib: float
    """Private pages that were written to."""
    pss_mib: float


def _python(program: str, *arguments: str) -> str:
    # The programs find the package that runs this.
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH", "")]))
    env = {**os.environ, "PYTHONPATH": path, "PYTHONPYCACHEPREFIX": _compiled()}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, check=True, text=True)
    return done.stdout


@lru_cache(None)
def _compiled() -> str:
    """A folder for compiled modules, which are there where a package was installed by pip."""
    folder = tempfile.TemporaryDirectory(prefix="moorage-bench-")
    atexit.register(folder.cleanup)
    return folder.name


def _wall(program: str) -> float:
    """Milliseconds from start to end, less what the program waited for a core."""
    begin = time.perf_counter()
    waited = _python(program + _WAITED)
    return (time.perf_counter() - begin) * 1e3 - int(waited) / 1e6


def start_times(rounds: int) -> tuple[float, float]:
    """Milliseconds that the import, and then the first Store(), add to an empty program: medians."""
    for program in (_EMPTY, _OPEN):
        _python(program)  # from now on the files are in memory, and compiled
    imports, opens = [], []
    for _ in range(rounds):
        empty, imported, opened = _wall(_EMPTY), _wall(_IMPORT), _wall(_OPEN)
        imports.append(imported - empty)
        opens.append(opened - imported)
    return statistics.median(imports), statistics.median(opens)


def footprint(rounds: int) -> Footprint:
    import_ms, open_ms = start_times(rounds)
    _, *empty = map(int, _python(_EMPTY + _FOOTPRINT).split())
    threads, *opened = map(int, _python(_OPEN + _FOOTPRINT).split())
    return Footprint(import_ms, open_ms, threads, *((b - a) / 1024 for a, b in zip(empty, opened)))


def close_ms(objects: int = MANY) -> float:
    """Milliseconds of close() with so many objects."""
    return float(_python(_CLOSE, str(objects))) * 1e3
