"""The edge of the command line: exit codes, streams, and that no exception gets out."""

import os
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import click
import pytest

from raptr_dsl import cli
from raptr_dsl.diagnostics import fail

SCRIPT = Path(sys.executable).parent / "raptr"


def replace_command(monkeypatch: pytest.MonkeyPatch, action) -> None:
    """Makes `raptr backends` do something else."""
    command = click.Command("backends", callback=action)
    monkeypatch.setattr(cli.Commands, "get_command", lambda *_: command)


def test_version(raptr) -> None:
    done = raptr("--version")
    assert (done.code, done.out) == (0, f"raptr {version('raptr-dsl')}\n")


def test_help_lists_every_command_without_importing_any(raptr, golden) -> None:
    golden(Path(__file__).parent.parent / "golden" / "cli" / "help.txt", raptr("--help").out)
    loaded = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from raptr_dsl.cli import main; main(['--help']); print(*sys.modules)",
        ],
        capture_output=True,
        text=True,
    ).stdout
    assert "raptr_dsl.cli.check" not in loaded
    assert "raptr_dsl.api" not in loaded


@pytest.mark.parametrize("name", [name for name in cli.COMMANDS if name not in ("train", "demo")])
def test_every_command_of_the_table_has_help(raptr, name: str) -> None:
    done = raptr(name, "--help")
    assert done.code == 0
    assert done.out.startswith(f"Usage: raptr {name}")


def test_raptr_compile_is_raptr_compile(raptr) -> None:
    done = raptr("--help", script="raptr-compile")
    assert done.out.startswith("Usage: raptr-compile [OPTIONS] FILE")
    assert done.out.partition("\n")[2] == raptr("compile", "--help").out.partition("\n")[2]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["chek"], "There is no command 'chek'; did you mean check?"),
        (["frobnicate"], "there are check, "),
        (["--quiet"], "--quiet"),
        (["check"], "Missing argument 'FILES...'"),
        (["check", "--frob", "a.raptr"], "--frob"),
        (["compile", "a.raptr", "b.raptr"], "b.raptr"),
    ],
)
def test_wrong_usage_exits_2_and_says_how_on_stderr(raptr, arguments: list[str], said: str) -> None:
    done = raptr(*arguments)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


def test_without_a_command_there_is_help(raptr) -> None:
    done = raptr()
    assert done.code == 2
    assert "Commands:" in done.err


def test_diagnostics_that_a_command_raises_exit_1(raptr, monkeypatch: pytest.MonkeyPatch) -> None:
    def action() -> None:
        raise fail("backend-broken", "the moon is not cheese", subject="moon")

    replace_command(monkeypatch, action)
    done = raptr("backends")
    assert (done.code, done.out) == (1, "")
    assert "error[backend-broken]: the moon is not cheese" in done.err


def test_an_internal_error_is_one_line_and_exits_3(raptr, monkeypatch: pytest.MonkeyPatch) -> None:
    from raptr_dsl.registry import find

    replace_command(monkeypatch, lambda: find(None))  # pyright: ignore[reportArgumentType]
    done = raptr("backends")
    assert (done.code, done.out) == (3, "")
    assert done.err.startswith("internal error in diagnostics: TypeError: ")
    assert "report" in done.err
    assert "Traceback" not in done.err


def test_an_internal_error_shows_its_traceback_on_request(raptr, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAPTR_DEBUG", "1")

    def action() -> None:
        raise ZeroDivisionError("division by zero")

    replace_command(monkeypatch, action)
    monkeypatch.setenv("RAPTR_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        cli.main(["backends"])


def test_an_interrupt_exits_130(raptr, monkeypatch: pytest.MonkeyPatch) -> None:
    def action() -> None:
        raise KeyboardInterrupt

    replace_command(monkeypatch, action)
    done = raptr("backends")
    assert (done.code, done.err.strip()) == (130, "raptr: interrupted")


def test_a_real_interrupt_leaves_no_traceback(tmp_path: Path) -> None:
    # A shell that runs the tests in the background has them ignore interrupts, and children inherit that.
    heeding = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", heeding, SCRIPT, "check", "-"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
    )
    assert process.stdin
    assert process.stderr
    time.sleep(3)  # it is waiting for its standard input by now
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130, errors
    assert b"Traceback" not in errors


def test_a_reader_that_goes_away_ends_the_command_quietly() -> None:
    process = subprocess.Popen(
        [SCRIPT, "explain", "--all"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout
    process.stdout.close()
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (141, b"")


def test_text_that_the_terminal_cannot_show_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "größe.raptr").write_text("stage größe steps=fünf\n", encoding="utf-8")
    done = subprocess.run(
        [SCRIPT, "check", "größe.raptr"],
        cwd=tmp_path,
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 1
    assert b"error[" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    "words",
    [("compile", "-", "-o", "a.json"), ("show", "-"), ("cost", "-"), ("controls", "-"), ("diff", "-", "bert.raptr")],
)
def test_a_schedule_is_read_from_standard_input(raptr, bert: Path, words: tuple[str, ...]) -> None:
    Path("-").write_text("not this file")
    done = raptr(*words, stdin=bert.read_text())
    assert (done.code, done.err.replace("nothing is written: name a folder by --out\n", "")) == (0, "")
    assert done.out


def test_a_solution_of_standard_input_is_a_patch(raptr, bert: Path) -> None:
    text = bert.read_text().replace("steps=rest", "steps=?")
    done = raptr("solve", "-", stdin=text)
    assert (done.code, done.err) == (0, "")
    assert "+stage full              steps=25%" in done.out
    assert raptr("solve", "-", "--write", stdin=text).code == 2


@pytest.mark.parametrize("words", [("-",), ("bert.raptr", "-o", "-")])
def test_a_plan_goes_to_a_file_with_a_name(raptr, bert: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    assert raptr("compile", *words, stdin=bert.read_text()).code == 2
    assert list(tmp_path.iterdir()) == [bert]
