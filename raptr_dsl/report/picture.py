"""The whole picture of a plan in the terminal: for each axis a timeline over a raster, aligned by column."""

from rich.text import Text

from raptr_dsl.axes import AXES
from raptr_dsl.ir.plan import Plan
from raptr_dsl.report.layout import chart_title, columns, cut, glyphs_for, raster_title, shown_block, wrapped
from raptr_dsl.report.raster import raster
from raptr_dsl.report.summary import percent, speed_up
from raptr_dsl.report.timeline import timeline
from raptr_dsl.wording import plural


def picture(plan: Plan, axes: list[str], width: int, rows: int, site: int | None, encoding: str | None) -> list[Text]:
    """Lines of at most `width` characters that `encoding` can express."""
    glyphs = glyphs_for(encoding)
    margin = max(_margin(plan, axis) for axis in axes)
    shown = columns(plan, width - margin - 1)
    lines = _heading(plan, width)
    for axis in axes:
        lines += [Text(), cut(Text(chart_title(plan, axis), "bold"), width, glyphs)]
        lines += timeline(plan, axis, shown, margin, glyphs)
        block = shown_block(plan, axis, site)
        lines += [Text(), cut(Text(raster_title(plan, axis, shown, block), "bold"), width, glyphs)]
        lines += raster(plan, axis, shown, margin, glyphs, rows, block)
    return lines


def _margin(plan: Plan, axis: str) -> int:
    """Room for the longest label: a size, or a range of units."""
    space = AXES[axis].space(plan.shape)
    return 1 + max(len(str(space.units * space.group)), 2 * len(str(space.units - 1)) + 1)


def _heading(plan: Plan, width: int) -> list[Text]:
    report = plan.flops()
    title = Text(plan.name, "bold")
    if plan.doc:
        title.append(f"  {' '.join(plan.doc.split())}", "not bold")
    ratio, ceiling = percent(report.ratio_blocks), speed_up(report.ratio_total)
    facts = Text(f"{plural(plan.steps, 'step')}, seed {plan.seed}, ", "dim")
    facts.append(f"block FLOPs {ratio} of full training, at most {ceiling} faster")
    return [*wrapped(title, width), *wrapped(facts, width)]
