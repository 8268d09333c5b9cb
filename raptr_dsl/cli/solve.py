"""`raptr solve`: what each `?` of a schedule is, as a patch of the file, or written into it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from raptr_dsl.cli.common import (
    STDIN,
    compilation_of,
    exit_code,
    format_option,
    is_plan,
    schedule_options,
    show_diagnostics,
)
from raptr_dsl.cli.output import difference, rewrite
from raptr_dsl.diagnostics import Diagnostic, fail, with_edits

if TYPE_CHECKING:
    from raptr_dsl.api import Compilation
    from raptr_dsl.render import Format

BYTE_ORDER_MARK = "\ufeff"


@click.command(short_help="Solve the holes of a schedule from its requirements.")
@click.argument("file", type=click.Path(readable=False))
@click.option("--write", is_flag=True, help="Write the solution into the file.")
@schedule_options
@format_option
@click.pass_context
def command(ctx: click.Context, file: str, write: bool, format: "Format", **overrides: Any) -> None:
    """Solves steps=?, depth=?, heads=? and width=? from the requirements, and prints the patch that fills them in.

    With --write the file gets the values in place of the question marks; all else in it stays as it is. What the
    schedule leaves open has to be given: a model and a number of steps.
    """
    if write and file == STDIN:
        raise click.UsageError("Standard input cannot be written to: leave --write out, or name a file.", ctx)
    if is_plan(file):
        raise fail("file-is-plan", "this is a plan, which has no holes", subject=file, help="solve its schedule")
    compilation = compilation_of(file, overrides, complete=True)
    solved = compilation.ok and bool(compilation.solution)
    if solved and write:
        _write(Path(file), compilation)
    _show(compilation, file, written=solved and write, format=format)
    ctx.exit(exit_code(compilation.diagnostics))


def _show(compilation: "Compilation", file: str, *, written: bool, format: "Format") -> None:
    from raptr_dsl.render import as_data

    told = [item for item in compilation.diagnostics if not (written and item.code == "hole-solved")]
    if format == "json":
        edits = [item for item in compilation.diagnostics if item.code == "hole-solved"]
        solution = [as_data(item)["fix"] for item in edits]
        click.echo(json.dumps({"solution": solution, "diagnostics": [as_data(item) for item in told]}, indent=2))
        return
    show_diagnostics(_without_advice(told) if format == "text" else told, format)
    if not compilation.ok:
        return
    if not compilation.solution:
        click.echo(f"{file} has no holes", err=True)
    elif format == "text":
        assert compilation.source is not None
        before = compilation.source.text
        patch = difference(before, with_edits(before, compilation.solution), file, f"{file} (solved)")
        click.echo(patch, nl=False)
    if written:
        click.echo(f"written to {file}", err=True)


def _without_advice(told: Sequence[Diagnostic]) -> list[Diagnostic]:
    """Whoever solves need not be told how."""
    return [item for item in told if item.code != "hole-solved"]


def _write(path: Path, compilation: "Compilation") -> None:
    """Writes the solution in place of the holes, and nothing else."""
    assert compilation.source is not None
    try:
        now = path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError):
        now = None
    mark = BYTE_ORDER_MARK if now is not None and now.startswith(BYTE_ORDER_MARK) else ""
    if now is None or now.removeprefix(mark) != compilation.source.text:
        raise fail("file-changed", "this file has changed since it was read", subject=str(path), help="solve it again")
    rewrite(path, mark + with_edits(compilation.source.text, compilation.solution))
