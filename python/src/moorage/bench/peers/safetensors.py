"""safetensors, the file kept open."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

from .opened import Opened, Opening
from .peer import Peer, Row, Work, fresh

KEPT, OPENED = "safetensors, file open", "safetensors"


class Safetensors(Peer):
    title = KEPT
    needs = ("safetensors",)
    files = True

    def start(self, folder: str) -> None:
        self.folder = folder
        self.open = import_module("safetensors").safe_open
        self.save = import_module("safetensors.torch").save_file
        self.file: Any = None

    def fill(self, work: Work) -> dict[str, Row]:
        path = fresh(self.folder, "read")
        self.save(work.tensors, path)
        self.file = self.open(path, framework="pt")
        names = {"get_tensor": self.file.get_tensor, "save_file": self.save, "path": fresh(self.folder, "put")}
        return {self.title: Row(work, names, get="get_tensor(key)", put='save_file({"put": t}, path)')}

    def openings(self, work: Work, folder: str) -> dict[str, Opening]:
        path = os.path.join(folder, "tensors")
        self.save({key: tensor.clone() for key, tensor in work.tensors.items()}, path)
        return {OPENED: lambda: Opened(self.open(path, framework="pt").get_tensor)}


PEER = Safetensors
