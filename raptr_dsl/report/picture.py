"""The whole picture of a plan in the terminal: for each axis a timeline over a raster, aligned by column."""

from fractions import Fraction

from rich.text import Text

from raptr_dsl.axes import AXES
from raptr_dsl.ir.plan import Plan
from raptr_dsl.report.layout import Column, columns, glyphs_for
from raptr_dsl.report.raster import raster
from raptr_dsl.report.summary import percent, speed_up
from raptr_dsl.report.timeline import timeline
from raptr_dsl.wording import plural


def picture(
    plan: Plan, axes: list[str], width: int, rows: int, site: int, encoding: str | None
) -> list[Text]:
    """Lines of at most `width` characters that `encoding` can express."""
    glyphs = glyphs_for(encoding)
    margin = max(_margin(plan, axis) for axis in axes)
    shown = columns(plan, width - margin - 1)
    lines = _heading(plan)
    for axis in axes:
        lines += [Text(), Text(_chart_title(plan, axis), "bold")]
        lines += timeline(plan, axis, shown, margin, glyphs)
        lines += [Text(), Text(_raster_title(plan, axis, shown, site), "bold")]
        lines += raster(plan, axis, shown, margin, glyphs, rows, site)
    return lines


def _margin(plan: Plan, axis: str) -> int:
    """Room for the longest label: a size, or a range of units."""
    space = AXES[axis].space(plan.shape)
    return 1 + max(len(str(space.units * space.group)), 2 * len(str(space.units - 1)) + 1)


def _heading(plan: Plan) -> list[Text]:
    report = plan.flops()
    title = Text(plan.name, "bold")
    if plan.doc:
        title.append(f"  {' '.join(plan.doc.split())}", "not bold")
    facts = (
        f"{plural(plan.steps, 'step')}, {plural(plan.shape.layers, 'block')}, seed {plan.seed}: "
        f"block FLOPs {percent(report.ratio_blocks)} of full training, "
        f"at most {speed_up(report.total, report.full_total)} faster"
    )
    return [title, Text(facts, "dim")]


def _chart_title(plan: Plan, axis: str) -> str:
    space = AXES[axis].space(plan.shape)
    return f"{axis}: {AXES[axis].element}s that run, of {space.units * space.group:,}"


def _raster_title(plan: Plan, axis: str, shown: list[Column], site: int) -> str:
    steps = len({column.step for column in shown})
    where = f" of block {site}" if AXES[axis].per_block else ""
    return f"{AXES[axis].unit}s{where} in {plural(Fraction(steps), 'step')}, one a column"
