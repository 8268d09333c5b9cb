"""`raptr fmt`: schedule files in the canonical layout, comments kept."""

from pathlib import Path

import click

from raptr_dsl.cli.common import STDIN, counted, expanded_files, read_stdin, show_diagnostics
from raptr_dsl.cli.output import difference, rewrite
from raptr_dsl.diagnostics import Diagnostics


@click.command(short_help="Lay out schedule files in the one canonical way.")
@click.argument("files", nargs=-1, required=True, type=click.Path(readable=False), metavar="FILES...")
@click.option("--check", is_flag=True, help="Write nothing; exit with 1 if a file would change.")
@click.option("--diff", is_flag=True, help="Write nothing; print what would change.")
@click.pass_context
def command(ctx: click.Context, files: tuple[str, ...], check: bool, diff: bool) -> None:
    """Lays out schedule files in the one canonical way: blanks, line ends, the braces of long statements.

    Words, numbers and comments stay as they are written. A directory stands for the .raptr files in it, at any
    depth, and `-` for standard input, which is formatted to standard output. A file with mistakes is left alone.
    """
    paths = list(dict.fromkeys(expanded_files(files, ctx)))
    diagnostics = Diagnostics()
    changed = []
    for path in paths:
        before, after = _formatted(path, diagnostics)
        if after is None:
            continue
        if path == STDIN and not (check or diff):
            click.echo(after, nl=False)
            continue
        if after == before:
            continue
        changed.append(path)
        if diff:
            click.echo(difference(before, after, path, f"{path} (formatted)"), nl=False)
        elif not check:
            rewrite(Path(path), after)
    show_diagnostics(diagnostics.sorted())
    _report(paths, changed, would=check or diff, mistakes=diagnostics)
    if diagnostics.has_errors or (check and changed):
        ctx.exit(1)


def _formatted(path: str, diagnostics: Diagnostics) -> tuple[str, str | None]:
    """The text of a file as it is, and as it should be; None where it has mistakes, which are recorded."""
    from raptr_dsl.source import Source
    from raptr_dsl.syntax.files import load_source
    from raptr_dsl.syntax.layout import format_text

    source = Source("<stdin>", read_stdin()) if path == STDIN else load_source(path, diagnostics)
    if source is None:
        return "", None
    return source.text, format_text(source, diagnostics)


def _report(paths: list[str], changed: list[str], *, would: bool, mistakes: Diagnostics) -> None:
    for path in changed:
        click.echo(f"{'would format' if would else 'formatted'} {path}", err=True)
    number = f"{len(paths)} {'file' if len(paths) == 1 else 'files'}"
    told = f"{len(changed)} {'to be formatted' if would else 'formatted'}"
    click.echo(f"{number}, {told}" + (f", {counted(mistakes.sorted())}" if mistakes.has_errors else ""), err=True)
