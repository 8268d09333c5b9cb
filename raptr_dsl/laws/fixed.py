"""`fixed`: exactly k of n, uniformly, without replacement (rule 22)."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, ClassVar, Literal

from raptr_dsl.laws.base import Draws, Law, Pool, Select
from raptr_dsl.laws.ranking import least, rank_keys

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Fixed(Law):
    summary: ClassVar[str] = "exactly k of n, uniformly, without replacement"

    law: Literal["fixed"] = "fixed"

    def marginals(self, pool: Pool) -> tuple[Fraction, ...]:
        return pool.marginals()

    def sampler(self, pool: Pool) -> Select:
        keys, size = rank_keys(pool), int(pool.size)

        def select(draws: Draws) -> NDArray[np.bool_]:
            return least(keys(draws.words()), size)

        return select
