"""Mistakes of several passes are told at once, and none that only follows from another."""

import pytest

from raptr_dsl.api import Options, check_text
from raptr_dsl.diagnostics import Diagnostics
from raptr_dsl.resources import schedule_directory
from raptr_dsl.source import Source
from raptr_dsl.syntax import ast
from raptr_dsl.syntax.parser import parse

HEAD = "model bert-base\nsteps 1000\n"
STD = sorted(schedule_directory().glob("*.raptr"))


def errors(text: str, options: Options | None = None) -> list[tuple[str, str]]:
    found = check_text(text, options or Options()).diagnostics
    return [(one.code, one.span.text if one.span else "") for one in found if one.severity == "error"]


def test_a_misspelt_attribute_hides_no_size_no_end_and_no_requirement() -> None:
    text = (
        f"{HEAD}stage a depth=6/12 scael=sqrt steps=50%\nstage b heads=5/13 steps=20%\nstage c width=65 steps=20%\n"
        "stage d depth=8/12 steps=10%\nrequire mean(dept) <= 9\nrequire flops <= 10%\nrequire flops >= 90%\n"
    )
    assert errors(text) == [
        ("unknown-attribute", "scael"),
        ("not-whole", "5/13"),
        ("not-a-multiple", "65"),
        ("not-full-at-end", "8/12"),
        ("unknown-word", "dept"),
        ("requirements-contradict", "require flops >= 90%"),
    ]


def test_a_size_that_does_not_fit_does_not_hide_the_end() -> None:
    text = f"{HEAD}stage a depth=6/13 steps=50%\nstage b depth=8/12 steps=50%\n"
    assert errors(text) == [("not-whole", "6/13"), ("not-full-at-end", "8/12")]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("default sample=bernouli\nstage a depth=60% steps=50%\nstage steps=rest\n", "unknown-word"),
        ("let half = 1/\nstage a depth=half steps=50%\nstage b depth=7/13 steps=rest\n", "value-missing"),
        ("stage a depth=6/12 stpes=50%\nstage steps=rest\n", "unknown-attribute"),
        ("stage a depht=6/12 sample=balanced scale=sqrt steps=50%\nstage steps=rest\n", "unknown-attribute"),
        ("stage depth=6 sample=prefx steps=50%\nstage depth=all grow=copy(last) steps=rest\n", "unknown-word"),
        ("keep dpth=[first]\nstage a depth=1/12 steps=50%\nstage steps=rest\n", "unknown-attribute"),
    ],
)
def test_what_may_only_follow_is_not_told(text: str, code: str) -> None:
    assert [found for found, _ in errors(HEAD + text)][:1] == [code]
    assert len({found for found, _ in errors(HEAD + text)}) == 1


@pytest.mark.parametrize("path", STD, ids=lambda path: path.stem)
def test_one_mistake_in_a_published_schedule_is_one_error(path) -> None:
    text = path.read_text()
    shapes = ("bert-base", "ul2-1.6b", "gpt2-small")
    model = next((name for name in shapes if not errors(text, Options(name, 1200))), None)
    if model is None:
        pytest.skip("it is for another model")
    for statement in parse(Source("std", text), Diagnostics()).statements:
        if isinstance(statement, ast.Stage | ast.Ramp) and not statement.span.text.endswith("}"):
            end = statement.span.end
            found = errors(f"{text[:end]} scael=sqrt{text[end:]}", Options(model, 1200))
            assert found == [("unknown-attribute", "scael")]
