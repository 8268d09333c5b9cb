"""`balanced`: exactly k of n, dealt in rounds, so that all units run equally often (rule 23)."""

from __future__ import annotations

from fractions import Fraction
from math import gcd
from typing import TYPE_CHECKING, ClassVar, Literal

from raptr_dsl.laws.base import Draws, Law, Pool, Select
from raptr_dsl.laws.ranking import ranked_units, switch_on

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Balanced(Law):
    anchored: ClassVar[bool] = True
    summary: ClassVar[str] = "exactly k of n, dealt in rounds: every unit runs equally often, to within one draw"

    law: Literal["balanced"] = "balanced"

    def marginals(self, pool: Pool) -> tuple[Fraction, ...]:
        return pool.marginals()

    def round_length(self, pool: Pool) -> int:
        return len(pool.units) // (gcd(len(pool.units), int(pool.quota)) or 1) or 1

    def sampler(self, pool: Pool) -> Select:
        import numpy as np

        order, switched = ranked_units(pool), switch_on(pool)
        size, quota, length = len(pool.units), int(pool.quota), self.round_length(pool)
        place = np.arange(quota)

        def select(draws: Draws) -> NDArray[np.bool_]:
            count, sites, _ = draws.shape
            first, last = draws.index // length, (draws.index + count - 1) // length
            dealt = order(draws.words_of(range(first * length, last * length + 1, length)))
            if count == 1:
                return switched(dealt[0][:, (draws.index % length * quota + place) % size], draws.shape)
            number = np.arange(draws.index, draws.index + count)
            taken = ((number % length * quota)[:, None] + place) % size
            rounds = (number // length - first)[:, None, None]
            return switched(dealt[rounds, np.arange(sites)[:, None], taken[:, None, :]], draws.shape)

        return select
