"""What an optimizer does to parameters that did not run or do not train, by its public step hooks.

Before the update, what idles under `zero` is lent a gradient of zeros (one buffer a shape). What idles under `skip`,
and what does not train, is taken out of the optimizer's sight: whole tensors by having no gradient, rows of unit-major
tensors by `rows`. Where the learning rate climbs again, it is multiplied. After the update, all is as before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from raptr_dsl.axes import AXES
from raptr_dsl.diagnostics import fail
from raptr_dsl.ir.bound import BoundRule
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.plan import Plan, Step
from raptr_torch.examine import Facts, examine, prime
from raptr_torch.rows import Narrowing
from raptr_torch.sites import Part
from raptr_torch.training import parameters_rest, trains


class OptimizerBinding:
    """One optimizer bound to a plan.

    Raises:
        RaptrError: `idle` would not mean under this optimizer what the plan says.
    """

    def __init__(self, optimizer: Optimizer, parts: Mapping[nn.Parameter, Part], plan: Plan) -> None:
        self.optimizer = optimizer
        held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        _require_own(optimizer, held, parts)
        self._parts = {p: parts[p] for p in held if p in parts}
        self._has_factors = any(part.is_factor for part in self._parts.values())
        self._plan = plan
        self._step: Step | None = None
        self._updates_left: float = 0
        facts = self._examine()
        self._primes = bool(facts) and all(fact.primes for fact in facts)
        self.tables = frozenset(word for fact in facts for word in fact.tables)
        self._shares_zeros = all(fact.spares_gradients for fact in facts)
        self._zeros: dict[tuple[torch.Size, torch.dtype, torch.device], Tensor] = {}
        self._lent: list[nn.Parameter] = []
        self._hidden: list[tuple[nn.Parameter, Tensor]] = []
        self._narrowing: Narrowing | None = None
        self._rates: list[tuple[dict[str, Any], Any]] = []
        self._nesting = 0
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []

    def start(self) -> None:
        """Creates the optimizer's state where it has none, and hooks on to its steps."""
        if self._primes:
            held = [p for group in self.optimizer.param_groups for p in group["params"]]
            prime(self.optimizer, held, self.tables)
        self._hooks = [
            self.optimizer.register_step_pre_hook(self._before),
            self.optimizer.register_step_post_hook(self._after),
        ]

    def release(self) -> None:
        """Leaves the optimizer alone."""
        self._restore()
        for hook in self._hooks:
            hook.remove()

    def expect(self, step: Step | None) -> None:
        """The next update belongs to that step; None: any number of updates of everything."""
        self._restore()
        self._step, self._updates_left = step, 1 if step else math.inf

    def expect_nothing(self) -> None:
        """The step failed: no update belongs to it."""
        self._restore()
        self._step, self._updates_left = None, 0

    def _examine(self) -> list[Facts]:
        """Refuses what `idle` cannot mean under this optimizer."""
        plan, name = self._plan, type(self.optimizer).__qualname__
        blocks = {p for p, part in self._parts.items() if part.block is not None}
        rules = {
            (axis, rule.idle)
            for stage in plan.stages
            for axis, rule in stage.axes.items()
            if _can_idle(axis, rule, plan.shape)
        }
        per_block = {part.axis for part in self._parts.values()}
        rests = parameters_rest(plan)
        groups = [g for g in self.optimizer.param_groups if not blocks.isdisjoint(g["params"])]
        others = [g for g in self.optimizer.param_groups if blocks.isdisjoint(g["params"])] if rests else []
        facts = [examine(self.optimizer, group) for group in groups] if rules or rests else []
        if rests and not all(fact.primes for fact in (*facts, *(examine(self.optimizer, group) for group in others))):
            raise fail(
                "optimizer-idle-start",
                f"the state of {name} cannot be created before its first step without changing that step, so parts "
                "that the plan does not train for now would leave gaps in checkpoints",
                help="use another optimizer, or a schedule without depth.train, freeze and grow",
            )
        for axis, idle in sorted(rules):
            if idle == "zero" and not all(fact.fades for fact in facts):
                raise fail(
                    "optimizer-idle-zero",
                    f"under {name}, idle=zero would move idle parts of {axis} at full strength in every step",
                    help=f"write {axis}.idle=skip",
                )
            if idle == "skip" and axis in per_block and not all(fact.is_elementwise for fact in facts):
                raise fail(
                    "optimizer-idle-rows",
                    f"{name} updates a matrix as a whole, so idle=skip cannot leave out rows of it along {axis}",
                    help="use an elementwise optimizer, such as AdamW, for the matrices of the blocks",
                )
            if idle == "skip" and not all(fact.primes for fact in facts):
                raise fail(
                    "optimizer-idle-start",
                    f"the state of {name} cannot be created before its first step without changing that step, so "
                    f"idle=skip on {axis} would leave gaps in checkpoints",
                    help=f"write {axis}.idle=zero, or use another optimizer",
                )
        return facts

    def _before(self, *_: object) -> None:
        if self._nesting:  # an optimizer whose step calls the step of its base class is hooked twice
            self._nesting += 1
            return
        if not self._updates_left:
            told = "outside a step of the plan" if self._step is None else f"a second time for step {self._step.index}"
            raise fail(
                "optimizer-extra-update",
                f"the optimizer stepped {told}",
                help="take one optimizer.step() for each `with runner.step(n):`, after it",
            )
        self._updates_left -= 1
        self._nesting = 1
        step = self._step
        if step is None:
            return
        self._climb(step)
        if self._touches_all(step):
            return
        rules = self._plan.stages[step.stage].axes
        depth = step.axes.get("depth")
        narrowing = Narrowing(self.optimizer)
        for parameter, part in self._parts.items():
            if not parameter.requires_grad:
                continue
            if not trains(part, step):
                self._idle(parameter, "skip")
                continue
            if part.block is None:
                continue
            if depth is not None and not depth.on.ravel()[part.block]:
                self._idle(parameter, rules["depth"].idle)
                continue
            if parameter.grad is None:  # its block ran, and no unit of it: counts advance all the same
                self._lend(parameter)
            mask = step.axes.get(part.axis) if part.axis else None
            if mask is not None and rules[str(part.axis)].idle == "skip" and not mask.on[part.block].all():
                narrowing.add(parameter, part.elements(mask.on[part.block]), part.dim)
        narrowing.begin()
        self._narrowing = narrowing

    def _after(self, *_: object) -> None:
        self._nesting -= 1
        if not self._nesting:
            self._restore()

    def _restore(self) -> None:
        """Undoes `_before`, also where the update raised and `_after` was never called."""
        self._nesting = 0
        for parameter in self._lent:
            parameter.grad = None
        for parameter, gradient in self._hidden:
            parameter.grad = gradient
        for group, rate in self._rates:
            group["lr"] = rate
        self._lent, self._hidden, self._rates = [], [], []
        if self._narrowing is not None:
            self._narrowing.end()
            self._narrowing = None

    def _touches_all(self, step: Step) -> bool:
        everything = all(mask.full and mask.trains is None for mask in step.axes.values())
        return everything and not step.frozen and not self._has_factors

    def _climb(self, step: Step) -> None:
        """Multiplies the learning rates by what `rewarm` says."""
        factor = self._plan.rate_factor(step.index)
        if factor == 1:
            return
        for group in self.optimizer.param_groups:
            self._rates.append((group, group["lr"]))
            group["lr"] = group["lr"] * float(factor)

    def _idle(self, parameter: nn.Parameter, rule: str) -> None:
        if rule == "zero" and parameter.grad is None:
            self._lend(parameter)
        elif rule == "skip" and parameter.grad is not None:  # zero_grad(set_to_none=False) leaves zeros
            self._hidden.append((parameter, parameter.grad))
            parameter.grad = None

    def _lend(self, parameter: nn.Parameter) -> None:
        """A gradient of zeros: after backward, and taken back before the next, or it would be added to."""
        key = (parameter.shape, parameter.dtype, parameter.device)
        if not self._shares_zeros:
            parameter.grad = torch.zeros_like(parameter)
        elif key in self._zeros:
            parameter.grad = self._zeros[key]
        else:
            parameter.grad = self._zeros[key] = torch.zeros_like(parameter)
        self._lent.append(parameter)


def _can_idle(axis: str, rule: BoundRule, shape: ModelShape) -> bool:
    """Whether some unit of weights that is born may be off."""
    if not AXES[axis].has_weights:
        return False
    whole = AXES[axis].space(shape).units if rule.born is None else rule.born
    settled = rule.sizes and rule.measure == "units" and not rule.choices
    return not (settled and all(border.value >= whole for border in rule.sizes))


def _require_own(optimizer: Optimizer, held: list[nn.Parameter], parts: Mapping[nn.Parameter, Part]) -> None:
    """Refuses an optimizer of parameters that are not the model's: it was made for another, or before sharding."""
    foreign = sum(parameter not in parts for parameter in held)
    if foreign:
        raise fail(
            "optimizer-foreign",
            f"{foreign} of the {len(held)} parameters of {type(optimizer).__qualname__} are not the model's",
            help="make the optimizer after the model is moved, sharded or given adapters, of model.parameters(); give "
            "parameters of something else an optimizer of their own",
        )
