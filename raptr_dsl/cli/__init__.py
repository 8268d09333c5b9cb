"""The command line. One table of commands, each in a module of its own that is imported when it is called.

Exit codes: 0 fine, 1 errors, 2 wrong usage (the value of an option, too), 3 an internal error; 130 interrupted, 141 the
reader of the output went away. Standard output is data, standard error is messages. Exceptions end here and nowhere
else.
"""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper

import click

from raptr_dsl.diagnostics import RaptrError, did_you_mean

COMMANDS = {
    "check": "Finds the mistakes in schedule files.",
    "fmt": "Lays out schedule files in the one canonical way.",
    "new": "Begins a schedule from one of a library.",
    "compile": "Checks a schedule, proves its requirements and writes the plan.",
    "solve": "Solves the holes of a schedule from its requirements.",
    "show": "Draws a schedule or plan: its stages and its masks.",
    "cost": "Counts what schedules cost, by stage and convention.",
    "diff": "Compares what two schedules mean, not how they are written.",
    "controls": "Derives schedules of equal FLOPs to compare with.",
    "train": "Trains a small transformer by a schedule or plan.",
    "convert": "Carries a run, or its weights, to another backend.",
    "lib": "Adds, locks, verifies and makes libraries of schedules.",
    "doc": "Renders a library of schedules to Markdown or HTML.",
    "publish": "Says whether a new version of a library breaks its users.",
    "explain": "Explains a diagnostic by its code.",
    "backends": "Lists the installed backends and what they can do.",
    "demo": "Trains by a schedule, beside a dense control of equal FLOPs.",
}
"""Every command and its line of help. `raptr_dsl.cli.NAME` defines it as `command`."""


class Commands(click.Group):
    """A group whose commands are imported one at a time, when they are called or their own help is."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return import_module(f"{__name__}.{cmd_name}").command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if not args[0].startswith("-") and args[0] not in COMMANDS:
            nearest = did_you_mean(args[0], COMMANDS)
            hint = f"did you mean {nearest}?" if nearest else f"there are {', '.join(COMMANDS)}"
            raise click.UsageError(f"There is no command {args[0]!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="raptr-dsl", prog_name="raptr", message="%(prog)s %(version)s")
def raptr() -> None:
    """Schedules for progressive subnetwork training: check, compile, look at them, train by them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """`raptr ARGUMENTS`; returns the exit code."""
    return _run(raptr, "raptr", arguments)


def compile_main(arguments: Sequence[str] | None = None) -> int:
    """`raptr-compile ARGUMENTS`, the same as `raptr compile ARGUMENTS`; returns the exit code."""
    from raptr_dsl.cli.compile import command

    return _run(command, "raptr-compile", arguments)


def _run(command: click.Command, name: str, arguments: Sequence[str] | None) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a file's text may hold what the terminal cannot show
    try:
        code = _invoke(command, name, sys.argv[1:] if arguments is None else list(arguments))
        sys.stdout.flush()
        return code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo(f"\n{name}: interrupted", err=True)
        return 130
    except RaptrError as error:
        from raptr_dsl.cli.common import exit_code, show_diagnostics

        show_diagnostics(error.diagnostics)
        return exit_code(error.diagnostics)
    except BrokenPipeError:
        return _reader_went_away()
    except Exception as error:
        if os.environ.get("RAPTR_DEBUG"):
            raise
        click.echo(_internal_error(name, error), err=True)
        return 3


def _invoke(command: click.Command, name: str, arguments: list[str]) -> int:
    """As `click.Command.main` does it, but exceptions pass."""
    try:
        _complete_for_the_shell(command, name)
        with command.make_context(name, arguments) as ctx:
            command.invoke(ctx)
    except click.exceptions.Exit as exit:
        return exit.exit_code
    return 0


def _complete_for_the_shell(command: click.Command, name: str) -> None:
    """Answers a shell that completes a command line: `eval "$(_RAPTR_COMPLETE=bash_source raptr)"`."""
    variable = f"_{name}_COMPLETE".replace("-", "_").upper()
    instruction = os.environ.get(variable)
    if instruction:
        from click.shell_completion import shell_complete

        raise click.exceptions.Exit(shell_complete(command, {}, name, variable, instruction))


def _reader_went_away() -> int:
    """As `raptr show … | head` ends: quietly. What is still buffered must not raise again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 141


def _internal_error(name: str, error: Exception) -> str:
    """One line that names the innermost of our own modules the error passed through."""
    place, traceback = name, error.__traceback__
    while traceback:
        module = traceback.tb_frame.f_globals.get("__name__", "")
        if module.startswith("raptr_"):
            place = module.removeprefix("raptr_dsl.")
        traceback = traceback.tb_next
    what = " ".join(str(error).split())
    return (
        f"internal error in {place}: {type(error).__name__}{': ' if what else ''}{what}\n"
        "This is a mistake in raptr, not in your file: please report it. RAPTR_DEBUG=1 shows the traceback."
    )
