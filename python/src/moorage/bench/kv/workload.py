"""Requests of simulated users. Everything that is random comes from streams of the seed: no clock, no shared state."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from . import arrivals
from .arrivals import SECOND
from .config import Config, Qos, Template
from .schedule import READ, READ_OR_WRITE, WRITE, Op, Request, Schedule

MOST_CLOSED = 5_000
"""Requests that a closed loop has in store."""


@dataclass(frozen=True)
class Wanted:
    """What the flags say about the workload."""

    users: int
    duration: float
    seed: int
    config: Config = field(default_factory=Config)
    scale: float = 1.0
    multi_turn: bool = True
    prefixes: bool = True
    rag_documents: int = 0
    mode: str = "both"
    """Or "prefill", "decode"."""
    arrival: str = "users"
    rate: float = 0.0
    cv: float = 1.0
    max_requests: int = 0
    decode_reads: int | None = None
    """Full reads of the request's object; None as its answer is long."""
    block_tokens: int = 0
    """0: an object holds a whole prompt."""


class Sizes:
    """Tokens after --scale, and blocks of them."""

    def __init__(self, wanted: Wanted) -> None:
        self._scale, self._block = wanted.scale, wanted.block_tokens

    def ops(self, kind: str, key: str, tokens: int, phase: str) -> list[Op]:
        scaled = max(1, round(tokens * self._scale))
        if not self._block:
            return [Op(kind, key, scaled, phase)]
        block = max(1, round(self._block * self._scale))
        starts = range(0, scaled, block)
        return [Op(kind, f"{key}.b{i}", min(block, scaled - at), phase) for i, at in enumerate(starts)]


class User:
    """A stream of requests: what this one does depends on the seed and its number alone."""

    def __init__(self, wanted: Wanted, number: int) -> None:
        self._wanted, self._config = wanted, wanted.config
        self.number = number
        self._random = random.Random(f"{wanted.seed}/user/{number}")
        name = self._random.choice(list(self._config.user_templates))
        self._template: Template = self._config.user_templates[name]
        self._context = self._draw(self._template.context)
        self._answer = self._draw(self._template.generate)
        self._qos, self._profile = self._service()
        self._sizes = Sizes(wanted)
        self._written: list[list[Op]] = []
        self._count = 0

    def _draw(self, between: tuple[float, float]) -> int:
        return self._random.randint(int(between[0]), int(between[1]))

    def _service(self) -> tuple[str, Qos]:
        at = self._random.random()
        for name, profile in self._config.qos_profiles.items():
            at -= profile.share
            if at < 0:
                return name, profile
        return name, profile

    def think(self) -> int:
        """Nanoseconds until this user's next request."""
        seconds = self._random.uniform(*self._template.think) * self._random.uniform(0.8, 1.2)
        return int(seconds * SECOND)

    def request(self, arrival: int) -> Request:
        number, self._count = self._count, self._count + 1
        context = self._random.randint(max(1, self._context // 4), max(1, self._context))
        answer = self._random.randint(max(1, self._answer // 4), max(1, self._answer))
        before, shared = self._prefix(context)
        ops = before + self._own(number, max(1, context - shared), context, answer)
        return Request(self.number, number, arrival, self._qos, self._profile.priority, context, answer, tuple(ops))

    def _prefix(self, context: int) -> tuple[list[Op], int]:
        """A system prompt that many requests begin with, and its tokens. The first that has it computes it, and stores
        it.
        """
        prefix = self._config.prefix_cache
        if not self._wanted.prefixes or self._random.random() >= prefix.probability:
            return [], 0
        i = self._random.randrange(len(prefix.prompt_tokens))
        tokens = prefix.prompt_tokens[i]
        if tokens >= context:
            return [], 0
        return self._sizes.ops(READ_OR_WRITE, f"prefix{i}", tokens, "prefix"), tokens

    def _own(self, number: int, tokens: int, context: int, answer: int) -> list[Op]:
        wanted, decode = self._wanted, self._config.decode
        if wanted.mode == "decode":
            i = self._random.randrange(wanted.users * decode.prepopulated_per_user)
            return self._rag() + self._decode(f"before{i}", decode.prepopulated_tokens, answer)
        key = f"u{self.number}r{number}"
        ops = self._history()
        own = self._sizes.ops(WRITE, key, tokens, "prefill")
        if wanted.multi_turn:
            self._written.append(own)
        ops += own + self._rag()
        if wanted.mode == "both" and context < decode.prefill_only_from_tokens:
            ops += self._decode(key, tokens, answer)
        return ops

    def _history(self) -> list[Op]:
        """All earlier turns of the conversation."""
        rules = self._config.conversation
        if not self._wanted.multi_turn:
            return []
        goes_on = self._random.random() < rules.continue_probability
        if not goes_on or len(self._written) >= rules.max_turns:
            self._written = []
        return [Op(READ, op.key, op.tokens, "history") for turn in self._written for op in turn]

    def _rag(self) -> list[Op]:
        rag = self._config.rag
        if not self._wanted.rag_documents or self._random.random() >= rag.probability:
            return []
        document = self._random.randrange(self._wanted.rag_documents)
        places = range(rag.chunks_per_document)
        weights = [1 / (place + 1) for place in places]
        ops = []
        for place in self._random.choices(places, weights, k=rag.chunks_per_request):
            ops += self._sizes.ops(READ_OR_WRITE, f"doc{document}.{place}", rag.chunk_tokens, "rag")
        return ops

    def _decode(self, key: str, tokens: int, answer: int) -> list[Op]:
        """One look at the object, and all of it again for every so many tokens of the answer."""
        again = self._wanted.decode_reads
        if again is None:
            again = math.ceil(answer / self._config.decode.tokens_per_read)
        return self._sizes.ops(READ, key, tokens, "decode") * (1 + again)


def synthetic(wanted: Wanted) -> Schedule:
    """The requests of all users until the time is up, in the order of their arrival."""
    users = [User(wanted, i) for i in range(wanted.users)]
    if wanted.arrival in arrivals.OPEN:
        found = _by_rate(wanted, users)
    elif wanted.arrival == "closed":
        found = (users[i % len(users)].request(0) for i in range(MOST_CLOSED))
    else:
        found = _by_thinking(wanted, users)
    limit = wanted.max_requests or None
    return Schedule(list(itertools.islice(found, limit)), before(wanted), f"synthetic, seed {wanted.seed}")


def before(wanted: Wanted) -> list[Op]:
    if wanted.mode != "decode":
        return []
    decode, sizes = wanted.config.decode, Sizes(wanted)
    ops = []
    for i in range(wanted.users * decode.prepopulated_per_user):
        ops += sizes.ops(WRITE, f"before{i}", decode.prepopulated_tokens, "prefill")
    return ops


def _by_thinking(wanted: Wanted, users: list[User]) -> Iterator[Request]:
    """Users that do not wait for their answers: each sends the next request when it has thought."""
    end = int(wanted.duration * SECOND)
    waiting = [(user.think(), user.number) for user in users]
    heapq.heapify(waiting)
    while waiting:
        now, number = heapq.heappop(waiting)
        if now >= end:
            continue
        yield users[number].request(now)
        heapq.heappush(waiting, (now + users[number].think(), number))


def _by_rate(wanted: Wanted, users: list[User]) -> Iterator[Request]:
    end = int(wanted.duration * SECOND)
    times = arrivals.arrivals(wanted.arrival, wanted.rate, wanted.cv, wanted.seed)
    for i, now in enumerate(times):
        if now >= end:
            return
        yield users[i % len(users)].request(now)
