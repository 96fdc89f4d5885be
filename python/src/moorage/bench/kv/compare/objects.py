"""What is read: objects of the schedule, each once, in the order in which the schedule first reads them."""

from __future__ import annotations

from dataclasses import dataclass

from ..planning import Plan
from ..schedule import WRITE


@dataclass(frozen=True)
class Object:
    key: str
    tokens: int
    nbytes: int


def objects(plan: Plan, budget: int) -> list[Object]:
    """As many as the budget of bytes allows, and at least one."""
    each = plan.model.bytes_per_token
    found: dict[str, Object] = {}
    total = 0
    for request in plan.schedule.requests:
        for op in request.ops:
            if op.kind == WRITE or op.key in found:
                continue
            nbytes = op.tokens * each
            if found and total + nbytes > budget:
                return list(found.values())
            found[op.key] = Object(op.key, op.tokens, nbytes)
            total += nbytes
    return list(found.values())
