"""`buckets=N`: the numbers of blocks for which a compiled backend builds programs where the counts are random.

A step runs in the program of the least bucket that holds its blocks; idle blocks in the slots left over are computed
and discarded. So masks, losses and gradients are what they are without buckets, and only time is lost: the buckets are
those that lose the least in expectation. A full step takes no bucket.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from raptr_dsl.axes import Space
from raptr_dsl.ir.bound import BoundRule
from raptr_dsl.occupancy import staircase


def with_buckets(rule: BoundRule, space: Space, steps: int, number: int) -> BoundRule:
    """The rule of a stage of so many steps, with at most `number` buckets."""
    return rule.model_copy(update={"buckets": buckets(expected_counts(rule, space, steps), number, space.units)})


def expected_counts(rule: BoundRule, space: Space, steps: int) -> dict[int, Fraction]:
    """The expected number of steps in which each number of units runs."""
    parts = list(staircase(rule, space))
    ends = [*(offset for offset, _ in parts[1:]), steps]
    found: dict[int, Fraction] = {}
    for (offset, taken), end in zip(parts, ends, strict=True):
        for pool, times in taken.pools:
            for count, chance in taken.law.chances(pool).items():
                found[count] = found.get(count, Fraction(0)) + chance * times * (end - offset) / taken.total
    return {count: weight for count, weight in sorted(found.items()) if weight}


def buckets(steps: Mapping[int, Fraction], number: int, full: int) -> tuple[int, ...]:
    """The buckets, ascending, that hold every count below `full` with the fewest units in vain, and fewest of them.

    By dynamic programming over the counts: the greatest is always a bucket, and of the others each subset is weighed.
    """
    counts = [count for count in steps if count < full]
    if not counts:
        return ()
    # lost[n][j]: the least loss for counts up to number j where that one is a bucket and the n-th.
    best = [(_lost(steps, counts, -1, j), (counts[j],)) for j in range(len(counts))]
    least = best[-1]
    for _ in range(1, number):
        best = [
            min(
                [(best[i][0] + _lost(steps, counts, i, j), (*best[i][1], counts[j])) for i in range(j)],
                default=best[j],
                key=lambda found: found[0],
            )
            for j in range(len(counts))
        ]
        least = min(least, best[-1], key=lambda found: (found[0], len(found[1])))
    return least[1]


def _lost(steps: Mapping[int, Fraction], counts: list[int], below: int, at: int) -> Fraction:
    """Units in vain of the counts after number `below` up to number `at`, which is their bucket."""
    return sum(((counts[at] - count) * steps[count] for count in counts[below + 1 : at]), Fraction(0))
