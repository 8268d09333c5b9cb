"""Levels, ramps, repeats and runs become one flat list of stages (rules 9–14)."""

from fractions import Fraction

import pytest

from raptr_dsl.ir.schedule import Amount, Drawn, Duration, Exactly, Probability
from tests.compiler.lowering import codes_of, durations, lowered, schedule_of, shares


def test_rule_9_shares_are_of_the_level_and_counts_absolute() -> None:
    files = {"inner.raptr": "stage depth=6/12 steps=25%\nstage depth=9/12 steps=1k\nstage steps=rest"}
    found = durations('use "inner.raptr"\nrun inner steps=40%\nstage steps=10k\nstage steps=rest', files)
    share = Fraction(2, 5)
    assert found == [
        Duration(share=share / 4),
        Duration(steps=Fraction(1000)),
        Duration(share=share * 3 / 4, steps=Fraction(-1000)),
        Duration(steps=Fraction(10_000)),
        Duration(share=1 - share, steps=Fraction(-10_000)),
    ]


def test_rule_9_a_repeat_with_steps_has_equal_passes_and_a_plain_one_none() -> None:
    passes = "repeat 3 steps=60% {\n stage depth=6/12 steps=25%\n stage depth=9/12 steps=rest\n}\nstage steps=rest"
    assert shares(passes) == [Fraction(1, 20), Fraction(3, 20)] * 3 + [Fraction(2, 5)]
    plain = "repeat 3 {\n stage depth=6/12 steps=5%\n stage depth=9/12 steps=15%\n}\nstage steps=rest"
    assert shares(plain) == shares(passes)


def test_rule_9_tokens_are_absolute() -> None:
    found = durations("stage depth=6/12 tokens=500M\nstage steps=rest")
    assert found == [
        Duration(tokens=Fraction(500_000_000)),
        Duration(share=Fraction(1), tokens=Fraction(-500_000_000)),
    ]


def test_rule_9_at_most_one_rest_a_level() -> None:
    assert codes_of("stage depth=6/12 steps=rest\nstage steps=rest") == ["two-rests"]
    assert codes_of("repeat 2 { stage depth=6/12 steps=rest }\nstage steps=10%") == ["two-rests"]
    assert codes_of("repeat 2 steps=50% { stage depth=6/12 steps=rest }\nstage steps=rest") == []


def test_rule_10_a_ramp_is_equal_stages_with_both_ends() -> None:
    ramp = "ramp up stages=4 depth=6/12..12/12 steps=80% scale=sqrt\nstage steps=rest"
    stages = "\n".join(
        f"stage up-{i} depth={k}/12 steps=20%{' scale=sqrt' if k < 12 else ''}".replace("up-", "up")
        for i, k in enumerate((6, 8, 10, 12), 1)
    )
    expanded, written = schedule_of(ramp), schedule_of(stages + "\nstage steps=rest")
    assert [stage.name for stage in expanded.stages] == ["up-1", "up-2", "up-3", "up-4", None]
    assert [stage.axes for stage in expanded.stages] == [stage.axes for stage in written.stages]
    assert [stage.duration for stage in expanded.stages] == [stage.duration for stage in written.stages]


def test_rule_10_shares_of_a_ramp() -> None:
    for written in ("[1, 2, 3, 4]", "power(1)", "[10%, 20%, 30%, 40%]"):
        text = f"ramp stages=4 shares={written} depth=6/12..9/12 steps=50%\nstage steps=rest"
        assert shares(text) == [Fraction(i, 20) for i in (1, 2, 3, 4)] + [Fraction(1, 2)]
    text = "ramp stages=3 shares=power(2) depth=6/12..10/12 steps=rest\nstage steps=30%"
    assert shares(text) == [Fraction(7, 10) * Fraction(i * i, 14) for i in (1, 2, 3)] + [Fraction(3, 10)]
    assert len(shares("ramp shares=[1, 1] depth=6/12..10/12 steps=50%\nstage steps=rest")) == 3


