"""`raptr compile`, also `raptr-compile`: from a schedule to a plan, with a summary on one screen."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from raptr_dsl.cli.common import (
    STDIN,
    Once,
    compilation_of,
    exit_code,
    format_option,
    is_plan,
    output_console,
    print_trimmed,
    schedule_options,
    show_diagnostics,
)
from raptr_dsl.cli.output import PLAN, require_replaceable
from raptr_dsl.diagnostics import Diagnostic, RaptrError, fail

if TYPE_CHECKING:
    from raptr_dsl.ir.plan import Plan
    from raptr_dsl.render import Format


@click.command(short_help="Check a schedule, prove its requirements, write the plan.")
@click.argument("file", type=click.Path(readable=False))
@schedule_options
@click.option("--backend", cls=Once, metavar="NAME", help="Refuse what this backend cannot run.")
@click.option("-o", "--out", "output", cls=Once, type=click.Path(), metavar="PLAN", help="Else ./FILE.plan.json.")
@click.option("--force", is_flag=True, help="Overwrite the output even if it is not a plan.")
@format_option
@click.pass_context
def command(
    ctx: click.Context,
    file: str,
    backend: str | None,
    output: str | None,
    force: bool,
    format: "Format",
    **overrides: Any,
) -> None:
    """Checks a schedule, proves its requirements, prints a summary and writes the plan.

    What the schedule leaves open has to be given: a model and a number of steps. FILE may be `-`, for standard
    input, here and wherever a schedule is read.
    """
    if file == STDIN and output is None:
        raise click.UsageError("A schedule from standard input has no name to call the plan by: give -o PLAN.", ctx)
    if output == STDIN:
        raise click.UsageError("The plan is written to a file, the summary to standard output: name a file.", ctx)
    path = Path(output or f"{Path(file).stem}.plan.json")
    plan, diagnostics = _compiled(file, overrides, backend, path, force)
    if format == "json":
        _print_json(plan, diagnostics, path)
    else:
        show_diagnostics(diagnostics, format)
        if plan is not None:
            _print_summary(plan, path)
    if plan is None:
        ctx.exit(exit_code(diagnostics))


def _compiled(
    file: str, overrides: dict[str, Any], backend: str | None, path: Path, force: bool
) -> tuple["Plan | None", Sequence[Diagnostic]]:
    """The plan, written; None if there is none, or if it is not what was asked for."""
    if is_plan(file):
        return None, fail(
            "file-is-plan",
            "this is a plan, compiled already",
            subject=file,
            help="raptr show draws it, raptr train trains by it; to change it, compile its schedule again",
        ).diagnostics
    compilation = compilation_of(file, overrides, complete=True)
    if compilation.plan is None:
        return None, compilation.diagnostics
    try:
        if backend is not None:
            _require_support(compilation.plan, backend)
        require_replaceable(path, PLAN, "a plan", force=force)
        compilation.plan.save(path)
    except RaptrError as error:
        return None, (*compilation.diagnostics, *error.diagnostics)
    return compilation.plan, compilation.diagnostics


def _print_summary(plan: "Plan", path: Path) -> None:
    from raptr_dsl.report.summary import summary

    print_trimmed(output_console(), summary(plan, f"{path} ({path.stat().st_size:,} bytes)"))


def _print_json(plan: "Plan | None", diagnostics: Sequence[Diagnostic], path: Path) -> None:
    from raptr_dsl.render import as_data
    from raptr_dsl.report.summary import facts

    told = [as_data(diagnostic) for diagnostic in diagnostics]
    click.echo(json.dumps({"plan": plan and facts(plan, str(path)), "diagnostics": told}, indent=2))


def _require_support(plan: "Plan", backend: str) -> None:
    """Refuses what the backend does not declare; that its framework is missing here is only worth a word."""
    from raptr_dsl import registry
    from raptr_dsl.backend.support import unsupported

    refused = unsupported(plan, registry.load(backend))
    if refused:
        raise RaptrError(refused)
    declared = registry.find(backend)
    if declared.missing:
        click.echo(f"note: to run, {backend} needs {', '.join(declared.missing)}: {declared.install}", err=True)
