"""What a run costs by an account: in all, by stage, by part of a block, beside the full network for the same steps."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from math import lcm, prod
from typing import Literal

from raptr_dsl.axes import AXES, BLOCKS
from raptr_dsl.flops.accounting import MATMUL, Accounting, times, whole
from raptr_dsl.flops.parts import Costs, Exact
from raptr_dsl.ir.bound import BoundStage
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.occupancy import Segment, segments

Case = Literal["mean", "worst"]

Powers = tuple[tuple[str, int], ...]
"""By which axes, each to which power, the FLOPs of a part shrink."""

Loads = Sequence[Mapping[Powers, Exact]]
"""By residual stack: for each kind of part, how many times its full cost over all blocks of the stack is spent."""


@dataclass(frozen=True, slots=True)
class FlopReport:
    """Training FLOPs of a run or of one stage, beside those of the full network for the same steps.

    Integers wherever the counts are certain; under random laws the exact expectation, or the worst case.

    Attributes:
        blocks, full_blocks: of all blocks; the sums of `parts` and `full_parts`.
        head: of all outside the blocks; no axis thins it.
        parts, full_parts: of all blocks, by part of a block.
        stages: the same of each stage.
    """

    blocks: Exact
    head: Exact
    full_blocks: Exact
    parts: Costs
    full_parts: Costs
    stages: tuple["FlopReport", ...] = field(default=())

    @property
    def total(self) -> Exact:
        """Blocks and vocabulary head."""
        return whole(self.blocks + self.head)

    @property
    def full_total(self) -> Exact:
        return whole(self.full_blocks + self.head)

    @property
    def ratio_blocks(self) -> Fraction:
        return Fraction(self.blocks) / self.full_blocks

    @property
    def ratio_total(self) -> Fraction:
        return Fraction(self.total) / self.full_total

    def of_axis(self, axis: str) -> tuple[Exact, Exact]:
        """The FLOPs of the parts that an axis thins: planned, and of the full network."""
        thinned = AXES[axis].powers
        planned, full = (
            sum(flops for part, flops in parts.items() if part in thinned) for parts in (self.parts, self.full_parts)
        )
        return whole(planned), whole(full)


def block_cost(
    shape: ModelShape, active: Mapping[str, Fraction], accounting: Accounting = MATMUL, stack: int = 0
) -> Fraction:
    """Training FLOPs of one block per step in which the share `active[axis]` of each axis's units runs.

    An axis left out runs in full. With whole units the result is whole, unless the account halves. With `depth` among
    the axes it is the mean over all blocks of a stack in which that share of them runs; shares of independent axes may
    be expectations.

    Args:
        stack: of an encoder–decoder: 0 for a block of the encoder, 1 for one of the decoder.
    """
    total = Fraction(0)
    for part, flops in accounting.costs(shape).stacks[stack].items():
        cost = Fraction(flops)
        for name, share in active.items():
            cost *= share ** AXES[name].powers.get(part, 0)
        total += cost
    return total


def head_cost(shape: ModelShape, accounting: Accounting = MATMUL) -> int:
    """Training FLOPs per step of all outside the blocks."""
    return int(accounting.costs(shape).head)


def full_blocks_cost(shape: ModelShape) -> int:
    """Training FLOPs per step of all blocks at full size, by the account `MATMUL`."""
    return int(shape.layers * sum(MATMUL.costs(shape).blocks))


def run_report(
    shape: ModelShape,
    stages: Sequence[BoundStage],
    case: Case = "mean",
    exact: bool = False,
    accounting: Accounting = MATMUL,
    loads: Sequence[Loads] | None = None,
) -> FlopReport:
    """The account of a run, by stage.

    With `exact`, each stage's mean cost is weighed by its exact duration, before its borders were rounded to whole
    steps (rule 38): the ratios are then those of the file, at any horizon.

    Args:
        loads: what `stage_loads` says of each stage in that case, where it is known already.

    Raises:
        ValueError: the account does not fit the shape.
    """
    reports = []
    for number, stage in enumerate(stages):
        load, steps = loads[number] if loads else stage_loads(stage, shape, case), stage.steps
        if exact:
            steps = whole(stage.duration)
            weight = Fraction(steps) / stage.steps
            load = [{powers: spent * weight for powers, spent in stack.items()} for stack in load]
        reports.append(stage_report(shape, load, steps, accounting))
    return total_report(reports)


def stage_loads(stage: BoundStage, shape: ModelShape, case: Case = "mean") -> Loads:
    """How many times a stage spends the full cost of each kind of part: the expectation, or the most there can be."""
    kinds = set(powers_by_part(frozenset(stage.axes)).values())
    parts = list(segments(stage, shape))
    # In integers over one denominator for each axis: stages along a curve have thousands of sizes.
    sizes = {(name, power): _Sizes(parts, name, power, case) for powers in kinds for name, power in powers}
    units = {name: AXES[name].space(shape).units for name in stage.axes}
    loads: dict[Powers, Exact] = {}
    for powers in kinds:
        active = 0
        for segment in parts:
            steps = segment.steps
            for name, power in powers:
                steps *= sizes[name, power].numerators[segment.axes[name]]
            active += steps
        full = prod(sizes[kind].denominator * units[kind[0]] ** kind[1] for kind in powers)
        loads[powers] = Fraction(active, int(full))
    return [loads] * shape.stacks


class _Sizes:
    """The active units of an axis, to a power, in each part of a stage: integers over a common denominator.

    Axes are independent, so that expectations of products are products of expectations.
    """

    def __init__(self, parts: Sequence[Segment], axis: str, power: int, case: Case) -> None:
        taken = dict.fromkeys(segment.axes[axis] for segment in parts)
        sizes = [one.most**power if case == "worst" else one.moment(power) for one in taken]
        self.denominator = lcm(*(size.denominator for size in sizes))
        self.numerators = {
            one: size.numerator * (self.denominator // size.denominator) for one, size in zip(taken, sizes, strict=True)
        }


@lru_cache(maxsize=64)
def powers_by_part(thinned: frozenset[str]) -> Mapping[str, Powers]:
    """For each part of a block, what it shrinks by where these axes are thinned. (Every part is in a block.)"""
    axes = [axis for name, axis in AXES.items() if name in thinned]
    return {
        part: tuple((axis.name, axis.powers[part]) for axis in axes if part in axis.powers) for part in BLOCKS.powers
    }


def stage_report(shape: ModelShape, loads: Loads, steps: Exact, accounting: Accounting) -> FlopReport:
    """The account of `steps` steps that spend the full cost of each kind of part as `loads` say."""
    costs = accounting.costs(shape)
    shrinking = powers_by_part(frozenset(name for powers in loads[0] for name, _ in powers))
    planned: dict[str, Exact] = {}
    full: dict[str, Exact] = {}
    for stack, load in zip(costs.stacks, loads, strict=True):
        for part, flops in stack.items():
            every = shape.layers * flops
            planned[part] = planned.get(part, 0) + times(every, load[shrinking[part]])
            full[part] = full.get(part, 0) + times(every, steps)
    return _report(planned, times(costs.head, steps), full)


def total_report(stages: Sequence[FlopReport]) -> FlopReport:
    """The account of a whole run from those of its stages."""
    return _report(
        _sum(stage.parts for stage in stages),
        sum(stage.head for stage in stages),
        _sum(stage.full_parts for stage in stages),
        tuple(stages),
    )


def _sum(reports: Iterable[Costs]) -> dict[str, Exact]:
    total: dict[str, Exact] = {}
    for parts in reports:
        for part, flops in parts.items():
            total[part] = total.get(part, 0) + flops
    return total


def _report(
    parts: dict[str, Exact], head: Exact, full: dict[str, Exact], stages: tuple[FlopReport, ...] = ()
) -> FlopReport:
    for costs in (parts, full):
        costs |= {part: whole(flops) for part, flops in costs.items() if isinstance(flops, Fraction)}
    return FlopReport(whole(sum(parts.values())), whole(head), whole(sum(full.values())), parts, full, stages)