def test_rule_10_curves_of_a_ramp() -> None:
    def sizes(ramp: str) -> list[object]:
        return [
            stage.axes["depth"].size if stage.axes else None
            for stage in schedule_of(f"ramp {ramp} steps=50%\nstage steps=rest").stages[:-1]
        ]

    squares = sizes("stages=3 depth=4/12..12/12 curve=poly(2)")
    assert squares == [Exactly(amount=Amount(value=v)) for v in (Fraction(1, 3), Fraction(1, 2))] + [None]
    assert sizes("stages=3 depth=poly(4/12, 12/12, 2)") == squares
    counts = sizes("stages=3 depth=12..4")
    assert counts == [Exactly(amount=Amount(value=Fraction(v), is_count=True)) for v in (12, 8, 4)]
    rounded = sizes("stages=3 depth=round(6/12..12/12) curve=root(2)")
    middle = rounded[1]
    assert isinstance(middle, Exactly)
    assert middle.rounding == "nearest"
    assert abs(middle.amount.value - (1 + Fraction(1, 2) ** Fraction(1, 2)) / 2) < 1e-15
    chances = sizes("stages=2 depth=prob(1/2..3/4) sample=bernoulli")
    assert chances == [Probability(start=Fraction(1, 2)), Probability(start=Fraction(3, 4))]
    four_or_six = tuple(Amount(value=Fraction(count), is_count=True) for count in (4, 6))
    assert sizes("stages=2 depth=draw(4, 6)") == [Drawn(amounts=four_or_six)] * 2


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("stage depth=6/12 steps=60%\nstage steps=50%", "stages-overrun"),
        ("stage steps=110%", "stages-overrun"),
        ("stage depth=6/12 steps=100%\nstage steps=rest", "stages-overrun"),
        ("stage depth=6/12 steps=120%\nstage steps=rest", "stages-overrun"),
        ("stage depth=6/12 steps=100%\nstage steps=1", "stages-overrun"),
        ("stage depth=6/12 steps=50%\nstage steps=40%", "stages-gap"),
        ("repeat 2 steps=50% { stage depth=6/12 steps=50% }\nstage steps=rest", "stages-gap"),
        ("repeat 2 steps=1k { stage depth=6/12 steps=600 }\nstage steps=rest", "stages-overrun"),
    ],
)
def test_rule_12_stages_fill_the_run_and_every_level(text: str, code: str) -> None:
    assert codes_of(text) == [code]


@pytest.mark.parametrize(
    "text",
    [
        "stage depth=6/12 steps=10k\nstage steps=90%",  # right for a run of 100k steps
        "stage depth=6/12 steps=10k\nstage steps=20k",
        "stage depth=6/12 tokens=1M\nstage steps=90%",
        "stage depth=6/12 steps=10k\nstage steps=rest",
    ],
)
def test_rule_12_what_depends_on_the_horizon_is_left_to_binding(text: str) -> None:
    _, origins, problems = lowered(text)
    assert not problems
    assert [level.title for level in origins.levels] == ["the run"]


def test_rule_12_a_name_is_a_label() -> None:
    assert len(schedule_of("stage a depth=6/12 steps=50%\nstage a steps=rest").stages) == 2


def test_rule_13_a_duration_of_nothing_is_an_error_unless_a_parameter_makes_it_so() -> None:
    assert codes_of("stage depth=6/12 steps=0\nstage steps=rest") == ["bad-duration"]
    text = "param w: steps = 0\nstage depth=6/12 steps=w\nstage steps=rest"
    stages = schedule_of(text).stages
    assert (stages[0].duration, stages[0].optional) == (Duration(), True)
    assert stages[1].optional  # as much may be left as nothing, if the parameter says so
    stages = schedule_of(text, w="100%").stages
    assert (stages[1].duration, stages[1].optional) == (Duration(), True)
    assert codes_of(text, w="110%") == ["stages-overrun"]
    assert not schedule_of("stage depth=6/12 steps=10%\nstage steps=rest").stages[1].optional


def test_rule_13_a_parameter_reaches_into_a_run() -> None:
    files = {"inner.raptr": "stage depth=6/12 steps=50%\nstage steps=rest"}
    text = 'param w: steps = 10%\nuse "inner.raptr"\nrun inner steps=w\nstage steps=rest'
    assert [stage.optional for stage in schedule_of(text, files).stages] == [True, True, True]


@pytest.mark.parametrize(
    ("last", "is_full"),
    [
        ("depth=11/12", False), ("depth=prob(1/2) sample=bernoulli", False), ("depth=draw(1/2, all)", False),
        ("depth=all", True), ("depth=12/12", True), ("", True),
        # Only a model can tell: 12 blocks of 12, a curve's end rounded to the whole.
        ("depth=12", True), ("depth=6/12..12/12", True), ("depth=6/12..99/100", True), ("depth=ceil(99/100)", True),
    ],
)  # fmt: skip
def test_rule_14_the_last_step_is_full_unless_partial_is_allowed(last: str, is_full: bool) -> None:
    text = f"stage depth=6/12 steps=50%\nstage {last} steps=rest"
    assert codes_of(text) == ([] if is_full else ["not-full-at-end"])
    assert codes_of("allow partial\n" + text) == []
