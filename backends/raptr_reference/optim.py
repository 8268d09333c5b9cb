"""AdamW as `TrainSettings` words it, with the two meanings of `idle` (rule 32)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raptr_dsl.backend import TrainSettings
from raptr_dsl.backend.network import Parameter
from raptr_dsl.ir.plan import Plan, Step
from raptr_reference.model import Array, Gradients


@dataclass(slots=True)
class Moments:
    """The state of one tensor; the count of bias correction belongs to the tensor, not to its rows."""

    mean: Array
    square: Array
    count: int = 0


def adamw(
    value: Array, gradient: Array, moments: Moments, rows: NDArray[np.bool_] | None, lr: float, decay: float,
    settings: TrainSettings,
) -> None:  # fmt: skip
    """Updates a tensor in place; only those of its rows where `rows` holds, if given."""
    beta1, beta2 = settings.beta1, settings.beta2
    moments.count += 1
    mean = beta1 * moments.mean + (1 - beta1) * gradient
    square = beta2 * moments.square + (1 - beta2) * gradient**2
    corrected = mean / (1 - beta1**moments.count)
    denominator = np.sqrt(square / (1 - beta2**moments.count)) + settings.eps
    updated = value - lr * (corrected / denominator + decay * value)
    chosen = ... if rows is None else rows
    value[chosen], moments.mean[chosen], moments.square[chosen] = (
        updated[chosen],
        mean[chosen],
        square[chosen],
    )


def clip(gradients: Gradients, limit: float) -> float:
    """Scales all gradients by min(1, limit / (norm + 1e-6)) in place; the norm before that."""
    norm = float(np.sqrt(sum(float((gradient**2).sum()) for gradient in gradients.values())))
    for gradient in gradients.values():
        gradient *= min(1.0, limit / (norm + 1e-6))
    return norm


def leave(gradients: Gradients, table: tuple[Parameter, ...], step: Step, plan: Plan) -> None:
    """Sets to zero, in place, the gradients of what is not trained in this step: they count in no norm."""
    for parameter in table:
        if runs(parameter, step, plan) is False:
            gradients[parameter.name][...] = 0.0


def runs(parameter: Parameter, step: Step, plan: Plan) -> bool | NDArray[np.bool_]:
    """Whether the optimizer touches a tensor in this step, or which of its rows.

    What did not run is touched under idle=zero, with a gradient of zero, and left alone under idle=skip. A tensor of
    a block that is off follows the rule of depth; rows of a block that is on follow the rule of their axis. What does
    not train is left alone whatever `idle` says (rule 33), and a trained factor where depth runs in full (rule 31).
    """
    rules = plan.stages[step.stage].axes
    depth = step.axes.get("depth")
    if parameter.block is None:
        return parameter.part not in step.frozen
    if depth is not None and depth.trains is not None and not depth.trains[0, parameter.block]:
        return False
    if parameter.name.endswith(".factor") and (depth is None or not depth.learned):
        return False
    if depth is not None and not depth.on[0, parameter.block]:
        return rules["depth"].idle == "zero"
    mask = step.axes.get(parameter.axis) if parameter.axis else None
    if mask is None or rules[str(parameter.axis)].idle == "zero":
        return True
    return mask.on[parameter.block]


def update(
    values: Mapping[str, Array], gradients: Gradients, moments: Mapping[str, Moments], table: tuple[Parameter, ...],
    step: Step, plan: Plan, settings: TrainSettings,
) -> None:  # fmt: skip
    """One optimizer step over all tensors, in place; gradients are clipped already."""
    lr = settings.learning_rate(step.index, plan.steps) * float(plan.rate_factor(step.index))
    for parameter in table:
        name = parameter.name
        touched = runs(parameter, step, plan)
        if touched is False:
            continue
        decay = settings.weight_decay if parameter.decay else 0.0
        rows = None if touched is True else touched
        adamw(values[name], gradients[name], moments[name], rows, lr, decay, settings)
