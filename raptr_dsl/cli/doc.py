"""`raptr doc`: a library of schedules as Markdown with pictures, or as one HTML file."""

from pathlib import Path
from typing import Any

import click

from raptr_dsl.cli.common import Once, schedule_options


@click.command(short_help="Render a library of schedules to Markdown or HTML.")
@click.argument("library", metavar="FOLDER|std")
@click.option(
    "-o", "--out", "output", cls=Once, type=click.Path(path_type=Path), metavar="FILE", help="NAME.md or NAME.html."
)
@schedule_options
@click.pass_context
def command(ctx: click.Context, library: str, output: Path | None, **overrides: Any) -> None:
    """Renders a library: what each schedule is, its parameters, its costs, and its timeline.

    A name that ends in .html is one file that needs no other; .md has its pictures in a folder beside it. Costs are
    for the model and steps given, bert-base and 1,200 if none are.
    """
    from raptr_dsl.api import Options
    from raptr_dsl.cli.output import make_folder, write_text
    from raptr_dsl.library.manifest import load_manifest
    from raptr_dsl.report import handbook
    from raptr_dsl.resources import schedule_directory

    folder = schedule_directory() if library == "std" else Path(library)
    manifest = load_manifest(folder)
    path = output or Path(f"{manifest.name or folder.name}.md")
    if path.suffix not in (".md", ".html"):
        raise click.UsageError(f"{path}: the name ends in .md or .html", ctx)
    given = {name: value for name, value in overrides.items() if value is not None}
    found = list(handbook.entries(folder, manifest, Options(**({"model": "bert-base", "steps": 1200} | given))))
    if path.suffix == ".html":
        write_text(path, handbook.html(manifest, found))
    else:
        pictures = path.with_name(f"{path.stem}_pictures")
        make_folder(pictures)
        for entry in found:
            if entry.plan:
                write_text(pictures / handbook.picture_name(entry), handbook.picture(entry))
        write_text(path, handbook.markdown(manifest, found, pictures.name))
    number = f"{len(found)} {'schedule' if len(found) == 1 else 'schedules'}"
    click.echo(f"wrote {path}: {number} of {manifest.name or folder.name}", err=True)
