"""`systematic`: `bernoulli` in its marginals, but the count is always ⌊Σp⌋ or ⌈Σp⌉ (rule 26)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from math import ceil, floor, lcm
from typing import TYPE_CHECKING, ClassVar, Literal

from raptr_dsl.laws.base import Draws, Law, Pool, Select
from raptr_dsl.laws.bernoulli import probabilities, probability_problems
from raptr_dsl.laws.ranking import ranked_units
from raptr_dsl.words import below

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_EXACT_BELOW = 2**32
"""Common denominators up to this one are handled in 64-bit integers."""

_SCALE_BITS = 46
"""Beyond, in multiples of 2^−46: 65,536 of them still add up within 63 bits."""


class Systematic(Law):
    exact: ClassVar[bool] = False
    summary: ClassVar[str] = "each unit with its own probability, and a count that is the mean rounded down or up"

    law: Literal["systematic"] = "systematic"

    def problems(self, pool: Pool) -> Sequence[str]:
        return probability_problems(pool)

    def marginals(self, pool: Pool) -> tuple[Fraction, ...]:
        return probabilities(pool)

    def counts(self, pool: Pool) -> tuple[int, int]:
        return floor(pool.size), ceil(pool.size)

    def sampler(self, pool: Pool) -> Select:
        import numpy as np

        chances = probabilities(pool)
        denominator = lcm(*(chances[unit].denominator for unit in pool.units))
        parts = [int(p * denominator) for p in chances]
        order, crossed = ranked_units(pool), _crossed(parts, denominator)

        def select(draws: Draws) -> NDArray[np.bool_]:
            ranked = order(draws.words())
            count, sites, n = draws.shape
            rows = np.arange(count * sites)[:, None]
            on = np.ones((count * sites, n), np.bool_)  # the kept units are
            hit = crossed(ranked, draws.reserved())
            on[rows, ranked.reshape(rows.size, -1)] = hit.reshape(rows.size, -1)
            return on.reshape(draws.shape)

        return select


Crossed = Callable[["NDArray[np.intp]", "NDArray[np.uint64]"], "NDArray[np.bool_]"]


def _crossed(parts: list[int], denominator: int) -> Crossed:
    """(units in rank order intp[D, sites, n′], words uint64[D]) → bool[D, sites, n′]: ⌊P + o⌋ rises at that unit.

    P is the sum of p = parts/denominator up to and with a unit, o the offset, word/2^64. As P is a whole number of
    1/denominator, o may be cut to one as well: all is then integers.
    """
    if denominator <= _EXACT_BELOW:
        return _crossed_in_words(parts, denominator)
    return _crossed_by_filter(parts, denominator)


def _crossed_in_words(parts: list[int], denominator: int) -> Crossed:
    import numpy as np

    part = np.array(parts, np.int64)

    def crossed(ranked: NDArray[np.intp], words: NDArray[np.uint64]) -> NDArray[np.bool_]:
        step = part[ranked]
        after = step.cumsum(-1)
        after += below(denominator, words)[:, None, None]
        # A step of at most the denominator has passed a multiple of it if what is over is less than the step.
        after -= after // denominator * denominator
        return after < step

    return crossed


def _crossed_by_filter(parts: list[int], denominator: int) -> Crossed:
    """Big denominators: sums rounded down to 46 bits decide wherever their error cannot; the rest is done exactly."""
    import numpy as np

    one = 1 << _SCALE_BITS
    part = np.array([number * one // denominator for number in parts], np.int64)

    def crossed(ranked: NDArray[np.intp], words: NDArray[np.uint64]) -> NDArray[np.bool_]:
        step = part[ranked]
        after = step.cumsum(-1)
        after += (words >> np.uint64(64 - _SCALE_BITS)).astype(np.int64)[:, None, None]
        before = after - step
        hit = after >> _SCALE_BITS > before >> _SCALE_BITS
        # The true sums are above these ones, by less than 1 for each unit and 1 for the word.
        doubt = one - (ranked.shape[-1] + 1)
        doubtful = ((after & one - 1 >= doubt) | (before & one - 1 >= doubt)).any(-1)
        for draw, site in np.argwhere(doubtful):
            hit[draw, site] = _crossed_exactly(parts, denominator, ranked[draw, site], int(words[draw]))
        return hit

    return crossed


def _crossed_exactly(parts: list[int], denominator: int, ranked: NDArray[np.intp], word: int) -> list[bool]:
    total, hits = word * denominator >> 64, []
    for unit in ranked.tolist():
        before, total = total, total + parts[unit]
        hits.append(total // denominator > before // denominator)
    return hits
