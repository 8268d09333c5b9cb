"""What must fail, and with what words: every file of tests/golden/compiler beside the text that it gets."""

from pathlib import Path

import pytest

from raptr_dsl.compiler.lower import lower
from raptr_dsl.diagnostics import Diagnostic, Diagnostics
from raptr_dsl.render import render_text
from raptr_dsl.source import Source
from raptr_dsl.syntax.files import load_source
from raptr_dsl.syntax.parser import parse

GOLDEN = Path(__file__).parent.parent / "golden" / "compiler"
FILES = sorted(path.name for path in GOLDEN.glob("*.raptr"))
PARAM = "# --param "


@pytest.mark.parametrize("name", FILES)
def test_bad_file_gets_its_diagnostics(name: str, golden, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOLDEN)  # so that messages name files as a user in that folder would see them
    diagnostics = Diagnostics()
    source = load_source(name, diagnostics)
    assert source is not None
    first = source.text.partition("\n")[0]
    params = dict([first.removeprefix(PARAM).split("=", 1)]) if first.startswith(PARAM) else {}
    file = parse(source, diagnostics)
    assert not len(diagnostics), "a golden file of the compiler has no mistake of syntax"

    schedule, _ = lower(file, diagnostics, params=params)

    assert schedule is None
    golden(GOLDEN / name.replace(".raptr", ".txt"), render_text(diagnostics) + "\n")


@pytest.mark.parametrize("name", FILES)
def test_a_fix_mends_what_it_is_for(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOLDEN)
    problems = problems_of(Path(name).read_text("utf-8"))
    for problem in problems:
        if problem.fix is None:
            continue
        fixed, span = problem.fix.span.source.text, problem.fix.span
        mended = problems_of(fixed[: span.start] + problem.fix.text + fixed[span.end :])
        assert alike(mended, problem) < alike(problems, problem)


def alike(problems: list[Diagnostic], problem: Diagnostic) -> int:
    return sum(item.message == problem.message and item.code == problem.code for item in problems)


def problems_of(text: str) -> list[Diagnostic]:
    """What is wrong with a text, syntax included."""
    diagnostics = Diagnostics()
    lower(parse(Source("main.raptr", text), diagnostics), diagnostics)
    return diagnostics.sorted()


def test_there_are_golden_files() -> None:
    assert len(FILES) >= 60
