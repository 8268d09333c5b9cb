"""How long a step takes at each size of a plan, measured on a backend's own small transformer.

The sizes take turns in rounds, so that what disturbs the machine disturbs all of them; of each the least counts.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from time import perf_counter

import numpy as np

from raptr_dsl.axes import AXES
from raptr_dsl.backend import Backend, Batch, TrainSettings
from raptr_dsl.diagnostics import fail
from raptr_dsl.ir.bound import Border, BoundRule, BoundStage
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.plan import Plan
from raptr_dsl.laws.fixed import Fixed
from raptr_dsl.occupancy import Occupancy, segments
from raptr_dsl.training.calibration import Calibration, SizeTime, step_flops
from raptr_dsl.training.reporter import SILENT, Reporter

MOST_SIZES = 12
"""Sizes measured; of more, these many that are spread evenly over their FLOPs."""

STEPS_A_VISIT = 2
"""Steps at a size before the next has its turn."""


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
    return _Size(int(step_flops(shape, shares)), rules)


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
