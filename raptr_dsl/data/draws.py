"""The words that choose windows, held-out chunks and masked positions: counter-based, by integers only.

The key is the first 16 bytes of SHA-256("raptr-data-1\\0" ‖ seed as unsigned 64-bit little-endian ‖ name), as
two little-endian 64-bit words: another domain than that of a schedule's masks, so neither depends on the
other. Word i of step t is lane i mod 4 of Philox4x64-10 at counter (⌊i/4⌋ + 1, t, 0, 0). An integer below m
from a word is ⌊word·m / 2⁶⁴⌋.
"""

import hashlib
from functools import lru_cache

import numpy as np

LANES = 4
_DOMAIN = b"raptr-data-1\0"
_UNSIGNED = 1 << 64


@lru_cache(maxsize=64)
def key(name: str, seed: int) -> int:
    """The 128-bit Philox key of a named stream.

    Raises:
        ValueError: the seed is not an unsigned 64-bit integer.
    """
    if not 0 <= seed < _UNSIGNED:
        raise ValueError(f"a seed is an integer from 0 to 2^64 - 1, not {seed}")
    digest = hashlib.sha256(_DOMAIN + seed.to_bytes(8, "little") + name.encode()).digest()
    return int.from_bytes(digest[:16], "little")


def words(name: str, seed: int, step: int, first: int, count: int) -> np.ndarray:
    """Words first … first + count − 1 of a step, uint64 [count]. Any of them can be had without the others.

    Raises:
        ValueError: the seed or the step is not an unsigned 64-bit integer.
    """
    if not 0 <= step < _UNSIGNED:
        raise ValueError(f"a step is an integer from 0 to 2^64 - 1, not {step}")
    block, lane = divmod(first, LANES)
    # NumPy counts up before it generates: the first block it yields is that of counter block + 1.
    generator = np.random.Philox(key=key(name, seed), counter=(step << 64) + block)
    return generator.random_raw(lane + count)[lane:]


def below(word: int, bound: int) -> int:
    """The integer below `bound` that a word draws."""
    return word * bound >> 64
