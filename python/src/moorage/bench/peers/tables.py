"""What is shown of a run with peers."""

from __future__ import annotations

from ..aims import Judged
from ..report import Table, duration, size
from .compare import BATCH, BATCH_SIZE
from .opened import FIRST, OPEN_AND_READ, OPENING
from .passes import objects
from .peer import BATCH_HAND, BATCH_READ, HAND, PUT, READ
from .results import Peers

TITLES = {
    READ: "Get and read again: a get, then one copy into a warm buffer, so that every byte is read; what is opened "
    "stays open, and the same object is read each time",
    HAND: "Hand-over: a get without reading",
    PUT: "Put: the store takes a copy",
}

# Of a first read.
FIRST_NOTES = (
    "Bytes that were mapped a moment ago cost a page fault for every few pages when they are touched for the first "
    "time, though they are in memory: so are a pass over a dataset and weights that are loaded once read, each object "
    'once. Moorage pays for that in its opening with prefault="open" (a program that maps files itself can do the '
    "same), and without it at the first read, as everybody does; in its default mode at every read. A store is filled "
    "after its opening, outside of the time, as the files were written before theirs. A dict, Redis and Mooncake are "
    "not here: they map nothing, and what they take for a read is above.",
)

# What the tables do not show.
NOTES = (
    "Time of a call in a row of them, and how many times as long as Moorage's it takes (the view's; of puts, "
    "put_tensor's): the median of rounds in which each had its turn, right beside Moorage. The claims have the "
    "middle half of the rounds too.",
    "Everything here is one process that reads what it stored, in memory, without a network card: what Moorage is for. "
    "Who needs something else below is not helped by these figures.",
    "A dict, and what torch.load has loaded once: nothing is looked after. Whoever writes to a tensor writes to "
    "everybody's; nothing is bounded, counted or evicted. If that is no concern, it is the best choice.",
    "shared_memory and tensordict put by writing over the bytes that others may be reading. They share with any "
    "process that knows the name, which Moorage does not do yet.",
    "safetensors, torch.save and Arrow write a whole file for a put. Their files are what they are for: they outlive "
    "the process, can be passed on, and Arrow's are read in a dozen languages.",
    "LMDB is a database: transactions, ordered keys, readers in many processes, durable when it is asked to. Here it "
    "is not asked to, and a tensor may be read only as long as its transaction lives.",
    "Redis serves many machines, with replication, persistence, expiry and much else beside bytes under a key. Every "
    "get is a message, so every byte is copied several times.",
    "Mooncake pools the memory of a cluster for inference engines: RDMA, NVLink and other transports, GPU memory, "
    "replicas, SSD tiers, tenants, a highly available master, integrations with vLLM and SGLang. Moorage has none of "
    "that. Here it runs with master and client on one machine over TCP, which is not what it was built for; local "
    "copies take its memcpy path. get_tensor_into delivers into the caller's warm, registered buffer, so nothing is "
    "copied once more to read it.",
)


def tables(peers: Peers, claims: list[Judged]) -> list[Table]:
    shown = [table for work in TITLES if (table := _by_size(peers, work)).rows]
    first = [_first(peers, n) for n in sorted({one.size for one in peers.results if one.work == FIRST})]
    shown[1:1] = [*first, Table("Of a first read", ("",), [(note,) for note in FIRST_NOTES])] if first else []
    batch = _batch(peers)
    shown += [batch] if batch.rows else []
    if peers.missing:
        shown.append(Table("Peers not measured", ("peer", "not measured:"), list(peers.missing.items()), left=2))
    if peers.places:
        shown.append(Table("Where the bytes lie", ("", ""), list(peers.places.items()), left=2))
    shown.append(Table("To be read with this", ("",), [(note,) for note in NOTES]))
    rows = [(claim.what, claim.limit, claim.text, claim.verdict) for claim in claims]
    shown.append(Table("Against the peers", ("claim", "limit", "measured", "verdict"), list(rows), left=4))
    reasons = [(claim.what, claim.why) for claim in claims if claim.why]
    if reasons:
        shown.append(Table("Why a claim does not hold, as far as is known", ("", ""), list(reasons), left=2))
    return shown


def cell(peers: Peers, row: str, work: str, n: int) -> str:
    for one in peers.results:
        if (one.row, one.work, one.size) == (row, work, n):
            times = "" if one.times is None else f"  {ratio(one.times)} x"
            return duration(one.timed.mean) + times
    return ""


def ratio(times: float) -> str:
    return f"{times:.2f}" if times < 10 else f"{times:,.0f}"


def rows_of(peers: Peers, *works: str) -> list[str]:
    return list(dict.fromkeys(one.row for one in peers.results if one.work in works))


def _by_size(peers: Peers, work: str) -> Table:
    sizes = sorted({one.size for one in peers.results if one.work == work})
    table = Table(TITLES[work], ("", *map(size, sizes)))
    for row in rows_of(peers, work):
        table.rows.append((row, *(cell(peers, row, work, n) for n in sizes)))
    return table


def _first(peers: Peers, n: int) -> Table:
    title = f"First read after opening (each object once): {objects(n)} x {size(n)}, opened anew in every round"
    table = Table(title, ("", "read, each", "opening", "opening, then all reads", "page faults, each"))
    for one in peers.results:
        if (one.work, one.size) == (FIRST, n):
            opening = cell(peers, one.row, OPENING, n).partition("  ")[0]
            read, everything = cell(peers, one.row, FIRST, n), cell(peers, one.row, OPEN_AND_READ, n)
            table.rows.append((one.row, read, opening, everything, f"{one.timed.faults:.0f}"))
    return table


def _batch(peers: Peers) -> Table:
    table = Table(f"{BATCH} x {size(BATCH_SIZE)}, in one call where there is one", ("", "get and read", "hand-over"))
    for row in rows_of(peers, BATCH_READ, BATCH_HAND):
        table.rows.append((row, *(cell(peers, row, work, BATCH_SIZE) for work in (BATCH_READ, BATCH_HAND))))
    return table
