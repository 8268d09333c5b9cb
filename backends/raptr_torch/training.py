"""Parts that a step runs and does not train: their weights are shown to autograd as constants while it lasts.

So backward is saved where autograd can save it: the gradients of those weights, and below the first part that trains
all gradients.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from raptr_dsl.ir.bound import BoundStage
from raptr_dsl.ir.plan import Plan, Step
from raptr_torch.sites import Part


def trains(part: Part, step: Step) -> bool:
    """Whether the optimizer may touch a parameter in a step, if what it belongs to runs (rules 31, 33)."""
    if part.block is None:
        return part.outside not in step.frozen
    depth = step.axes.get("depth")
    if part.is_factor and (depth is None or not depth.learned):
        return False
    return depth is None or depth.trains is None or bool(depth.trains.ravel()[part.block])


def is_partial(step: Step) -> bool:
    """Whether a step runs anything that it does not train."""
    depth = step.axes.get("depth")
    if step.frozen:
        return True
    return depth is not None and depth.trains is not None and bool((depth.on & ~depth.trains).any())


def runs_untrained(stage: BoundStage) -> bool:
    """Whether some step of a stage can run what it does not train; blocks that are not born do not run."""
    depth = stage.axes.get("depth")
    return bool(stage.freeze) or (depth is not None and depth.train is not None)


def parameters_rest(plan: Plan) -> bool:
    """Whether parameters may stay as they are through steps of a plan whatever `idle` says."""
    rules = [stage.axes.get("depth") for stage in plan.stages]
    return any(map(runs_untrained, plan.stages)) or any(rule is not None and rule.born is not None for rule in rules)


class Constants:
    """The parameters of a model that are constants for now; gradients asked for by their owner come back."""

    def __init__(self) -> None:
        self._held: list[nn.Parameter] = []

    def hold(self, parts: Mapping[nn.Parameter, Part], step: Step) -> None:
        """Makes constants of what a step does not train."""
        self.release()
        for parameter, part in parts.items():
            if parameter.requires_grad and not trains(part, step):
                parameter.requires_grad_(False)
                self._held.append(parameter)

    def release(self) -> None:
        """Nothing is held any more."""
        for parameter in self._held:
            parameter.requires_grad_(True)
        self._held = []
