"""`raptr diff`: what two schedules or plans do not mean alike, for a reviewer or a script; exit codes as diff(1)."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from raptr_dsl.cli.common import (
    compilation_of,
    format_option,
    is_plan,
    output_console,
    print_trimmed,
    schedule_options,
    show_diagnostics,
)
from raptr_dsl.diagnostics import RaptrError

if TYPE_CHECKING:
    from rich.table import Table

    from raptr_dsl.ir.plan import Plan
    from raptr_dsl.render import Format
    from raptr_dsl.report.difference import Change

REFUTED = "requirement-refuted"


@click.command(short_help="Compare what two schedules mean.")
@click.argument("a", type=click.Path(readable=False), metavar="A")
@click.argument("b", type=click.Path(readable=False), metavar="B")
@schedule_options
@format_option
@click.pass_context
def command(ctx: click.Context, a: str, b: str, format: "Format", **overrides: Any) -> None:
    """Compares what two schedules or saved plans mean: run, stages, cost, coverage and requirements.

    Comments, layout, names, and how a file is cut into parts do not count. Options are of both schedules; plans stay
    as they are. A requirement that does not hold is one more thing to compare. Exit code 0: the same, 1: different,
    2: trouble.
    """
    from raptr_dsl.report.difference import differences

    try:
        (mine, my_requirements), (theirs, their_requirements) = (_read(path, overrides) for path in (a, b))
    except RaptrError as error:
        if format == "json":
            from raptr_dsl.render import as_data

            told = [as_data(one) for one in error.diagnostics]
            click.echo(json.dumps({"equal": None, "diagnostics": told}, indent=2))
        else:
            show_diagnostics(error.diagnostics, format)
        ctx.exit(2)
    found = differences(mine, theirs, my_requirements, their_requirements)
    if format == "json":
        sides = {
            side: {"file": path, "name": plan.name, "digest": plan.digest, "requirements": dict(requirements)}
            for side, path, plan, requirements in (
                ("a", a, mine, my_requirements),
                ("b", b, theirs, their_requirements),
            )
        }
        changes = [
            {{"mine": "a", "theirs": "b"}.get(key, key): value for key, value in asdict(one).items()} for one in found
        ]
        click.echo(json.dumps({"equal": not found, **sides, "differences": changes}, indent=2))
    elif found:
        print_trimmed(output_console(), _table(a, b, found))
    else:
        click.echo(f"{a} and {b} mean the same: digest {mine.digest}")
    ctx.exit(1 if found else 0)


def _read(path: str, overrides: Mapping[str, Any]) -> tuple["Plan", Mapping[str, str]]:
    """A plan, and what its requirements were found to be. Raises RaptrError where there is none to compare."""
    if is_plan(path):
        from raptr_dsl.ir.plan import load_plan

        plan = load_plan(path)
        return plan, {proven.text: proven.value for proven in plan.proven}
    compilation = compilation_of(path, overrides, complete=True)
    if compilation.plan is not None:
        return compilation.plan, {proven.text: proven.value for proven in compilation.plan.proven}
    errors = [one for one in compilation.diagnostics if one.severity == "error"]
    if compilation.bound is None or any(one.code != REFUTED for one in errors):
        raise RaptrError(compilation.diagnostics)
    from raptr_dsl.compiler.plan import make_plan
    from raptr_dsl.compiler.verify import requirement_text

    schedule, bound = compilation.schedule, compilation.bound
    seed = overrides.get("seed")
    file_seed = (schedule.seed if schedule else None) or 0
    plan = make_plan(bound, name=Path(path).stem, seed=file_seed if seed is None else seed)
    refuted = [one.message.partition(" does not hold: it is ") for one in errors]
    values = {text: f"does not hold: {value}" for text, _, value in refuted}
    texts = map(requirement_text, bound.requirements)
    return plan, {text: values.get(text, "holds") for text in texts}


def _table(a: str, b: str, found: "Sequence[Change]") -> "Table":
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    table.add_column("", no_wrap=True, style="bold", overflow="ellipsis", max_width=20)
    table.add_column("", overflow="fold")
    for heading in (a, b):
        table.add_column(heading, overflow="fold")
    last = ""
    for change in found:
        where = change.where if change.where != last else ""
        table.add_row(where, change.what, change.mine or "–", change.theirs or "–")
        last = change.where
    return table
