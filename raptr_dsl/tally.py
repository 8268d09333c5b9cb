"""What the masks of one seed add up to, by drawing them all: exact where expectations are not enough."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from typing import TYPE_CHECKING

from raptr_dsl.axes import AXES, BLOCKS
from raptr_dsl.flops.accounting import MATMUL, Accounting
from raptr_dsl.flops.backward import is_partial
from raptr_dsl.flops.report import (
    FlopReport,
    Loads,
    Powers,
    Spent,
    outside_powers,
    powers_by_part,
    stage_loads,
    stage_report,
    total_report,
)
from raptr_dsl.laws.rotate import Rotate

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from raptr_dsl.ir.bound import BoundDraw, BoundStage
    from raptr_dsl.ir.plan import Plan

CHUNK_ELEMENTS = 2**21
"""Mask elements drawn at a time: some megabytes of working memory, however long the run. With pieces of less than a
megabyte, the allocator gives memory back and asks for it again at every piece, which doubles the time."""


EVERY_SEED = "for every seed"


@dataclass(frozen=True, slots=True)
class TrainedSteps:
    """Over all units of an axis: the fewest steps any is trained in, and the longest run of steps any is not.

    Attributes:
        proof: of what this is the truth: `for seed 17`, or `for every seed` where nothing is drawn.
    """

    least: int
    longest_gap: int
    proof: str


def trained_steps(plan: Plan, axis: str) -> TrainedSteps:
    """In how many steps each unit of an axis is trained; of a per-block axis, block and unit both (rule 39)."""
    space = AXES[axis].space(plan.shape)
    runs = _Runs(space.sites * space.units)
    for start, stop in _chunks(plan, 0, plan.steps, axis):
        runs.add(_training(plan, axis, start, stop).reshape(stop - start, -1))
    return TrainedSteps(int(runs.count.min()), runs.longest_gap, proof_of(plan, axis))


def proof_of(plan: Plan, axis: str) -> str:
    """Of what the masks of an axis are a proof: of this seed, or of every one where they owe nothing to it."""
    names = (axis, BLOCKS.name) if AXES[axis].per_block else (axis,)
    rules = [stage.axes[name] for stage in plan.stages for name in names if name in stage.axes]
    draws = [draw for rule in rules for draw in (rule, rule.train) if draw]
    return f"for seed {plan.seed}" if any(_is_drawn(draw) for draw in draws) else EVERY_SEED


def _is_drawn(rule: BoundDraw) -> bool:
    return len(set(rule.choices)) > 1 or (rule.law.varies and not isinstance(rule.law, Rotate))


class _Runs:
    """How often units run and how long they rest, chunk by chunk of a run's steps.

    Attributes:
        count: int64[units], the steps in which each ran. longest_gap: the most steps that any rested in a row.
    """

    def __init__(self, units: int) -> None:
        import numpy as np

        self.count = np.zeros(units, np.int64)
        self.longest_gap = 0
        self._resting = np.zeros(units, np.int64)

    def add(self, runs: NDArray[np.bool_]) -> None:
        """Adds the next steps, bool[steps, units]."""
        import numpy as np

        self.count += _column_sums(runs)
        off = ~runs
        first, last = _first_false(off), _first_false(off[::-1])
        self.longest_gap = max(self.longest_gap, int((self._resting + first).max()))
        self.longest_gap = _longest_run(off, self.longest_gap)
        self._resting = np.where(first == len(off), self._resting + len(off), last)


def _column_sums(values: NDArray[np.bool_]) -> NDArray[np.int64]:
    """int64[n]: how many of each column of bool[m, n] are true; bytes are added while their sums fit into one."""
    import numpy as np

    rows, columns = values.shape
    whole, in_bytes = rows // 255 * 255, values.view(np.uint8)
    sums = in_bytes[whole:].sum(axis=0, dtype=np.uint8).astype(np.int64)
    return sums + in_bytes[:whole].reshape(-1, 255, columns).sum(axis=1, dtype=np.uint8).sum(axis=0, dtype=np.int64)


def _group_sums(values: NDArray[np.bool_], groups: int) -> NDArray[np.unsignedinteger]:
    """[l, m, groups]: how many are true in each of `groups` equal runs of the last axis of bool[l, m, n]."""
    import numpy as np

    grouped = values.view(np.uint8).reshape(*values.shape[:2], groups, -1)
    if grouped.shape[3] > 255:
        grouped = grouped.astype(np.uint32)
    return np.einsum("lmgu->lmg", grouped)


def _first_false(values: NDArray[np.bool_]) -> NDArray[np.int64]:
    """int64[n]: the row of the first false in each column of bool[m, n], m where there is none."""
    import numpy as np

    rows = len(values)
    near = values[:64]  # where most columns have theirs
    first = np.logical_and.accumulate(near, axis=0).sum(axis=0, dtype=np.int64)
    if len(near) == rows or (first < len(near)).all():
        return first
    first[values.all(axis=0)] = rows
    late = (first == len(near)).nonzero()[0]
    first[late] = values[:, late].argmin(axis=0)
    return first


def _longest_run(values: NDArray[np.bool_], known: int) -> int:
    """The longest run of true down any column of bool[m, n], or `known` if that is longer.

    A row of `longer` says where a run of `length` begins, which is one of two shorter ones that overlap or touch.
    """
    rows, longer, length = len(values), values, 1
    while length < known + 1:
        step = min(length, known + 1 - length)
        if length + step > rows:
            return known
        longer = longer[:-step] & longer[step:]
        length += step
    while longer.any():
        known = length
        if length == rows:
            break
        longer = longer[:-1] & values[length:]
        length += 1
    return known


def largest_imbalance(plan: Plan, axis: str, groups: int) -> int:
    """The largest difference in active units between `groups` equal runs of a site's units, in any step.

    `groups` divides the units of a site.
    """
    largest = 0
    for start, stop in _chunks(plan, 0, plan.steps, axis):
        runs = _running(plan, axis, start, stop)
        active = _group_sums(runs, groups)
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
    return any(rule.choices or not rule.law.exact or rule.train for rule in stage.axes.values())


def _seed_loads(plan: Plan, stage: BoundStage) -> Loads:
    """How many times the masks of a stage spend the full cost of each kind of part."""
    import numpy as np

    kinds = set(powers_by_part(frozenset(stage.axes)).values())
    layers, stacks = plan.shape.layers, plan.shape.stacks
    partial = is_partial(stage)
    spent = [[dict.fromkeys(kinds, 0) for _ in range(stacks)] for _ in range(3 if partial else 1)]
    for start, stop in _chunks(plan, stage.start, stage.stop, *stage.axes):
        units = {name: _active(plan, name, start, stop) for name in stage.axes}
        which = [units.get(BLOCKS.name), *(_backward(plan, stage, start, stop) if partial else ())]
        for active, blocks in zip(spent, which, strict=True):
            for powers in kinds:
                count = np.ones((stop - start, plan.shape.blocks), dtype=np.int64)
                for name, power in powers:
                    count *= (units[name] if name != BLOCKS.name or blocks is None else blocks) ** power
                for stack, total in enumerate(count.reshape(-1, stacks, layers).sum(axis=(0, 2)).tolist()):
                    active[stack][powers] += total
    spaces = {name: AXES[name].space(plan.shape) for name in stage.axes if not AXES[name].units_are_blocks}

    def most(powers: Powers) -> int:
        return layers * prod(spaces[name].units ** power for name, power in powers if name in spaces)

    shares: list[Spent] = [
        [{powers: Fraction(total, most(powers)) for powers, total in stack.items()} for stack in active]
        for active in spent
    ]
    return Loads(shares[0], shares[partial * 1], shares[partial * 2], stage.freeze, _seed_outside(plan, stage))


def _seed_outside(plan: Plan, stage: BoundStage) -> Fraction | None:
    """How many times the full cost of what is outside the blocks is spent; None for once in every step."""
    import numpy as np

    powers = outside_powers(stage)
    if not powers:
        return None
    total, names = 0, [name for name, _ in powers]
    for start, stop in _chunks(plan, stage.start, stage.stop, *names):
        count = np.ones((stop - start, 1), dtype=np.int64)
        for name, power in powers:
            count *= _active(plan, name, start, stop) ** power
        total += int(count.sum())
    return Fraction(total, prod(AXES[name].space(plan.shape).units ** power for name, power in powers))


def _backward(plan: Plan, stage: BoundStage, start: int, stop: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """int64[steps, blocks], twice: which blocks run and train, and through which the gradient flows (rule 34)."""
    import numpy as np

    runs = _masks(plan, BLOCKS.name, start, stop).reshape(stop - start, -1)
    trains = runs & plan.trained(BLOCKS.name, start, stop).reshape(stop - start, -1)
    flows = runs if "embed" not in stage.freeze else runs & np.logical_or.accumulate(trains, axis=1)
    return trains.astype(np.int64), flows.astype(np.int64)


def _active(plan: Plan, axis: str, start: int, stop: int) -> NDArray[np.int64]:
    """int64[steps, blocks], or [steps, 1] where an axis is the same in all blocks: active units in each block."""
    import numpy as np

    masks = _masks(plan, axis, start, stop)
    if AXES[axis].units_are_blocks:
        return masks.reshape(stop - start, -1).astype(np.int64)
    return _group_sums(masks, 1)[..., 0].astype(np.int64)


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


def _training(plan: Plan, axis: str, start: int, stop: int) -> NDArray[np.bool_]:
    """bool[steps, sites, units]: what runs and is trained; of a block that is not trained, nothing is."""
    running = _running(plan, axis, start, stop)
    if any(is_partial(stage) for stage in plan.stages):
        blocks = plan.trained(BLOCKS.name, start, stop)
        running &= blocks.reshape(stop - start, -1, 1) if AXES[axis].per_block else blocks.reshape(running.shape)
    return running


def _chunks(plan: Plan, start: int, stop: int, *axes: str) -> Iterator[tuple[int, int]]:
    """[start, stop) in pieces of bounded working memory."""
    spaces = [AXES[axis].space(plan.shape) for axis in axes]
    size = max(1, CHUNK_ELEMENTS // max(space.sites * space.units for space in spaces))
    for begin in range(start, stop, size):
        yield begin, min(begin + size, stop)
