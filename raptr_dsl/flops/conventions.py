"""How FLOPs are counted, by name. A new convention is one more entry of `CONVENTIONS`.

A convention says what one forward pass costs, part by part; a training step is three of them under all of these.
Published formulas are generalised to grouped queries and gated feed-forward parts (a matmul has the size it has), and
by nothing else: those that count the head at every position do so whatever `head_share` is.
"""

from collections.abc import Callable
from dataclasses import dataclass

from raptr_dsl.flops.parts import Parts, projections, transform, vocabulary, with_scores
from raptr_dsl.ir.model import ModelShape


@dataclass(frozen=True, slots=True)
class Convention:
    """One way to count.

    Attributes:
        counts: what it counts, in one line. source: where it was published.
        parts: the forward FLOPs of a shape.
        one_stack: whether its formula knows one sequence only, and so no encoder–decoder.
        scores: whether it counts attention's scores at all.
    """

    name: str
    counts: str
    source: str
    parts: Callable[[ModelShape], Parts]
    one_stack: bool = False
    scores: bool = True


def _matmul(shape: ModelShape) -> Parts:
    seen = shape.head_positions
    return Parts(with_scores(shape), {**transform(shape, seen), "head": vocabulary(shape, seen)})


def _megatron(shape: ModelShape) -> Parts:
    return Parts(with_scores(shape), {"head": vocabulary(shape, shape.tokens)})


def _palm(shape: ModelShape) -> Parts:
    """2 FLOPs for each parameter and token: the embedding's are the head's where the two are tied."""
    matrix = vocabulary(shape, shape.tokens)
    outside = {**({} if shape.tied else {"embedding": matrix}), **transform(shape, shape.tokens), "head": matrix}
    return Parts(with_scores(shape), outside)


def _chinchilla(shape: ModelShape) -> Parts:
    matrix = vocabulary(shape, shape.tokens)
    return Parts(with_scores(shape, softmax=3), {"embedding": matrix, "head": matrix})


def _6nd(shape: ModelShape) -> Parts:
    return Parts(projections(shape), transform(shape, shape.tokens))


CONVENTIONS: dict[str, Convention] = {
    convention.name: convention
    for convention in (
        Convention(
            "matmul",
            "2·M·N·K of every matmul that runs, the head where it predicts; as torch's FlopCounterMode counts",
            "torch.utils.flop_counter",
            _matmul,
        ),
        Convention(
            "megatron",
            "the matmuls of the blocks, and the head's at every position: 72·B·s·l·h²·(1 + s/6h + V/12lh)",
            "Narayanan et al. 2021, arXiv 2104.04473, eq. 3 (its 96 is 72 with recompute=full)",
            _megatron,
        ),
        Convention(
            "palm",
            "6N + 12·L·H·Q·T for each token: N the matrices of blocks, embedding and head",
            "Chowdhery et al. 2022, arXiv 2204.02311, appendix B",
            _palm,
            one_stack=True,
        ),
        Convention(
            "chinchilla",
            "the matmuls, the softmax (3·H·s²), and the embedding as a matmul with one-hot rows",
            "Hoffmann et al. 2022, arXiv 2203.15556, appendix F",
            _chinchilla,
            one_stack=True,
        ),
        Convention(
            "6nd",
            "6 FLOPs for each parameter outside the vocabulary's matrices and each token; no scores, no head",
            "Kaplan et al. 2020, arXiv 2001.08361, section 2.1",
            _6nd,
            scores=False,
        ),
    )
}
