"""`stratified(groups=g)`: `fixed` with k/g in each of g runs of units (rule 25)."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from raptr_dsl.laws.base import Draws, Law, Pool, Select
from raptr_dsl.laws.ranking import LOW_BITS, least, rank_keys

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Stratified(Law):
    """Attributes: groups: g, which divides both the units and the size."""

    summary: ClassVar[str] = "k/g from each of g runs of units: equal work on every rank"

    law: Literal["stratified"] = "stratified"
    groups: int = Field(ge=1, le=LOW_BITS + 1)

    def problems(self, pool: Pool) -> Sequence[str]:
        if pool.n % self.groups:
            return [f"groups={self.groups} does not divide the {pool.n} units"]
        if pool.size % self.groups:
            return [f"groups={self.groups} does not divide the size, {pool.size} units"]
        share = pool.size / self.groups
        return [
            f"keep holds {kept} units in group {group}, more than its share of {share}"
            for group, kept in enumerate(self._kept(pool))
            if kept > share
        ]

    def marginals(self, pool: Pool) -> tuple[Fraction, ...]:
        length, share = pool.n // self.groups, pool.size / self.groups
        chances = [Fraction(share - kept, length - kept) if kept < length else Fraction(1) for kept in self._kept(pool)]
        kept = frozenset(pool.keep)
        return tuple(Fraction(1) if unit in kept else chances[unit // length] for unit in range(pool.n))

    def sampler(self, pool: Pool) -> Select:
        import numpy as np

        keys, share = rank_keys(pool), int(pool.size) // self.groups
        # A group that its kept units fill has nothing to choose; its other units rank last.
        full = [group for group, kept in enumerate(self._kept(pool)) if kept == share]
        kept = frozenset(pool.keep)
        off = np.array(
            [unit for unit in pool.units if unit // (pool.n // self.groups) in full and unit not in kept], np.intp
        )

        def select(draws: Draws) -> NDArray[np.bool_]:
            ranked = keys(draws.words())
            if off.size:
                ranked[..., off] = 2**64 - 1
            count, sites, n = draws.shape
            groups = ranked.reshape(count, sites, self.groups, n // self.groups)
            return least(groups, share).reshape(draws.shape)

        return select

    def _kept(self, pool: Pool) -> list[int]:
        """How many units of each group are kept."""
        kept, length = [0] * self.groups, pool.n // self.groups
        for unit in pool.keep:
            kept[unit // length] += 1
        return kept
