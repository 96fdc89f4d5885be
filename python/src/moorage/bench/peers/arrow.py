"""Arrow IPC: a file of one record batch with a column a tensor, memory-mapped and open."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

from .opened import Opened, Opening
from .peer import Peer, Row, Work, fresh


class Arrow(Peer):
    title = "Arrow IPC, memory-mapped"
    needs = ("pyarrow",)
    files = True

    def start(self, folder: str) -> None:
        self.folder = folder
        self.arrow = import_module("pyarrow")
        self.ipc = import_module("pyarrow.ipc")

    def fill(self, work: Work) -> dict[str, Row]:
        path = fresh(self.folder, "read")
        self.write(path, work.tensors)
        names = {
            "column": self.open(path), "from_numpy": work.torch.from_numpy,
            "write": self.write, "path": fresh(self.folder, "put"),
        }  # fmt: skip
        row = Row(work, names, get="from_numpy(column(key).to_numpy())", put='write(path, {"put": t})')
        return {self.title: row}

    def openings(self, work: Work, folder: str) -> dict[str, Opening]:
        path, from_numpy = os.path.join(folder, "tensors"), work.torch.from_numpy
        self.write(path, work.tensors)

        def again() -> Opened:
            column = self.open(path)
            return Opened(lambda key: from_numpy(column(key).to_numpy()))

        return {self.title: again}

    def open(self, path: str) -> Any:
        """Gives the column of a name."""
        return self.ipc.open_file(self.arrow.memory_map(path)).get_batch(0).column

    def write(self, path: str, tensors: dict[str, Any]) -> None:
        arrays = [self.arrow.array(tensor.numpy()) for tensor in tensors.values()]  # does not copy
        batch = self.arrow.record_batch(arrays, names=list(tensors))
        with self.arrow.OSFile(path, "wb") as sink, self.ipc.new_file(sink, batch.schema) as writer:
            writer.write_batch(batch)


PEER = Arrow
