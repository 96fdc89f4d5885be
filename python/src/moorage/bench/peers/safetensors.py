"""safetensors, the file kept open."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from .peer import Peer, Row, Work, fresh


class Safetensors(Peer):
    title = "safetensors, file open"
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


PEER = Safetensors
