"""What is claimed against the peers, each judged by what was measured."""

from __future__ import annotations

from dataclasses import dataclass

from ..aims import Judged, Verdict
from . import lmdb, mooncake, ours, safetensors, torch_load
from .compare import BATCH_SIZE
from .opened import FIRST, FIRST_PLAIN, OPEN_AND_READ
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
        text += self._opening(peers)
        deciding = worst.high if self.least == 1 else worst.times
        return Verdict(text, (deciding or 0) >= self.least)

    def _opening(self, peers: Peers) -> str:
        """What becomes of a first read when the opening and all reads after it count."""
        mine = _mean(peers, _STORES.get(self.work, ""), self.size)
        theirs = _mean(peers, self.rows[0], self.size)
        return f"; {theirs / mine:.2f} x with the opening" if mine and theirs else ""


# By the work: whose times a first read is beside.
_STORES = {FIRST: ours.PREFAULTED, FIRST_PLAIN: ours.PLAIN}


def _mean(peers: Peers, row: str, size: int | None) -> float | None:
    return next((one.timed.mean for one in peers.of((row,), OPEN_AND_READ, size)), None)


_M, _KEPT = mooncake.Mooncake, (
    "a mapped file that is kept open is read at the speed of memory once its pages are there, and so is a view: the "
    "copy into the buffer is all that is left of either, and 1.3 x faster than that copy is out of reach. (Some libc "
    "copy a little faster from an address that is not a multiple of 64, as those in LMDB and safetensors files are; "
    "Moorage's always is.)"
)  # fmt: skip
_COPY = (
    "what is won is the page faults alone, and what one costs depends on the machine and on what else runs there; the "
    "copy that stands beside them is the same for both."
)
_FAULTS = (
    "without prefault the mapping of the store is touched for the first time as well, and pays for the same page "
    'faults. prefault="open" pays for them when the store is opened.'
)

_Files = tuple[type[Peer], str, tuple[str, ...]]
_FILES: tuple[_Files, ...] = (
    (lmdb.Lmdb, "LMDB", (lmdb.STAYS,)),
    (safetensors.Safetensors, "safetensors", (safetensors.OPENED,)),
    (torch_load.Load, "torch.load(mmap=True)", (torch_load.OPENED,)),
)


def _first(how: str, work: str, why: str) -> list[Claim]:
    what = f"read for the first time, 64 MiB, {how}: view against"
    return [Claim(f"{what} {name}", kind, rows, work, 64 * MIB, 1.3, why) for kind, name, rows in _FILES]


def _again(how: str, kind: type[Peer], rows: tuple[str, ...]) -> Claim:
    what = f"read again, 64 MiB, {how}: view against {kind.title.partition(',')[0]}"
    return Claim(what, kind, rows, READ, 64 * MIB, 1.3, _KEPT)


CLAIMS = (
    Claim("get and read, 64 MiB: view against Mooncake get_tensor", _M, (mooncake.GET,), READ, 64 * MIB, 6),
    Claim(
        "get and read, 64 MiB: view against Mooncake get_tensor_into", _M, (mooncake.INTO,), READ, 64 * MIB, 1,
        "both make one copy of the bytes, by one thread, into the same kind of buffer.",
    ),
    _again("kept open", lmdb.Lmdb, (lmdb.RENEWED, lmdb.STAYS)),
    _again("kept open", safetensors.Safetensors, (safetensors.KEPT,)),
    _again("kept open", torch_load.Load, (torch_load.KEPT,)),
    _again("loaded for every get", torch_load.Load, (torch_load.LOADED,)),
    *_first('prefault="open"', FIRST, _COPY),
    *_first("no prefault", FIRST_PLAIN, _FAULTS),
    Claim("hand-over, any size: view against LMDB", lmdb.Lmdb, (lmdb.RENEWED, lmdb.STAYS), HAND, None, 1),
    Claim("put_tensor, 4 KiB, against Mooncake", _M, (mooncake.PUT,), PUT, 4 * KIB, 15),
    Claim("put_tensor, 1 MiB, against Mooncake", _M, (mooncake.PUT,), PUT, MIB, 3),
    Claim("put_tensor, 64 MiB, against Mooncake", _M, (mooncake.PUT,), PUT, 64 * MIB, 1),
    Claim("128 gets of 32 KiB against Mooncake, hand-over", _M, (mooncake.GET,), BATCH_HAND, BATCH_SIZE, 10),
    Claim("128 gets of 32 KiB against Mooncake _into, hand-over", _M, (mooncake.INTO,), BATCH_HAND, BATCH_SIZE, 10),
)  # fmt: skip


def judge(peers: Peers) -> list[Judged]:
    return [claim.judge(peers) for claim in CLAIMS]
