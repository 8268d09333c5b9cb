"""What must fail, and with what words: every file of tests/golden/syntax beside the text that it gets."""

from pathlib import Path

import pytest

from raptr_dsl.codes import catalogue
from raptr_dsl.diagnostics import Diagnostic, Diagnostics
from raptr_dsl.render import render_text
from raptr_dsl.syntax import load_source, parse
from tests.syntax.trees import read

GOLDEN = Path(__file__).parent.parent / "golden" / "syntax"
FILES = sorted(path.name for path in GOLDEN.glob("*.raptr"))


def mended(text: str, problems: list[Diagnostic]) -> str:
    """A text after the fixes of its diagnostics."""
    for problem in sorted(problems, key=lambda problem: -problem.fix.span.start if problem.fix else 0):
        if problem.fix:
            text = text[: problem.fix.span.start] + problem.fix.text + text[problem.fix.span.end :]
    return text


@pytest.mark.parametrize("name", FILES)
def test_bad_file_gets_its_diagnostics(name: str, golden, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOLDEN)  # so that messages name files as a user in that folder would see them
    diagnostics = Diagnostics()
    source = load_source(name, diagnostics)
    if source is not None:
        parse(source, diagnostics)
    assert diagnostics.has_errors
    golden(GOLDEN / name.replace(".raptr", ".txt"), render_text(diagnostics) + "\n")


def test_there_are_golden_files() -> None:
    assert len(FILES) >= 60


@pytest.mark.parametrize("name", FILES)
def test_fixes_mend_the_file(name: str) -> None:
    diagnostics = Diagnostics()
    source = load_source(GOLDEN / name, diagnostics)
    if source is None:
        return
    parse(source, diagnostics)
    problems, text = diagnostics.sorted(), source.text
    beyond = [problem.code for problem in problems if not problem.fix]
    for _ in range(4):  # a statement with several mistakes gets the next one reported once the first is mended
        text = mended(text, problems)
        problems = read(text)[1]
    assert [problem.code for problem in problems] == beyond


def test_most_mistakes_have_a_fix() -> None:
    fixed = 0
    for name in FILES:
        diagnostics = Diagnostics()
        source = load_source(GOLDEN / name, diagnostics)
        if source is not None:
            parse(source, diagnostics)
        fixed += any(problem.fix for problem in diagnostics)
    assert fixed >= 0.6 * len(FILES)


