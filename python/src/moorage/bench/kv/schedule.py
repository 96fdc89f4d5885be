"""What will be done, in which order and when: it is fixed by the seed before anything runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import InvalidArgumentError

READ, WRITE, READ_OR_WRITE = "read", "write", "read or write"
"""The last reads what is there, and stores it when it is not: prefixes, chunks of documents, blocks of a trace."""
_KINDS = (READ, WRITE, READ_OR_WRITE)

PHASES = ("prefix", "history", "prefill", "rag", "decode")


@dataclass(frozen=True)
class Op:
    kind: str
    key: str
    tokens: int
    phase: str


@dataclass(frozen=True)
class Request:
    """`arrival` is in nanoseconds from the beginning of the run."""

    user: int
    number: int
    """Of this user's requests."""
    arrival: int
    qos: str
    priority: int
    context: int
    """Tokens of the prompt."""
    generate: int
    """Tokens of the answer."""
    ops: tuple[Op, ...]

    @property
    def name(self) -> str:
        return f"u{self.user}r{self.number}"


@dataclass(frozen=True)
class Schedule:
    requests: Sequence[Request]
    before: Sequence[Op]
    """Written before the run begins."""
    name: str
    """Where it comes from."""

    def digest(self) -> str:
        """SHA-256 of all of it: same digest, same work."""
        digest = hashlib.sha256()
        for line in self.lines():
            digest.update(line.encode())
            digest.update(b"\n")
        return digest.hexdigest()

    def lines(self) -> Iterator[str]:
        for op in self.before:
            yield json.dumps(["before", *_plain(op)])
        for r in self.requests:
            ops = [_plain(op) for op in _folded(r.ops)]
            counts = [n for _, n in _counted(r.ops)]
            yield json.dumps(
                [
                    r.user,
                    r.number,
                    r.arrival,
                    r.qos,
                    r.priority,
                    r.context,
                    r.generate,
                    [[n, *o] for n, o in zip(counts, ops)],
                ]
            )

    def written(self) -> dict[str, int]:
        """Tokens of every key that may come into being."""
        found = {op.key: op.tokens for op in self.before}
        for request in self.requests:
            for op in request.ops:
                if op.kind != READ:
                    found[op.key] = op.tokens
        return found

    def largest(self) -> int:
        return max((op.tokens for op in self.ops()), default=0)

    def ops(self) -> Iterator[Op]:
        yield from self.before
        for request in self.requests:
            yield from request.ops


def _plain(op: Op) -> list[Any]:
    return [op.kind, op.key, op.tokens, op.phase]


def _counted(ops: Iterable[Op]) -> Iterator[tuple[Op, int]]:
    """Repetitions in a row: decoding reads the same object many times."""
    last, n = None, 0
    for op in ops:
        if op == last:
            n += 1
            continue
        if last is not None:
            yield last, n
        last, n = op, 1
    if last is not None:
        yield last, n


def _folded(ops: Iterable[Op]) -> Iterator[Op]:
    return (op for op, _ in _counted(ops))


_HEAD = "moorage kv-bench schedule 1"


def save(schedule: Schedule, path: str) -> None:
    """One line of JSON each; the first says what it is, and its digest."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(json.dumps([_HEAD, schedule.name, schedule.digest()]) + "\n")
        for line in schedule.lines():
            file.write(line + "\n")


def load(path: str) -> Schedule:
    """What `save` has written. InvalidArgumentError for anything else, and for what was changed since."""
    with open(path, encoding="utf-8") as file:
        try:
            head = json.loads(file.readline())
            if head[0] != _HEAD:
                raise ValueError("the first line is another")
            before: list[Op] = []
            requests: list[Request] = []
            for line in file:
                words = json.loads(line)
                if words[0] == "before":
                    before.append(_op(words[1:]))
                else:
                    requests.append(_request(words))
            found = Schedule(requests, before, str(head[1]))
        except (ValueError, IndexError, TypeError, KeyError) as error:
            raise InvalidArgumentError(f"{path} is not a schedule that --record-trace has written: {error}") from None
    if found.digest() != head[2]:
        raise InvalidArgumentError(f"{path} was changed or cut off after it was written: its digest is another")
    return found


def _op(words: Sequence[Any]) -> Op:
    kind, key, tokens, phase = words
    if kind not in _KINDS or phase not in PHASES or not isinstance(tokens, int) or tokens < 1 or not key:
        raise ValueError(f"an operation cannot be {words!r}")
    return Op(kind, str(key), tokens, phase)


def _request(words: Sequence[Any]) -> Request:
    user, number, arrival, qos, priority, context, generate, folded = words
    ops: list[Op] = []
    for n, *op in folded:
        ops += [_op(op)] * n
    return Request(user, number, arrival, qos, priority, context, generate, tuple(ops))
