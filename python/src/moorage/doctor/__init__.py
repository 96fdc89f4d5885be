"""What this machine gives a store: `moorage doctor`, or `python -m moorage doctor`.

Looks at limits, the kernel and what is installed, and says of each what it means for a store and how to change it.
It changes nothing, imports neither numpy nor torch, and whatever it cannot look at becomes a line that says so.
"""

from __future__ import annotations

from .command import main

__all__ = ["main"]
