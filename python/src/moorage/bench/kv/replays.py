"""Workloads from files: BurstGPT, ShareGPT, and traces of block hashes."""

from __future__ import annotations

import csv
import glob
import itertools
import json
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Callable

from ...errors import InvalidArgumentError
from . import arrivals
from .arrivals import SECOND
from .schedule import READ, READ_OR_WRITE, WRITE, Op, Request, Schedule
from .workload import Sizes, Wanted

MOST_AT_ONCE = 5_000
"""Requests, when a trace is replayed without pauses and without an end."""
HASHED = 512
"""Tokens of a block of a hash trace."""
_NAMES = 1000
"""Users that the rows of BurstGPT are given to in turns."""


@dataclass(frozen=True)
class Line:
    """One request of a trace; `key` is the same for the turns of a conversation."""

    at: float
    """Seconds since the trace began."""
    user: int
    context: int
    generate: int
    key: str
    hashes: tuple[int, ...] = ()


def burst(wanted: Wanted, pattern: str, speedup: float, cycles: int) -> Schedule:
    """BurstGPT's columns Timestamp, Request tokens, Response tokens; others are left alone."""
    paths = sorted(glob.glob(os.path.join(pattern, "*.csv") if os.path.isdir(pattern) else pattern))
    if not paths:
        raise InvalidArgumentError(f"--burst-trace-path {pattern}: there is no such file")
    return _timed(wanted, lambda: _burst_lines(paths), speedup, cycles, f"BurstGPT {os.path.basename(paths[0])}")


def _burst_lines(paths: Iterable[str]) -> Iterator[Line]:
    number = itertools.count()
    for path in paths:
        with open(path, encoding="utf-8", newline="") as file:
            for i, row in enumerate(csv.DictReader(file)):
                try:
                    at, context = float(row["Timestamp"]), int(float(row["Request tokens"]))
                    answer = int(float(row["Response tokens"]))
                except (KeyError, TypeError, ValueError):
                    raise InvalidArgumentError(
                        f"{path}, line {i + 2}: there must be numbers in Timestamp, Request tokens and Response tokens"
                    ) from None
                if context > 0:
                    n = next(number)
                    yield Line(at, n % _NAMES, context, max(1, answer), f"burst{n}")


def hashed(wanted: Wanted, path: str, speedup: float, cycles: int) -> Schedule:
    """JSON lines with timestamp in milliseconds, input_length, output_length, hash_ids: a hash names a block of 512
    tokens together with all before it. A block that was stored is read, another is computed and stored.
    """
    return _timed(wanted, lambda: _hash_lines(path), speedup, cycles, f"hash trace {os.path.basename(path)}")


def _hash_lines(path: str) -> Iterator[Line]:
    with open(path, encoding="utf-8") as file:
        for i, text in enumerate(file):
            if not text.strip():
                continue
            try:
                row = json.loads(text)
                hashes = tuple(int(one) for one in row["hash_ids"])
                yield Line(
                    row["timestamp"] / 1000, i % _NAMES, int(row["input_length"]), int(row["output_length"]), "", hashes
                )
            except (KeyError, TypeError, ValueError):
                raise InvalidArgumentError(
                    f"{path}, line {i + 1}: not JSON with timestamp, input_length, output_length and hash_ids"
                ) from None


def _timed(wanted: Wanted, lines: Callable[[], Iterator[Line]], speedup: float, cycles: int, name: str) -> Schedule:
    """The trace, again and again as often as it is wanted, until the time is up."""
    limit = wanted.max_requests or (MOST_AT_ONCE if speedup == 0 else None)
    requests = list(itertools.islice(_cycles(wanted, lines, speedup, cycles), limit))
    if not requests:
        raise InvalidArgumentError(f"{name}: nothing in it comes before the time is up (--duration, --trace-speedup)")
    return Schedule(requests, [], name)


def _cycles(wanted: Wanted, lines: Callable[[], Iterator[Line]], speedup: float, cycles: int) -> Iterator[Request]:
    end = wanted.duration * SECOND
    start = 0.0
    for cycle in itertools.count() if cycles == 0 else range(cycles):
        first = last = None
        for i, line in enumerate(lines()):
            first = line.at if first is None else first
            last = start + (line.at - first) / speedup * SECOND if speedup else start
            if last >= end:
                return
            yield _request(wanted, line, i, cycle, int(last))
        if last is None:
            return
        start = last


