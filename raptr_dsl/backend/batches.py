"""Batches as every backend takes them: checked, split into micro-batches, and averaged in evaluation."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from raptr_dsl.backend.protocol import Batch
from raptr_dsl.diagnostics import fail
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.step import AxisMask

if TYPE_CHECKING:
    from numpy.typing import NDArray


def micro_batches(batch: Batch, count: int) -> Iterator[tuple[Batch, Fraction]]:
    """The batch in `count` parts of its rows, equal to within a row, each with its share of the step's mean loss.

    Fewer where there are fewer rows.
    """
    rows = batch.inputs.shape[0]
    for part in (share_of(batch, index, count) for index in range(count)):
        if part.inputs.shape[0]:
            yield part, Fraction(part.inputs.shape[0], rows)


def shortened(batch: Batch, masks: Mapping[str, AxisMask]) -> Batch:
    """The sequences of a batch, and of each the positions, that the axes `batch` and `seq` leave."""
    if "batch" not in masks and "seq" not in masks:
        return batch
    rows = slice(None) if "batch" not in masks else masks["batch"].active()
    seen = slice(None) if "seq" not in masks else masks["seq"].active()
    positions = None if batch.positions is None else batch.positions[rows]
    targets = batch.targets[rows] if positions is not None else batch.targets[rows][:, seen]
    return Batch(batch.inputs[rows][:, seen], targets, positions)


def share_of(batch: Batch, rank: int, ranks: int) -> Batch:
    """The rows of a batch that one of several ranks takes: neighbours, as many as another's to within one."""
    rows = batch.inputs.shape[0]
    part = slice(rank * rows // ranks, (rank + 1) * rows // ranks)
    positions = None if batch.positions is None else batch.positions[part]
    return Batch(batch.inputs[part], batch.targets[part], positions)


def require_batch(batch: Batch, shape: ModelShape, thinned: Collection[str] = ()) -> None:
    """Refuses tokens outside the vocabulary, and sequences longer than the model has positions.

    Args:
        thinned: the axes that a plan thins. Its masks of positions and sequences are of whole batches: where there are
            any, a batch has to have as many as the plan's shape.

    Raises:
        RaptrError: `trainer-batch`.
    """
    targets = (batch.inputs if batch.positions is None else batch.positions).shape
    if batch.inputs.ndim != 2 or batch.targets.shape != targets:
        raise fail(
            "trainer-batch",
            f"inputs of shape {batch.inputs.shape} and targets of shape {batch.targets.shape} do not belong together",
            help=f"give targets of shape {targets}",
        )
    if batch.inputs.shape[1] > shape.seq:
        raise fail(
            "trainer-batch",
            f"a sequence of {batch.inputs.shape[1]} tokens is longer than the model's seq={shape.seq}",
        )
    for axis, found, whole, what in (
        ("positions", batch.inputs.shape[1], shape.seq, "tokens a sequence"),
        ("seq", batch.inputs.shape[1], shape.seq, "tokens a sequence"),
        ("batch", batch.inputs.shape[0], shape.batch, "sequences"),
    ):
        if axis in thinned and found != whole:
            raise fail(
                "trainer-batch",
                f"the batch has {found} {what}, and the plan thins {axis} of batches that have {whole}",
                help="give whole batches, from which each step takes its part; or compile for the batches at hand",
            )
    for what, tokens in (("inputs", batch.inputs), ("targets", batch.targets)):
        _require_below(tokens, shape.vocab, f"the {what} hold the token", f"the vocabulary ends at {shape.vocab - 1}")
    if batch.positions is not None:
        last = batch.inputs.shape[1]
        _require_below(batch.positions, last, "the head is to predict at position", f"the last one is {last - 1}")


def _require_below(values: NDArray, limit: int, what: str, bound: str) -> None:
    if not values.size:
        raise fail("trainer-batch", "the batch is empty")
    least, most = int(values.min()), int(values.max())
    if least < 0 or most >= limit:
        raise fail("trainer-batch", f"{what} {least if least < 0 else most}, and {bound}")


def mean_loss(batches: Sequence[Batch], shape: ModelShape, loss: Callable[[Batch], float]) -> float:
    """The mean over all targets of all batches; `loss` is the mean over those of one.

    Raises:
        RaptrError: `trainer-batch`.
    """
    for batch in batches:
        require_batch(batch, shape)
    targets = sum(batch.targets.size for batch in batches)
    if not targets:
        raise fail("trainer-batch", "there is no batch to evaluate")
    return sum(loss(batch) * batch.targets.size for batch in batches) / targets
