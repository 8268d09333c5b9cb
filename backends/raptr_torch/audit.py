"""What was planned beside what ran, unit by unit, on any attached model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from raptr_dsl.axes import AXES
from raptr_dsl.ir.bound import BoundStage
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.plan import Plan, Step
from raptr_torch.ledger import FlopAudit


@dataclass(frozen=True)
class Audit:
    """Unit forwards by axis, per optimizer step, added up over the steps so far; see `raptr_dsl.backend.Executed`.

    Attributes:
        flops: the same of FLOPs; None where there is no formula to hold them to.
    """

    planned: Mapping[str, int]
    executed: Mapping[str, int]
    flops: FlopAudit | None = None

    @property
    def holds(self) -> bool:
        """Whether the units that ran are those that were planned, and FLOPs, where they are counted."""
        return self.planned == self.executed and (self.flops is None or self.flops.holds)

    def __str__(self) -> str:
        found = [f"{axis} {self.executed[axis]:,} of {planned:,}" for axis, planned in self.planned.items()]
        found += [str(self.flops)] if self.flops else []
        return f"{'as planned' if self.holds else 'NOT AS PLANNED'}: " + ", ".join(found)


def planned_units(step: Step, shape: ModelShape, axes: frozenset[str]) -> Counter[str]:
    """Units that a step is to run; those within blocks that are off do not."""
    depth = step.axes.get("depth")
    blocks = depth.on.ravel().nonzero()[0] if depth else range(shape.blocks)
    found = Counter({"depth": len(blocks)})
    for axis in sorted(axes - {"depth"}):
        mask, space = step.axes.get(axis), AXES[axis].space(shape)
        if AXES[axis].per_block:
            found[axis] = int(mask.on[blocks].sum()) if mask else len(blocks) * space.units
        else:
            found[axis] = int(mask.on.sum()) if mask else space.sites * space.units
    return found


def active(units: Mapping[str, int], shape: ModelShape) -> Iterator[tuple[str, float]]:
    """By axis, active blocks of a step, and active heads, hidden units, … in the mean of its blocks."""
    blocks = units.get("depth", 0)
    for axis, count in units.items():
        yield axis, count * AXES[axis].space(shape).group / ((blocks or 1) if AXES[axis].per_block else 1)


def stages(plan: Plan) -> Iterator[str]:
    """A line a stage: its steps, what is active in the first of them, and what happens to what idles."""
    for number, stage in enumerate(plan.stages):
        step = plan.step(stage.start)
        units = planned_units(step, plan.shape, frozenset(step.axes) | {"depth"})
        parts = [
            f"{axis} {count:g}/{_whole(axis, plan.shape)}{_said(axis, stage, step)}"
            for axis, count in active(units, plan.shape)
        ]
        parts += [f"freeze={', '.join(sorted(step.frozen))}"] if step.frozen else []
        parts += ["blocks are copied"] if plan.growth(number) else []
        yield f"stage {stage.name or number + 1}, steps {stage.start:,} to {stage.stop - 1:,}: {', '.join(parts)}"


def summary(plan: Plan, next_step: int, found: Sequence[str], optimizers: Sequence[object]) -> str:
    """What is attached to what, in a few lines.

    Args:
        found: what was found in the model, in lines.
    """
    names = ", ".join(type(optimizer).__qualname__ for optimizer in optimizers) or "none yet"
    head = f"raptr: plan {plan.digest[:12]} of {plan.steps:,} steps, from step {next_step:,}"
    return "\n".join([head, *(f"  {line}" for line in (*found, *stages(plan), f"optimizer: {names}"))])


def _whole(axis: str, shape: ModelShape) -> int:
    space = AXES[axis].space(shape)
    return space.units * space.group * (1 if AXES[axis].per_block else space.sites)


def _said(axis: str, stage: BoundStage, step: Step) -> str:
    """What becomes of the units of an axis that do not run, and how many blocks train."""
    rule, mask = stage.axes.get(axis), step.axes.get(axis)
    if rule is None or not AXES[axis].has_weights:
        return ""
    if rule.train is None or mask is None or mask.trains is None:
        return f" idle={rule.idle}"
    return f" idle={rule.idle}, {int((mask.on & mask.trains).sum())} of them train"
