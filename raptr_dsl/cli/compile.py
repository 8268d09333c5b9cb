"""`raptr compile`, also `raptr-compile`: from a schedule to a plan, with a summary on one screen."""

import json
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from raptr_dsl.cli.common import (
    Once,
    errors_shown,
    format_option,
    output_console,
    print_trimmed,
    schedule_options,
    show_diagnostics,
)
from raptr_dsl.diagnostics import RaptrError, fail

if TYPE_CHECKING:
    from raptr_dsl.ir.plan import Plan


@click.command(short_help="Check a schedule, prove its requirements, write the plan.")
@click.argument("file", type=click.Path())
@schedule_options
@click.option("--backend", cls=Once, metavar="NAME", help="Refuse what this backend cannot run.")
@click.option("-o", "--output", cls=Once, type=click.Path(), metavar="PLAN", help="Else ./FILE.plan.json.")
@click.option("--force", is_flag=True, help="Overwrite the output even if it is not a plan.")
@format_option
def command(
    file: str, backend: str | None, output: str | None, force: bool, format: str, **overrides: Any
) -> None:
    """Checks a schedule, proves its requirements, prints a summary and writes the plan.

    What the schedule leaves open has to be given: a model and a number of steps.
    """
    from raptr_dsl.api import Options, check_file

    path = Path(output or f"{Path(file).stem}.plan.json")
    with errors_shown(format):
        compilation = check_file(file, Options(**overrides), complete=True)
        plan = compilation.result()
        if backend is not None:
            _require_support(plan, backend)
        _write(plan, path, force)
    if format != "json":
        from raptr_dsl.report.summary import summary

        show_diagnostics(compilation.diagnostics, format)
        print_trimmed(output_console(), summary(plan, f"{path} ({path.stat().st_size:,} bytes)"))
        return
    from raptr_dsl.render import as_data
    from raptr_dsl.report.summary import facts

    diagnostics = [as_data(diagnostic) for diagnostic in compilation.diagnostics]
    click.echo(json.dumps({"plan": facts(plan, str(path)), "diagnostics": diagnostics}, indent=2))


def _require_support(plan: "Plan", backend: str) -> None:
    """Refuses what the backend does not declare; that its framework is missing here is only worth a word."""
    from raptr_dsl import registry
    from raptr_dsl.backend.support import unsupported

    refused = unsupported(plan, registry.load(backend))
    if refused:
        raise RaptrError(refused)
    declared = registry.find(backend)
    if declared.missing:
        click.echo(
            f"note: to run, {backend} needs {', '.join(declared.missing)}: {declared.install}", err=True
        )


def _write(plan: "Plan", path: Path, force: bool) -> None:
    """Replaces a plan as a whole or not at all; anything else that is there stays, unless forced."""
    if not force and not _may_replace(path):
        raise fail(
            "output-exists",
            f"{path} is there already and is not a plan",
            help="choose another name, or give --force to overwrite it",
            subject=str(path),
        )
    plan.save(path)


def _may_replace(path: Path) -> bool:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return False
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return True
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and str(content.get("format", "")).startswith("raptr-plan-")
