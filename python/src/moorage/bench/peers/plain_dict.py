"""A dict of tensors, each owned by the dict alone."""

from __future__ import annotations

from .peer import Peer, Row, Work


class Dict(Peer):
    title = "dict of tensors"

    def fill(self, work: Work) -> dict[str, Row]:
        kept = {key: tensor.clone() for key, tensor in work.tensors.items()}
        return {self.title: Row(work, {"kept": kept}, get="kept[key]", put='kept["put"] = t.clone()')}


PEER = Dict
