"""What every backend checks in the same words: model, batch, precision, and whether numbers are finite."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

from raptr_dsl.backend.protocol import Batch, Capabilities
from raptr_dsl.backend.settings import TrainSettings
from raptr_dsl.diagnostics import fail
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.plan import Plan

if TYPE_CHECKING:
    from numpy.typing import NDArray

RUN_FIELDS = frozenset({"batch", "head_share"})
"""Fields of `ModelShape` that describe a run and not a model."""


def require_dtype(settings: TrainSettings, name: str, capabilities: Capabilities) -> None:
    """Refuses a precision that a backend does not declare.

    Raises:
        RaptrError: `trainer-dtype`.
    """
    if settings.dtype not in capabilities.dtypes:
        known = ", ".join(sorted(capabilities.dtypes))
        raise fail(
            "trainer-dtype",
            f"the backend {name} cannot train in {settings.dtype}",
            help=f"choose the dtype {known}",
        )


def require_same_shape(plan: Plan, model: ModelShape) -> None:
    """Refuses a model that is not the one the plan was made for; how it is fed is no part of that.

    Raises:
        RaptrError: `attach-shape`, naming every field that differs.
    """
    differ = [
        (field, getattr(plan.shape, field), getattr(model, field))
        for field in ModelShape.model_fields
        if field not in RUN_FIELDS and getattr(plan.shape, field) != getattr(model, field)
    ]
    if differ:
        field, planned, actual = differ[0]
        raise fail(
            "attach-shape",
            f"the plan is for a model of {field}={planned}, and this one has {field}={actual}",
            notes=tuple(
                f"{field}: {planned} in the plan, {actual} in the model" for field, planned, actual in differ[1:]
            ),
            help="compile the schedule for this model's shape",
        )


def require_turn(index: int, next_step: int, plan: Plan) -> None:
    """Refuses every step but the next one.

    Raises:
        RaptrError: `step-beyond`, `step-order`.
    """
    if index >= plan.steps:
        raise fail("step-beyond", f"step {index} is beyond the plan, whose last step is {plan.steps - 1}")
    if index != next_step:
        order = "has run already" if index < next_step else "comes too early"
        raise fail(
            "step-order",
            f"step {index} {order}: the next one is {next_step}",
            help="loop over range(runner.next_step, plan.steps); a resumed run sets runner.next_step first",
        )


def require_micro_batches(shape: ModelShape, settings: TrainSettings) -> None:
    """Refuses micro-batches that do not divide the batch.

    Raises:
        RaptrError: `trainer-micro-batches`.
    """
    if shape.batch % settings.micro_batches:
        divisors = [n for n in range(1, shape.batch + 1) if shape.batch % n == 0]
        nearest = min(divisors, key=lambda n: abs(n - settings.micro_batches))
        raise fail(
            "trainer-micro-batches",
            f"{settings.micro_batches} micro-batches do not divide a batch of {shape.batch} sequences",
            help=f"write {nearest} micro-batches",
        )


def micro_batches(batch: Batch, count: int) -> Iterator[tuple[Batch, Fraction]]:
    """The batch in `count` equal parts of its rows, each with its share of the step's mean loss."""
    rows = batch.inputs.shape[0] // count
    for start in range(0, batch.inputs.shape[0], rows):
        part = slice(start, start + rows)
        positions = None if batch.positions is None else batch.positions[part]
        yield Batch(batch.inputs[part], batch.targets[part], positions), Fraction(1, count)


def require_batch(batch: Batch, shape: ModelShape) -> None:
    """Refuses tokens outside the vocabulary, and sequences longer than the model has positions.

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


def require_finite(index: int, loss: float, grad_norm: float = 0.0) -> None:
    """Refuses to go on with a loss or a gradient that is not a number.

    Raises:
        RaptrError: `trainer-not-finite`.
    """
    for what, value in (("loss", loss), ("gradient norm", grad_norm)):
        if not math.isfinite(value):
            raise fail(
                "trainer-not-finite",
                f"the {what} of step {index} is {value}; the weights were not updated",
                help="lower the learning rate, lengthen the warm-up, or train in a wider dtype",
            )
