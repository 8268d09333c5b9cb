"""How long a step takes at each size of a plan, measured on a backend's own small transformer, and what follows.

The sizes take turns in rounds, so that what disturbs the machine disturbs all of them; of each the least counts.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise, product
from pathlib import Path
from time import perf_counter
from typing import Literal

import numpy as np
from pydantic import Field, ValidationError

from raptr_dsl.axes import AXES
from raptr_dsl.backend import Backend, Batch, TrainSettings
from raptr_dsl.diagnostics import fail
from raptr_dsl.flops import block_cost, head_cost, head_share
from raptr_dsl.ir.bound import Border, BoundRule, BoundStage
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.plan import Plan
from raptr_dsl.laws.fixed import Fixed
from raptr_dsl.occupancy import Occupancy, segments
from raptr_dsl.training.record import Record
from raptr_dsl.training.reporter import SILENT, Reporter

MOST_SIZES = 12
"""Sizes measured; of more, these many that are spread evenly over their FLOPs."""

STEPS_A_VISIT = 2
"""Steps at a size before the next has its turn."""


class SizeTime(Record, frozen=True):
    """One size and its time.

    Attributes:
        active: by axis, the units that are on at each site; those left out run in full.
        flops: of a step, blocks and head, convention `matmul`. seconds: of the fastest step.
    """

    active: dict[str, int]
    flops: int
    seconds: float = Field(gt=0)


class Calibration(Record, frozen=True):
    """What was measured, and on what; the full network is the size without `active`."""

    format: Literal["raptr-calibration-1"] = "raptr-calibration-1"
    backend: str
    dtype: str
    micro_batches: int
    threads: int | None = None
    rounds: int
    shape: ModelShape
    sizes: tuple[SizeTime, ...] = Field(min_length=1)

    @property
    def full(self) -> SizeTime:
        return next(size for size in self.sizes if not size.active)

    def realised(self, size: SizeTime) -> float:
        """The speed-up of a step over one of the full network."""
        return self.full.seconds / size.seconds

    def ideal(self, size: SizeTime) -> float:
        """The speed-up that FLOPs allow."""
        return float(Fraction(self.full.flops, size.flops))


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


@dataclass(frozen=True, slots=True)
class _Size:
    """A size to be measured, and the rules that draw it."""

    flops: int
    rules: Mapping[str, BoundRule]

    @property
    def active(self) -> dict[str, int]:
        return {axis: int(rule.sizes[0].value) for axis, rule in self.rules.items()}


def calibrate(
    plan: Plan,
    backend: Backend,
    settings: TrainSettings,
    *,
    rounds: int = 5,
    most: int = MOST_SIZES,
    threads: int | None = None,
    reporter: Reporter = SILENT,
) -> Calibration:
    """Measures the time of a step at each size of a plan, on random tokens.

    A size that varies from draw to draw is measured at its mean, rounded to whole units. A first round, in which
    programs are compiled and memory is taken, is not counted.

    Raises:
        RaptrError: what the backend refuses; `train-no-positions`.
    """
    sizes = sizes_of(plan, most)
    measuring = measuring_plan(plan, sizes, rounds)
    batch = _batch(plan.shape)
    trainer = backend.trainer(measuring, settings)
    fastest = [float("inf")] * len(sizes)
    reporter.begin(0)
    for index in range(measuring.steps):
        begun = perf_counter()
        result = trainer.step(index, batch)
        seconds = perf_counter() - begun
        visit = index // STEPS_A_VISIT
        if visit >= len(sizes):
            place = visit % len(sizes)
            fastest[place] = min(fastest[place], seconds)
        reporter.step(index + 1, result.loss)
    times = zip(sizes, fastest, strict=True)
    return Calibration(
        backend=backend.name,
        dtype=settings.dtype,
        micro_batches=settings.micro_batches,
        threads=threads,
        rounds=rounds,
        shape=plan.shape,
        sizes=tuple(SizeTime(active=size.active, flops=size.flops, seconds=least) for size, least in times),
    )


def sizes_of(plan: Plan, most: int = MOST_SIZES) -> list[_Size]:
    """The distinct sizes of a plan, the cheapest first, and last the full network; at most so many of them."""
    found = {(): _size(plan.shape, {})}
    for rules in _constant_rules(plan):
        size = _size(plan.shape, rules)
        found.setdefault(tuple(sorted(size.active.items())), size)
    sizes = sorted(found.values(), key=lambda size: (size.flops, not size.rules))
    if len(sizes) <= most:
        return sizes
    if most < 2:
        return sizes[-1:]
    return [sizes[place * (len(sizes) - 1) // (most - 1)] for place in range(most)]


def _constant_rules(plan: Plan) -> Iterator[dict[str, BoundRule]]:
    """The rules of every part of the run in which no axis changes its size, one for each size that can be drawn."""
    for stage in plan.stages:
        for part in segments(stage, plan.shape):
            choices = [
                [
                    (axis, _held(stage.axes[axis], int(size + Fraction(1, 2)), plan.shape, axis))
                    for size in _sizes(taken)
                ]
                for axis, taken in part.axes.items()
                if axis in stage.axes
            ]
            for chosen in product(*choices):
                yield {axis: rule for axis, rule in chosen if rule is not None}


def _sizes(taken: Occupancy) -> list[Fraction]:
    return [pool.size for pool, _ in taken.pools]


def _held(rule: BoundRule, size: int, shape: ModelShape, axis: str) -> BoundRule | None:
    """A rule at one whole size, all that runs trained; None at full size."""
    units = AXES[axis].space(shape).units
    size = max(1, len(rule.keep), size)
    if size >= units:
        return None
    return BoundRule(
        law=rule.law if rule.law.exact else Fixed(),
        keep=rule.keep,
        sizes=(Border(offset=0, value=Fraction(size)),),
        scale=rule.scale,
        idle=rule.idle,
    )


def _size(shape: ModelShape, rules: Mapping[str, BoundRule]) -> _Size:
    shares = {axis: rule.sizes[0].value / AXES[axis].space(shape).units for axis, rule in rules.items()}
    return _Size(int(_step_flops(shape, shares)), rules)


def _step_flops(shape: ModelShape, shares: Mapping[str, Fraction]) -> Fraction:
    blocks = (block_cost(shape, shares, stack=stack) for stack in range(shape.stacks))
    return shape.layers * sum(blocks, Fraction(0)) + head_cost(shape) * head_share(shares)


def measuring_plan(plan: Plan, sizes: list[_Size], rounds: int) -> Plan:
    """The sizes in turn, once for nothing and then `rounds` times."""
    stages = [
        BoundStage(
            start=visit * STEPS_A_VISIT,
            stop=(visit + 1) * STEPS_A_VISIT,
            duration=Fraction(STEPS_A_VISIT),
            axes=dict(sizes[visit % len(sizes)].rules),
        )
        for visit in range((rounds + 1) * len(sizes))
    ]
    return Plan(
        name=plan.name, seed=plan.seed, shape=plan.shape, steps=stages[-1].stop, partial=True, stages=tuple(stages)
    )


def _batch(shape: ModelShape) -> Batch:
    """Random tokens, as many as a step of the plan has."""
    rng = np.random.Generator(np.random.Philox(0))
    seen = int(shape.seq * shape.head_share)
    if not seen:
        raise fail(
            "train-no-positions",
            f"the head sees {shape.head_share} of {shape.seq} positions, which is not one of them",
            subject="head_share",
            help=f"raise head_share to at least 1/{shape.seq}, or seq",
        )
    inputs = rng.integers(shape.vocab, size=(shape.batch, shape.seq))
    targets = rng.integers(shape.vocab, size=(shape.batch, seen))
    if seen == shape.seq:
        return Batch(inputs, targets)
    positions = np.sort(rng.random((shape.batch, shape.seq)).argsort(axis=1)[:, :seen], axis=1)
    return Batch(inputs, targets, positions)


def load_calibration(path: str | Path) -> Calibration:
    """Reads what `raptr train --calibrate` wrote. Raises RaptrError (`calibration-unreadable`)."""
    try:
        calibration = Calibration.model_validate_json(Path(path).read_bytes())
        if any(not size.active for size in calibration.sizes):
            return calibration
        problem = "the full network was not measured"
    except OSError as error:
        problem = (error.strerror or str(error)).lower()
    except ValidationError as error:
        problem = f"{error.error_count()} of its entries are not what raptr writes"
    raise fail(
        "calibration-unreadable",
        f"this is no calibration: {problem}",
        subject=str(path),
        help="measure one: raptr train FILE --calibrate --out CALIBRATION.json",
    )


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


def _stage_time(stage: BoundStage, shape: ModelShape, clock: _Clock) -> StageTime:
    seconds, measured = 0.0, True
    for part in segments(stage, shape):
        spaces = {axis: AXES[axis].space(shape) for axis in part.axes if axis in stage.axes}
        sizes = {axis: part.axes[axis].possible for axis in spaces}
        active = tuple(sorted((axis, each[0]) for axis, each in sizes.items() if each != (spaces[axis].units,)))
        is_one = all(len(each) == 1 for each in sizes.values())
        if is_one and active in clock.measured:
            seconds += part.steps * clock.measured[active]
            continue
        measured = False
        shares = {axis: part.axes[axis].mean / space.units for axis, space in spaces.items()}
        seconds += part.steps * clock.by_flops(_step_flops(shape, shares))
    return StageTime(
        name=stage.name,
        steps=stage.steps,
        seconds=seconds,
        dense_seconds=stage.steps * clock.full,
        measured=measured,
    )
