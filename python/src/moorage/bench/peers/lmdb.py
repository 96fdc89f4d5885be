"""LMDB with buffers=True: a transaction renewed for every get, as who wants the newest needs it, and one that stays."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

from .opened import Opened, Opening
from .peer import Peer, Row, Work, fresh

STAYS, RENEWED = "LMDB, one transaction", "LMDB, renewed transaction"


class Lmdb(Peer):
    title = "LMDB"
    needs = ("lmdb",)
    files = True

    def start(self, folder: str) -> None:
        self.folder = folder
        self.lmdb = import_module("lmdb")

    def fill(self, work: Work) -> dict[str, Row]:
        reading, putting = (self.open(fresh(self.folder, name), work) for name in ("read", "put"))
        self.store(reading, work)
        torch, begin = work.torch, reading.begin
        names = {
            "frombuffer": torch.frombuffer, "uint8": torch.uint8, "begin": begin, "get": begin(buffers=True).get,
            "write": putting.begin, "data": work.tensor.numpy().data,
        }  # fmt: skip
        renewed = Row(
            work, names, get="frombuffer((held := begin(buffers=True)).get(key), dtype=uint8)", spell=str.encode,
            many="[frombuffer(held.get(key), dtype=uint8) for held in [begin(buffers=True)] for key in keys]",
            put='with write(write=True) as w: w.put(b"put", data)',
        )  # fmt: skip
        stays = Row(work, names, get="frombuffer(get(key), dtype=uint8)", spell=str.encode)
        return {RENEWED: renewed, STAYS: stays}

    def openings(self, work: Work, folder: str) -> dict[str, Opening]:
        path = os.path.join(folder, "environment")
        with self.open(path, work) as writing:
            self.store(writing, work)
        frombuffer, uint8 = work.torch.frombuffer, work.torch.uint8

        def again() -> Opened:
            reading = self.open(path, work, readonly=True, lock=False)
            get = reading.begin(buffers=True).get
            return Opened(lambda key: frombuffer(get(key.encode()), dtype=uint8), close=reading.close)

        return {STAYS: again}

    @staticmethod
    def store(environment: Any, work: Work) -> None:
        with environment.begin(write=True) as writing:
            for key, tensor in work.tensors.items():
                writing.put(key.encode(), tensor.numpy().data)

    def open(self, path: str, work: Work, **more: bool) -> Any:
        """Its fastest settings: nothing is forced to disk, pages are written through the mapping, and a transaction
        that has ended is kept for the next begin() to renew. What is put lies in a file of its own: a transaction that
        stays would keep all pages that are replaced.
        """
        return self.lmdb.open(
            path, map_size=(len(work.keys) + 4) * (work.size + 8192) * 2 + (64 << 20),
            sync=False, metasync=False, writemap=True, map_async=True, max_spare_txns=2, **more,
        )  # fmt: skip


PEER = Lmdb
