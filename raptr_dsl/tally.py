"""What the masks of one seed add up to, by drawing them all: exact where expectations are not enough."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from typing import TYPE_CHECKING

from raptr_dsl.axes import AXES, BLOCKS
from raptr_dsl.flops import (
    TRAINING,
    FlopReport,
    exact_report,
    full_blocks_cost,
    head_cost,
    parts,
    run_report,
    total_report,
)

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


def seed_report(plan: Plan) -> FlopReport:
    """The FLOPs that the masks of this seed really cost, as integers, by stage."""
    expected = run_report(plan.shape, plan.stages)
    stages = [
        _stage_report(plan, stage) if _is_random(stage) else report
        for stage, report in zip(plan.stages, expected.stages, strict=True)
    ]
    return total_report(stages)


def _is_random(stage: BoundStage) -> bool:
    """Whether the number of active units differs between draws of one size."""
    return any(rule.choices or not rule.law.exact for rule in stage.axes.values())


def _stage_report(plan: Plan, stage: BoundStage) -> FlopReport:
    import numpy as np

    block_parts = parts(plan.shape).block
    totals = dict.fromkeys(block_parts, 0)
    for start, stop in _chunks(plan, stage.start, stage.stop, *stage.axes):
        active = {name: _active(plan, name, start, stop) for name in stage.axes}
        for part in totals:
            count = np.ones((stop - start, plan.shape.layers), dtype=np.int64)
            for name, units in active.items():
                count = count * units ** AXES[name].powers.get(part, 0)
            totals[part] += int(count.sum())
    within = {name: AXES[name].space(plan.shape).units for name in stage.axes if name != BLOCKS.name}
    blocks = Fraction(0)
    for part, total in totals.items():
        units = prod(n ** AXES[name].powers.get(part, 0) for name, n in within.items())
        blocks += Fraction(TRAINING * block_parts[part] * total, units)
    return exact_report(blocks, head_cost(plan.shape) * stage.steps, full_blocks_cost(plan.shape) * stage.steps)


def _active(plan: Plan, axis: str, start: int, stop: int) -> NDArray[np.int64]:
    """int64[steps, layers], or [steps, 1] where an axis is the same in all blocks: active units in each block."""
    import numpy as np

    masks = _masks(plan, axis, start, stop)
    return masks[:, 0, :].astype(np.int64) if AXES[axis].units_are_blocks else masks.sum(axis=2)


def _masks(plan: Plan, axis: str, start: int, stop: int) -> NDArray[np.bool_]:
    """bool[steps, sites, units]."""
    masks = plan.masks(axis, start, stop)
    return masks[:, None, :] if masks.ndim == 2 else masks


def _running(plan: Plan, axis: str, start: int, stop: int) -> NDArray[np.bool_]:
    """bool[steps, sites, units]: what really runs; in a block that is off, nothing does."""
    masks = _masks(plan, axis, start, stop)
    if not AXES[axis].per_block:
        return masks
    return masks & _masks(plan, BLOCKS.name, start, stop)[:, 0, :, None]


def _chunks(plan: Plan, start: int, stop: int, *axes: str) -> Iterator[tuple[int, int]]:
    """[start, stop) in pieces of bounded working memory."""
    spaces = [AXES[axis].space(plan.shape) for axis in axes]
    size = max(1, CHUNK_ELEMENTS // max(space.sites * space.units for space in spaces))
    for begin in range(start, stop, size):
        yield begin, min(begin + size, stop)
