"""multiprocessing.shared_memory, one segment a tensor, attached once."""

from __future__ import annotations

from multiprocessing.shared_memory import SharedMemory

from .peer import Peer, Row, Work


class Shared(Peer):
    title = "shared_memory, attached once"
    place = "/dev/shm"

    def __init__(self) -> None:
        self.segments: dict[str, SharedMemory] = {}

    def fill(self, work: Work) -> dict[str, Row]:
        self.close()
        torch = work.torch
        for key, tensor in {**work.tensors, "put": work.tensor}.items():
            self.segments[key] = SharedMemory(create=True, size=work.size)
            torch.frombuffer(self.segments[key].buf, dtype=torch.uint8)[: work.size].copy_(tensor)
        names = {
            "frombuffer": torch.frombuffer, "segments": self.segments, "uint8": torch.uint8, "size": work.size,
        }  # fmt: skip
        get = "frombuffer(segments[key].buf, dtype=uint8, count=size)"
        return {self.title: Row(work, names, get=get, put=get.replace("key", '"put"') + ".copy_(t)")}

    def close(self) -> None:
        for segment in self.segments.values():
            segment.unlink()  # the memory goes when torch lets go, or with the process
        self.segments.clear()


PEER = Shared
