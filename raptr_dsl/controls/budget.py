"""What constant sizes of one axis cost a step, and the sizes that meet a budget."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from raptr_dsl.axes import AXES, Space
from raptr_dsl.curves import Exp
from raptr_dsl.flops import Accounting, block_cost, head_cost, head_share
from raptr_dsl.ir.bound import BoundRule
from raptr_dsl.ir.plan import Plan
from raptr_dsl.laws import Pool
from raptr_dsl.profiles import weights_of
from raptr_dsl.staircases import staircase

FINENESS = 1024
"""In how many levels a keep probability moves along a curve (rule 16)."""

FALL = 100
"""gamma · T of progressive layer dropping (Zhang and He 2020, arXiv 2010.13369): it is 100 / T."""


@dataclass(frozen=True)
class Budget:
    """The FLOPs of a plan, blocks and head, to be met along one axis.

    Attributes:
        flops: of the run, exactly or in expectation.
        step: of the full network, for one step.
    """

    plan: Plan
    accounting: Accounting
    axis: str

    @cached_property
    def flops(self) -> Fraction:
        words = (self.accounting.causal, self.accounting.recompute)
        return Fraction(self.plan.flops(self.accounting.convention, "mean", *words).total)

    @cached_property
    def space(self) -> Space:
        return AXES[self.axis].space(self.plan.shape)

    @cached_property
    def step(self) -> Fraction:
        return self.cost(Fraction(self.space.units))

    def cost(self, units: Fraction, full: int = 0) -> Fraction:
        """FLOPs of a step in which so many units of the axis run at each site, and everything else.

        Args:
            full: blocks of a stack in which all units of the axis run nevertheless (rule 4).
        """
        shape, share = self.plan.shape, {self.axis: units / self.space.units}
        blocks, whole = (
            sum((block_cost(shape, shares, self.accounting, stack) for stack in range(shape.stacks)), Fraction(0))
            for shares in (share, {})
        )
        head = head_cost(shape, self.accounting) * head_share(share)
        return (shape.layers - full) * blocks + full * whole + head


@dataclass(frozen=True, slots=True)
class Mix:
    """Steps at a size, then steps at the next larger one that can be drawn."""

    low: int
    low_steps: int
    high: int
    high_steps: int


def constant_mix(budget: Budget, rule: BoundRule) -> Mix | None:
    """The sizes nearest to the budget; None if even the smallest costs more."""
    least = max(1, len(rule.keep), AXES[budget.axis].fewest(budget.plan.shape))
    sizes = [size for size in range(least, budget.space.units + 1) if _can_draw(rule, budget, size)]
    steps, wanted, full = budget.plan.steps, budget.flops, len(rule.full)
    low = max((size for size in sizes if steps * budget.cost(Fraction(size), full) <= wanted), default=None)
    if low is None:
        return None
    high = min((size for size in sizes if size > low), default=low)
    cost, next_cost = budget.cost(Fraction(low), full), budget.cost(Fraction(high), full)
    if high == low:
        return Mix(low, steps, low, 0)
    high_steps = round((wanted - steps * cost) / (next_cost - cost))
    return Mix(low, steps - high_steps, high, high_steps)


def _can_draw(rule: BoundRule, budget: Budget, size: int) -> bool:
    units = budget.space.units
    if size == units:
        return True
    pool = Pool(units, rule.keep, Fraction(size), weights_of(rule.profile, units, rule.keep))
    if rule.law.problems(pool):
        return False
    return rule.law.counts(pool)[0] >= AXES[budget.axis].fewest(budget.plan.shape)


@dataclass(frozen=True, slots=True)
class Falling:
    """A keep probability that falls from 1 to `floor` along `exp` for `fall` steps, then is `rest` to the end."""

    profile: str
    fall: int
    floor: Fraction
    rest: Fraction


def falling(budget: Budget, profile: str) -> Falling | None:
    """The falling keep probability that meets the budget, its last value to as many digits as that takes; or None."""
    steps, units = budget.plan.steps, budget.space.units
    fall = steps // 2
    weight = Fraction(units + 1, 2) if profile == "linear" else Fraction(units)

    def cost(chance: Fraction) -> Fraction:
        return budget.cost(units - (1 - chance) * weight)

    def spent(level: int) -> Fraction:
        """FLOPs of the fall to a level."""
        borders = staircase(Exp(rate=Fraction(FALL, 2)), Fraction(FINENESS), Fraction(level), fall)
        stops = [*(offset for offset, _ in borders[1:]), fall]
        parts = zip(borders, stops, strict=True)
        return sum(((stop - offset) * cost(Fraction(at, FINENESS)) for (offset, at), stop in parts), Fraction(0))

    wanted, rest = budget.flops, steps - fall
    level = _least(FINENESS, lambda level: spent(level) + rest * cost(Fraction(level, FINENESS)) >= wanted)
    none, full = cost(Fraction(0)), cost(Fraction(1))
    if not fall or full == none:
        return None
    chance = ((wanted - spent(level)) / rest - none) / (full - none)
    if not 0 <= chance <= 1:
        return None
    for digits in range(2, 40):
        rounded = Fraction(round(chance * 10**digits), 10**digits)
        if rest * abs(cost(rounded) - cost(chance)) <= budget.step / 4:
            return Falling(profile, fall, Fraction(level, FINENESS), rounded)
    return None


def _least(most: int, holds: Callable[[int], bool]) -> int:
    """The least level of which something holds that holds of all above it, and of `most`."""
    low, high = 0, most
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low
