"""`prefix`: the first k (rule 22)."""

from fractions import Fraction
from typing import ClassVar, Literal

from raptr_dsl.laws.base import Law, Pool, Select
from raptr_dsl.laws.ranking import always


class Prefix(Law):
    varies: ClassVar[bool] = False
    summary: ClassVar[str] = "the first k, no randomness"

    law: Literal["prefix"] = "prefix"

    def marginals(self, pool: Pool) -> tuple[Fraction, ...]:
        on = frozenset(pool.keep + self._chosen(pool))
        return tuple(Fraction(unit in on) for unit in range(pool.n))

    def sampler(self, pool: Pool) -> Select:
        return always(pool, self._chosen(pool))

    def _chosen(self, pool: Pool) -> tuple[int, ...]:
        return pool.units[: int(pool.quota)]
