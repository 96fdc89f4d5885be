"""tensordict, memory-mapped and loaded once."""

from __future__ import annotations

from importlib import import_module

from .opened import Opened, Opening
from .peer import Peer, Row, Work, fresh


class Tensordict(Peer):
    title = "tensordict, memory-mapped"
    needs = ("tensordict",)
    files = True

    def start(self, folder: str) -> None:
        self.folder = folder
        self.kind = import_module("tensordict").TensorDict

    def fill(self, work: Work) -> dict[str, Row]:
        path = fresh(self.folder, "mapped")
        tensors = {_flat(key): tensor for key, tensor in {**work.tensors, "put": work.tensor}.items()}
        self.kind(tensors, batch_size=[]).memmap(path)
        names = {"mapped": self.kind.load_memmap(path)}
        row = Row(work, names, get="mapped[key]", spell=_flat, put='mapped["put"].copy_(t)')
        return {self.title: row}

    def openings(self, work: Work, folder: str) -> dict[str, Opening]:
        self.kind({_flat(key): tensor for key, tensor in work.tensors.items()}, batch_size=[]).memmap(folder)

        def again() -> Opened:
            mapped = self.kind.load_memmap(folder)
            return Opened(lambda key: mapped[_flat(key)])

        return {self.title: again}


def _flat(key: str) -> str:
    """A key that is a file name."""
    return key.replace("/", "_")


PEER = Tensordict
