"""Moorage, in both modes of its tensors, and into the caller's memory."""

from __future__ import annotations

from typing import Literal

import moorage

from .opened import Opened, Opening
from .peer import READ, Peer, Row, Work

VIEW, PUT_TENSOR = "Moorage, view", "Moorage"

# Of a first read.
PREFAULTED, PLAIN = 'Moorage, view, prefault="open"', "Moorage, view, no prefault"


class Ours(Peer):
    title = "Moorage"
    place = "a memfd of its process"

    def __init__(self) -> None:
        self.store: moorage.Store | None = None

    def fill(self, work: Work) -> dict[str, Row]:
        self.close()
        self.store = store = moorage.Store((len(work.keys) + 3) * work.size + (64 << 20))
        store.put_tensors(work.tensors)
        names = {
            "get_tensor": store.get_tensor, "get_tensors": store.get_tensors, "get_into": store.get_into,
            "put_tensor": store.put_tensor, "target": work.target,
        }  # fmt: skip
        view = Row(work, names, get='get_tensor(key, mode="view")', many='get_tensors(keys, mode="view")')
        default = Row(work, names, get="get_tensor(key)", many="get_tensors(keys)")
        into = Row(work, names)
        into.add(READ, "get_into(key, target)")
        put = Row(work, names, put='put_tensor("put", t)')
        return {VIEW: view, "Moorage, default mode": default, "Moorage, get_into": into, PUT_TENSOR: put}

    def openings(self, work: Work, folder: str) -> dict[str, Opening]:
        """A store is filled by who opens it; what is opened here and read for the first time is its mapping."""

        def opening(prefault: Literal["none", "open"], mode: Literal["view", "cow"]) -> Opening:
            def again() -> Opened:
                store = moorage.Store(len(work.keys) * work.size + (1 << 20), prefault=prefault, mode=mode)
                return Opened(store.get_tensor, lambda: store.put_tensors(work.tensors), lambda: store.close(wait=True))

            return again

        return {
            PREFAULTED: opening("open", "view"), PLAIN: opening("none", "view"),
            "Moorage, default mode": opening("none", "cow"),
        }  # fmt: skip

    def close(self) -> None:
        if self.store is not None:
            self.store.close()


PEER = Ours
