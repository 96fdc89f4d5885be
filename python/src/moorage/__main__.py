"""The command line: `moorage COMMAND`, or `python -m moorage COMMAND`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

_USAGE = """usage: moorage COMMAND [ARGUMENTS]

  bench      measures this machine; `moorage bench --help` lists what can be chosen;
             `moorage bench register`: is registering memory cheaper than copying it?
             `moorage bench disk --dir DIR`: what reading from a directory costs, path by path
  kv-bench   reads and writes the KV cache of many users on storage; `moorage kv-bench --help`
  doctor     looks at this machine: limits, kernel, libraries; what they mean for a store and how to change them
  version    versions of the package's library, and where it lies
"""


def _version() -> int:
    from . import _lib

    library = _lib.load()
    route = _lib.wanted_route() if library.builtin else "ctypes"
    print(f"moorage {library.version}, ABI level {library.c.moor_abi_level()}, route {route}, {library.path}")
    return 0


def _bench(arguments: Sequence[str]) -> int:
    from .bench import main as bench

    return int(bench(list(arguments)) or 0)


def _kv_bench(arguments: Sequence[str]) -> int:
    from .bench.kv import main as kv_bench

    return int(kv_bench(list(arguments)))


def _doctor(arguments: Sequence[str]) -> int:
    from .doctor import main as doctor

    return doctor(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    command = words[0] if words else ""
    if command in ("version", "--version", "-V"):
        return _version()
    if command == "bench":
        return _bench(words[1:])
    if command == "kv-bench":
        return _kv_bench(words[1:])
    if command == "doctor":
        return _doctor(words[1:])
    wanted = command in ("help", "-h", "--help")
    print(_USAGE, end="", file=sys.stdout if wanted else sys.stderr)
    return 0 if wanted else 2


if __name__ == "__main__":
    sys.exit(main())
