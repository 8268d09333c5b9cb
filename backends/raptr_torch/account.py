"""What ran in the steps of a plan so far, beside what was planned for them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from typing import Any

from raptr_dsl.backend import Executed
from raptr_dsl.ir.plan import Plan, Step
from raptr_torch import ranks
from raptr_torch.audit import Audit, active, planned_units
from raptr_torch.meter import Meter
from raptr_torch.sites import Sites

logger = logging.getLogger("raptr_torch")


class StepAccount:
    """Adds up the steps of one runner.

    Attributes:
        is_empty: whether no step was added by this process.
    """

    def __init__(self, plan: Plan, sites: Sites) -> None:
        self._plan, self._flops = plan, sites.flops
        self._axes = sorted(sites.axes)
        self._units: Counter[str] = Counter()
        self._planned: Counter[str] = Counter()
        self._last: tuple[Step, Mapping[str, int], int] | None = None

    @property
    def is_empty(self) -> bool:
        return self._last is None

    def add(self, step: Step, meter: Meter) -> None:
        """Adds what one step ran, and says once when its FLOPs cannot be counted any more."""
        units = meter.per_step()
        units = {axis: units.get(axis, 0) for axis in self._axes}
        was_counted = not self._flops.problem
        flops = self._flops.add(step, meter)
        if self._flops.problem and was_counted:
            logger.warning("raptr: FLOPs are not counted, since step %d: %s", step.index, self._flops.problem)
        self._last = step, units, flops
        self._units.update(units)
        self._planned.update(planned_units(step, self._plan.shape, frozenset(self._axes)))

    def executed(self) -> Executed:
        """See `Runner.executed`."""
        return Executed(units=dict(self._units), flops=self._flops.executed)

    def audit(self) -> Audit:
        """See `Runner.audit`."""
        planned, executed = ({axis: counts[axis] for axis in self._axes} for counts in (self._planned, self._units))
        return Audit(planned, executed, self._flops.audit(ranks.size()))

    def metrics(self) -> dict[str, float]:
        """See `Runner.metrics`."""
        if self._last is None:
            return {}
        step, units, flops = self._last
        counted = {f"raptr/active_{axis}": count for axis, count in active(units, self._plan.shape)}
        counted |= {} if self._flops.problem else {"raptr/flops": flops}
        return {"raptr/step": step.index, "raptr/stage": step.stage, **counted}

    def state(self) -> dict[str, Any]:
        """What a resumed run needs of it."""
        return {
            "units": {axis: self._units[axis] for axis in self._axes},
            "planned": {axis: self._planned[axis] for axis in self._axes},
            **self._flops.state(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Restores what `state` returned."""
        self._flops.load(state)
        self._units, self._planned = +Counter(state["units"]), +Counter(state["planned"])
