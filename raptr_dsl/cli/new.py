"""`raptr new`: a schedule of one's own, begun from one of a library."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from raptr_dsl.cli.common import Once
from raptr_dsl.diagnostics import RaptrError

if TYPE_CHECKING:
    from raptr_dsl.library import Libraries, Library


@click.command(short_help="Begin a schedule from one of a library.")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--from", "template", cls=Once, default="std/raptr", metavar="LIBRARY/SCHEDULE", help="Else std/raptr.")
@click.option("--list", "listed", is_flag=True, help="List what there is to begin from.")
@click.pass_context
def command(ctx: click.Context, file: Path | None, template: str, listed: bool) -> None:
    """Begins a schedule from one of a library: a copy to edit. To use one as it is, write `use std/raptr`."""
    from raptr_dsl.library import Libraries

    libraries = Libraries(Path.cwd())
    if listed:
        _list(libraries)
        return
    if file is None:
        raise click.UsageError("Name the file to write, or ask for --list.", ctx)
    if "/" not in template:
        raise click.UsageError(f"--from {template}: name the library as well, as in std/{template}", ctx)
    from raptr_dsl.cli.output import write_text
    from raptr_dsl.diagnostics import fail

    name, _, schedule = template.partition("/")
    library = libraries.find(name, None)
    text = library.source(library.export(schedule)).text
    if file.suffix != ".raptr":
        raise click.UsageError(f"{file}: the name of a schedule ends in .raptr", ctx)
    if file.exists():
        raise fail("output-exists", "this file is there already", subject=str(file), help="choose another name")
    write_text(file, f"# Begun from {name}/{schedule} {library.version}.\n{text}")
    click.echo(f"wrote {file}; raptr check {file} says what is wrong while you edit it", err=True)


def _list(libraries: "Libraries") -> None:
    for name in ("std", *sorted(libraries.lock)):
        list_schedules(libraries.find(name, None))


def list_schedules(library: "Library", indent: int = 0) -> None:
    """A line for each exported schedule: its name, and what its `doc` says; why it cannot be read, if so."""
    from raptr_dsl.diagnostics import Diagnostics
    from raptr_dsl.report.handbook import doc_of

    width = max(map(len, library.exports), default=0)
    for schedule in library.exports:
        try:
            doc = doc_of(library.source(f"{schedule}.raptr"), Diagnostics())
        except RaptrError as error:
            doc = f"({error.diagnostics[0].message})"
        click.echo(f"{' ' * indent}{library.name}/{schedule:<{width}}  {' '.join(doc.split())}".rstrip())
