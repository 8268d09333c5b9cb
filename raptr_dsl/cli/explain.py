"""`raptr explain`: what a diagnostic means, from the catalogue of codes. It makes docs/errors.md, too."""

from shutil import get_terminal_size
from textwrap import indent

import click

from raptr_dsl.cli.common import Once
from raptr_dsl.codes import Code, catalogue
from raptr_dsl.diagnostics import did_you_mean

WIDEST = 88
MARKDOWN_HEAD = """\
# Diagnostics

<!-- Made by `raptr explain --all --format markdown`; the text is in raptr_dsl/codes/. -->

Every diagnostic has a code. `raptr explain CODE` prints one entry of this page.
"""


@click.command(short_help="Explain a diagnostic by its code.")
@click.argument("code", required=False)
@click.option("--all", "everything", is_flag=True, help="Every code, in the order of the alphabet.")
@click.option(
    "--format",
    cls=Once,
    type=click.Choice(("text", "markdown")),
    default="text",
    help="text (the default) or markdown.",
)
@click.pass_context
def command(ctx: click.Context, code: str | None, everything: bool, format: str) -> None:
    """Explains a diagnostic by its code, the word in brackets: raptr explain stages-overrun."""
    if everything == (code is not None):
        raise click.UsageError("Name one code, or ask for --all.", ctx)
    codes = dict(sorted(catalogue().items()))
    if code is not None:
        codes = {name: codes[name] for name in [_known(code, codes, ctx)]}
    if format == "text":
        click.echo("\n\n".join(_as_text(name, entry) for name, entry in codes.items()))
        return
    head = MARKDOWN_HEAD + "\n" if everything else ""
    click.echo(head + "\n".join(_as_markdown(name, entry) for name, entry in codes.items()), nl=False)


def _known(code: str, codes: dict[str, Code], ctx: click.Context) -> str:
    """The code meant, also where it was copied with its brackets: `error[stages-overrun]`."""
    name = code.rpartition("[")[2].rstrip("]:").lower()
    if name not in codes:
        nearest = did_you_mean(name, codes)
        hint = f"did you mean {nearest}?" if nearest else "raptr explain --all lists them"
        raise click.UsageError(f"There is no code {code!r}; {hint}", ctx)
    return name


def _as_text(name: str, entry: Code) -> str:
    width = min(get_terminal_size().columns, WIDEST)
    explanation = click.formatting.wrap_text(entry.explanation.strip(), width, preserve_paragraphs=True)
    parts = [f"{name}: {entry.title}", explanation]
    for heading, example in (("Wrong", entry.bad), ("Right", entry.good)):
        if example:
            parts.append(f"{heading}:\n{indent(example.strip(), '    ')}")
    return "\n\n".join(parts)


def _as_markdown(name: str, entry: Code) -> str:
    parts = [f"## {name}", f"**{entry.title[:1].upper()}{entry.title[1:]}.**", entry.explanation.strip()]
    for heading, example in (("Wrong", entry.bad), ("Right", entry.good)):
        if example:
            parts.append(f"{heading}:\n```\n{example.strip()}\n```")
    return "\n\n".join(parts) + "\n"
