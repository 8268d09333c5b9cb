"""The exact variance of what a run costs, where the number of active units varies from draw to draw.

A step's FLOPs are a sum over blocks of products: whether the block runs, times the active units of each axis in it.
Draws of different axes are independent, and so are an axis's own. So the variance splits (Hoeffding 1948) into one
part for each set of axes: what these add together that no fewer of them do. The part of a set is the same over a
*cell*, the steps in which none of its axes draws anew, and independent between cells.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import cached_property
from itertools import chain, combinations, combinations_with_replacement
from math import lcm, prod
from typing import NamedTuple

from raptr_dsl.axes import AXES, BLOCKS
from raptr_dsl.flops.accounting import MATMUL, Accounting, whole
from raptr_dsl.flops.backward import is_partial
from raptr_dsl.flops.cells import cells
from raptr_dsl.flops.parts import Costs, Exact
from raptr_dsl.flops.report import Powers, powers_by_part, stage_loads
from raptr_dsl.ir.bound import BoundStage
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.occupancy import Alike, Occupancy, Segment, alike_blocks, segments


class FlopSpread:
    """How much the FLOPs of a run differ between seeds, by any account; what is the same for all is computed once."""

    def __init__(self, shape: ModelShape, stages: Sequence[BoundStage]) -> None:
        self._shape = shape
        self._stages = [_Stage(stage, shape) if varies(stage) else None for stage in stages]

    def variances(self, accounting: Accounting = MATMUL) -> tuple[Exact | None, ...]:
        """The variance of each stage's FLOPs over all seeds; stages are independent, so that the run's is the sum.

        None for a stage of which it is not known: some of its blocks run without being trained, which ones is drawn; or
        its blocks are dealt in rounds (`balanced`, `rotate`), and an axis whose number of units varies holds its draws
        for longer than the blocks hold theirs.

        Raises:
            ValueError: the account does not fit the shape.
        """
        stacks = accounting.costs(self._shape).stacks
        return tuple(0 if stage is None else stage.variance(stacks) for stage in self._stages)


def varies(stage: BoundStage) -> bool:
    """Whether seeds differ in what a stage costs."""
    return any(
        draw.choices or not draw.law.exact or (rule.train is not None and draw.law.varies)
        for rule in stage.axes.values()
        for draw in (rule, rule.train)
        if draw is not None
    )


class _Pair(NamedTuple):
    """The covariances of two kinds of parts of a block, over the products of what one block's cost at full size.

    Attributes:
        within: of blocks of the same stack. between: of blocks of two stacks.
    """

    one: Powers
    other: Powers
    within: Fraction
    between: Fraction


class _Counts:
    """What is needed of the active units of one axis in one stage, in integers: means over `scale`, the rest over
    `scale`².
    """

    def __init__(self, name: str, parts: Sequence[Segment], powers: set[int], shape: ModelShape) -> None:
        self._taken = list(dict.fromkeys(part.axes[name] for part in parts))
        self._units = AXES[name].space(shape).units
        self._is_shared = AXES[name].space(shape).sites == 1 and not AXES[name].units_are_blocks
        means = {(one, power): one.moment(power) for one in self._taken for power in powers}
        pairs = {
            (one, power, other, same): one.covariance(power, other, same or self._is_shared)
            for one in self._taken
            for power in powers
            for other in powers
            for same in (True, False)
        }
        self.scale = lcm(*(number.denominator for number in chain(means.values(), pairs.values())))
        self._means = {key: _times(mean, self.scale) for key, mean in means.items()}
        self._pairs = {key: _times(pair, self.scale**2) for key, pair in pairs.items()}

    @property
    def vary(self) -> bool:
        return any(self._pairs.values())

    def mean(self, taken: Occupancy, power: int) -> int:
        return self._means[taken, power]

    def full(self, power: int) -> int:
        """The units of a site in which all run, to a power."""
        return self._units**power * self.scale

    def covariance(self, taken: Occupancy, power: int, other: int, same_site: bool) -> int:
        """Of the active units, each to a power, at one site or at two, in one draw."""
        return self._pairs[taken, power, other, same_site]


class _Blocks:
    """Which blocks of a stack run: those with equal chances that are thinned alike are one class; over `scale`.

    Attributes:
        sizes: how many blocks are in each class. full: the axes that run in full in them.
    """

    def __init__(self, parts: Sequence[Segment], groups: Sequence[Alike], layers: int) -> None:
        taken = list(dict.fromkeys(part.axes[BLOCKS.name] for part in parts if BLOCKS.name in part.axes))
        marginals = [one.marginals for one in taken]
        # Equal chances are mostly one object, and identities are hashed ten times as fast as fractions.
        alike = [tuple(map(id, chances)) for chances in zip(*marginals, strict=True)] or [()] * layers
        if len(groups) > 1:
            full = {block: group.full for group in groups for block in group.blocks}
            alike = [(*kind, full[block]) for block, kind in enumerate(alike)]
        first = {kind: unit for unit, kind in reversed(list(enumerate(alike)))}
        counts = Counter(alike)
        self.sizes = tuple(counts[kind] for kind in first)
        self.full = tuple(next(group.full for group in groups if unit in group.blocks) for unit in first.values())
        columns = [[chances[unit] for unit in first.values()] for chances in marginals]
        self.scale = lcm(*(chance.denominator for column in columns for chance in column))
        self._chances = {
            one: tuple(_times(chance, self.scale) for chance in column)
            for one, column in zip(taken, columns, strict=True)
        }

    def chances(self, taken: Occupancy | None) -> tuple[int, ...]:
        """By class, how likely one of its blocks is to run."""
        return (1,) if taken is None else self._chances[taken]

    @cached_property
    def own(self) -> dict[Occupancy | None, int]:
        """The variances of all blocks of a stack, one by one, added up; over `scale`²."""
        return {
            one: sum(size * chance * (self.scale - chance) for size, chance in zip(self.sizes, chances, strict=True))
            for one, chances in self._chances.items()
        }


class _Stage:
    """One stage, in which the number of active units varies."""

    def __init__(self, stage: BoundStage, shape: ModelShape) -> None:
        self._stage, self._shape = stage, shape
        self._parts = list(segments(stage, shape))
        self._kinds = powers_by_part(frozenset(stage.axes))
        powers: dict[str, set[int]] = {name: set() for name in stage.axes}
        for name, power in chain(*self._kinds.values()):
            powers[name].add(power)
        self._counts = {name: _Counts(name, self._parts, powers[name], shape) for name in stage.axes}

    def variance(self, stacks: Sequence[Costs]) -> Exact | None:
        """Of the stage's FLOPs, if the parts of one block of each stack cost that much a step at full size."""
        if is_partial(self._stage):
            return self._without_choice
        if self._pairs is None:
            return None
        costs: dict[Powers, list[Exact]] = {kind: [0] * len(stacks) for kind in self._kinds.values()}
        for stack, parts in enumerate(stacks):
            for part, flops in parts.items():
                costs[self._kinds[part]][stack] += flops
        total = Fraction(0)
        for pair in self._pairs:
            one, other = costs[pair.one], costs[pair.other]
            within = sum(a * b for a, b in zip(one, other, strict=True))
            total += pair.within * within + pair.between * (sum(one) * sum(other) - within)
        return whole(total)

    @cached_property
    def _without_choice(self) -> int | None:
        """Nothing where a stage costs in the mean what it can cost at most: all seeds do, then."""
        mean, worst = (stage_loads(self._stage, self._shape, case) for case in ("mean", "worst"))
        return 0 if mean == worst else None

    @cached_property
    def _pairs(self) -> tuple[_Pair, ...] | None:
        varying = [name for name in self._stage.axes if self._counts[name].vary]
        per_block = [name for name in varying if name != BLOCKS.name]
        if per_block and self._rounds_matter(per_block):
            return None
        # Which blocks run matters beyond how many, once what runs in each of them varies.
        thins_blocks = BLOCKS.name in self._stage.axes and (per_block or BLOCKS.name in varying)
        names = [*per_block, BLOCKS.name] if thins_blocks else per_block
        groups = [set(group) for size in range(1, len(names) + 1) for group in combinations(names, size)]
        return tuple(pair for group in groups for pair in self._added(group))

    @cached_property
    def _blocks(self) -> _Blocks:
        layers = self._shape.layers
        return _Blocks(self._parts, alike_blocks(self._stage, layers), layers)

    def _every(self, name: str) -> int:
        return min(self._stage.axes[name].every or self._stage.steps, self._stage.steps)

    def _rounds_matter(self, per_block: Sequence[str]) -> bool:
        """Whether a draw can meet several draws of blocks that are dealt in rounds, and so depend on each other."""
        rule = self._stage.axes.get(BLOCKS.name)
        if rule is None or not rule.law.anchored:
            return False
        return any(self._every(BLOCKS.name) % self._every(name) for name in per_block)

    def _added(self, group: set[str]) -> list[_Pair]:
        """The covariances that a set of axes adds together."""
        kinds = [kind for kind in dict.fromkeys(self._kinds.values()) if group <= {*dict(kind)}]
        pairs = list(combinations_with_replacement(kinds, 2))
        within, between = [0] * len(pairs), [0] * len(pairs)
        if not pairs:
            return []
        for pieces, times in cells(self._stage, self._parts, [self._every(name) for name in group]):
            weights = {kind: self._weights(kind, group, pieces) for kind in kinds}
            axes = pieces[0][1].axes
            for number, (one, other) in enumerate(pairs):
                same, apart = self._covariances(group, axes, dict(one), dict(other), weights[one], weights[other])
                within[number] += times * same
                between[number] += times * apart
        scales = {kind: self._scale(kind, group) for kind in kinds}
        return [
            _Pair(one, other, *(Fraction((1 + (one != other)) * sum, scales[one] * scales[other]) for sum in sums))
            for (one, other), *sums in zip(pairs, within, between, strict=True)
        ]

    def _scale(self, kind: Powers, group: set[str]) -> int:
        """What the weights and draws of a kind of part are integers over, relative to its full cost."""
        names = [(name, power) for name, power in kind if name != BLOCKS.name]
        units = prod(AXES[name].space(self._shape).units ** power for name, power in names)
        blocks = self._counts[BLOCKS.name].scale if BLOCKS.name in group else 1
        return units * prod(self._counts[name].scale for name, _ in names) * blocks * self._blocks.scale

    def _weights(self, kind: Powers, group: set[str], pieces: Sequence[tuple[int, Segment]]) -> list[int]:
        """What a cell multiplies the draws of `group` by: by class of blocks, or one number if these are drawn.

        Blocks of which it is drawn whether they run are thinned along every axis (`unsure_block`).
        """
        outside = tuple((name, power) for name, power in kind if name not in group and name != BLOCKS.name)
        classes = (frozenset(),) if BLOCKS.name in group else self._blocks.full
        weights = [0] * len(classes)
        for steps, part in pieces:
            chances = (1,) if BLOCKS.name in group else self._blocks.chances(part.axes.get(BLOCKS.name))
            if len(chances) < len(classes):  # where depth is not thinned, all blocks run
                chances = chances * len(classes)
            means = {full: steps * self._means(outside, part, full) for full in set(classes) if not group & full}
            for place, (chance, full) in enumerate(zip(chances, classes, strict=True)):
                weights[place] += means.get(full, 0) * chance
        return weights

    def _means(self, powers: Powers, part: Segment, full: frozenset[str]) -> int:
        """The product of the expected active units of axes, each to a power, in blocks where some run in full."""
        return prod(
            self._counts[name].full(power) if name in full else self._counts[name].mean(part.axes[name], power)
            for name, power in powers
        )

    def _covariances(
        self,
        group: set[str],
        axes: Mapping[str, Occupancy],
        powers: Mapping[str, int],
        others: Mapping[str, int],
        one: list[int],
        other: list[int],
    ) -> tuple[int, int]:
        """Of two kinds of parts over a cell: over all pairs of blocks of a stack, and of blocks of two stacks."""
        inside = [name for name in group if name != BLOCKS.name]
        same, apart = (
            prod(self._counts[name].covariance(axes[name], powers[name], others[name], is_same) for name in inside)
            for is_same in (True, False)
        )
        if BLOCKS.name not in group:
            each = sum(size * a * b for size, a, b in zip(self._blocks.sizes, one, other, strict=True))
            all_one, all_other = (
                sum(size * weight for size, weight in zip(self._blocks.sizes, weights, strict=True))
                for weights in (one, other)
            )
            in_all = apart * all_one * all_other
            return (same - apart) * each + in_all, in_all
        blocks, taken = self._counts[BLOCKS.name], axes[BLOCKS.name]
        number, stacks = (blocks.covariance(taken, 1, 1, is_same) * self._blocks.scale**2 for is_same in (True, False))
        own = self._blocks.own[taken] * blocks.scale**2
        weight = one[0] * other[0]
        return weight * (same * own + apart * (number - own)), weight * apart * stacks


def _times(number: Fraction | int, scale: int) -> int:
    """A product that is whole."""
    return number.numerator * (scale // number.denominator)
