"""`moorage bench register`: what registering memory costs beside copying it, on this machine."""

from __future__ import annotations

from .command import main

__all__ = ["main"]
