"""`raptr(…)`: a command run in an empty directory, as the installed script runs it, with what it wrote."""

import io
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from raptr_dsl.cli import compile_main, main

BERT = """\
doc "RaPTr 6-8-10-12"
model bert-base
steps 675k
seed 17
keep depth=[first, last]
default sample=fixed scale=sqrt
stage six   depth=6/12  steps=25%
stage eight depth=8/12  steps=25%
stage ten   depth=10/12 steps=25%
stage full              steps=rest
require flops(blocks) <= 75%
"""


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


@pytest.fixture
def raptr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Runs `raptr ARGUMENTS` in `tmp_path`, 80 columns wide, without colour."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("RAPTR_DEBUG", raising=False)

    def run(*arguments: str | Path, stdin: str = "", script: str = "raptr") -> Done:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode()), encoding="utf-8"))
        entry = compile_main if script == "raptr-compile" else main
        code = entry([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return Done(code, out, err)

    return run


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    path = tmp_path / "bert.raptr"
    path.write_text(BERT)
    return path
