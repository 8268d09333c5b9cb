"""The optimizers that are bound to one plan: together they hold what is trained."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch.optim import Optimizer

from raptr_dsl.diagnostics import fail
from raptr_dsl.ir.plan import Plan, Step
from raptr_torch.growth import require_one_optimizer
from raptr_torch.optim import OptimizerBinding
from raptr_torch.sites import Sites


class Bindings:
    """All optimizers of one runner."""

    def __init__(self, plan: Plan, sites: Sites) -> None:
        self._plan, self._sites = plan, sites
        self._bound: list[OptimizerBinding] = []
        self.is_complete = False

    def add(self, optimizer: Optimizer) -> None:
        """See `Runner.bind`."""
        if self._holds(optimizer):
            raise fail("optimizer-bound-twice", "this optimizer is bound to the plan already")
        binding = OptimizerBinding(optimizer, self._sites.parts, self._plan)
        self._bound.append(binding)
        self.is_complete = False
        binding.start()

    @property
    def optimizers(self) -> Mapping[Optimizer, Collection[str]]:
        """Each with the words of its state that are tables (see `raptr_torch.examine.Facts`)."""
        return {binding.optimizer: binding.tables for binding in self._bound}

    def expect(self, step: Step | None) -> None:
        """The next update belongs to that step; None: any number of updates of everything."""
        for binding in self._bound:
            binding.expect(step)

    def expect_nothing(self) -> None:
        """The step failed: no update belongs to it."""
        for binding in self._bound:
            binding.expect_nothing()

    def release(self) -> None:
        """Leaves the optimizers alone."""
        for binding in self._bound:
            binding.release()

    def require_any(self) -> None:
        """Refuses to begin without an optimizer."""
        if not self._bound:
            raise fail(
                "optimizer-unbound",
                "no optimizer is bound to the plan, so nothing would keep `idle`",
                help="attach(model, plan, optimizer), or runner.bind(optimizer) once it exists",
            )

    def require_bound(self, optimizer: Optimizer) -> None:
        """Refuses the step of an optimizer that holds parameters of the model and is not bound."""
        if self._holds(optimizer):
            return
        parts = self._sites.parts
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter in parts:
                    raise fail(
                        "optimizer-unbound",
                        f"{type(optimizer).__qualname__} steps {parts[parameter].name} of a model that obeys a plan, "
                        "and is not bound to the plan",
                        help="call runner.bind(optimizer) before training",
                    )

    def require_complete(self) -> None:
        """Refuses to begin while no optimizer holds some trained parameter of the model."""
        if self.is_complete:
            return
        held = {p for optimizer in self.optimizers for group in optimizer.param_groups for p in group["params"]}
        missing = [part.name for p, part in self._sites.parts.items() if p.requires_grad and p not in held]
        if missing:
            raise fail(
                "optimizer-incomplete",
                f"no optimizer that is bound to the plan holds {missing[0]}"
                + (f" and {len(missing) - 1} more" if len(missing) > 1 else ""),
                help="bind every optimizer; freeze parameters that are not to be trained before attaching",
            )
        rules = [stage.axes.get("depth") for stage in self._plan.stages]
        growths = [rule.growth for rule in rules if rule and rule.growth]
        require_one_optimizer(growths, self._sites.stacked, list(self.optimizers))
        self.is_complete = True

    def _holds(self, optimizer: Optimizer) -> bool:
        return any(binding.optimizer is optimizer for binding in self._bound)
