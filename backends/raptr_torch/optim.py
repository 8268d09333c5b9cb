"""`idle`: what an optimizer does to parameters that did not run, by its public step hooks.

Before the update, what idles under `zero` is lent a gradient of zeros (one buffer a shape) and what idles under `skip`
is taken out of the optimizer's sight: whole tensors by having no gradient, rows of unit-major tensors by showing the
optimizer the active rows only, as views that share memory with the parameter and its state. After it, all is as before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from raptr_dsl.diagnostics import fail
from raptr_dsl.ir.plan import Plan, Step
from raptr_torch.examine import Facts, examine, prime
from raptr_torch.sites import Part

MOST_VIEWS = 32
"""Runs of neighbouring active rows that are shown as views; more of them are cheaper to copy and to copy back."""

Rows = tuple[int, int] | Tensor
"""Active rows: start and number of neighbours, or an index of any."""


@dataclass(slots=True)
class Narrowed:
    """A parameter of which the optimizer sees some rows: the selections, and the stand-in for each."""

    parameter: nn.Parameter
    rows: list[Rows]
    stand_ins: list[Tensor]
    given: list[dict[str, Any]]


class OptimizerBinding:
    """One optimizer bound to a plan.

    Raises:
        RaptrError: `idle` would not mean under this optimizer what the plan says.
    """

    def __init__(self, optimizer: Optimizer, parts: Mapping[nn.Parameter, Part], plan: Plan) -> None:
        self.optimizer = optimizer
        held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self._parts = {p: parts[p] for p in held if p in parts and parts[p].block is not None}
        self._plan = plan
        self._step: Step | None = None
        self._updates_left: float = 0
        facts = self._examine()
        self._primes = all(fact.primes for fact in facts)
        self._shares_zeros = all(fact.spares_gradients for fact in facts)
        self._zeros: dict[tuple[torch.Size, torch.dtype, torch.device], Tensor] = {}
        self._lent: list[nn.Parameter] = []
        self._hidden: list[tuple[nn.Parameter, Tensor]] = []
        self._narrowed: list[Narrowed] = []
        self._groups: list[list[Tensor]] | None = None
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []

    def start(self) -> None:
        """Creates the optimizer's state where it has none, and hooks on to its steps."""
        if self._primes:
            prime(self.optimizer, [p for group in self.optimizer.param_groups for p in group["params"]])
        self._hooks = [
            self.optimizer.register_step_pre_hook(self._before),
            self.optimizer.register_step_post_hook(self._after),
        ]

    def release(self) -> None:
        """Leaves the optimizer alone."""
        for hook in self._hooks:
            hook.remove()

    def expect(self, step: Step | None) -> None:
        """The next update belongs to that step; None: any number of updates of everything."""
        self._step, self._updates_left = step, 1 if step else math.inf

    def expect_nothing(self) -> None:
        """The step failed: no update belongs to it."""
        self._step, self._updates_left = None, 0

    def _examine(self) -> list[Facts]:
        """Refuses what `idle` cannot mean under this optimizer."""
        groups = [g for g in self.optimizer.param_groups if any(p in self._parts for p in g["params"])]
        rules = {(axis, rule.idle) for stage in self._plan.stages for axis, rule in stage.axes.items()}
        per_block = {part.axis for part in self._parts.values()}
        name = type(self.optimizer).__qualname__
        facts = [examine(self.optimizer, group) for group in groups] if rules else []
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

    # --- around one update --------------------------------------------------------------------------------------

    def _before(self, *_: object) -> None:
        self._after()  # an update that raised has left its traces
        if not self._updates_left:
            told = "outside a step of the plan" if self._step is None else f"a second time for step {self._step.index}"
            raise fail(
                "optimizer-extra-update",
                f"the optimizer stepped {told}",
                help="take one optimizer.step() for each `with runner.step(n):`, after it",
            )
        self._updates_left -= 1
        step = self._step
        if step is None or all(mask.full for mask in step.axes.values()):
            return
        rules = self._plan.stages[step.stage].axes
        depth = step.axes.get("depth")
        rows: dict[tuple[str, int | None], list[Rows]] = {}
        for parameter, part in self._parts.items():
            if not parameter.requires_grad:
                continue
            if depth is not None and not depth.on[0, part.block]:
                self._idle(parameter, rules["depth"].idle)
                continue
            if parameter.grad is None:  # its block ran, and no unit of it: counts advance all the same
                self._lend(parameter)
            mask = step.axes.get(part.axis) if part.axis else None
            if mask is None or rules[str(part.axis)].idle == "zero" or mask.on[part.block].all():
                continue
            site = (str(part.axis), part.block)
            if site not in rows:
                rows[site] = _runs(mask.on[part.block], parameter.device)
            self._narrow(parameter, rows[site])
        if self._narrowed:
            self._show_stand_ins()

    def _after(self, *_: object) -> None:
        for parameter in self._lent:
            parameter.grad = None
        for parameter, gradient in self._hidden:
            parameter.grad = gradient
        self._lent, self._hidden = [], []
        if self._groups is not None:
            self._take_back_stand_ins()

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

    # --- rows ---------------------------------------------------------------------------------------------------

    def _narrow(self, parameter: nn.Parameter, rows: list[Rows]) -> None:
        weights, gradient, state = parameter.detach(), parameter.grad, self.optimizer.state.get(parameter, {})
        assert gradient is not None  # lent above where it was missing
        stand_ins, given = [], []
        for selection in rows:
            stand_in = _take(weights, selection)
            stand_in.grad = _take(gradient, selection)
            stand_ins.append(stand_in)
            given.append({word: _take_state(value, selection, weights.shape) for word, value in state.items()})
        self._narrowed.append(Narrowed(parameter, rows, stand_ins, given))

    def _show_stand_ins(self) -> None:
        shown: dict[Tensor, list[Tensor]] = {n.parameter: n.stand_ins for n in self._narrowed}
        for narrowed in self._narrowed:
            for stand_in, state in zip(narrowed.stand_ins, narrowed.given, strict=True):
                self.optimizer.state[stand_in] = dict(state)
        self._groups = [group["params"] for group in self.optimizer.param_groups]
        for group in self.optimizer.param_groups:
            group["params"] = [tensor for p in group["params"] for tensor in shown.get(p, (p,))]

    @torch.no_grad()
    def _take_back_stand_ins(self) -> None:
        assert self._groups is not None
        for group, parameters in zip(self.optimizer.param_groups, self._groups, strict=True):
            group["params"] = parameters
        for narrowed in self._narrowed:
            self._write_back(narrowed)
        self._groups, self._narrowed = None, []

    def _write_back(self, narrowed: Narrowed) -> None:
        parameter, state = narrowed.parameter, self.optimizer.state[narrowed.parameter]
        for rows, stand_in, given in zip(narrowed.rows, narrowed.stand_ins, narrowed.given, strict=True):
            if isinstance(rows, Tensor):
                parameter.index_copy_(0, rows, stand_in)
            for word, value in self.optimizer.state.pop(stand_in).items():
                kept = state.get(word)
                if not isinstance(value, Tensor) or not isinstance(kept, Tensor):
                    state[word] = value
                elif kept.shape != parameter.shape:
                    kept.copy_(value)  # the count: the same after each of the selections
                elif isinstance(rows, Tensor):
                    kept.index_copy_(0, rows, value)
                elif value is not given.get(word):
                    kept.narrow(0, *rows).copy_(value)


def _runs(on: np.ndarray, device: torch.device) -> list[Rows]:
    """The active rows as runs of neighbours, or as one index where those would be too many; never an empty list."""
    edges = np.flatnonzero(np.diff(on.astype(np.int8), prepend=0, append=0))
    if not edges.size:
        return [(0, 0)]  # a view of no row: its count advances
    if edges.size > 2 * MOST_VIEWS:
        return [torch.from_numpy(on.nonzero()[0]).to(device)]
    return [(start, stop - start) for start, stop in edges.reshape(-1, 2).tolist()]


def _take(tensor: Tensor, rows: Rows) -> Tensor:
    """A view of a run of rows, or a copy of rows anywhere."""
    return tensor.index_select(0, rows) if isinstance(rows, Tensor) else tensor.narrow(0, *rows)


def _take_state(value: Any, rows: Rows, shape: torch.Size) -> Any:
    """The state of some rows: what is shaped like the parameter as they are taken, counts copied."""
    if not isinstance(value, Tensor):
        return value
    return _take(value, rows) if value.shape == shape else value.clone()
