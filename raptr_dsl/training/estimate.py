"""How long a plan takes, by a calibration."""

from fractions import Fraction
from itertools import pairwise

from raptr_dsl.axes import AXES, BLOCKS
from raptr_dsl.diagnostics import fail
from raptr_dsl.flops import block_cost, head_cost, head_share
from raptr_dsl.flops.backward import by_group
from raptr_dsl.ir.bound import BoundStage
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.plan import Plan
from raptr_dsl.occupancy import Segment, alike_blocks, segments
from raptr_dsl.training.calibration import Calibration
from raptr_dsl.training.record import Record


class StageTime(Record, frozen=True):
    """The time of a stage; `measured` is whether all its sizes were measured, and not only some near them."""

    name: str | None
    steps: int
    seconds: float
    dense_seconds: float
    measured: bool


class TimeEstimate(Record, frozen=True):
    """The time of a plan and of the full network for the same steps, by a calibration; steps alone are counted."""

    seconds: float
    dense_seconds: float
    stages: tuple[StageTime, ...]


def estimate(plan: Plan, calibration: Calibration) -> TimeEstimate:
    """How long the steps of a plan take: sizes that were measured as measured, others in line with their FLOPs.

    Raises:
        RaptrError: `calibration-shape`: another model, batch or sequence was measured.
    """
    if plan.shape != calibration.shape:
        words = [
            word for word in ModelShape.model_fields if getattr(plan.shape, word) != getattr(calibration.shape, word)
        ]
        first = words[0]
        raise fail(
            "calibration-shape",
            f"what was measured is not this model: {first} is {getattr(calibration.shape, first)} there, and "
            f"{getattr(plan.shape, first)} in the plan",
            notes=(f"they differ in {', '.join(words)}",) if len(words) > 1 else (),
            help="calibrate by a plan of this model, with its batch and sequence",
            subject=plan.name,
        )
    clock = _Clock(calibration)
    stages = [_stage_time(stage, plan.shape, clock) for stage in plan.stages]
    return TimeEstimate(
        seconds=sum(stage.seconds for stage in stages),
        dense_seconds=sum(stage.dense_seconds for stage in stages),
        stages=tuple(stages),
    )


class _Clock:
    """Seconds of a step by its size."""

    def __init__(self, calibration: Calibration) -> None:
        self.full = calibration.full.seconds
        self.measured = {tuple(sorted(size.active.items())): size.seconds for size in calibration.sizes}
        fastest: dict[int, float] = {}
        for size in calibration.sizes:
            fastest[size.flops] = min(size.seconds, fastest.get(size.flops, size.seconds))
        self._points = sorted(fastest.items())

    def by_flops(self, flops: Fraction) -> float:
        """On the lines between what was measured; beyond the ends, as at the end."""
        for (low, seconds), (high, more) in pairwise(self._points):
            if low <= flops <= high:
                return seconds + float((flops - low) / (high - low)) * (more - seconds)
        return self._points[0 if flops < self._points[0][0] else -1][1]


def _flops(part: Segment, stage: BoundStage, shape: ModelShape) -> Fraction:
    """Of a step in the mean, everything that runs trained; blocks that run some axis in full cost more (rule 4)."""
    groups, total = alike_blocks(stage, shape.layers), Fraction(0)
    shares = {axis: part.axes[axis].mean / AXES[axis].space(shape).units for axis in part.axes if axis in stage.axes}
    for group, (running, _) in zip(groups, by_group(part.axes, stage, groups, shape.layers, "mean"), strict=True):
        thinned = {axis: share for axis, share in shares.items() if axis not in group.full and axis != BLOCKS.name}
        total += running * sum(block_cost(shape, thinned, stack=stack) for stack in range(shape.stacks))
    return total + head_cost(shape) * head_share(shares)


def _stage_time(stage: BoundStage, shape: ModelShape, clock: _Clock) -> StageTime:
    seconds, measured = 0.0, True
    spared = {axis for axis, rule in stage.axes.items() if rule.full}
    for part in segments(stage, shape):
        spaces = {axis: AXES[axis].space(shape) for axis in part.axes if axis in stage.axes}
        sizes = {axis: part.axes[axis].possible for axis in spaces}
        active = tuple(sorted((axis, each[0]) for axis, each in sizes.items() if each != (spaces[axis].units,)))
        is_one = all(len(each) == 1 for each in sizes.values())
        if is_one and active in clock.measured and spared.isdisjoint(axis for axis, _ in active):
            seconds += part.steps * clock.measured[active]
            continue
        measured = False
        seconds += part.steps * clock.by_flops(_flops(part, stage, shape))
    return StageTime(
        name=stage.name,
        steps=stage.steps,
        seconds=seconds,
        dense_seconds=stage.steps * clock.full,
        measured=measured,
    )
