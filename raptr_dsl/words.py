"""The words from which all masks are made: a counter-based stream, read at any step (rules 18, 19)."""

from __future__ import annotations

import threading
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LANES = 4
"""Words that Philox4x64 makes from one counter."""

_CALL_WORDS = 1024
"""Setting the counter anew costs as much as generating about this many words."""


def axis_key(seed: int, axis: str) -> tuple[int, int]:
    """The Philox key of an axis: the first 16 bytes of a SHA-256, as two little-endian 64-bit words (rule 18)."""
    digest = sha256(b"raptr-mask-1\0" + seed.to_bytes(8, "little") + axis.encode()).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:16], "little")


def below(bound: int, words: NDArray[np.uint64]) -> NDArray[np.int64]:
    """⌊word·bound / 2⁶⁴⌋ of each word, for 1 ≤ bound ≤ 2³² (rule 21)."""
    import numpy as np

    if words.size == 1:  # one number is sooner done than six calls
        return np.array([words.item() * bound >> 64], np.int64).reshape(words.shape)
    half = np.uint64(32)
    factor = np.uint64(bound)
    low = (words & np.uint64(2**32 - 1)) * factor >> half
    return ((words >> half) * factor + low >> half).astype(np.int64)


class _Generator(threading.local):
    """One Philox a thread, its counter and key set before each use: three times as fast as a new one."""

    def __init__(self) -> None:
        from numpy.random import Philox

        self.philox = Philox(0)
        self.position = {"counter": [0, 0, 0, 0], "key": [0, 0]}
        self.state = {
            "bit_generator": "Philox",
            "state": self.position,
            "buffer": [0] * LANES,
            "buffer_pos": LANES,  # nothing is left of an earlier block
            "has_uint32": 0,
            "uinteger": 0,
        }

    def raw(self, key: list[int], counter: int, count: int) -> NDArray[np.uint64]:
        """`count` words of the stream of `key`, from the block behind `counter` on."""
        self.position["key"] = key
        self.position["counter"][0] = counter
        self.philox.state = self.state  # pyright: ignore[reportAttributeAccessIssue] - lists are faster than arrays
        return self.philox.random_raw(count)


_generator: _Generator | None = None


def _philox() -> _Generator:
    global _generator
    if _generator is None:
        _generator = _Generator()
    return _generator


class Words:
    """The words of one axis: at every step one for each unit of each site, and a reserved one.

    A row holds the words of one step: word s·n + u is unit u's at site s, the one after them is reserved,
    and what remains up to a multiple of four is not used.
    """

    def __init__(self, seed: int, axis: str, sites: int, units: int) -> None:
        self.sites, self.units = sites, units
        self.per_step = sites * units + 1
        self._blocks = -(-self.per_step // LANES)
        self._key = list(axis_key(seed, axis))

    def rows(self, steps: range) -> NDArray[np.uint64]:
        """uint64[len(steps), row]: the words of these steps, ascending."""
        import numpy as np

        width, generator = self._blocks * LANES, _philox()
        if len(steps) == 1:
            return generator.raw(self._key, steps.start * self._blocks, width).reshape(1, width)
        if steps.step == 1 or steps.step * width <= _CALL_WORDS:
            span = steps[-1] - steps[0] + 1
            words = generator.raw(self._key, steps.start * self._blocks, span * width)
            return words.reshape(span, width)[:: steps.step]
        rows = np.empty((len(steps), width), np.uint64)
        for row, step in enumerate(steps):
            rows[row] = generator.raw(self._key, step * self._blocks, width)
        return rows

    def of_units(self, rows: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """uint64[D, sites, units] of rows uint64[D, row]."""
        return rows[:, : self.per_step - 1].reshape(-1, self.sites, self.units)

    def reserved(self, rows: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """uint64[D] of rows uint64[D, row]."""
        return rows[:, self.per_step - 1]
