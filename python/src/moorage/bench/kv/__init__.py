"""The KV cache of many users on storage: `moorage kv-bench`."""

from __future__ import annotations

from .command import main

__all__ = ["main"]
