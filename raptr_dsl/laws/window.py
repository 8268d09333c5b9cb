"""`window`: k neighbours at a random offset, with wrap-around (rule 22)."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, ClassVar, Literal

from raptr_dsl.laws.base import Draws, Law, Pool, Select
from raptr_dsl.laws.ranking import switch_on
from raptr_dsl.words import below

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Window(Law):
    summary: ClassVar[str] = "k neighbours at a random offset, with wrap-around"

    law: Literal["window"] = "window"

    def marginals(self, pool: Pool) -> tuple[Fraction, ...]:
        return pool.marginals()

    def sampler(self, pool: Pool) -> Select:
        import numpy as np

        units = np.array(pool.units, np.intp)
        breadth, switched = np.arange(int(pool.quota)), switch_on(pool)

        def select(draws: Draws) -> NDArray[np.bool_]:
            offset = below(units.size, draws.words()[..., 0])
            return switched(units[(offset[..., None] + breadth) % units.size], draws.shape)

        return select