@pytest.mark.parametrize(
    ("text", "code", "at"),
    [
        ("stage full depth= ; seed 1", "value-missing", ""),
        ("stage a { depth=\n steps=1 }", "value-missing", ""),
        ("stage a { depth }", "value-missing", ""),
        ("stage a depth=b width.sample=x width= depth.sample=y", "value-missing", ""),
        ("let x =", "value-missing", ""),
        ("let x = 1 *", "value-missing", ""),
        ("require flops <=", "value-missing", ""),
        ("let x = 6/12 - ; seed 1", "value-missing", ""),
        ("stage depth 50%", "equals-missing", "depth 50%"),
        ("stage a profile [1, 2]", "equals-missing", "profile ["),
        ("stage a depth.sample balanced(1)", "equals-missing", "sample balanced"),
        ("stage a steps 20%", "equals-missing", "steps 20%"),
        ("let x (1 + 2)", "equals-missing", "x ("),
        ("stages a steps=1", "statement-unknown", "stages"),
        ("STAGE a steps=1", "statement-unknown", "STAGE"),
        ("for 3 { stage a steps=1 }", "statement-unknown", "for"),
        ('"a text"', "statement-unknown", '"a text"'),
        ("= 3", "statement-unknown", "="),
        ("{ steps=1 }", "statement-unknown", "{"),
        ("depth.sample=prefix", "attribute-adrift", "depth"),
        ("ramp r: stages=3 steps=1", "colon-extra", ":"),
        ("ramp: stages=3 steps=1", "colon-extra", ":"),
        ("stage a { depth: 3\n steps=1 }", "colon-for-equals", ":"),
        ("param x: fraction: 3", "colon-for-equals", ":"),
        ("let warm-up = 3", "name-hyphen", "warm-up"),
        ("stage a re-warm=10k", "name-hyphen", "re-warm"),
        ("param first-one: int", "name-hyphen", "first-one"),
        ("stage a depth=3 , steps=1", "comma-extra", ","),
        ("stage a depth=draw(1 2)", "comma-missing", ""),
        ("stage a depth=exp(1, 2 rate=3)", "comma-missing", ""),
        ("require flops == == 3", "syntax-unexpected", "=="),
        ("require flops != 3", "comparison-unknown", "!="),
        ("require flops => 3", "comparison-unknown", "=>"),
        ("require flops ≤ 3", "character-foreign", "≤"),
        ("let x = 1 { }", "syntax-unexpected", "{"),
        ("stage a { b=1 } }", "bracket-stray", "}"),
        ("let x = ()", "syntax-unexpected", ")"),
        ("let x = [,]", "syntax-unexpected", ","),
        ("use as x", "syntax-unexpected", "x"),
        ("use std/raptr x", "syntax-unexpected", "x"),
        ("use std/raptr as 5", "syntax-unexpected", "5"),
        ("run 5", "syntax-unexpected", "5"),
        ("run", "statement-incomplete", ""),
        ("keep", "statement-incomplete", ""),
        ("allow", "statement-incomplete", ""),
        ("tokens", "statement-incomplete", ""),
        ("require flops", "statement-incomplete", ""),
        ("seed 1 /* c */", "comment-unknown", "/*"),
        ("-- c", "comment-unknown", "--"),
        ("seed 1 let x = 3", "statement-joined", "let"),
        ("stage a steps=1 repeat 3 { seed 1 }", "statement-joined", "repeat"),
        ("stage a steps=1 stage depth=3", "statement-joined", "stage"),
        ("stage a { steps=1 } stage b steps=2", "statement-joined", "stage"),
        ("stage 'warm' steps=1", "quotes-other", "'warm'"),
        ("stage a steps=1 ' ", "quotes-other", "'"),
        ("let x = 3 & 4", "character-unknown", "&"),
        ("let x = $y", "character-unknown", "$"),
        ("stage 2nd steps=1", "number-malformed", "2nd"),
        ("let x = 1__0", "number-malformed", "1__0"),
        ("let x = 0x1F", "number-malformed", "0x1F"),
        ("let x = 1e", "number-malformed", "1e"),
        ("let x = 5k%", "percent-space", "5k%"),
        ("steps 10 k", "unit-space", "10 k"),
        ("stage a steps=1 K depth=3", "unit-space", "1 K"),
        ("stage a steps=0.5K", "number-malformed", "0.5K"),
        ("keep depth=first last", "brackets-missing", "first last"),
        ("keep depth=0, 3 heads=[0]", "brackets-missing", "0, 3"),
        ("stage a steps rest", "equals-missing", "steps rest"),
        ("stage a depth=6->12 steps=1", "character-unknown", "->"),
    ],
)
def test_mistake_is_known_and_placed(text: str, code: str, at: str) -> None:
    (problem,) = read(text)[1]
    assert problem.code == code, render_text([problem])
    assert problem.span is not None
    assert problem.span.text == at
    assert problem.message and code in catalogue()


def test_unknown_statement_suggests_one() -> None:
    (problem,) = read("stge a steps=1")[1]
    assert problem.help == "did you mean stage?"
    assert problem.fix is not None and problem.fix.text == "stage"
    (problem,) = read("xyzzy a")[1]
    assert problem.fix is None and "stage" in problem.help


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("steps 10K", "steps 10k"),
        ("steps 0.5 m", "steps 0.5M"),
        ("steps = 10k", "steps 10k"),
        ("model = bert-base", "model bert-base"),
        ("stage a depth=6 steps=1 k", "stage a depth=6 steps=1k"),
        ("stage a depth=6->12 steps=1", "stage a depth=6..12 steps=1"),
        ("stage a steps rest depth=3", "stage a steps=rest depth=3"),
        ("keep depth=first last", "keep depth=[first, last]"),
        ("keep depth=0, 3 heads=[0]", "keep depth=[0, 3] heads=[0]"),
    ],
)
def test_edit_of_a_common_slip_is_what_was_meant(text: str, meant: str) -> None:
    assert mended(text, read(text)[1]) == meant
    assert read(meant)[1] == []
