"""What the commands share: options, and how diagnostics reach the terminal."""

import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

import click

from raptr_dsl.diagnostics import Diagnostic

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from raptr_dsl.api import Compilation
    from raptr_dsl.ir.plan import Plan
    from raptr_dsl.render import Format

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

FORMATS = ("text", "json", "github")
STDIN = "-"


class Once(click.Option):
    """An option that is refused when given twice: if the last one won, typing errors would go unseen."""

    def __init__(self, *declarations: Any, **attributes: Any) -> None:
        self._otherwise = attributes.pop("default", None)
        super().__init__(*declarations, multiple=True, **attributes)

    def process_value(self, ctx: click.Context, value: Any) -> Any:
        values = super().process_value(ctx, value)
        if len(values) > 1:
            raise click.UsageError(f"{self.opts[0]} is given {len(values)} times", ctx)
        return values[0] if values else self._otherwise


class Assignments(click.Option):
    """`--param name=value`, as often as there are names; a dict of them."""

    def __init__(self, *declarations: Any, **attributes: Any) -> None:
        super().__init__(*declarations, multiple=True, **attributes)

    def process_value(self, ctx: click.Context, value: Any) -> dict[str, str]:
        assigned: dict[str, str] = {}
        for text in super().process_value(ctx, value):
            name, equals, given = text.partition("=")
            name, given = name.strip(), given.strip()
            if not equals or not name or not given:
                raise click.UsageError(f"{self.opts[0]} {text}: write name=value", ctx)
            if name in assigned:
                raise click.UsageError(f"{self.opts[0]} gives {name} twice", ctx)
            assigned[name] = given
        return assigned


class Count(click.ParamType[int]):
    """A whole number, spelled as in a schedule: `675k`, `1_000`, `2M`."""

    name = "count"

    def __init__(self, least: int = 0) -> None:
        self.least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        count = _read_count(value)
        if count is None:
            self.fail(f"{value!r} is not a whole number such as 675k, 1_000 or 2M", param, ctx)
        if count < self.least:
            self.fail(f"{value} is less than {self.least}", param, ctx)
        return count


def _read_count(text: str) -> int | None:
    """The value of a literal that is a count (rule 1), read by the language's own parser; None if it is none."""
    from raptr_dsl.diagnostics import Diagnostics
    from raptr_dsl.source import Source
    from raptr_dsl.syntax import ast
    from raptr_dsl.syntax.parser import parse

    mistakes = Diagnostics()
    file = parse(Source("", f"steps {text}"), mistakes)
    if mistakes.has_errors:
        return None
    match file.statements:
        case (ast.Horizon(value=ast.Number(value=value, is_count=True)),):
            return int(value)
    return None


def schedule_options(command: Decorated) -> Decorated:
    """What a schedule leaves open or may be told otherwise.

    Adds the arguments `model`, `steps`, `seed`, `params`, `budget`, as `api.Options` takes them.
    """
    for option in reversed(
        (
            click.option("--model", cls=Once, metavar="NAME|FILE", help="A known shape, or a TOML file."),
            click.option("--steps", cls=Once, type=Count(1), metavar="N", help="Training steps: 675k, 1_000."),
            click.option("--seed", cls=Once, type=Count(), metavar="S", help="The seed of the masks."),
            click.option("--param", "params", cls=Assignments, metavar="NAME=VALUE", help="Set a parameter."),
            click.option(
                "--budget",
                multiple=True,
                metavar="REQUIREMENT",
                help="Require more than the file does: 75% of the blocks' FLOPs, or 'mean(depth) >= 8'; repeatable.",
            ),
        )
    ):
        command = option(command)
    return command


def format_option(command: Decorated) -> Decorated:
    """`--format`: how diagnostics are written. Adds the argument `format`."""
    return click.option(
        "--format",
        cls=Once,
        type=click.Choice(FORMATS),
        default="text",
        help="How to report: text (the default), json, or github (annotations of a pull request).",
    )(command)


def show_diagnostics(diagnostics: Iterable[Diagnostic], format: "Format" = "text") -> None:
    """Text goes to standard error; what programs read goes to standard output."""
    from raptr_dsl.render import render

    for_people = format == "text"
    text = render(diagnostics, format, color=for_people and wants_color(sys.stderr))
    if text:
        click.echo(text, err=for_people)


