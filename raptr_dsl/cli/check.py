"""`raptr check`: every mistake in the files given, and nothing else. It starts as fast as its parser."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from raptr_dsl.cli.common import (
    compilation_of,
    counted,
    exit_code,
    expanded_files,
    format_option,
    is_plan,
    schedule_options,
    show_diagnostics,
)
from raptr_dsl.diagnostics import Diagnostic, RaptrError

if TYPE_CHECKING:
    from raptr_dsl.render import Format


@click.command(short_help="Find the mistakes in schedule files.")
@click.argument("files", nargs=-1, required=True, type=click.Path(readable=False), metavar="FILES...")
@schedule_options
@format_option
@click.pass_context
def command(ctx: click.Context, files: tuple[str, ...], format: "Format", **overrides: Any) -> None:
    """Finds the mistakes in schedule files, with their places and how to mend them.

    A directory stands for the .raptr files in it, at any depth, and `-` for standard input. Sizes and
    requirements are checked where a model and a number of steps are known, from the file or from the options.
    A plan is checked as well: that it is whole, and as it was written.
    """
    paths = list(dict.fromkeys(expanded_files(files, ctx)))
    diagnostics = list(_checked(paths, overrides))
    show_diagnostics(diagnostics, format)
    apart = "\n" if diagnostics and format == "text" else ""
    number = f"{len(paths)} {'file' if len(paths) == 1 else 'files'}"
    click.echo(f"{apart}{number}, {counted(diagnostics)}", err=True)
    ctx.exit(exit_code(diagnostics))


def _checked(paths: list[str], overrides: dict[str, Any]) -> Iterator[Diagnostic]:
    for path in paths:
        if is_plan(path):
            yield from _mistakes_of_plan(path)
        else:
            yield from compilation_of(path, overrides, complete=False).diagnostics


def _mistakes_of_plan(path: str) -> tuple[Diagnostic, ...]:
    from raptr_dsl.ir.plan import load_plan

    try:
        load_plan(path)
    except RaptrError as error:
        return error.diagnostics
    return ()
