"""Exact FLOP accounting.

Convention `matmul`: 2·M·N·K for every matmul that runs, attention uncausal, backward twice the forward,
elementwise work and embedding look-ups 0. It equals torch's `FlopCounterMode` and a jaxpr walk to the integer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from raptr_dsl.axes import AXES
from raptr_dsl.ir.bound import BoundStage
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.occupancy import Segment, segments

CONVENTIONS = ("matmul",)
TRAINING = 3
"""A training step costs its forward pass, and twice that again for the gradients of weights and inputs."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Forward FLOPs of one optimizer step at full size: of every part of *one* block, and of the head."""

    block: Mapping[str, int]
    head: int


def parts(shape: ModelShape) -> Parts:
    """The matmuls of a shape, by part.

    Scores are Q·Kᵀ and weights·V over all seq² pairs. Source of the sum: 2·M·N·K over each matmul's dimensions.
    """
    query = 2 * shape.tokens * shape.hidden * shape.heads * shape.head_dim
    return Parts(
        block={
            "attention.query": query,
            "attention.key_value": 2 * 2 * shape.tokens * shape.hidden * shape.kv_heads * shape.head_dim,
            "attention.scores": 2 * 2 * shape.tokens * shape.seq * shape.heads * shape.head_dim,
            "attention.output": query,
            "ffn": (3 if shape.gated else 2) * 2 * shape.tokens * shape.hidden * shape.ffn,
        },
        head=2 * shape.head_positions * shape.hidden * shape.vocab,
    )


def block_cost(shape: ModelShape, active: Mapping[str, Fraction]) -> Fraction:
    """Training FLOPs of one block per step in which the share `active[axis]` of each axis's units runs.

    An axis left out runs in full. With whole units the result is whole. With `depth` among the axes it is the
    mean over all blocks of a stack in which that share of them runs; shares of independent axes may be expectations.
    """
    total = Fraction(0)
    for part, flops in parts(shape).block.items():
        cost = Fraction(flops)
        for name, share in active.items():
            cost *= share ** AXES[name].powers.get(part, 0)
        total += cost
    return TRAINING * total


def head_cost(shape: ModelShape) -> int:
    """Training FLOPs of the vocabulary head per step."""
    return TRAINING * parts(shape).head


def full_blocks_cost(shape: ModelShape) -> int:
    """Training FLOPs per step of all blocks at full size."""
    return shape.layers * TRAINING * sum(parts(shape).block.values())


Case = Literal["mean", "worst"]
Exact = int | Fraction


@dataclass(frozen=True, slots=True)
class FlopReport:
    """Training FLOPs of a run or of one stage, beside those of the full network for the same steps.

    Integers wherever the counts are certain; under random laws the exact expectation, or the worst case.
    """

    blocks: Exact
    head: Exact
    full_blocks: Exact
    stages: tuple["FlopReport", ...] = ()

    @property
    def total(self) -> Exact:
        """Blocks and vocabulary head."""
        return self.blocks + self.head

    @property
    def full_total(self) -> Exact:
        return self.full_blocks + self.head

    @property
    def ratio_blocks(self) -> Fraction:
        return Fraction(self.blocks) / self.full_blocks

    @property
    def ratio_total(self) -> Fraction:
        return Fraction(self.total) / self.full_total


def exact_report(blocks: Exact, head: Exact, full_blocks: Exact, stages: Sequence[FlopReport] = ()) -> FlopReport:
    """A report whose whole numbers are integers."""
    return FlopReport(_whole(blocks), _whole(head), _whole(full_blocks), tuple(stages))


def _whole(number: Exact) -> Exact:
    return number.numerator if number.denominator == 1 else number


def segment_cost(shape: ModelShape, segment: Segment, case: Case) -> Fraction:
    """Training FLOPs of all blocks in one step of a segment: the expectation, or the most that can occur."""
    spaces = {name: AXES[name].space(shape) for name in segment.axes}
    if case == "worst":
        active = {name: Fraction(taken.most, spaces[name].units) for name, taken in segment.axes.items()}
        return shape.layers * block_cost(shape, active)
    costs = (
        chance * block_cost(shape, {name: size / spaces[name].units for name, size in sizes.items()})
        for chance, sizes in segment.sizes()
    )
    return shape.layers * sum(costs, Fraction(0))


def run_report(shape: ModelShape, stages: Sequence[BoundStage], case: Case = "mean", exact: bool = False) -> FlopReport:
    """The account of a run, by stage.

    With `exact`, each stage's mean cost is weighed by its exact duration, before its borders were rounded to whole
    steps (rule 38): the ratios are then those of the file, at any horizon.
    """
    reports = []
    for stage in stages:
        blocks = sum(
            (segment.steps * segment_cost(shape, segment, case) for segment in segments(stage, shape)),
            Fraction(0),
        )
        steps = stage.duration if exact else Fraction(stage.steps)
        full, head = full_blocks_cost(shape) * steps, head_cost(shape) * steps
        reports.append(exact_report(blocks * steps / stage.steps, head, full))
    return total_report(reports)


def total_report(stages: Sequence[FlopReport]) -> FlopReport:
    """The account of a whole run from those of its stages."""
    return exact_report(
        sum(stage.blocks for stage in stages),
        sum(stage.head for stage in stages),
        sum(stage.full_blocks for stage in stages),
        stages,
    )
