"""What buckets cost: idle blocks that a compiled backend computes to fill a program, and discards."""

from __future__ import annotations

from fractions import Fraction
from math import prod

from raptr_dsl.axes import AXES
from raptr_dsl.flops.accounting import MATMUL, Accounting, whole
from raptr_dsl.flops.parts import Exact
from raptr_dsl.ir.bound import BoundRule, BoundStage
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.occupancy import Occupancy, segments

BLOCKS = "depth"


def padded_cost(stage: BoundStage, shape: ModelShape, accounting: Accounting = MATMUL) -> Exact:
    """Expected training FLOPs of the blocks that fill the buckets of a stage; no part of what the stage costs.

    Raises:
        ValueError: the account does not fit the shape.
    """
    rule = stage.axes.get(BLOCKS)
    if rule is None or not rule.buckets or rule.train is not None:
        return 0
    total = Fraction(0)
    for segment in segments(stage, shape):
        others = {name: taken for name, taken in segment.axes.items() if name != BLOCKS}
        fill = _fill(segment.axes[BLOCKS], rule, AXES[BLOCKS].space(shape).units)
        total += segment.steps * fill * _block(others, shape, accounting)
    return whole(total)


def _fill(taken: Occupancy, rule: BoundRule, units: int) -> Fraction:
    """The expected number of blocks that fill a step's bucket; a full step takes none."""
    return (
        sum(
            (
                chance * times * (next(size for size in rule.buckets if count <= size) - count)
                for pool, times in taken.pools
                for count, chance in taken.law.chances(pool).items()
                if chance and count < units
            ),
            Fraction(0),
        )
        / taken.total
    )


def _block(others: dict[str, Occupancy], shape: ModelShape, accounting: Accounting) -> Fraction:
    """Expected FLOPs of one block of every stack, of which the other axes let that much run."""
    return sum(
        (
            Fraction(flops)
            * prod(
                Fraction(taken.moment(power)) / AXES[name].space(shape).units ** power
                for name, taken in others.items()
                for power in [AXES[name].powers.get(part, 0)]
                if power
            )
            for stack in accounting.costs(shape).stacks
            for part, flops in stack.items()
        ),
        Fraction(0),
    )
