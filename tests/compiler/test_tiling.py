"""Durations → steps."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raptr_dsl import Plan, check_text, compile_text

MODEL = "model layers=12 heads=2 hidden=32 ffn=128 vocab=64 seq=8 batch=4\n"


def plan_of(text: str, steps: int) -> Plan:
    return compile_text(MODEL + text, steps=steps)


def codes(text: str, steps: int | None) -> list[str]:
    from raptr_dsl import Options

    return [item.code for item in check_text(MODEL + text, Options(steps=steps), complete=True).diagnostics]


def written(shares: list[Fraction]) -> str:
    return "".join(f"stage steps={share.numerator}/{share.denominator}\n" for share in shares)


def borders(plan: Plan) -> list[int]:
    return [stage.start for stage in plan.stages] + [plan.stages[-1].stop]


@st.composite
def shares(draw: st.DrawFn) -> list[Fraction]:
    """Positive shares that add up to 1."""
    weights = draw(st.lists(st.integers(1, 50), min_size=1, max_size=8))
    return [Fraction(weight, sum(weights)) for weight in weights]


@given(shares(), st.integers(1000, 10**7))
def test_rule_12_stages_tile_the_run(parts: list[Fraction], steps: int) -> None:
    plan = plan_of(written(parts), steps)
    ends = borders(plan)
    assert ends[0] == 0 and ends[-1] == steps == plan.steps
    assert all(stage.stop == following.start for stage, following in zip(plan.stages, plan.stages[1:], strict=False))
    assert sum(stage.duration for stage in plan.stages) == steps


@given(shares(), st.integers(1000, 10**7))
def test_rule_13_every_stage_has_its_duration_rounded_down_or_up(parts: list[Fraction], steps: int) -> None:
    plan = plan_of(written(parts), steps)
    total = Fraction(0)
    for part, stage in zip(parts, plan.stages, strict=True):
        total += part * steps
        assert stage.stop == int(total + Fraction(1, 2))
        assert abs(stage.steps - part * steps) < 1


@given(shares(), shares(), st.integers(1000, 10**6))
def test_rule_13_no_later_stage_moves_an_earlier_border(
    parts: list[Fraction], others: list[Fraction], steps: int
) -> None:
    """The first half of the run is the same whatever the second half is divided into."""
    first = written([part / 2 for part in parts])
    one = plan_of(first + "stage steps=rest\n", steps)
    two = plan_of(first + written([part / 2 for part in others]), steps)
    assert borders(one)[: len(parts) + 1] == borders(two)[: len(parts) + 1]


def test_rule_13_a_half_is_rounded_up() -> None:
    assert borders(plan_of("stage steps=50%\nstage steps=50%\n", 5)) == [0, 3, 5]


def test_rule_13_a_stage_without_a_step_is_an_error() -> None:
    assert codes("stage steps=1%\nstage steps=rest\n", 10) == ["stage-without-steps"]


def test_rule_13_a_stage_that_a_parameter_empties_is_dropped_with_a_note() -> None:
    text = "param warm: fraction = 0\nstage depth=6/12 steps=warm\nstage steps=rest\n"
    checked = check_text(MODEL + text, complete=False)
    assert checked.ok
    plan = plan_of(text, 100)
    assert [(stage.start, stage.stop) for stage in plan.stages] == [(0, 100)]
    assert codes(text, 100) == ["stage-dropped"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("stage steps=60\nstage steps=50\n", "stages-overrun"),
        ("stage steps=40\nstage steps=50\n", "stages-gap"),
        ("stage steps=120\nstage steps=rest\n", "stages-overrun"),
    ],
)
def test_rule_12_what_does_not_add_up_is_an_error(text: str, code: str) -> None:
    assert codes(text, 100) == [code]


def test_a_horizon_in_tokens_is_whole_steps_or_an_error() -> None:
    """A step of the model above is 32 tokens."""
    assert compile_text(MODEL + "tokens 3200\nstage steps=rest\n").steps == 100
    assert codes("tokens 3210\nstage steps=rest\n", None) == ["tokens-not-whole"]


def test_a_duration_in_tokens_is_whole_steps_or_an_error() -> None:
    assert borders(plan_of("stage tokens=320\nstage steps=rest\n", 100)) == [0, 10, 100]
    assert codes("stage tokens=330\nstage steps=rest\n", 100) == ["tokens-not-whole"]


@pytest.mark.parametrize("steps", [0, 2**40 + 1])
def test_a_horizon_out_of_range_is_refused(steps: int) -> None:
    assert codes("stage steps=rest\n", steps) == ["bad-horizon"]


def test_no_horizon_is_an_error_only_when_a_plan_is_asked_for() -> None:
    assert codes("stage steps=rest\n", None) == ["no-horizon"]
    assert check_text(MODEL + "stage steps=rest\n").ok