def exit_code(diagnostics: Iterable[Diagnostic]) -> int:
    """0 without errors; 2 if the command is to be written otherwise, for an option has a wrong value; else 1.

    That a schedule does not meet a `--budget` is an error of the schedule, and a folder that `--out` names may be in
    the way without the command being wrong.
    """
    errors = [diagnostic for diagnostic in diagnostics if diagnostic.severity == "error"]
    wrong = [error for error in errors if error.code != "requirement-refuted"]
    places = [error.span.source.name if error.span else error.subject for error in wrong]
    return 2 if any(place.startswith("--") and place != "--out" for place in places) else 1 if errors else 0


def counted(diagnostics: Sequence[Diagnostic]) -> str:
    """`2 errors, 1 warning`; `no errors`."""
    counts = [
        f"{number} {severity if number == 1 else severity + 's'}"
        for severity in ("error", "warning")
        if (number := sum(diagnostic.severity == severity for diagnostic in diagnostics))
    ]
    return ", ".join(counts) or "no errors"


def wants_color(stream: TextIO) -> bool:
    """Whether to colour what is written there: on a terminal, unless NO_COLOR says not to (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def expanded_files(files: Iterable[str], ctx: click.Context) -> Iterator[str]:
    """The files that are named, each directory replaced by the .raptr files in it at any depth."""
    for name in files:
        path = Path(name)
        if not path.is_dir():
            yield name
            continue
        found = sorted(str(file) for file in path.rglob("*.raptr"))
        if not found:
            raise click.UsageError(f"There is no .raptr file in the directory {name}", ctx)
        yield from found


def compilation_of(path: str, overrides: Mapping[str, Any], *, complete: bool) -> "Compilation":
    """What a schedule file comes to, or standard input if it is named `-`.

    Args:
        overrides: what `schedule_options` adds.
        complete: as in `api.check_file`.
    """
    from raptr_dsl.api import Options, check_file, check_text

    options = Options(**overrides)
    if path == STDIN:
        return check_text(read_stdin(), options, name="<stdin>", complete=complete)
    return check_file(path, options, complete=complete)


def read_stdin() -> str:
    from raptr_dsl.syntax.files import FILE_BYTES

    return sys.stdin.buffer.read(FILE_BYTES + 1).decode("utf-8-sig", "replace")


def load_plan_or_compile(
    path: str, ctx: click.Context, overrides: Mapping[str, Any]
) -> tuple["Plan", Sequence[Diagnostic]]:
    """The plan of a FILE|PLAN argument, whichever it is, with the warnings of compiling it.

    Args:
        overrides: what `schedule_options` adds.

    Raises:
        RaptrError: the file cannot be read or compiled.
        UsageError: an option would change a plan.
    """
    if not is_plan(path):
        compilation = compilation_of(path, overrides, complete=True)
        return compilation.result(), compilation.diagnostics
    given = [name for name, value in overrides.items() if value not in (None, {}, ())]
    if given:
        options = ", ".join("--param" if name == "params" else f"--{name}" for name in given)
        raise click.UsageError(f"{path} is a plan, which {options} cannot change: compile its schedule again", ctx)
    from raptr_dsl.ir.plan import load_plan

    return load_plan(path), ()


def is_plan(path: str) -> bool:
    """Whether a file holds JSON, which no schedule begins like."""
    try:
        if path == STDIN or not stat.S_ISREG(os.stat(path).st_mode):
            return False  # to open a pipe would be to wait for it
        with open(path, "rb") as file:
            return file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{")
    except (OSError, ValueError):
        return False  # whoever reads it says why


def output_console(width: int | None = None) -> "Console":
    """Standard output as a rich console that never guesses at markup, numbers or emoji in the user's text."""
    from rich.console import Console

    color = wants_color(sys.stdout)
    return Console(width=width, markup=False, highlight=False, emoji=False, no_color=not color)


def print_trimmed(shown: "Console", *parts: "RenderableType") -> None:
    """Prints without the blanks that tables leave at the ends of lines."""
    with shown.capture() as captured:
        for part in parts:
            shown.print(part)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))
