"""`moorage bench disk`: objects read from a directory by every honest path in turns, each time cold, and proved so."""

from __future__ import annotations

from .command import main

__all__ = ["main"]
