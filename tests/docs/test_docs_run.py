"""Everything that the documents show is run: schedules compile, Python runs, commands print what stands below them.

A fenced block is told apart by its language, and by a comment on the line above it, of words divided by commas:

    ```raptr     compiles, for `--model bert-base --steps 1200`, without a warning
                 <!-- error: CODE --> it is refused with that code, and no other
                 <!-- fragment -->    it is not whole: nothing is compiled
                 <!-- file: NAME -->  it is written to that file for the commands below; `file` may stand beside `error`
    ```python    runs; a ```text block below it under <!-- output --> is what it prints
    ```console   a line `$ COMMAND` is run as by a shell, what follows is what it prints; a line of `...` stands for any
                 lines, `...` within a line for anything
                 <!-- varies -->      numbers and hexadecimal digests stand for any others: losses, seconds

The blocks of a page run in order, in one folder that holds the repository's `schedules` and nothing else.
"""

import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from raptr_dsl.api import Options, check_text
from raptr_dsl.cli import main
from raptr_dsl.render import render

ROOT = Path(__file__).parents[2]
PAGES = sorted(page for page in (ROOT / "docs").glob("*.md") if page.name != "errors.md")  # tested by its own code
FENCE = re.compile(
    r"^(?:<!-- (?P<words>[^\n]*?) -->\n)?```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
NUMBER = re.compile(r"\b(?:[0-9a-f]{64}|[0-9][0-9,]*(?:\.[0-9]+)?)\b")
ONE_RAPTR = re.compile(r"raptr [^|<>&;`*?$\\]*")
LIMITS = Options(model="bert-base", steps=1200)


@dataclass(frozen=True)
class Block:
    """One fenced block; `line` is the one that opens it, `words` those of the comment above it."""

    language: str
    text: str
    line: int
    words: dict[str, str]

    def __str__(self) -> str:
        return f"the {self.language} block of line {self.line}"


def blocks(page: Path) -> Iterator[Block]:
    source = page.read_text("utf-8")
    for found in FENCE.finditer(source):
        pairs = (word.partition(":") for word in (found["words"] or "").split(",") if word)
        words = {name.strip(): value.strip() for name, _, value in pairs}
        line = source.count("\n", 0, found.start("language")) + 1
        yield Block(found["language"], found["text"], line, words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "schedules", "schedules")
    printed = ""
    for block in blocks(page):
        match block.language:
            case "raptr":
                compile_schedule(block)
            case "python":
                printed = run_python(block)
            case "console":
                run_commands(block, tmp_path)
            case "text" if "output" in block.words:
                assert printed == block.text, f"{block} is not what the Python above it prints"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_fence_is_known(page: Path) -> None:
    known = {"raptr", "python", "console", "text", "toml", "json", "sh"}
    assert {block.language for block in blocks(page)} <= known
    assert page.read_text("utf-8").count("```") == 2 * len(list(blocks(page))), (
        "a fence is not closed, or has no language"
    )


def compile_schedule(block: Block) -> None:
    if "file" in block.words:
        Path(block.words["file"]).write_text(block.text, "utf-8")
    if "fragment" in block.words:
        return
    compilation = check_text(block.text, LIMITS, name=str(block), complete=True)
    codes = {item.code for item in compilation.diagnostics if item.severity != "note"}
    expected = {block.words["error"]} if "error" in block.words else set()
    assert codes == expected, render(compilation.diagnostics, "text")
    assert (compilation.plan is None) == bool(expected)


def run_python(block: Block) -> str:
    printed = io.StringIO()
    with redirect_stdout(printed):
        exec(compile(block.text, str(block), "exec"), {"__name__": "example"})
    return printed.getvalue()


def run_commands(block: Block, folder: Path) -> None:
    commands = [part.split("\n", 1) for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]]
    assert commands, f"{block} has no command"
    tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    surroundings = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "FORCE_COLOR")}
    surroundings |= {"PATH": tools, "XDG_CACHE_HOME": str(folder / "cache")}
    for command, shown in commands:
        is_here = ONE_RAPTR.fullmatch(command)
        said = run_here(command, folder) if is_here else run_by_shell(command, folder, surroundings)
        # What ends in blanks reads the same; what a page shows has none.
        printed = "\n".join(line.rstrip() for line in said.splitlines())
        assert expected(shown, "varies" in block.words).fullmatch(printed + "\n"), (
            f"{block}: {command}\nshown\n{shown}\nprinted\n{printed}"
        )


def run_by_shell(command: str, folder: Path, surroundings: dict[str, str]) -> str:
    return subprocess.run(
        command,
        shell=True,
        cwd=folder,
        env=surroundings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    ).stdout


def run_here(command: str, folder: Path) -> str:
    """As the shell would, without the seconds in which a new process imports what this one has."""
    said = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said), redirect_stderr(said):
        patch.setenv("COLUMNS", "80")
        patch.delenv("FORCE_COLOR", raising=False)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        main(shlex.split(command)[1:])
    return said.buffer.getvalue().decode()


def expected(shown: str, varies: bool) -> re.Pattern[str]:
    """What a command may print, as the page shows it."""
    pattern = ""
    for line in shown.rstrip("\n").split("\n"):
        if line == "...":
            pattern += r"(?:.*\n)*?"
            continue
        parts = [NUMBER.split(part) if varies else [part] for part in line.split("...")]
        pattern += ".*".join(NUMBER.pattern.join(map(re.escape, pieces)) for pieces in parts) + r"\n"
    return re.compile(pattern)


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("one\n...\ntwo\n", "one\na\nb\ntwo\n", True),
        ("one\n...\ntwo\n", "one\ntwo\n", True),
        ("one\n...\ntwo\n", "one\ntwo\nthree\n", False),
        ("loss ... nats\n", "loss 3.2 nats\n", True),
        ("loss 3.1\n", "loss 3.2\n", False),
    ],
)
def test_what_is_shown_is_matched_whole(shown: str, printed: str, same: bool) -> None:
    assert bool(expected(shown, varies=False).fullmatch(printed)) is same


def test_what_varies_is_numbers_alone() -> None:
    pattern = expected("20 steps, loss 3.1337, sha " + "ab" * 32 + "\n", varies=True)
    assert pattern.fullmatch("20 steps, loss 2.1, sha " + "0c" * 32 + "\n")
    assert not pattern.fullmatch("20 steps, loss nan, sha " + "0c" * 32 + "\n")
