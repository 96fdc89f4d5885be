"""`--compare`: the same objects by every path, in turns, at equal depth."""

from __future__ import annotations

from .run import Compared, compare, content, from_raw, raw
from .show import draw, tables

__all__ = ["Compared", "compare", "content", "draw", "from_raw", "raw", "tables"]
