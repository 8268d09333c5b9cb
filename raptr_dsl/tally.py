"""What the masks of one seed add up to, by drawing them all: exact where expectations are not enough."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from typing import TYPE_CHECKING

from raptr_dsl.axes import AXES, BLOCKS
from raptr_dsl.flops.accounting import MATMUL, Accounting
from raptr_dsl.flops.report import FlopReport, Loads, Powers, powers_by_part, stage_loads, stage_report, total_report

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from raptr_dsl.ir.bound import BoundStage
    from raptr_dsl.ir.plan import Plan

CHUNK_ELEMENTS = 2**19
"""Mask elements drawn at a time: some megabytes of working memory, however long the run."""


@dataclass(frozen=True, slots=True)
class TrainedSteps:
    """Over all units of an axis: the fewest steps any is trained in, and the longest run of steps any is not."""

    least: int
    longest_gap: int


def trained_steps(plan: Plan, axis: str) -> TrainedSteps:
    """In how many steps each unit of an axis runs; of a per-block axis, in which block and unit both run (rule 39)."""
    import numpy as np

    space = AXES[axis].space(plan.shape)
    count = np.zeros((space.sites, space.units), dtype=np.int64)
    last = np.full((space.sites, space.units), -1, dtype=np.int64)
    longest = 0
    for start, stop in _chunks(plan, 0, plan.steps, axis):
        runs = _running(plan, axis, start, stop)
        count += runs.sum(axis=0)
        steps = np.arange(start, stop, dtype=np.int64)[:, None, None]
        since = np.maximum(np.maximum.accumulate(np.where(runs, steps, -1), axis=0), last)
        longest = max(longest, int((steps - since).max()))
        last = since[-1]
    return TrainedSteps(int(count.min()), longest)


def largest_imbalance(plan: Plan, axis: str, groups: int) -> int:
    """The largest difference in active units between `groups` equal runs of a site's units, in any step.

    `groups` divides the units of a site.
    """
    largest = 0
    for start, stop in _chunks(plan, 0, plan.steps, axis):
        runs = _running(plan, axis, start, stop)
        active = runs.reshape(*runs.shape[:2], groups, -1).sum(axis=3)
        largest = max(largest, int((active.max(axis=2) - active.min(axis=2)).max()))
    return largest


def seed_report(plan: Plan, accounting: Accounting = MATMUL) -> FlopReport:
    """The FLOPs that the masks of this seed really cost, by stage.

    Raises:
        ValueError: the account does not fit the model.
    """
    return total_report(
        [
            stage_report(
                plan.shape,
                _seed_loads(plan, stage) if _is_random(stage) else stage_loads(stage, plan.shape),
                stage.steps,
                accounting,
            )
            for stage in plan.stages
        ]
    )


def _is_random(stage: BoundStage) -> bool:
    """Whether the number of active units differs between draws of one size."""
    return any(rule.choices or not rule.law.exact for rule in stage.axes.values())


def _seed_loads(plan: Plan, stage: BoundStage) -> Loads:
    """How many times the masks of a stage spend the full cost of each kind of part."""
    import numpy as np

    kinds = set(powers_by_part(frozenset(stage.axes)).values())
    layers, stacks = plan.shape.layers, plan.shape.stacks
    active = [dict.fromkeys(kinds, 0) for _ in range(stacks)]
    for start, stop in _chunks(plan, stage.start, stage.stop, *stage.axes):
        units = {name: _active(plan, name, start, stop) for name in stage.axes}
        for powers in kinds:
            count = np.ones((stop - start, plan.shape.blocks), dtype=np.int64)
            for name, power in powers:
                count *= units[name] ** power
            for stack, total in enumerate(count.reshape(-1, stacks, layers).sum(axis=(0, 2)).tolist()):
                active[stack][powers] += total
    spaces = {name: AXES[name].space(plan.shape) for name in stage.axes if AXES[name].per_block}

    def most(powers: Powers) -> int:
        return layers * prod(spaces[name].units ** power for name, power in powers if name in spaces)

    return [{powers: Fraction(total, most(powers)) for powers, total in stack.items()} for stack in active]


def _active(plan: Plan, axis: str, start: int, stop: int) -> NDArray[np.int64]:
    """int64[steps, blocks], or [steps, 1] where an axis is the same in all blocks: active units in each block."""
    import numpy as np

    masks = _masks(plan, axis, start, stop)
    if AXES[axis].units_are_blocks:
        return masks.reshape(stop - start, -1).astype(np.int64)
    return masks.sum(axis=2)


def _masks(plan: Plan, axis: str, start: int, stop: int) -> NDArray[np.bool_]:
    """bool[steps, sites, units]."""
    space = AXES[axis].space(plan.shape)
    return plan.masks(axis, start, stop).reshape(stop - start, space.sites, space.units)


def _running(plan: Plan, axis: str, start: int, stop: int) -> NDArray[np.bool_]:
    """bool[steps, sites, units]: what really runs; in a block that is off, nothing does."""
    masks = _masks(plan, axis, start, stop)
    if not AXES[axis].per_block:
        return masks
    return masks & _masks(plan, BLOCKS.name, start, stop).reshape(stop - start, -1, 1)


def _chunks(plan: Plan, start: int, stop: int, *axes: str) -> Iterator[tuple[int, int]]:
    """[start, stop) in pieces of bounded working memory."""
    spaces = [AXES[axis].space(plan.shape) for axis in axes]
    size = max(1, CHUNK_ELEMENTS // max(space.sites * space.units for space in spaces))
    for begin in range(start, stop, size):
        yield begin, min(begin + size, stop)
