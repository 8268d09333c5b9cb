"""The matmuls of a transformer at full size, part by part; every convention is made of these."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from raptr_dsl.ir.model import ModelShape

Exact = int | Fraction
Costs = Mapping[str, Exact]
"""FLOPs by part. The parts of a block are those that `powers` of an axis can name."""

LAST_MATMUL = "ffn.output"
"""With it a block ends."""


def has_weight(part: str) -> bool:
    """Whether a part of a block is a product with a weight; scores are products of two activations."""
    return not part.endswith(".scores")


@dataclass(frozen=True, slots=True)
class Parts:
    """Forward FLOPs of one optimizer step at full size.

    Attributes:
        stacks: for each residual stack, those of *one* of its blocks.
        outside: those outside the blocks: the vocabulary's head, and its embedding where a convention counts it.
    """

    stacks: tuple[Costs, ...]
    outside: Costs


class _Attention(NamedTuple):
    """One attention of a block: how many positions ask, and how many are looked at."""

    kind: str
    rows: int
    columns: int


def _attentions(shape: ModelShape) -> Iterator[tuple[_Attention, ...]]:
    """By stack: an encoder attends to itself, a decoder to itself and to the encoder before it."""
    if shape.source_seq:
        yield (_Attention("attention", shape.source_seq, shape.source_seq),)
    own = _Attention("attention", shape.seq, shape.seq)
    yield (own, _Attention("cross_attention", shape.seq, shape.source_seq)) if shape.source_seq else (own,)


def projections(shape: ModelShape) -> tuple[dict[str, int], ...]:
    """By stack, 2·M·N·K of every matmul with a weight in one block: M positions, a weight of N × K.

    A position is computed by `top_k` experts, however many there are to choose from; the router scores them all.
    """
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    into_ffn = 2 if shape.gated else 1
    stacks = []
    for attentions in _attentions(shape):
        parts: dict[str, int] = {}
        for kind, rows, columns in attentions:
            parts[f"{kind}.query"] = 2 * shape.batch * rows * shape.hidden * queries
            parts[f"{kind}.key_value"] = 2 * 2 * shape.batch * columns * shape.hidden * keys
            parts[f"{kind}.output"] = 2 * shape.batch * rows * queries * shape.hidden
        positions = shape.batch * attentions[0].rows
        if shape.has_experts:
            parts["ffn.router"] = 2 * positions * shape.hidden * shape.experts
        sent = positions * shape.top_k
        parts["ffn.input"] = into_ffn * 2 * sent * shape.hidden * shape.ffn
        parts["ffn.output"] = 2 * sent * shape.ffn * shape.hidden
        stacks.append(parts)
    return tuple(stacks)


def with_scores(shape: ModelShape, softmax: int = 0) -> tuple[dict[str, int], ...]:
    """`projections`, and Q·Kᵀ and weights·V over all pairs of positions, masked or not.

    Args:
        softmax: FLOPs of each entry of each head's score matrix on top of the two matmuls.
    """
    entry = 2 * 2 * shape.head_dim + softmax
    return tuple(
        parts | {f"{one.kind}.scores": shape.batch * shape.heads * one.rows * one.columns * entry for one in attentions}
        for parts, attentions in zip(projections(shape), _attentions(shape), strict=True)
    )


def vocabulary(shape: ModelShape, positions: int) -> int:
    """2·M·N·K of a matmul with a vocabulary × hidden matrix: the head's, or the embedding's as one."""
    return 2 * positions * shape.hidden * shape.vocab


def transform(shape: ModelShape, positions: int) -> dict[str, int]:
    """The head's dense hidden × hidden layer, where it has one."""
    return {"head.transform": 2 * positions * shape.hidden**2} if shape.head_transform else {}
