"""torch.load(mmap=True): for every get, and once."""

from __future__ import annotations

import os
from importlib import import_module

from .opened import Opened, Opening
from .peer import Peer, Row, Work, fresh

LOADED, KEPT, OPENED = "torch.load(mmap=True), each time", "torch.load(mmap=True), once", "torch.load(mmap=True)"


class Load(Peer):
    title = OPENED
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
        return {LOADED: each, KEPT: Row(work, names, get="loaded[key]")}

    def openings(self, work: Work, folder: str) -> dict[str, Opening]:
        path, load = os.path.join(folder, "tensors"), self.torch.load
        self.torch.save({key: tensor.clone() for key, tensor in work.tensors.items()}, path)
        return {OPENED: lambda: Opened(load(path, mmap=True).__getitem__)}


PEER = Load
