"""`raptr backends`: what is installed, what it can do, and what to install for what it lacks."""

import click

from raptr_dsl.cli.common import output_console, print_trimmed, show_diagnostics
from raptr_dsl.diagnostics import RaptrError


@click.command(short_help="List the installed backends and what they can do.")
@click.pass_context
def command(ctx: click.Context) -> None:
    """Lists the installed backends: their versions, what they can run, and what they still need."""
    from rich.table import Table

    from raptr_dsl import registry

    declared = registry.installed()
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    for heading in ("backend", "from", "axes", "scales", "idle", "dtypes"):
        table.add_column(heading, overflow="fold")
    broken, needs = [], []
    for name, entry in declared.items():
        try:
            can = registry.load(name).capabilities
        except RaptrError as error:
            broken += error.diagnostics
            continue
        words = (" ".join(sorted(getattr(can, kind))) for kind in ("axes", "scales", "idle", "dtypes"))
        table.add_row(name, f"{entry.distribution} {entry.version}", *words)
        if entry.missing:
            needs.append(f"{name} needs {', '.join(entry.missing)} to run: {entry.install}")
    if table.row_count:
        print_trimmed(output_console(), table)
    for need in needs:
        click.echo(need)
    if not declared:
        click.echo("no backend is installed: pip install raptr-dsl brings the reference backend", err=True)
    show_diagnostics(broken)
    if broken:
        ctx.exit(1)
