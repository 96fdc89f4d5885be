"""What is claimed against the peers, each judged by what was measured."""

from __future__ import annotations

from dataclasses import dataclass

from ..aims import Judged, Verdict
from . import lmdb, mooncake, safetensors, torch_load
from .compare import BATCH_SIZE
from .peer import BATCH_HAND, HAND, PUT, READ, Peer
from .results import Peers

KIB, MIB = 1 << 10, 1 << 20


@dataclass(frozen=True)
class Claim:
    """That a row takes at least `least` times as long as Moorage does; at every size where `size` is None.

    With 1, that Moorage is not slower. Two that do the same work are equal but for the noise, so this is missed only
    where three rounds in four say so; everything else is judged by the median.
    """

    what: str
    peer: type[Peer]
    rows: tuple[str, ...]
    work: str
    size: int | None
    least: float
    why: str = ""
    """Where it does not hold: what is known of the reason."""

    def judge(self, peers: Peers) -> Judged:
        limit = "not slower" if self.least == 1 else f">= {self.least:g} x faster"
        verdict = self._verdict(peers)
        if verdict is None:
            why = peers.missing.get(self.peer.title) or peers.missing.get("all", "not in this run")
            return Judged(self.what, limit, why, "not measured")
        word = "met" if verdict.met else "missed"
        return Judged(self.what, limit, verdict.text, word, "" if verdict.met else self.why)

    def _verdict(self, peers: Peers) -> Verdict | None:
        found = peers.of(self.rows, self.work, self.size)
        if not found:
            return None
        worst = min(found, key=lambda one: one.times or 0)
        text = f"{worst.times:.2f} x ({worst.low:.2f} to {worst.high:.2f})" + (" at worst" if len(found) > 1 else "")
        deciding = worst.high if self.least == 1 else worst.times
        return Verdict(text, (deciding or 0) >= self.least)


_M, _SPEED = mooncake.Mooncake, (
    "a file that stays mapped is read at the speed of memory once its pages are there, and so is a view: the copy "
    "into the buffer is all that is left of either, and 1.3 x faster than that copy is out of reach. (A new mapping "
    "pays for page faults first: see torch.load each time. Some libc copy a little faster from an address that is "
    "not a multiple of 64, as those in LMDB and safetensors files are; Moorage's always is.)"
)  # fmt: skip

CLAIMS = (
    Claim("get and read, 64 MiB: view against Mooncake get_tensor", _M, (mooncake.GET,), READ, 64 * MIB, 6),
    Claim(
        "get and read, 64 MiB: view against Mooncake get_tensor_into", _M, (mooncake.INTO,), READ, 64 * MIB, 1,
        "both make one copy of the bytes, by one thread, into the same kind of buffer.",
    ),
    Claim(
        "get and read, 64 MiB: view against LMDB", lmdb.Lmdb, (lmdb.RENEWED, lmdb.STAYS), READ, 64 * MIB, 1.3, _SPEED
    ),
    Claim(
        "get and read, 64 MiB: view against safetensors", safetensors.Safetensors, (safetensors.Safetensors.title,),
        READ, 64 * MIB, 1.3, _SPEED,
    ),
    Claim(
        "get and read, 64 MiB: view against torch.load(mmap=True)", torch_load.Load, (torch_load.LOADED,), READ,
        64 * MIB, 1.3, _SPEED,
    ),
    Claim("hand-over, any size: view against LMDB", lmdb.Lmdb, (lmdb.RENEWED, lmdb.STAYS), HAND, None, 1),
    Claim("put_tensor, 4 KiB, against Mooncake", _M, (mooncake.PUT,), PUT, 4 * KIB, 15),
    Claim("put_tensor, 1 MiB, against Mooncake", _M, (mooncake.PUT,), PUT, MIB, 3),
    Claim("put_tensor, 64 MiB, against Mooncake", _M, (mooncake.PUT,), PUT, 64 * MIB, 1),
    Claim("128 gets of 32 KiB against Mooncake, hand-over", _M, (mooncake.GET,), BATCH_HAND, BATCH_SIZE, 10),
    Claim("128 gets of 32 KiB against Mooncake _into, hand-over", _M, (mooncake.INTO,), BATCH_HAND, BATCH_SIZE, 10),
)  # fmt: skip


def judge(peers: Peers) -> list[Judged]:
    return [claim.judge(peers) for claim in CLAIMS]
