"""Levels that only a horizon can judge (rules 9, 12)."""

import pytest

from raptr_dsl.compiler.filling import check_levels
from raptr_dsl.diagnostics import Diagnostics
from tests.compiler.lowering import lowered

FILES = {"part.raptr": "stage depth=6/12 steps=600\nstage steps=50%"}


def problems(text: str, steps: int, step_tokens: int | None = None) -> list[tuple[str, str, str]]:
    """(code, message, label) of what is wrong with the levels of a text in a run of that many steps."""
    _, origins, before = lowered(text, FILES)
    assert not before
    diagnostics = Diagnostics()
    good = check_levels(origins.levels, diagnostics, steps, step_tokens)
    assert good == (not len(diagnostics))
    return [(item.code, item.message, item.label) for item in diagnostics]


def test_counts_that_fill_the_run() -> None:
    assert problems("stage depth=6/12 steps=600\nstage steps=40%", 1000) == []
    assert problems("stage depth=6/12 tokens=6k\nstage steps=40%", 1000, step_tokens=10) == []
    assert problems('use "part.raptr"\nrun part steps=1200\nstage steps=rest', 2000) == []
    assert problems("stage depth=6/12 steps=600\nstage steps=rest", 1000) == []


@pytest.mark.parametrize(
    ("text", "code", "message", "label"),
    [
        (
            "stage depth=6/12 steps=600\nstage steps=500",
            "stages-overrun",
            "the stages add up to 1,100 steps of the run, which has 1,000 steps",
            "100 steps too much",
        ),
        (
            "stage depth=6/12 steps=600\nstage steps=30%",
            "stages-gap",
            "the stages add up to 900 steps of the run, which has 1,000 steps",
            "100 steps missing after this",
        ),
        (
            "stage depth=6/12 steps=600\nstage depth=7/12 tokens=4k\nstage steps=rest",
            "stages-overrun",
            "nothing is left for steps=rest: the other stages add up to 1,000 steps of the run, which has 1,000 steps",
            "nothing left",
        ),
        (
            'use "part.raptr"\nrun part steps=90%\nstage steps=rest',
            "stages-overrun",
            "the stages add up to 1,050 steps of the run of `part`, which has 900 steps",
            "150 steps too much",
        ),
    ],
)
def test_rule_12_counts_that_do_not(text: str, code: str, message: str, label: str) -> None:
    assert problems(text, 1000, step_tokens=10) == [(code, message, label)]


def test_rule_13_a_parameter_may_leave_nothing() -> None:
    text = "param w: steps = 1000\nstage depth=6/12 steps=w\nstage steps=rest"
    assert problems(text, 1000) == []
    assert [code for code, _, _ in problems(text, 999)] == ["stages-overrun"]
