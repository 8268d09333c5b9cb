"""The identity of a schedule: comments and layout do not enter, what it says does."""

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raptr_dsl import check_file, compile_text, load_plan
from raptr_dsl.compiler.identity import identity_of
from raptr_dsl.compiler.resolve import resolve
from raptr_dsl.diagnostics import Diagnostics
from raptr_dsl.source import Source
from raptr_dsl.syntax import ast
from raptr_dsl.syntax.files import load_source
from raptr_dsl.syntax.format import format_file
from raptr_dsl.syntax.parser import parse
from tests.syntax.trees import files as drawn_files

TEXT = """\
model bert-base
steps 1000
keep depth=[first, last]
stage half depth=6/12 steps=50% scale=sqrt
stage full steps=rest
"""


def identity(text: str, name: str = "a.raptr") -> str:
    diagnostics = Diagnostics()
    file = parse(Source(name, text), diagnostics)
    return identity_of(resolve(file, False, load_source, diagnostics))


@settings(max_examples=20)
@given(drawn_files, st.randoms(use_true_random=False))
def test_comments_and_blank_lines_do_not_enter(file: ast.File, random: random.Random) -> None:
    text = format_file(ast.File(file.span, tuple(s for s in file.statements if not isinstance(s, ast.Use))))
    lines = text.split("\n")
    scrawled = "\n\n".join(f"{line}  # {random.random()}" for line in lines)
    assert identity(text) == identity(scrawled)


@pytest.mark.parametrize(
    "text",
    [
        "# why\n" + TEXT,
        TEXT.replace("50%", "0.5"),
        TEXT.replace("1000", "1k"),
        TEXT.replace("depth=6/12 steps=50% scale=sqrt", "{\n depth = 6 / 12\n steps=50%; scale=sqrt # c\n}"),
        TEXT.replace("\n", "\r\n"),
        'doc "what it is for"\n' + TEXT,
    ],
)
def test_what_does_not_enter(text: str) -> None:
    assert identity(text, "elsewhere.raptr") == identity(TEXT)


@pytest.mark.parametrize(
    ("old", "new"),
    [("6/12", "7/12"), ("50%", "51%"), ("half", "hall"), ("sqrt", "linear"), ("1000", "2000"), ("bert-base", "gpt2")],
)
def test_what_enters(old: str, new: str) -> None:
    assert identity(TEXT.replace(old, new)) != identity(TEXT)


def test_an_import_enters_by_what_it_says(tmp_path: Path) -> None:
    main = 'use "./part.raptr" as p\nrun p steps=rest\n'
    part = tmp_path / "part.raptr"
    part.write_text("stage steps=rest\n")
    before = identity(main, str(tmp_path / "main.raptr"))
    part.write_text("# a comment\nstage   steps = rest\n")
    (tmp_path / "copy.raptr").write_text(part.read_text())
    assert identity(main, str(tmp_path / "main.raptr")) == before
    assert identity(main.replace("./part", "./copy"), str(tmp_path / "main.raptr")) == before
    part.write_text("stage full steps=rest\n")
    assert identity(main, str(tmp_path / "main.raptr")) != before


def test_a_plan_keeps_it(tmp_path: Path) -> None:
    plan = compile_text(TEXT)
    assert plan.schedule == identity(TEXT)
    plan.save(tmp_path / "plan.json")
    assert load_plan(tmp_path / "plan.json").schedule == plan.schedule
    assert plan.model_copy(update={"schedule": None}).digest == plan.digest


def test_a_golden_identity() -> None:
    """It must never change: it stands in papers and logs."""
    assert identity(TEXT) == "3a47b5b7c7d033d53354cf08844772905baf39412ef930d675586a2ecb9bbd1b"


def test_check_knows_it_too(tmp_path: Path) -> None:
    (tmp_path / "a.raptr").write_text(TEXT)
    checked = check_file(tmp_path / "a.raptr")
    assert checked.plan and checked.plan.schedule == identity(TEXT)
