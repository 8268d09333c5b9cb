"""How many units of each axis run, before any mask is drawn: exact expectations and bounds, no sampling."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from raptr_dsl.axes import AXES, Space, trained
from raptr_dsl.ir.bound import BoundDraw, BoundRule, BoundStage
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.laws import Law, Pool
from raptr_dsl.sampling import pool_at, pools


@dataclass(frozen=True, eq=False)
class Occupancy:
    """The active units of one site; a key of dictionaries by what it is, not by what it says.

    Attributes:
        law: how they are chosen.
        pools: those from which a draw can choose, one for each size, with how many of `total` equally likely draws
            have it.
    """

    law: Law
    pools: tuple[tuple[Pool, int], ...]
    total: int = 1

    @cached_property
    def mean(self) -> Fraction:
        """The expected number of active units."""
        if self.total == 1:
            return self.pools[0][0].size
        return sum((times * pool.size for pool, times in self.pools), Fraction(0)) / self.total

    def moment(self, power: int) -> Fraction:
        """The expectation of the number of active units to a power.

        Raises:
            ValueError: the number varies between draws of one size, and the power is not 1.
        """
        if power == 1:
            return self.mean
        if not self.law.exact:
            raise ValueError(f"the expectation of a count to the power {power} is not known under {self.law.law}")
        return sum((times * pool.size**power for pool, times in self.pools), Fraction(0)) / self.total

    def covariance(self, power: int, other: int, same_site: bool) -> Fraction:
        """Of the numbers of active units at one site or at two, in one draw, each to a power.

        Raises:
            ValueError: as `moment`.
        """
        if self.law.exact:  # the size decides, and it is drawn for all sites alike
            return self.moment(power + other) - self.moment(power) * self.moment(other)
        if (power, other) != (1, 1):
            raise ValueError(f"how the powers of a count vary is not known under {self.law.law}")
        if self.total == 1:
            return self._spreads[0][not same_site]
        spreads = zip(self.pools, self._spreads, strict=True)
        within = sum((times * spread[not same_site] for (_, times), spread in spreads), Fraction(0))
        squares = sum((times * pool.size**2 for pool, times in self.pools), Fraction(0))
        return (squares + within) / self.total - self.mean**2

    @cached_property
    def _spreads(self) -> tuple[tuple[Fraction, Fraction], ...]:
        """What `Law.spread` says of each pool."""
        return tuple(self.law.spread(pool) for pool, _ in self.pools)

    @cached_property
    def marginals(self) -> tuple[Fraction, ...]:
        """The probability that each unit is on."""
        if self.total == 1:
            return self.law.marginals(self.pools[0][0])
        each = zip(*(self.law.marginals(pool) for pool, _ in self.pools), strict=True)
        times = [times for _, times in self.pools]
        return tuple(
            sum((chance * number for chance, number in zip(unit, times, strict=True)), Fraction(0)) / self.total
            for unit in each
        )

    @cached_property
    def possible(self) -> tuple[int, ...]:
        """Every number of units that can be on, ascending."""
        counts = dict.fromkeys(self.law.counts(pool) for pool, _ in self.pools)
        return tuple(sorted({count for least, most in counts for count in range(least, most + 1)}))

    @property
    def most(self) -> int:
        return self.possible[-1]


@dataclass(frozen=True, slots=True)
class Segment:
    """Steps [start, stop) of the run, in which no axis changes its rule or its size."""

    start: int
    stop: int
    axes: Mapping[str, Occupancy]

    @property
    def steps(self) -> int:
        return self.stop - self.start


def segments(stage: BoundStage, shape: ModelShape) -> Iterator[Segment]:
    """The constant parts of a stage, in order; they tile it.

    What is drawn to be trained along an axis stands in them under the name that `trained` gives it.
    """
    changes: dict[int, dict[str, Occupancy]] = {0: {}}
    for name, rule in stage.axes.items():
        space = AXES[name].space(shape)
        for key, draw in ((name, rule), (trained(name), rule.train)):
            for offset, taken in staircase(draw, space) if draw else ():
                changes.setdefault(offset, {})[key] = taken
    offsets = sorted(offset for offset in changes if offset < stage.steps)
    axes: dict[str, Occupancy] = {}
    for offset, following in zip(offsets, [*offsets[1:], stage.steps], strict=True):
        axes = axes | changes[offset]
        yield Segment(stage.start + offset, stage.start + following, axes)


def staircase(rule: BoundDraw, space: Space) -> Iterator[tuple[int, Occupancy]]:
    """What a rule lets run, from each offset into its stage on."""
    if rule.choices:
        yield 0, _drawn(rule, space)
        return
    for border, pool in zip(rule.sizes, pools(rule, space), strict=True):
        yield border.offset, Occupancy(rule.law, ((pool, 1),))


def _drawn(rule: BoundDraw, space: Space) -> Occupancy:
    times = Counter(rule.choices)
    return Occupancy(rule.law, tuple(zip(pools(rule, space), times.values(), strict=True)), len(rule.choices))


def occupancy(rule: BoundDraw, space: Space, offset: int) -> Occupancy:
    """What a rule lets run at one site, `offset` steps into its stage."""
    if rule.choices:
        return _drawn(rule, space)
    return Occupancy(rule.law, ((pool_at(rule, space, offset), 1),))


def mean_of_blocks(taken: Occupancy, rule: BoundRule | None, space: Space, layers: int) -> Fraction:
    """The expected number of active units of a site, over all sites: those in which all run (rule 4) and the others."""
    full = 0 if rule is None else len(rule.full)
    return (taken.mean * (layers - full) + space.units * full) / layers if full else taken.mean


@dataclass(frozen=True, slots=True)
class Alike:
    """Blocks of a stack, ascending, in which the same axes run in full whatever the others draw (rule 4)."""

    full: frozenset[str]
    blocks: tuple[int, ...]


def alike_blocks(stage: BoundStage, layers: int) -> tuple[Alike, ...]:
    """All blocks of a stack, those together that are thinned alike; first those in which nothing is spared."""
    spared = {name: frozenset(rule.full) for name, rule in stage.axes.items() if rule.full}
    if not spared:
        return (Alike(frozenset(), tuple(range(layers))),)
    groups: dict[frozenset[str], list[int]] = {frozenset(): []}
    for block in range(layers):
        full = frozenset(name for name, blocks in spared.items() if block in blocks)
        groups.setdefault(full, []).append(block)
    return tuple(Alike(full, tuple(blocks)) for full, blocks in groups.items())


def runs_in_full(rule: BoundDraw, space: Space, offset: int | None = None) -> bool:
    """Whether every unit is certain to run, at one offset into the stage or at all of them."""
    offsets = [border.offset for border in rule.sizes] or [0]
    return all(
        occupancy(rule, space, at).possible == (space.units,) for at in (offsets if offset is None else [offset])
    )


def fewest_units(rule: BoundDraw, space: Space) -> int:
    """The least number of units that a rule can leave on at a site, over all steps of its stage."""
    return min(rule.law.counts(pool)[0] for pool in pools(rule, space))
