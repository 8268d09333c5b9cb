"""What the plan says must have run: units and FLOPs as exact integers, added up step by step."""

from collections import Counter
from collections.abc import Mapping
from fractions import Fraction
from itertools import accumulate
from math import prod
from operator import or_

from raptr_dsl.axes import AXES, HEAD
from raptr_dsl.backend import Executed
from raptr_dsl.flops import block_cost, head_cost, head_share
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.plan import AxisMask, Plan, Step


class Account:
    """The planned executions of the steps added so far.

    Attributes:
        units: by axis, unit forwards summed over steps and sites; sites in blocks that are off do not run. Of the axes
            whose units are weights of the model, and of others that the plan thins.
        flops: training FLOPs of blocks and head, convention `matmul`.
        tokens: that the steps see; fewer than full ones do where an axis thins them.
    """

    def __init__(self, plan: Plan) -> None:
        self._shape = plan.shape
        thinned = {name for stage in plan.stages for name in stage.axes}
        counted = [axis for axis in AXES.values() if axis.is_counted(plan.shape) or axis.name in thinned]
        self._spaces = {axis.name: axis.space(plan.shape) for axis in counted}
        self._heads: dict[frozenset[str], int] = {}
        self._costs: dict[tuple[tuple[tuple[str, int], ...], bool, bool], int] = {}
        self.units = dict.fromkeys(self._spaces, 0)
        self.flops = 0
        self.tokens = 0

    def add(self, step: Step) -> None:
        """Adds what one optimizer step runs, over all its micro-batches."""
        depth = step.axes.get("depth")
        blocks = depth.active().tolist() if depth else range(self._spaces["depth"].units)
        self.units["depth"] += len(blocks)
        thinned: dict[str, list[int]] = {}
        for name, space in self._spaces.items():
            if AXES[name].units_are_blocks:
                continue
            mask, sites = step.axes.get(name), len(blocks) if AXES[name].per_block else space.sites
            if mask is None:
                self.units[name] += sites * space.units
                continue
            active = mask.on.sum(axis=1)
            thinned[name] = (active[blocks] if AXES[name].per_block else active.repeat(len(blocks))).tolist()
            self.units[name] += sum(thinned[name]) if AXES[name].per_block else int(active.sum())
        trains = [True] * len(blocks) if depth is None or depth.trains is None else depth.trains[0, blocks].tolist()
        flows = [True] * len(blocks) if "embed" not in step.frozen else list(accumulate(trains, or_))
        alike = Counter(zip(*thinned.values(), trains, flows, strict=True))
        seen = (_share(mask) for name, mask in step.axes.items() if AXES[name].thins_tokens)
        self.tokens += int(prod(seen, start=Fraction(self._shape.tokens)))
        self.flops += self._head(step) + sum(
            times * self._cost(tuple(zip(thinned, counts, strict=True)), trained, flowing)
            for (*counts, trained, flowing), times in alike.items()
        )

    def _head(self, step: Step) -> int:
        if step.frozen not in self._heads:
            self._heads[step.frozen] = int(head_cost(self._shape, frozen=step.frozen))
        shares = {name: _share(mask) for name, mask in step.axes.items() if HEAD in AXES[name].powers}
        return int(self._heads[step.frozen] * head_share(shares)) if shares else self._heads[step.frozen]

    def _cost(self, active: tuple[tuple[str, int], ...], trains: bool, flows: bool) -> int:
        """Training FLOPs of one block with that many units of each axis on."""
        key = (active, trains, flows)
        if key not in self._costs:
            shares = {name: Fraction(count, self._spaces[name].units) for name, count in active}
            self._costs[key] = int(block_cost(self._shape, shares, trains=trains, flows=flows))
        return self._costs[key]


def _share(mask: AxisMask) -> Fraction:
    return Fraction(int(mask.on.sum()), mask.on.size)


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
