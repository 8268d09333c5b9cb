"""`rotate`: the next k in turn, no randomness (rule 24)."""

from __future__ import annotations

from fractions import Fraction
from math import gcd
from typing import TYPE_CHECKING, ClassVar, Literal

from raptr_dsl.laws.base import Draws, Law, Pool, Select
from raptr_dsl.laws.ranking import switch_on

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Rotate(Law):
    anchored: ClassVar[bool] = True
    summary: ClassVar[str] = "the next k in turn, no randomness"

    law: Literal["rotate"] = "rotate"

    def marginals(self, pool: Pool) -> tuple[Fraction, ...]:
        return pool.marginals()

    def round_length(self, pool: Pool) -> int:
        return len(pool.units) // (gcd(len(pool.units), int(pool.quota)) or 1) or 1

    def sampler(self, pool: Pool) -> Select:
        import numpy as np

        units = np.array(pool.units, np.intp)
        quota, length = int(pool.quota), self.round_length(pool)
        place, switched = np.arange(quota), switch_on(pool)

        def select(draws: Draws) -> NDArray[np.bool_]:
            count, sites, _ = draws.shape
            turns = np.arange(draws.index, draws.index + count) if draws.rounds is None else draws.rounds
            chosen = units[((turns % length * quota)[:, None, None] + place) % units.size]
            return switched(np.broadcast_to(chosen, (count, sites, quota)), draws.shape)

        return select
