"""The least that each work could cost: what the ratios to a floor are taken against."""

from __future__ import annotations

import ctypes
from itertools import cycle, islice

from ..fixture import capsule_of
from .opened import Opened, Opening
from .peer import BATCH_HAND, BATCH_READ, HAND, READ, Peer, Row, Work

COPY = "copy of a tensor"


class Floor(Peer):
    title = "floor"

    def fill(self, work: Work) -> dict[str, Row]:
        torch, one = work.torch, work.torch.empty(16, dtype=work.torch.uint8)
        count = len(work.keys)
        reading = Row(work, {"sources": list(work.tensors.values())})
        reading.add(READ, "copy(t)")
        reading.add(BATCH_READ, "for target, source in zip(targets, sources): target.copy_(source)")
        handing = Row(work, {"from_dlpack": torch.from_dlpack})
        handing.add(HAND, "from_dlpack(a)", lambda n: [capsule_of(one) for _ in range(n)])
        handing.add(
            BATCH_HAND,
            "[from_dlpack(c) for c in a]",
            lambda n: [[capsule_of(one) for _ in range(count)] for _ in range(n)],
            most=256,
        )
        other = torch.ones_like(work.tensor)
        turns = cycle([work.target.data_ptr(), other.data_ptr()])
        putting = Row(
            work,
            {"memmove": ctypes.memmove, "source": work.tensor.data_ptr(), "size": work.size, "other": other},
            put="memmove(a, source, size)", puts=lambda n: list(islice(turns, n)),
        )  # fmt: skip
        return {COPY: reading, "torch.from_dlpack of a capsule": handing, "memcpy": putting}

    def openings(self, work: Work, folder: str) -> dict[str, Opening]:
        """As a dict has them: nothing is opened."""
        kept = {key: tensor.clone() for key, tensor in work.tensors.items()}
        return {COPY: lambda: Opened(kept.__getitem__)}


PEER = Floor
