"""FLOPs of the steps so far: those that ran beside those that were planned at the shapes that were seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raptr_dsl.ir.plan import Step
from raptr_torch.blocks import BlockMeter
from raptr_torch.flops import Formula, Gradients, Seen, running, tracked
from raptr_torch.meter import Meter


@dataclass(frozen=True)
class FlopAudit:
    """Training FLOPs of this process.

    Attributes:
        planned: at the shapes that blocks and head have seen. nominal: at those of the plan, all `ranks` together.
        problem: why nothing is counted; "" where it is.
    """

    planned: int
    executed: int
    nominal: int
    ranks: int = 1
    problem: str = ""

    @property
    def holds(self) -> bool:
        return self.planned == self.executed

    @property
    def is_nominal(self) -> bool:
        """Whether the shapes that were seen cost what those of the plan do."""
        return self.planned * self.ranks == self.nominal

    def __str__(self) -> str:
        if self.problem:
            return f"FLOPs not counted: {self.problem}"
        found = f"FLOPs {self.executed:,} of {self.planned:,}"
        if self.is_nominal:
            return found
        of_ranks = f" of {self.ranks} ranks" if self.ranks > 1 else ""
        return f"{found} at the shapes seen ({self.nominal:,} at the plan's{of_ranks})"


class FlopLedger:
    """Adds up what steps run.

    Args:
        formula: what somebody else's model costs; None where every matmul is counted by itself, or nothing is.
        proven: ways in which autograd may see a block for which the formula has been proven.
        paths: of the blocks, through all stacks.
        head: path of the layer that predicts tokens.
        problem: why nothing is counted; "" where it is.
    """

    def __init__(
        self,
        formula: Formula | None = None,
        proven: frozenset[Gradients] = frozenset(),
        paths: Sequence[str] = (),
        head: str = "",
        problem: str = "",
    ) -> None:
        self.formula, self.problem = formula, problem
        self._proven, self._paths, self._head = proven, paths, head
        self.executed = self._planned = self._nominal = 0

    def add(self, step: Step, meter: Meter) -> int:
        """Adds what one step ran, and returns its FLOPs."""
        if self.formula is None:
            self.executed += meter.flops
            return meter.flops
        assert isinstance(meter, BlockMeter)
        problem = self.problem or self._unproven(step, meter)
        if problem:
            self.stop(problem)
            return 0
        rows = sum(times * ran.rows for ran, times in meter.outside.items() if ran.path == self._head)
        executed = self.formula.executed(meter.blocks, meter.outside)
        self.executed += executed
        self._planned += self.formula.planned(step, self._passes(step, meter), rows)
        self._nominal += self.formula.nominal(step)
        return executed

    def stop(self, problem: str) -> None:
        """From now on nothing is counted, and nothing was."""
        self.problem = problem
        self.executed = self._planned = self._nominal = 0

    def audit(self, ranks: int) -> FlopAudit | None:
        """None where every matmul is counted by itself: there is no formula to hold it to."""
        if self.formula is None and not self.problem:
            return None
        return FlopAudit(self._planned, self.executed, self._nominal, ranks, self.problem)

    def describe(self) -> list[str]:
        if self.problem:
            return [f"FLOPs: not counted: {self.problem}"]
        return ["FLOPs: counted, by a formula that torch's own count agrees with"] if self.formula else []

    def state(self) -> dict[str, Any]:
        return {
            "flops": self.executed,
            "planned_flops": self._planned,
            "nominal_flops": self._nominal,
            "flops_problem": self.problem,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        if self.problem:  # also where the run was begun with a model that could be counted
            return
        self.executed = state["flops"]
        if self.formula is None:
            return
        self._planned, self._nominal = state.get("planned_flops", 0), state.get("nominal_flops", 0)
        problem = state.get("flops_problem", "the run was begun by a version that counted none")
        if problem:
            self.stop(problem)

    def _passes(self, step: Step, meter: BlockMeter) -> list[Counter[Seen]]:
        """By stack, what the first block that is to run has seen: all others are to see the same."""
        assert self.formula is not None
        shape = self.formula.shape
        passes: list[Counter[Seen]] = [Counter() for _ in range(shape.stacks)]
        first: dict[int, int] = {}
        for block in running(step, shape):
            first.setdefault(block // shape.layers, block)
        for ran, times in meter.blocks.items():
            stack = ran.block // shape.layers
            if first.get(stack) == ran.block:
                passes[stack][ran.seen] += times
        return passes

    def _unproven(self, step: Step, meter: BlockMeter) -> str:
        """What ran in a way of which the formula says nothing; "" if nothing did."""
        assert self.formula is not None
        layers = self.formula.shape.layers
        unfit = next((r for r in meter.blocks if not self.formula.fits(r.block // layers, r.seen)), None)
        if unfit is not None:
            return f"{self._paths[unfit.block]} is not called with an encoder's output as the plan's shape says"
        planned = running(step, self.formula.shape)
        costs = dict(zip(planned, tracked(step, planned), strict=True))
        odd = next((ran for ran in meter.blocks if not self._is_planned(ran.gradients, costs.get(ran.block))), None)
        if odd is not None:
            return f"{self._paths[odd.block]} runs with {_said(odd.gradients)}, which the plan does not say"
        frozen = next((ran.path for ran in meter.outside if not ran.weight and "head" not in step.frozen), None)
        if frozen is not None:
            return f"{frozen} does not train, which the plan does not say"
        if meter.blocks and not any(ran.path == self._head for ran in meter.outside):
            return f"{self._head} is not called, as under a fused loss, so the head cannot be seen"
        return ""

    def _is_planned(self, gradients: Gradients, costs: tuple[bool, bool] | None) -> bool:
        """Whether a block was tracked by autograd in a way that is proven, and its own; that it ran is the audit's."""
        return gradients in self._proven and (costs is None or gradients.costs == costs)


def _said(gradients: Gradients) -> str:
    if gradients.weights is None:
        return "gradients of some of its matrices or inputs only"
    weights, given = ("gradients of" if has else "no gradients of" for has in gradients)
    return f"{weights} its weights and {given} its input"
