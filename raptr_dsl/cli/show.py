"""`raptr show`: the stages along the run and the masks of sampled steps, drawn from the plan itself."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from raptr_dsl.axes import AXES
from raptr_dsl.cli.common import (
    Count,
    Once,
    load_plan_or_compile,
    output_console,
    print_trimmed,
    schedule_options,
    show_diagnostics,
)
from raptr_dsl.cli.output import SVG, require_replaceable, write_text

if TYPE_CHECKING:
    from raptr_dsl.ir.plan import Plan

NARROWEST, WIDEST = 40, 160


@click.command(short_help="Draw a schedule or plan: its stages and its masks.")
@click.argument("file", type=click.Path(readable=False), metavar="FILE|PLAN")
@schedule_options
@click.option("--axis", cls=Once, type=click.Choice(list(AXES)), help="Only this one; else all thinned.")
@click.option("--site", cls=Once, type=Count(), help="The block whose heads or units are shown.")
@click.option("--rows", cls=Once, type=Count(least=1), default=24, help="Rows of masks, at most: 24.")
@click.option("--width", cls=Once, type=Count(least=NARROWEST), help="Columns; else the terminal's.")
@click.option("--svg", cls=Once, type=click.Path(), metavar="OUT.svg", help="Write the picture there.")
@click.option("--force", is_flag=True, help="Overwrite OUT.svg even if it is no SVG picture.")
@click.pass_context
def command(
    ctx: click.Context,
    file: str,
    axis: str | None,
    site: int | None,
    rows: int,
    width: int | None,
    svg: str | None,
    force: bool,
    **overrides: Any,
) -> None:
    """Draws a schedule or plan: how much runs along the run, and which units run in steps sampled from it."""
    from raptr_dsl.report.layout import thinned_axes

    plan, warnings = load_plan_or_compile(file, ctx, overrides)
    show_diagnostics(warnings)
    axes = [axis] if axis else thinned_axes(plan) or ["depth"]
    if site is not None and site >= plan.shape.blocks:
        raise click.UsageError(f"--site {site}: the model's blocks are 0 to {plan.shape.blocks - 1}", ctx)
    if svg is not None:
        _write_svg(plan, axes, site, Path(svg), force)
        return
    from raptr_dsl.report.picture import picture

    terminal = output_console(width)
    encoding = getattr(sys.stdout, "encoding", None)
    print_trimmed(terminal, *picture(plan, axes, width or min(terminal.width, WIDEST), rows, site, encoding))


def _write_svg(plan: "Plan", axes: list[str], site: int | None, path: Path, force: bool) -> None:
    from raptr_dsl.report.svg import svg

    require_replaceable(path, SVG, "an SVG picture", force=force)
    write_text(path, svg(plan, axes, site))
    click.echo(f"picture: {path}", err=True)
