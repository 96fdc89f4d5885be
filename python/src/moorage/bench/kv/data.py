"""What objects are filled with: bytes that nothing can compress, and of which no two pages are alike."""

from __future__ import annotations

import hashlib
import zlib

import numpy as np

from .lane import Bytes

PAGE = 4096
_WORDS = PAGE // 8
_NOISE = 32 << 20


class Data:
    """An object's bytes follow from the seed and its key: noise, each word of it changed by a word of the key's, with
    a word at the beginning of each page that no other page of any object has. One pass over memory makes it.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        source = np.random.Generator(np.random.SFC64([seed, 0x6B76]))
        self._noise = np.frombuffer(source.bytes(_NOISE), np.uint64)

    def _key(self, key: str) -> tuple[int, int, int]:
        """Of the key: the word that changes the noise, where in the noise it begins, the stamp of its first page."""
        digest = hashlib.sha256(f"{self.seed}/{key}".encode()).digest()
        word, at, stamp = (int.from_bytes(digest[i : i + 8], "little") for i in (0, 8, 16))
        return word, at % (len(self._noise) // _WORDS) * _WORDS, stamp

    def fill(self, key: str, target: Bytes) -> None:
        word, at, stamp = self._key(key)
        whole = len(target) // 8
        words = target[: whole * 8].view(np.uint64)
        done = 0
        while done < whole:
            n = min(whole - done, len(self._noise) - at)
            np.bitwise_xor(self._noise[at : at + n], np.uint64(word), out=words[done : done + n])
            done, at = done + n, 0
        pages = words[::_WORDS]
        with np.errstate(over="ignore"):
            np.add(np.arange(len(pages), dtype=np.uint64), np.uint64(stamp), out=pages)
        rest = target[whole * 8 :]
        rest[:] = np.frombuffer(word.to_bytes(8, "little"), np.uint8)[: len(rest)]

    def looks_right(self, key: str, data: Bytes) -> bool:
        """The stamps of the first and the last page: a read that came back with other pages, or none."""
        word, _, stamp = self._key(key)
        if len(data) < 8:
            return data.tobytes() == word.to_bytes(8, "little")[: len(data)]
        last = (len(data) // 8 - 1) // _WORDS
        for page in {0, last}:
            found = int.from_bytes(data[page * PAGE : page * PAGE + 8].tobytes(), "little")
            if found != (stamp + page) % (1 << 64):
                return False
        return True

    def crc(self, key: str, nbytes: int) -> int:
        target = np.empty(nbytes, np.uint8)
        self.fill(key, target)
        return zlib.crc32(target.data)
