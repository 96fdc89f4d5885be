"""All paths by name."""

from __future__ import annotations

from ....errors import InvalidArgumentError
from ..models import Model
from .direct import Direct
from .files import Buffered, Load, LoadAndCopy, Mapped
from .ours import Ours
from .path import Path

FILES = {one.name: one for one in (LoadAndCopy, Load, Mapped, Buffered, Direct)}
NAMES = (*FILES, Ours.name)


def chosen(name: str) -> str:
    """What "auto" means here. InvalidArgumentError for what there is not."""
    if name == "auto":
        return Ours.name
    if name not in NAMES:
        raise InvalidArgumentError(f"--backend {name}: there are {', '.join(NAMES)}")
    return name


def opened(name: str, folder: str, model: Model, *, memory: int, capacity: int, verify: bool) -> Path:
    """Lacking where it cannot be used here."""
    if name == Ours.name:
        return Ours(folder, model, memory=memory, capacity=capacity, verify=verify)
    return FILES[name](folder, model)
