"""What the plan says must have run: units and FLOPs as exact integers, added up step by step."""

from collections import Counter
from collections.abc import Mapping
from fractions import Fraction
from itertools import accumulate
from operator import or_

from raptr_dsl.axes import AXES
from raptr_dsl.backend import Executed
from raptr_dsl.flops import block_cost, head_cost
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.plan import Plan, Step


class Account:
    """The planned executions of the steps added so far.

    Attributes:
        units: by axis, unit forwards summed over steps and sites; sites in blocks that are off do not run.
        flops: training FLOPs of blocks and head, convention `matmul`.
    """

    def __init__(self, plan: Plan) -> None:
        self._shape = plan.shape
        self._spaces = {name: axis.space(plan.shape) for name, axis in AXES.items()}
        self._heads: dict[frozenset[str], int] = {}
        self._costs: dict[tuple[tuple[tuple[str, int], ...], bool, bool], int] = {}
        self.units = dict.fromkeys(AXES, 0)
        self.flops = 0

    def add(self, step: Step) -> None:
        """Adds what one optimizer step runs, over all its micro-batches."""
        depth = step.axes.get("depth")
        blocks = depth.active().tolist() if depth else range(self._spaces["depth"].units)
        self.units["depth"] += len(blocks)
        thinned: dict[str, list[int]] = {}
        for name, space in self._spaces.items():
            if not AXES[name].per_block:
                continue
            mask = step.axes.get(name)
            if mask is None:
                self.units[name] += len(blocks) * space.units
                continue
            thinned[name] = mask.on.sum(axis=1)[blocks].tolist()
            self.units[name] += sum(thinned[name])
        trains = [True] * len(blocks) if depth is None or depth.trains is None else depth.trains[0, blocks].tolist()
        flows = [True] * len(blocks) if "embed" not in step.frozen else list(accumulate(trains, or_))
        active = Counter(zip(*thinned.values(), trains, flows, strict=True))
        self.flops += self._head(step.frozen) + sum(
            times * self._cost(tuple(zip(thinned, counts, strict=True)), trained, flowing)
            for (*counts, trained, flowing), times in active.items()
        )

    def _head(self, frozen: frozenset[str]) -> int:
        if frozen not in self._heads:
            self._heads[frozen] = head_cost(self._shape, frozen=frozen)
        return self._heads[frozen]

    def _cost(self, active: tuple[tuple[str, int], ...], trains: bool, flows: bool) -> int:
        """Training FLOPs of one block with that many units of each axis on."""
        key = (active, trains, flows)
        if key not in self._costs:
            shares = {name: Fraction(count, self._spaces[name].units) for name, count in active}
            self._costs[key] = int(block_cost(self._shape, shares, trains=trains, flows=flows))
        return self._costs[key]


def mismatches(account: Account, executed: Executed) -> list[str]:
    """Everything in which what ran is not what was planned, in words; empty when the audit holds."""
    found = [
        f"{name}: {executed.units.get(name, 0):,} executed, {planned:,} planned"
        for name, planned in account.units.items()
        if executed.units.get(name, 0) != planned
    ]
    if executed.flops != account.flops:
        found.append(f"FLOPs: {executed.flops:,} executed, {account.flops:,} planned")
    return found


def mean_active(shape: ModelShape, units: Mapping[str, int], steps: int) -> dict[str, float]:
    """By axis, the mean number of active elements: blocks, heads and hidden units of a block that ran."""
    blocks = units["depth"]
    return {
        name: float(Fraction(count * AXES[name].space(shape).group, (blocks if AXES[name].per_block else steps) or 1))
        for name, count in units.items()
    }
