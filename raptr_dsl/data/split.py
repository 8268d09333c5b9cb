"""Which tokens are held out of training: contiguous chunks, one drawn out of every 64, whatever the run.

A stream of N tokens is cut into ⌊N/chunk⌋ chunks of `chunk` tokens, the last one taking the remainder.
Chunks are grouped by 64 in order (the last group may be smaller), and each group gives one chunk to the
held-out text: word g of the stream `split` (seed 0, step 0) draws which. No window leaves its stretch, so
none overlaps both texts.
"""

from dataclasses import dataclass

import numpy as np

from raptr_dsl.data.draws import below, words
from raptr_dsl.data.errors import data_error

CHUNKS_PER_GROUP = 64
_SMALLEST, _LARGEST = 32, 8192


@dataclass(frozen=True)
class Stretches:
    """Contiguous ranges [starts, ends) of the token stream, ascending and disjoint: int64 [n] each."""

    starts: np.ndarray
    ends: np.ndarray

    @property
    def tokens(self) -> int:
        return int((self.ends - self.starts).sum())

    @property
    def longest(self) -> int:
        return int((self.ends - self.starts).max())


def default_chunk(tokens: int) -> int:
    """Tokens in a chunk: the greatest power of two that leaves 16 chunks or more, from 32 to 8192."""
    return min(max(1 << max(tokens // 16, 1).bit_length() - 1, _SMALLEST), _LARGEST)


def split(tokens: int, chunk: int) -> tuple[Stretches, Stretches]:
    """The training text and the held-out text of a stream of that many tokens.

    Raises:
        DataError: the stream has fewer than two chunks, so one of the two would be empty.
        ValueError: `chunk` is not positive.
    """
    if chunk < 1:
        raise ValueError(f"a chunk holds at least one token, not {chunk}")
    chunks = tokens // chunk
    if chunks < 2:
        raise data_error(
            "data-too-short",
            f"{tokens} tokens are too few to hold some of them out of training: {2 * chunk} are needed",
            help="give more text",
        )
    borders = np.append(np.arange(chunks, dtype=np.int64) * chunk, tokens)
    first = np.arange(0, chunks, CHUNKS_PER_GROUP)
    sizes = np.minimum(CHUNKS_PER_GROUP, chunks - first).tolist()
    drawn = words("split", 0, 0, 0, len(first)).tolist()
    out = first + np.array([below(word, size) for word, size in zip(drawn, sizes, strict=True)])
    held_out = Stretches(borders[out], borders[out + 1])
    starts, ends = np.append(0, held_out.ends), np.append(held_out.starts, tokens)
    occupied = starts < ends
    return Stretches(starts[occupied], ends[occupied]), held_out
