"""`bernoulli`: each unit independently of the others (rules 26, 27)."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import floor, lcm
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
        missing = pool.n - pool.size
        if not missing:
            return pool.n, pool.n
        if pool.weights is None:
            return len(pool.keep), pool.n if pool.quota else len(pool.keep)
        # p = 1 where the weight is 0, and p = 0 where it is the total over what is missing.
        total, least, most = pool.weights.total, len(pool.keep), len(pool.keep)
        for unit in pool.units:
            least += not pool.weights.values[unit]
            most += pool.weights.values[unit] * missing < total
        return least, most

    def spread(self, pool: Pool) -> tuple[Fraction, Fraction]:
        if pool.weights is None:
            chance = Fraction(pool.quota, len(pool.units) or 1)
            return pool.quota * (1 - chance), Fraction(0)
        return sum((p * (1 - p) for p in probabilities(pool)), Fraction(0)), Fraction(0)

    def chances(self, pool: Pool) -> dict[int, Fraction]:
        """Exactly, in whole multiples of a common denominator: one unit after the other."""
        each = probabilities(pool)
        denominator = lcm(*(chance.denominator for chance in each))
        ways = [1]  # of each count, times denominator to the power of the units so far
        for chance in each:
            on = int(chance * denominator)
            off = denominator - on
            ways = [off * same + on * fewer for same, fewer in zip([*ways, 0], [0, *ways], strict=True)]
        total = denominator ** len(each)
        return {count: Fraction(number, total) for count, number in enumerate(ways) if number}

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
    delta = missing / pool.weights.total
    kept = frozenset(pool.keep)
    one = Fraction(1)
    return tuple(one if unit in kept else 1 - weight * delta for unit, weight in enumerate(pool.weights.values))


def probability_problems(pool: Pool) -> list[str]:
    """Why no such probabilities exist."""
    weights, missing = pool.weights, pool.n - pool.size
    if weights is None:
        return []
    if len(weights.values) != pool.n:
        return [f"the profile has {len(weights.values)} weights, but there are {pool.n} units"]
    if weights.negative is not None:
        return [f"the profile's weight of unit {weights.negative} is negative"]
    unit = weights.heaviest
    if not missing or unit is None:
        return []
    if not weights.total:
        return ["the profile's weight is 0 for every unit that may be off, so none ever is"]
    heaviest = weights.values[unit]
    if heaviest * missing <= weights.total:
        return []
    chance, least = 1 - heaviest * missing / weights.total, pool.n - weights.total / heaviest
    size = str(least) if least.denominator <= 1024 else f"≈ {float(least):.4g}"
    return [
        f"with this profile unit {unit} would be on with probability {float(chance):.3g}: "
        f"the least possible size is {size} of {pool.n}"
    ]
