"""Exact FLOP accounting.

Convention `matmul`: 2·M·N·K for every matmul that runs, attention uncausal, backward twice the forward,
elementwise work and embedding look-ups 0. It equals torch's `FlopCounterMode` and a jaxpr walk to the integer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from raptr_dsl.axes import AXES
from raptr_dsl.ir.model import ModelShape

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
