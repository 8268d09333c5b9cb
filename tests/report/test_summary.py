"""Figures in the summary: rounded the honest way, and exact for programs."""

import json
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import raptr_dsl
from raptr_dsl.report.summary import facts, percent, rule_text, size_text, speed_up, stage_text
from tests.report.conftest import plans


@given(st.fractions(Fraction(1, 1000), 1))
@settings(max_examples=20)
def test_the_ceiling_on_speed_up_is_told_to_the_nearest_thousandth(share: Fraction) -> None:
    told = Fraction(speed_up(share).removesuffix("x"))
    assert abs(told - 1 / share) <= Fraction(1, 2000)


@pytest.mark.parametrize(
    ("share", "text"),
    [(Fraction(3, 4), "75%"), (Fraction(2, 3), "66.67%"), (Fraction(1), "100%"), (Fraction(1, 8), "12.5%")],
)
def test_percentages(share: Fraction, text: str) -> None:
    assert percent(share) == text


@given(plans())
@settings(max_examples=20)
def test_facts_are_json_and_exact(plan) -> None:
    told = json.loads(json.dumps(facts(plan, "x.json")))
    report = plan.flops()
    assert Fraction(told["flops"]["blocks"]) == report.blocks
    assert Fraction(told["flops"]["ratio_total"]) == Fraction(report.total, report.full_total)
    assert sum(Fraction(stage["flops"]["blocks"]) for stage in told["stages"]) == report.blocks
    assert [stage["stop"] for stage in told["stages"]] == [stage.stop for stage in plan.stages]


@pytest.mark.parametrize(
    ("attributes", "size", "rule"),
    [
        ("depth=6/12", "6/12", "fixed"),
        ("depth=6/12 scale=sqrt sample=balanced", "6/12", "balanced scale=sqrt"),
        ("depth=6/12..12/12", "6→12/12", "fixed"),
        ("depth=draw(3, 6)", "3|6/12", "fixed"),
        ("depth=draw(1..12)", "1|…|12/12", "fixed"),
        ("depth=6/12 sample=stratified(groups=3)", "6/12", "stratified(groups=3)"),
        ("depth=3/12 sample=ranked(order=[5, 3, 0..2, 4, 6..11])", "3/12", "ranked(order=[…])"),
        ("depth=prob(4/5) sample=bernoulli profile=linear idle=skip", "p=80%", "bernoulli profile=linear idle=skip"),
        ("depth=prob(1..1/2) sample=bernoulli every=20", "p=100%→50.2%", "bernoulli every=20"),
        ("depth=6/12 every=stage", "6/12", "fixed every=stage"),
    ],
)
def test_a_rule_in_words(attributes: str, size: str, rule: str) -> None:
    plan = raptr_dsl.compile_text(f"model bert-base\nsteps 5k\nallow partial\nstage {attributes} steps=rest")
    axis = plan.stages[0].axes["depth"]
    assert (size_text(plan, "depth", axis), rule_text(plan, "depth", axis)) == (size, rule)


def test_many_kept_units_are_counted() -> None:
    plan = raptr_dsl.compile_text(
        "model bert-base\nsteps 5k\nallow partial\nkeep depth=[0..5]\nstage depth=8/12 steps=rest"
    )
    assert rule_text(plan, "depth", plan.stages[0].axes["depth"]) == "fixed keep=6 units"


def test_what_trains_grows_and_climbs_is_said() -> None:
    model = "model layers=12 heads=2 hidden=32 ffn=128 vocab=64 seq=8 batch=2 tied=false\nsteps 120\n"
    plan = raptr_dsl.compile_text(
        f"{model}default sample=prefix\nstage depth=6 steps=20%\n"
        "stage depth=9 grow=zero depth.train=new rewarm=5 steps=20%\n"
        "stage depth=all grow=copy(middle) moments=zero steps=20%\n"
        "stage depth.train=suffix(12..1) freeze=[embed, head] steps=20%\n"
        "stage depth.train=fixed(2) every=4 steps=rest\n"
    )
    said = [(rule_text(plan, "depth", stage.axes["depth"]), stage_text(stage)) for stage in plan.stages]
    assert said == [
        ("prefix", ""),
        ("prefix train=ranked(3) grows 6→9 at 6 from nothing", "rewarm=5"),
        ("grows 9→12 at 6 moments=zero", ""),
        ("train=suffix(12→1)", "freeze=embed,head"),
        ("train=fixed(2) every=4", ""),
    ]
