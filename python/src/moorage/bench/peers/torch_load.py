"""torch.load(mmap=True): for every get, and once."""

from __future__ import annotations

from importlib import import_module

from .peer import Peer, Row, Work, fresh

LOADED = "torch.load(mmap=True), each time"


class Load(Peer):
    title = "torch.load(mmap=True)"
    files = True

    def start(self, folder: str) -> None:
        self.folder = folder
        self.torch = import_module("torch")

    def fill(self, work: Work) -> dict[str, Row]:
        path, torch = fresh(self.folder, "read"), self.torch
        torch.save({key: tensor.clone() for key, tensor in work.tensors.items()}, path)
        names = {
            "load": torch.load, "save": torch.save, "path": path, "fresh": fresh(self.folder, "put"),
            "loaded": torch.load(path, mmap=True),
        }  # fmt: skip
        each = Row(
            work, names, get="load(path, mmap=True)[key]", put='save({"put": t}, fresh)',
            many="list(load(path, mmap=True).values())",
        )  # fmt: skip
        return {LOADED: each, "torch.load(mmap=True), once": Row(work, names, get="loaded[key]")}


PEER = Load
