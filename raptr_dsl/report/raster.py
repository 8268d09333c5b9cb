"""The mask raster in the terminal: which units run, in steps sampled along the run."""

from collections.abc import Sequence

from rich.text import Text

from raptr_dsl.axes import AXES
from raptr_dsl.ir.plan import Plan
from raptr_dsl.report.layout import Column, Glyphs, painted, stage_style

Cells = Sequence[bool] | None


def mask_columns(plan: Plan, axis: str, columns: Sequence[Column], site: int = 0) -> list[Cells]:
    """For each column, which units of a site run in its step; None where the whole block is skipped.

    A site is a block; of depth, whose sites are the residual stacks, the blocks of that block's stack are shown.
    """
    shown = site if AXES[axis].per_block else site // plan.shape.layers
    everything = (True,) * AXES[axis].space(plan.shape).units
    drawn: list[Cells] = []
    for column in columns:
        step = plan.step(column.step)
        mask = step.axes.get(axis)
        depth = step.axes.get("depth") if AXES[axis].per_block else None
        if depth is not None and not depth.on.ravel()[site]:
            drawn.append(None)
        elif mask is None or mask.full:
            drawn.append(everything)
        else:
            drawn.append(tuple(mask.on[shown].tolist()))
    return drawn


def raster(
    plan: Plan, axis: str, columns: Sequence[Column], margin: int, glyphs: Glyphs, rows: int, site: int = 0
) -> list[Text]:
    """A row per unit; where rows are short, two units a row, or more, shaded by how many of them run."""
    masks = mask_columns(plan, axis, columns, site)
    units = AXES[axis].space(plan.shape).units
    together = _units_per_row(units, rows, glyphs)
    lines = []
    for first in range(0, units, together):
        last = min(first + together, units)
        label = str(first) if together == 1 else f"{first}-{last - 1}"
        cells = (
            _cell(mask and mask[first:last], together, stage_style(column), glyphs)
            for column, mask in zip(columns, masks, strict=True)
        )
        lines.append(painted(label.rjust(margin) + glyphs.vertical, cells))
    return lines


def _units_per_row(units: int, rows: int, glyphs: Glyphs) -> int:
    return max(1, -(-units // max(rows, 1)))


def _cell(units: Cells, together: int, style: str, glyphs: Glyphs) -> tuple[str, str]:
    if units is None:
        return " ", ""
    if not any(units):
        return glyphs.off, "dim"
    if all(units):
        return glyphs.full, style
    if together == 2 and glyphs.has_halves:
        return (glyphs.upper if units[0] else glyphs.lower), style
    return glyphs.shades[1 + sum(units) * (len(glyphs.shades) - 2) // len(units)], style
