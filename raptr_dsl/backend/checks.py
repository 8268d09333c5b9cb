"""What every backend checks in the same words: model, turn, precision, micro-batches, finite numbers."""

from __future__ import annotations

import math
from pathlib import Path

from raptr_dsl.backend.protocol import SHARD_PARAMETERS, Capabilities
from raptr_dsl.backend.settings import TrainSettings
from raptr_dsl.diagnostics import RaptrError, fail
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.plan import Plan

RUN_FIELDS = frozenset({"batch", "head_share"})
"""Fields of `ModelShape` that describe a run and not a model."""


def require_settings(settings: TrainSettings, name: str, capabilities: Capabilities) -> None:
    """Refuses a precision, or an option, that a backend does not declare.

    Raises:
        RaptrError: `trainer-dtype`, `trainer-option`.
    """
    if settings.shard_parameters and SHARD_PARAMETERS not in capabilities.options:
        raise fail(
            "trainer-option",
            f"the backend {name} keeps parameters whole on each of its devices, and --{SHARD_PARAMETERS} would split "
            "them",
            help=f"leave --{SHARD_PARAMETERS} out; raptr backends says which backend has it",
        )
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


def require_head_everywhere(plan: Plan, name: str) -> None:
    """Refuses shorter sequences where the head predicts at some of their positions.

    How many of those a shorter sequence leaves depends on the data, and so does what it costs.

    Raises:
        RaptrError: `backend-unsupported`.
    """
    if plan.shape.head_share != 1 and any("seq" in stage.axes for stage in plan.stages):
        raise fail(
            "backend-unsupported",
            f"the {name} backend shortens no sequences where the head sees {plan.shape.head_share} of the positions",
            help="compile for a model of head_share=100%",
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


def require_micro_batches(shape: ModelShape, settings: TrainSettings, ranks: int = 1) -> None:
    """Refuses ranks that do not divide the batch, and micro-batches that do not divide the share of a rank.

    Raises:
        RaptrError: `ranks-batch`, `trainer-micro-batches`.
    """
    share, rest = divmod(shape.batch, ranks)
    if rest:
        raise fail(
            "ranks-batch",
            f"{ranks} ranks do not divide a batch of {shape.batch} sequences",
            help=f"start {_nearest_divisor(shape.batch, ranks)} ranks, or compile the schedule for a batch of "
            f"{shape.batch - rest or ranks}",
        )
    if share % settings.micro_batches:
        whose = f"a batch of {share} sequences"
        if ranks > 1:
            whose = f"the {share} of {shape.batch} sequences that each of {ranks} ranks takes"
        raise fail(
            "trainer-micro-batches",
            f"{settings.micro_batches} micro-batches do not divide {whose}",
            help=f"write {_nearest_divisor(share, settings.micro_batches)} micro-batches",
        )


def _nearest_divisor(number: int, wanted: int) -> int:
    divisors = (n for n in range(1, number + 1) if number % n == 0)
    return min(divisors, key=lambda n: abs(n - wanted))


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


def unreadable_checkpoint(folder: Path, error: Exception) -> RaptrError:
    """What a trainer raises over a checkpoint that is damaged, in whatever way."""
    return fail(
        "trainer-checkpoint",
        f"the checkpoint cannot be read: {error}",
        subject=str(folder),
        help="resume from an older checkpoint",
    )
