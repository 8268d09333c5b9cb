"""Masked language modelling: which positions have to be filled in, and what stands there meanwhile.

After BERT (arXiv:1810.04805, 3.1): 8 in 10 positions show the mask, 1 a random token of text, 1 the token
itself. Unlike there, every row has the same number of positions, so that a head on a share of them costs an
exact number of FLOPs.

With A = 4⌈seq/4⌉, position p of row r has word r·A + p of the stream `mlm-place`, its low 16 bits (32 from
65,537 positions on) replaced by p; the least words are chosen. With F = 4⌈2·count/4⌉, the j-th chosen
position of row r has words r·F + 2j (what is shown, an integer below 10) and r·F + 2j + 1 (the random token)
of the stream `mlm-fill`. An integer below m is here ⌊⌊word / 2³²⌋·m / 2³²⌋.
"""

from fractions import Fraction
from typing import NamedTuple

import numpy as np

from raptr_dsl.data.draws import LANES, words

RATE = Fraction(15, 100)


class Masked(NamedTuple):
    """A batch to fill in: int64 inputs [batch, seq], targets and ascending positions [batch, count]."""

    inputs: np.ndarray
    targets: np.ndarray
    positions: np.ndarray


def masked_count(seq_len: int, rate: Fraction | str = RATE) -> int:
    """How many positions of each row are to be filled in: rate · seq_len, the half rounded up.

    Raises:
        ValueError: that is not between 1 and seq_len.
    """
    count = (Fraction(rate) * seq_len + Fraction(1, 2)).__floor__()
    if not 1 <= count <= seq_len:
        raise ValueError(f"a rate of {rate} hides {count} of {seq_len} positions: 1 to all of them can be")
    return count


def mask_tokens(
    tokens: np.ndarray,
    seed: int,
    step: int,
    *,
    text_tokens: int,
    mask: int,
    rate: Fraction | str = RATE,
    first_row: int = 0,
) -> Masked:
    """Hides tokens [batch, seq], rows first_row … of a step.

    Which, and what they show, depends on (seed, step, row, seq, rate) alone.

    Raises:
        ValueError: see `masked_count`.
    """
    rows, seq_len = tokens.shape
    count = masked_count(seq_len, rate)
    positions = _places(seed, step, first_row, rows, seq_len, count)
    targets = np.take_along_axis(tokens, positions, 1).astype(np.int64)
    fill = _rows_of_words("mlm-fill", seed, step, first_row, rows, 2 * count)
    kind, random = _below(fill[:, 0::2], 10), _below(fill[:, 1::2], text_tokens)
    shown = np.where(kind < 8, mask, np.where(kind == 8, random, targets))
    inputs = tokens.astype(np.int64)
    np.put_along_axis(inputs, positions, shown, 1)
    return Masked(inputs, targets, positions)


def _places(seed: int, step: int, first_row: int, rows: int, seq_len: int, count: int) -> np.ndarray:
    """The chosen positions of each row, ascending, int64 [rows, count]."""
    low_bits = np.uint64(16 if seq_len <= 1 << 16 else 32)
    drawn = _rows_of_words("mlm-place", seed, step, first_row, rows, seq_len)
    ranks = drawn >> low_bits << low_bits | np.arange(seq_len, dtype=np.uint64)
    least = np.partition(ranks, count - 1, axis=1)[:, :count]
    return np.sort((least & ((np.uint64(1) << low_bits) - np.uint64(1))).astype(np.int64), axis=1)


def _rows_of_words(name: str, seed: int, step: int, first_row: int, rows: int, width: int) -> np.ndarray:
    """`width` words for each row, uint64 [rows, width]; every row begins with a fresh Philox block."""
    padded = -(-width // LANES) * LANES
    return words(name, seed, step, first_row * padded, rows * padded).reshape(rows, padded)[:, :width]


def _below(drawn: np.ndarray, bound: int) -> np.ndarray:
    """The integers below `bound` ≤ 2³² that words draw, int64 of their shape."""
    return ((drawn >> np.uint64(32)) * np.uint64(bound) >> np.uint64(32)).astype(np.int64)
