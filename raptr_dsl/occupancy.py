"""How many units of each axis run, before any mask is drawn: exact expectations and bounds, no sampling."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import product

from raptr_dsl.axes import AXES, Space
from raptr_dsl.ir.bound import BoundRule, BoundStage
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.sampling import pool_at


@dataclass(frozen=True, slots=True)
class Occupancy:
    """The active units of one site.

    Attributes:
        outcomes: (probability, size) of every size that a draw can have; under random laws the one mean size.
        possible: every number of units that can be on, ascending.
    """

    outcomes: tuple[tuple[Fraction, Fraction], ...]
    possible: tuple[int, ...]

    @property
    def most(self) -> int:
        return self.possible[-1]

    @property
    def mean(self) -> Fraction:
        return sum((chance * size for chance, size in self.outcomes), Fraction(0))


@dataclass(frozen=True, slots=True)
class Segment:
    """Steps [start, stop) of the run, in which no axis changes its rule or its size."""

    start: int
    stop: int
    axes: Mapping[str, Occupancy]

    @property
    def steps(self) -> int:
        return self.stop - self.start

    def sizes(self) -> Iterator[tuple[Fraction, dict[str, Fraction]]]:
        """(probability, mean active units by axis) of every combination of sizes; axes are independent."""
        for combination in product(*(occupancy.outcomes for occupancy in self.axes.values())):
            chance = Fraction(1)
            for probability, _ in combination:
                chance *= probability
            yield chance, {axis: size for axis, (_, size) in zip(self.axes, combination, strict=True)}


def segments(stage: BoundStage, shape: ModelShape) -> Iterator[Segment]:
    """The constant parts of a stage, in order; they tile it."""
    spaces = {name: AXES[name].space(shape) for name in stage.axes}
    borders = {border.offset for rule in stage.axes.values() for border in rule.sizes}
    offsets = sorted({0, *borders} - {stage.steps})
    for offset, following in zip(offsets, [*offsets[1:], stage.steps], strict=True):
        axes = {name: occupancy(rule, spaces[name], offset) for name, rule in stage.axes.items()}
        yield Segment(stage.start + offset, stage.start + following, axes)


def occupancy(rule: BoundRule, space: Space, offset: int) -> Occupancy:
    """What a rule lets run at one site, `offset` steps into its stage."""
    if rule.choices:
        chance = Fraction(1, len(rule.choices))
        outcomes = tuple((chance, Fraction(size)) for size in rule.choices)
        return Occupancy(outcomes, tuple(sorted(set(rule.choices))))
    pool = pool_at(rule, space, offset)
    least, most = rule.law.counts(pool)
    return Occupancy(((Fraction(1), pool.size),), tuple(range(least, most + 1)))


def runs_in_full(rule: BoundRule, space: Space, offset: int | None = None) -> bool:
    """Whether every unit is certain to run, at one offset into the stage or at all of them."""
    offsets = [border.offset for border in rule.sizes] or [0]
    return all(
        occupancy(rule, space, at).possible == (space.units,) for at in (offsets if offset is None else [offset])
    )


def count_shapes(stages: Iterable[BoundStage], shape: ModelShape) -> int:
    """How many distinct combinations of active units an ahead-of-time compiler can meet (rule 38)."""
    full = {name: (axis.space(shape).units,) for name, axis in AXES.items()}
    boxes = {
        tuple((full | {name: taken.possible for name, taken in segment.axes.items()}).values())
        for stage in stages
        for segment in segments(stage, shape)
    }
    return len({sizes for box in boxes for sizes in product(*box)})
