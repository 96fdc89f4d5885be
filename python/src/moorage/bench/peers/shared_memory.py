"""multiprocessing.shared_memory, one segment a tensor, attached once."""

from __future__ import annotations

from multiprocessing.shared_memory import SharedMemory

from .opened import Opened, Opening
from .peer import Peer, Row, Tensors, Work

ATTACHED = "shared_memory"


class Shared(Peer):
    title = "shared_memory, attached once"
    place = "/dev/shm"

    def __init__(self) -> None:
        self.segments: dict[str, SharedMemory] = {}

    def fill(self, work: Work) -> dict[str, Row]:
        self.store({**work.tensors, "put": work.tensor}, work)
        torch = work.torch
        names = {
            "frombuffer": torch.frombuffer, "segments": self.segments, "uint8": torch.uint8, "size": work.size,
        }  # fmt: skip
        get = "frombuffer(segments[key].buf, dtype=uint8, count=size)"
        return {self.title: Row(work, names, get=get, put=get.replace("key", '"put"') + ".copy_(t)")}

    def store(self, tensors: Tensors, work: Work) -> None:
        self.close()
        torch = work.torch
        for key, tensor in tensors.items():
            self.segments[key] = SharedMemory(create=True, size=work.size)
            torch.frombuffer(self.segments[key].buf, dtype=torch.uint8)[: work.size].copy_(tensor)

    def openings(self, work: Work, folder: str) -> dict[str, Opening]:
        self.store(work.tensors, work)
        frombuffer, uint8, size = work.torch.frombuffer, work.torch.uint8, work.size
        names = {key: segment.name for key, segment in self.segments.items()}

        def again() -> Opened:
            attached = {key: SharedMemory(name) for key, name in names.items()}

            def close() -> None:
                for segment in attached.values():
                    segment.close()

            return Opened(lambda key: frombuffer(attached[key].buf, dtype=uint8, count=size), close=close)

        return {ATTACHED: again}

    def close(self) -> None:
        for segment in self.segments.values():
            segment.unlink()  # the memory goes when torch lets go, or with the process
        self.segments.clear()


PEER = Shared
