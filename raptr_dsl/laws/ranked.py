"""`ranked(order=[…])`: the k most important by a given ranking (rule 22)."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from raptr_dsl.laws.base import Law, Pool, Select
from raptr_dsl.laws.ranking import LOW_BITS, always


class Ranked(Law):
    """Attributes: order: every unit of a site once, the most important first."""

    varies: ClassVar[bool] = False
    summary: ClassVar[str] = "the k most important by a given ranking, no randomness"

    law: Literal["ranked"] = "ranked"
    order: tuple[Annotated[int, Field(ge=0, le=LOW_BITS)], ...] = Field(min_length=1, max_length=LOW_BITS + 1)

    def problems(self, pool: Pool) -> Sequence[str]:
        listed = frozenset(self.order)
        outside = [unit for unit in self.order if unit >= pool.n]
        missing = [unit for unit in range(pool.n) if unit not in listed]
        problems = []
        if outside:
            problems.append(f"order names unit {outside[0]}, but the {pool.n} units are numbered 0 to {pool.n - 1}")
        if len(listed) < len(self.order):
            twice = next(unit for unit in self.order if self.order.count(unit) > 1)
            problems.append(f"order names unit {twice} more than once")
        if missing:
            problems.append(f"order lacks unit {missing[0]}: it has to name all {pool.n} units")
        return problems

    def marginals(self, pool: Pool) -> tuple[Fraction, ...]:
        on = frozenset(pool.keep + self._chosen(pool))
        return tuple(Fraction(unit in on) for unit in range(pool.n))

    def sampler(self, pool: Pool) -> Select:
        return always(pool, self._chosen(pool))

    def _chosen(self, pool: Pool) -> tuple[int, ...]:
        kept = frozenset(pool.keep)
        return tuple(unit for unit in self.order if unit not in kept)[: int(pool.quota)]
