"""Writes over whatever a store believes to be free, so that memory which was given back too early shows."""

from __future__ import annotations

import moorage

FOREIGN = 0xEE


def overwrite_free(store: moorage.Store) -> int:
    """Fills the store until it is full, empties it of that again, and says how many bytes that were."""
    stored = 0
    keys = []
    for size in (256 << 10, 32 << 10, 4 << 10):
        block = bytes([FOREIGN]) * size
        while True:
            key = f"overwrite/{len(keys)}"
            try:
                store.put(key, block)
            except moorage.CapacityError:
                break
            keys.append(key)
            stored += size
    for key in keys:
        store.remove(key)
    return stored
