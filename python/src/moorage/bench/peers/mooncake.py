"""Mooncake Store as its wheel has it: a master, and one client that is both the segment and the reader."""

from __future__ import annotations

import os
from importlib import import_module
from importlib.util import find_spec
from itertools import count
from typing import Any

from .peer import Peer, Row, Work, free_port
from .server import Server, answers

GET, INTO = "Mooncake get_tensor", "Mooncake get_tensor_into"
PUT = "Mooncake put_tensor"

_HEADER = 4096  # what an object has in front of its bytes, and room to spare
_SEGMENT, _LOCAL = 1 << 30, 512 << 20


class Mooncake(Peer):
    title = "Mooncake"
    needs = ("mooncake-transfer-engine-non-cuda",)
    imports = ("mooncake",)
    system = "libibverbs1 libnuma1 libcurl4"
    place = "the memory of its client, in its process"

    def start(self, folder: str) -> None:
        os.environ.setdefault("MC_LOG_LEVEL", "ERROR")
        kind = import_module("mooncake.store").MooncakeDistributedStore  # needs system libraries: the first to fail
        spec = find_spec("mooncake")
        home = next(iter(spec.submodule_search_locations or [])) if spec else ""
        port, metrics = free_port(), free_port()
        self.server = Server(
            [os.path.join(home, "mooncake_master"), f"--rpc_port={port}", f"--metrics_port={metrics}"], folder
        )
        self.server.wait(answers(("127.0.0.1", port)))
        self.client = kind()
        _ok(
            self.client.setup("127.0.0.1", "P2PHANDSHAKE", _SEGMENT, _LOCAL, "tcp", "", f"127.0.0.1:{port}"),
            "setup",
        )
        self.stored: list[str] = []
        self.buffers: Any = None
        self.names = (f"put/{i}" for i in count())

    def fill(self, work: Work) -> dict[str, Row]:
        self.forget(self.stored)
        if self.buffers is not None:
            _ok(self.client.unregister_buffer(self.buffers.data_ptr()), "unregister_buffer")
        for key, tensor in work.tensors.items():
            _ok(self.client.put_tensor(key, tensor), "put_tensor")
        self.stored = list(work.keys)
        room = -(-(work.size + _HEADER) // 4096) * 4096
        self.buffers = work.torch.ones(len(work.keys) * room, dtype=work.torch.uint8)
        begin = self.buffers.data_ptr()
        _ok(self.client.register_buffer(begin, self.buffers.numel()), "register_buffer")
        places = [begin + i * room for i in range(len(work.keys))]
        names = {
            "store": self.client, "ok": _ok, "places": places, "place": begin, "room": room,
            "rooms": [room] * len(places),
        }  # fmt: skip
        get = Row(work, names, get="store.get_tensor(key)", many="store.batch_get_tensor(keys)")
        # What it delivers lies in the caller's warm memory already: nothing is copied once more.
        one, many = "store.get_tensor_into(key, place, room)", "store.batch_get_tensor_into(keys, places, rooms)"
        into = Row(work, names, get=one, many=many, read=one, read_many=many)
        stored = 'ok(store.put_tensor(a, t), "put_tensor")'
        put = Row(work, names, put=stored, puts=self._names(), most=_most(work.size))
        return {GET: get, INTO: into, PUT: put}

    def _names(self) -> Any:
        """A put under a name that is there would do nothing: the last ones are removed, outside of the time."""
        last: list[str] = []

        def make(n: int) -> list[str]:
            self.forget(last)
            last[:] = [next(self.names) for _ in range(n)]
            return last

        return make

    def forget(self, keys: list[str]) -> None:
        for key in keys:
            self.client.remove(key, True)

    def close(self) -> None:
        self.client.close()
        self.server.end()


def _most(size: int) -> int:
    """Puts in a row that the segment has room for twice."""
    return max(1, min(256, _SEGMENT // 4 // size))


def _ok(status: int, what: str) -> None:
    if status != 0:
        raise RuntimeError(f"{what} failed with {status}")


PEER = Mooncake
