"""`bernoulli`: each unit independently of the others (rules 26, 27)."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import floor
from typing import TYPE_CHECKING, ClassVar, Literal

from raptr_dsl.laws.base import Draws, Law, Pool, Select

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Bernoulli(Law):
    exact: ClassVar[bool] = False
    summary: ClassVar[str] = "each unit independently, so the count varies (the paper's definition)"

    law: Literal["bernoulli"] = "bernoulli"

    def problems(self, pool: Pool) -> Sequence[str]:
        return probability_problems(pool)

    def marginals(self, pool: Pool) -> tuple[Fraction, ...]:
        return probabilities(pool)

    def counts(self, pool: Pool) -> tuple[int, int]:
        chances = probabilities(pool)
        return sum(p >= 1 for p in chances), sum(p > 0 for p in chances)

    def sampler(self, pool: Pool) -> Select:
        import numpy as np

        chances = probabilities(pool)
        certain = np.array([p >= 1 for p in chances])
        below = np.array([0 if p <= 0 or p >= 1 else floor(p * 2**64) for p in chances], np.uint64)
        some_certain = bool(certain.any())

        def select(draws: Draws) -> NDArray[np.bool_]:
            on = draws.words() < below
            if some_certain:
                on |= certain
            return on

        return select


def probabilities(pool: Pool) -> tuple[Fraction, ...]:
    """p of each of the n units: 1 if kept, else 1 − w·δ with the δ that makes `pool.size` the mean (rule 26)."""
    missing = pool.n - pool.size
    if pool.weights is None or not missing:
        return pool.marginals()
    delta = missing / _pool_weight(pool)
    kept = frozenset(pool.keep)
    one = Fraction(1)
    return tuple(one if unit in kept else 1 - weight * delta for unit, weight in enumerate(pool.weights))


def probability_problems(pool: Pool) -> list[str]:
    """Why no such probabilities exist."""
    if pool.weights is None:
        return []
    if len(pool.weights) != pool.n:
        return [f"the profile has {len(pool.weights)} weights, but there are {pool.n} units"]
    negative = next((unit for unit, weight in enumerate(pool.weights) if weight < 0), None)
    if negative is not None:
        return [f"the profile's weight of unit {negative} is negative"]
    missing = pool.n - pool.size
    if not missing:
        return []
    total = _pool_weight(pool)
    if not total:
        return ["the profile's weight is 0 for every unit that may be off, so none ever is"]
    unit = max(pool.units, key=lambda unit: pool.weights[unit] if pool.weights else 0)
    if pool.weights[unit] * missing > total:
        return [
            f"with this profile unit {unit} would be on with probability "
            f"{float(1 - pool.weights[unit] * missing / total):.3g}: "
            f"the least possible size is {_least_size(pool, unit)} of {pool.n}"
        ]
    return []


def _pool_weight(pool: Pool) -> Fraction:
    return sum((pool.weights[unit] for unit in pool.units), Fraction(0)) if pool.weights else Fraction(0)


def _least_size(pool: Pool, unit: int) -> str:
    """The size at which the unit with the greatest weight is just never on, as text."""
    if pool.weights is None:
        return str(len(pool.keep))
    least = pool.n - _pool_weight(pool) / pool.weights[unit]
    return str(least) if least.denominator <= 1024 else f"≈ {float(least):.4g}"
