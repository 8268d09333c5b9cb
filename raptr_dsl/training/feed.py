"""What a run reads: the batch of any step, and the held-out batches, as the model's shape wants them."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Protocol

import numpy as np

from raptr_dsl.backend import Batch
from raptr_dsl.data import TokenDataset
from raptr_dsl.diagnostics import fail
from raptr_dsl.ir.model import ModelShape

_EVAL_SEED = 0


class Feed(Protocol):
    """Batches as a pure function of the step."""

    def batch(self, step: int) -> Batch:
        """The sequences of one optimizer step."""
        ...

    def held_out(self) -> Sequence[Batch]:
        """The batches of every evaluation, the same each time."""
        ...


class TokenFeed:
    """The batches of a token dataset: the next token where the model looks back only, else hidden ones.

    A head on a share of the positions sees the same number of them in every sequence, drawn anew each step.
    """

    def __init__(self, data: TokenDataset, shape: ModelShape, seed: int, eval_batches: int) -> None:
        """`seed` is of the order of training batches; held-out batches are the same under any.

        Raises:
            RaptrError: `train-vocabulary`, `train-no-positions`.
        """
        require_vocabulary(data, shape)
        self._data, self._shape, self._seed, self._eval_batches = data, shape, seed, eval_batches
        count = int(shape.seq * shape.head_share)
        if not count:
            raise fail(
                "train-no-positions",
                f"the head sees {shape.head_share} of {shape.seq} positions, which is not one of them",
                subject="head_share",
                help=f"raise head_share to at least 1/{shape.seq}, or seq",
            )
        self._share = Fraction(count, shape.seq)
        self._held_out: Sequence[Batch] | None = None
        self._length = shape.seq if shape.causal else shape.seq - 1  # windows have one token more

    def batch(self, step: int) -> Batch:
        tokens = self._data.batch(self._seed, step, self._shape.batch, self._length)
        return self._as_asked(tokens, self._seed, step)

    def held_out(self) -> Sequence[Batch]:
        if self._held_out is None:
            batches = self._data.eval_batches(self._shape.batch, self._length, self._eval_batches)
            self._held_out = [self._as_asked(tokens, _EVAL_SEED, index) for index, tokens in enumerate(batches)]
        return self._held_out

    def _as_asked(self, tokens: np.ndarray, seed: int, step: int) -> Batch:
        if not self._shape.causal:
            return Batch(*_masked(self._data, tokens, seed, step, self._share))
        inputs, targets = tokens[:, :-1], tokens[:, 1:]
        if self._share == 1:
            return Batch(inputs, targets)
        positions = self._data.mlm(inputs, seed, step, self._share).positions
        return Batch(inputs, np.take_along_axis(targets, positions, axis=1), positions)


def _masked(
    data: TokenDataset, tokens: np.ndarray, seed: int, step: int, share: Fraction
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    masked = data.mlm(tokens, seed, step, share)
    return masked.inputs, masked.targets, masked.positions


def require_vocabulary(data: TokenDataset, shape: ModelShape) -> None:
    """Raises RaptrError unless the model has an embedding for every token."""
    needed = data.vocab_size
    if shape.vocab >= needed:
        return
    raise fail(
        "train-vocabulary",
        f"the model has {shape.vocab:,} tokens, the tokenizer {needed:,}",
        subject="vocab",
        help=f"write vocab={needed} in the model, or use a smaller tokenizer",
    )
