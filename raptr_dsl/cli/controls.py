"""`raptr controls`: schedules of equal FLOPs to compare one with, each a file of its own."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from raptr_dsl.cli.common import (
    Once,
    load_plan_or_compile,
    output_console,
    print_trimmed,
    schedule_options,
    show_diagnostics,
)
from raptr_dsl.cli.output import make_folder, require_replaceable, write_text
from raptr_dsl.diagnostics import fail
from raptr_dsl.flops.conventions import CONVENTIONS

if TYPE_CHECKING:
    from rich.table import Table

    from raptr_dsl.controls import Control
    from raptr_dsl.ir.plan import Plan

WRITTEN = "# Written by raptr controls.\n"


@click.command(short_help="Derive schedules of equal FLOPs.")
@click.argument("file", type=click.Path(readable=False), metavar="FILE|PLAN")
@schedule_options
@click.option("-o", "--out", cls=Once, type=click.Path(), metavar="DIR", help="Where to write them; else only a table.")
@click.option(
    "--convention",
    cls=Once,
    default="matmul",
    metavar="NAME",
    help=f"How FLOPs are counted: {', '.join(CONVENTIONS)}. [matmul]",
)
@click.option("--force", is_flag=True, help="Overwrite files that raptr controls did not write.")
@click.pass_context
def command(ctx: click.Context, file: str, out: str | None, convention: str, force: bool, **overrides: Any) -> None:
    """Derives controls of a schedule whose FLOPs, blocks and head, are equal to within one step of the full network:
    dense for fewer steps, one size in every step, its stages reversed, a size that falls over time.

    Each is a schedule by itself, for the same model and seed. What cannot be derived is listed with the reason.
    """
    from raptr_dsl.controls import derive
    from raptr_dsl.flops import Accounting

    plan, warnings = load_plan_or_compile(file, ctx, overrides)
    show_diagnostics(warnings)
    try:
        found = derive(plan, Accounting(convention))
    except ValueError as error:
        subject = plan.name if convention in CONVENTIONS else "--convention"
        raise fail("bad-account", f"{plan.name} cannot be counted so: {error}", subject=subject) from error
    paths = _write(plan, found, Path(out), force) if out is not None else {}
    print_trimmed(output_console(), _table(plan, found, paths))
    if out is None:
        click.echo("nothing is written: name a folder by --out", err=True)


def _write(plan: "Plan", found: "Sequence[Control]", folder: Path, force: bool) -> dict[str, Path]:
    """Writes each that there is, none over a file that is not one of these. Raises RaptrError."""
    stem = re.sub(r"[^\w.-]+", "-", plan.name).strip("-") or "schedule"
    paths = {one.name: folder / f"{stem}-{one.name}.raptr" for one in found if one.text is not None}
    kind = re.compile(re.escape(WRITTEN.encode()))
    for path in paths.values():
        require_replaceable(path, kind, "a control that raptr wrote", force=force)
    make_folder(folder)
    for one in found:
        if one.text is not None:
            write_text(paths[one.name], WRITTEN + one.text)
    return paths


def _table(plan: "Plan", found: "Sequence[Control]", paths: dict[str, Path]) -> "Table":
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    table.add_column("control", no_wrap=True)
    table.add_column("steps", justify="right", no_wrap=True)
    table.add_column("off by (FLOPs)", justify="right", no_wrap=True)
    table.add_column("what it is", overflow="fold")
    for one in found:
        if one.plan is None:
            table.add_row(one.name, "–", "–", f"not derived: {one.reason}")
            continue
        lines = [f"{one.summary}.", *one.notes, *([str(paths[one.name])] if one.name in paths else [])]
        table.add_row(one.name, f"{one.plan.steps:,}", f"{float(one.off_by):+.3g}", "\n".join(lines))
    return table
