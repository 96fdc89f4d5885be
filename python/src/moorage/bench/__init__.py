"""Figures of this machine: `moorage bench`, or `python -m moorage bench`.

Every figure stands beside its floor, the least that the same thing could cost, measured alternately in the same run:
machines are shared and noisy, and a ratio of neighbours survives that where an absolute figure does not.
"""

from __future__ import annotations

from .command import main

__all__ = ["main"]
