"""What was planned beside what ran, unit by unit, on any attached model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.plan import Plan, Step


@dataclass(frozen=True)
class Audit:
    """Unit forwards by axis, per optimizer step, added up over the steps so far; see `raptr_dsl.backend.Executed`."""

    planned: Mapping[str, int]
    executed: Mapping[str, int]

    @property
    def holds(self) -> bool:
        return self.planned == self.executed

    def __str__(self) -> str:
        found = (f"{axis} {self.executed[axis]:,} of {planned:,}" for axis, planned in self.planned.items())
        return f"{'as planned' if self.holds else 'NOT AS PLANNED'}: " + ", ".join(found)


def sites(shape: ModelShape) -> dict[str, int]:
    """Units of one site of each axis."""
    return {"depth": shape.layers, "heads": shape.kv_heads, "width": shape.ffn // shape.width_group}


def planned_units(step: Step, shape: ModelShape, axes: frozenset[str]) -> Counter[str]:
    """Units that a step is to run; those within blocks that are off do not."""
    depth = step.axes.get("depth")
    blocks = depth.on.ravel().nonzero()[0] if depth else range(shape.blocks)
    found = Counter({"depth": len(blocks)})
    for axis in sorted(axes - {"depth"}):
        mask = step.axes.get(axis)
        found[axis] = int(mask.on[blocks].sum()) if mask else len(blocks) * sites(shape)[axis]
    return found


def active(units: Mapping[str, int], shape: ModelShape) -> Iterator[tuple[str, float]]:
    """By axis, active blocks of a step, and active heads and hidden units in the mean of its blocks."""
    blocks = units.get("depth", 0)
    group = {"depth": 1, "heads": shape.heads // shape.kv_heads, "width": shape.width_group}
    for axis, count in units.items():
        yield axis, count * group[axis] / (1 if axis == "depth" else blocks or 1)


def stages(plan: Plan) -> Iterator[str]:
    """A line a stage: its steps, what is active in the first of them, and what happens to what idles."""
    for number, stage in enumerate(plan.stages):
        step = plan.step(stage.start)
        units = planned_units(step, plan.shape, frozenset(step.axes) | {"depth"})
        whole = {"depth": plan.shape.blocks, "heads": plan.shape.heads, "width": plan.shape.ffn}
        parts = [
            f"{axis} {count:g}/{whole[axis]}" + (f" idle={stage.axes[axis].idle}" if axis in stage.axes else "")
            for axis, count in active(units, plan.shape)
        ]
        yield f"stage {stage.name or number + 1}, steps {stage.start:,} to {stage.stop - 1:,}: {', '.join(parts)}"
