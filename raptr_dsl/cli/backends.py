"""`raptr backends`: what is installed, what it can do, and what to install for what it lacks."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from raptr_dsl.cli.common import show_diagnostics
from raptr_dsl.diagnostics import RaptrError

if TYPE_CHECKING:
    from raptr_dsl.registry import Installed

CAPABILITIES = ("axes", "scales", "idle", "attributes", "dtypes", "options")


@click.command(short_help="List the installed backends and what they can do.")
@click.pass_context
def command(ctx: click.Context) -> None:
    """Lists the installed backends: their versions, what they can run, and what they still need."""
    from raptr_dsl.registry import installed

    broken = []
    for declared in installed().values():
        try:
            click.echo("\n".join(_described(declared)))
        except RaptrError as error:
            broken += error.diagnostics
    show_diagnostics(broken)
    if broken:
        ctx.exit(1)


def _described(declared: "Installed") -> Iterator[str]:
    from raptr_dsl.registry import load

    can = load(declared.name).capabilities
    yield f"{click.style(declared.name, bold=True)}  {declared.distribution} {declared.version}"
    for kind in CAPABILITIES:
        yield f"  {kind:<11}{', '.join(sorted(getattr(can, kind))) or '-'}"
    if declared.missing:
        yield f"  {'needs':<11}{', '.join(declared.missing)}, not installed: {declared.install}"
