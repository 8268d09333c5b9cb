"""`systematic`: `bernoulli` in its marginals, but the count is always ⌊Σp⌋ or ⌈Σp⌉ (rule 26)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from math import ceil, floor, lcm
from typing import TYPE_CHECKING, ClassVar, Literal

from raptr_dsl.laws.base import Draws, Law, Pool, Select
from raptr_dsl.laws.bernoulli import probabilities, probability_problems
from raptr_dsl.laws.ranking import flat_index, ranked_units
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

    def spread(self, pool: Pool) -> tuple[Fraction, Fraction]:
        """One offset serves all sites, and decides of all alike whether their counts are rounded up."""
        rounded_up = pool.size % 1
        variance = rounded_up * (1 - rounded_up)
        return variance, variance

    def chances(self, pool: Pool) -> dict[int, Fraction]:
        rounded_up = pool.size % 1
        found = {floor(pool.size): 1 - rounded_up, ceil(pool.size): rounded_up}
        return {count: chance for count, chance in found.items() if chance} or {int(pool.size): Fraction(1)}

    def sampler(self, pool: Pool) -> Select:
        import numpy as np

        chances = probabilities(pool)
        denominator = lcm(*(chances[unit].denominator for unit in pool.units))
        parts = [int(p * denominator) for p in chances]
        order, crossed = ranked_units(pool), _crossed(parts, pool.units, denominator)

        def select(draws: Draws) -> NDArray[np.bool_]:
            ranked = order(draws.words())
            on = np.ones(draws.shape, np.bool_)  # the kept units are
            on.ravel()[flat_index(ranked, draws.shape)] = crossed(ranked, draws.reserved())
            return on

        return select


Crossed = Callable[["NDArray[np.intp]", "NDArray[np.uint64]"], "NDArray[np.bool_]"]


def _crossed(parts: list[int], units: Sequence[int], denominator: int) -> Crossed:
    """(units in rank order intp[D, sites, n′], words uint64[D]) → bool[D, sites or 1, n′]: ⌊P + o⌋ rises at that unit.

    P is the sum of p = parts/denominator up to and with a unit, o the offset, word/2^64. As P is a whole number of
    1/denominator, o may be cut to one as well: all is then integers.
    """
    if denominator <= _EXACT_BELOW:
        return _crossed_in_words(parts, units, denominator)
    return _crossed_by_filter(parts, denominator)


def _crossed_in_words(parts: list[int], units: Sequence[int], denominator: int) -> Crossed:
    import numpy as np

    part = np.array(parts, np.int64)
    of_pool = part[list(units)]
    sums = of_pool.cumsum()

    def crossed_alike(_: NDArray[np.intp], words: NDArray[np.uint64]) -> NDArray[np.bool_]:
        return passed(sums + below(denominator, words)[:, None, None], of_pool)

    def crossed(ranked: NDArray[np.intp], words: NDArray[np.uint64]) -> NDArray[np.bool_]:
        step = part[ranked]
        return passed(step.cumsum(-1) + below(denominator, words)[:, None, None], step)

    def passed(after: NDArray[np.int64], step: NDArray[np.int64]) -> NDArray[np.bool_]:
        """A step of at most the denominator has passed a multiple of it if what is over is less than the step."""
        after -= after // denominator * denominator
        return after < step

    # Where all parts are alike, what is passed at a rank does not depend on the unit that has it.
    return crossed_alike if len(set(of_pool.tolist())) == 1 else crossed


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
