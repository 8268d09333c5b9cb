"""The timeline in the terminal: how much of an axis runs, along the run."""

from fractions import Fraction
from itertools import groupby

from rich.text import Text

from raptr_dsl.axes import AXES
from raptr_dsl.ir.plan import Plan
from raptr_dsl.report.layout import Column, Glyphs, mean_units, painted, stage_label, stage_style

MOST_ROWS = 8


def timeline(plan: Plan, axis: str, columns: list[Column], margin: int, glyphs: Glyphs) -> list[Text]:
    """A bar per column, as high as its share of the axis, over a ruler of stages and steps."""
    space = AXES[axis].space(plan.shape)
    rows = _rows(space.units)
    shares = [mean_units(plan, axis, column) / space.units for column in columns]
    lines = []
    for row in reversed(range(rows)):
        label = _label(Fraction(row + 1, rows), space.units, space.group)
        cells = (
            (_cell(share * rows - row, glyphs), stage_style(column))
            for column, share in zip(columns, shares, strict=True)
        )
        lines.append(painted(label.rjust(margin) + (glyphs.tick if label else glyphs.vertical), cells))
    return [*lines, *ruler(plan, columns, margin, glyphs)]


def _rows(units: int) -> int:
    """As many rows as divide the units evenly, so that whole units end on the same height everywhere."""
    return max((rows for rows in range(4, MOST_ROWS + 1) if units % rows == 0), default=6)


def _label(share: Fraction, units: int, group: int) -> str:
    """The size at the top and at half the height, in elements."""
    size = share * units * group
    return f"{size}" if share in (1, Fraction(1, 2)) and size.denominator == 1 else ""


def _cell(height: Fraction, glyphs: Glyphs) -> str:
    """The character for a bar that reaches `height` rows above this row's foot."""
    top = len(glyphs.levels) - 1
    level = round(min(max(height, Fraction(0)), Fraction(1)) * top)
    return glyphs.levels[max(level, 1) if height > 0 else level]


def ruler(plan: Plan, columns: list[Column], margin: int, glyphs: Glyphs) -> list[Text]:
    """The foot of the chart: a mark where each stage begins, its name, and its first step."""
    foot = Text("0".rjust(margin) + glyphs.corner)
    names, starts = [" "] * (margin + 1), [" "] * (margin + 1)
    for index, group in groupby(columns, key=lambda column: column.stage):
        width = len(list(group))
        foot.append(glyphs.horizontal * (width - 1) + glyphs.border)
        names.append(_fit(stage_label(plan, index), width))
        starts.append(_fit(f"{plan.stages[index].start:,}", width, cut=False))
    end, last = f"{plan.steps:,}", "".join(starts).rstrip()
    room = margin + 1 + len(columns) - len(end)
    return [foot, Text("".join(names).rstrip()), Text(last.ljust(room) + end if len(last) < room else last)]


def _fit(text: str, width: int, cut: bool = True) -> str:
    """Text in a cell with a blank after it; what does not fit is cut, or left out: half a number misleads."""
    if len(text) < width:
        return text.ljust(width)
    return text[: width - 1].ljust(width) if cut else " " * width