def _request(wanted: Wanted, line: Line, number: int, cycle: int, arrival: int) -> Request:
    sizes = Sizes(wanted)
    qos, priority = _service(wanted, line.user)
    if line.hashes:
        ops: list[Op] = []
        for i, one in enumerate(line.hashes):
            tokens = min(HASHED, line.context - i * HASHED)
            ops += sizes.ops(READ_OR_WRITE, f"hash{one}", max(1, tokens), "prefix")
    else:
        key = f"{line.key}c{cycle}"
        ops = [] if wanted.mode == "decode" else sizes.ops(WRITE, key, line.context, "prefill")
        if wanted.mode != "prefill":
            ops += _decode(wanted, sizes, key, line)
    name = number + cycle * 10**7
    return Request(line.user, name, arrival, qos, priority, line.context, line.generate, tuple(ops))


def _decode(wanted: Wanted, sizes: Sizes, key: str, line: Line) -> list[Op]:
    again = wanted.decode_reads
    if again is None:
        again = math.ceil(line.generate / wanted.config.decode.tokens_per_read)
    return sizes.ops(READ, key, line.context, "decode") * (1 + again)


def _service(wanted: Wanted, user: int) -> tuple[str, int]:
    """By the shares of the profiles, over the users in their order."""
    at = (user * 0.6180339887498949) % 1
    name, profile = "", None
    for name, profile in wanted.config.qos_profiles.items():  # noqa: B007
        at -= profile.share
        if at < 0:
            break
    assert profile is not None
    return name, profile.priority


def sharegpt(wanted: Wanted, path: str, conversations: int, cycles: int) -> Schedule:
    """Conversations of human and gpt turns. Tokens are characters over a number that the configuration has: no
    tokenizer is asked. With --request-rate the turns come at that rate, else a second apart for each conversation.
    """
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except ValueError as error:
        raise InvalidArgumentError(f"--dataset-path {path}: {error}") from None
    if not isinstance(content, list):
        raise InvalidArgumentError(f"--dataset-path {path}: not a list of conversations")
    turns = [turn for n, one in enumerate(content[:conversations]) for turn in _turns(wanted, path, n, one)]
    if not turns:
        raise InvalidArgumentError(f"--dataset-path {path}: no turn of a human with an answer is in it")
    found = list(itertools.islice(_conversations(wanted, turns, cycles), wanted.max_requests or None))
    return Schedule(found, [], f"ShareGPT {os.path.basename(path)}")


def _turns(wanted: Wanted, path: str, number: int, one: Any) -> list[tuple[int, int, int, int]]:
    """Conversation, turn, tokens of the question, tokens of the answer."""
    rules = wanted.config.sharegpt
    found: list[tuple[int, int, int, int]] = []
    try:
        said = [(str(turn["from"]), str(turn["value"])) for turn in one["conversations"]]
    except (KeyError, TypeError):
        raise InvalidArgumentError(
            f"--dataset-path {path}: entry {number} has no conversations of from and value"
        ) from None
    for (who, question), (other, answer) in zip(said, said[1:]):
        if who == "human" and other == "gpt":
            tokens = [max(1, int(len(text) / rules.characters_per_token)) for text in (question, answer)]
            context = min(tokens[0], rules.max_context_tokens)
            found.append((number, len(found), context, min(tokens[1], rules.max_generate_tokens)))
    return found


def _conversations(wanted: Wanted, turns: list[tuple[int, int, int, int]], cycles: int) -> Iterator[Request]:
    end = int(wanted.duration * SECOND)
    by_rate = wanted.arrival in arrivals.OPEN
    times = arrivals.arrivals(wanted.arrival, wanted.rate, wanted.cv, wanted.seed) if by_rate else None
    order = sorted(turns, key=lambda turn: (turn[1], turn[0]))  # first turns of all come first
    longest = max(turn[1] for turn in turns) + 1
    for cycle in itertools.count() if cycles == 0 else range(cycles):
        for number, turn, context, answer in order:
            at = next(times) if times else (0 if wanted.arrival == "closed" else (cycle * longest + turn) * SECOND)
            if at >= end:
                return
            yield _turn(wanted, cycle, number, turn, context, answer, at, turns)
        if wanted.arrival == "closed" and cycles == 0:
            return


def _turn(
    wanted: Wanted, cycle: int, number: int, turn: int, context: int, answer: int, at: int,
    turns: list[tuple[int, int, int, int]],
) -> Request:  # fmt: skip
    sizes, name = Sizes(wanted), f"g{number}c{cycle}"
    ops: list[Op] = []
    if wanted.multi_turn:
        for other, earlier, tokens, _ in turns:
            if other == number and earlier < turn:
                ops += sizes.ops(READ, f"{name}t{earlier}", tokens, "history")
    key = f"{name}t{turn}"
    ops += sizes.ops(WRITE, key, context, "prefill")
    qos, priority = _service(wanted, number)
    line = Line(0, number, context, answer, key)
    if wanted.mode != "prefill":
        ops += _decode(wanted, sizes, key, line)
    number_of_turn = turn + cycle * 10**7
    return Request(number, number_of_turn, at, qos, priority, context, answer, tuple(ops))
