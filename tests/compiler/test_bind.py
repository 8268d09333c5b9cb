"""Sizes, keep and laws against a model."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raptr_dsl import Options, Plan, check_text, compile_text

MODEL = "model layers={layers} heads=8 kv_heads=4 hidden=32 ffn=512 vocab=64 seq=8 batch=4\nsteps 1000\n"


def plan_of(text: str, layers: int = 12) -> Plan:
    return compile_text(MODEL.format(layers=layers) + text)


def diagnosed(text: str, layers: int = 12) -> list[str]:
    checked = check_text(MODEL.format(layers=layers) + text, Options(), complete=True)
    return [item.code for item in checked.diagnostics]


def first_sizes(text: str, axis: str = "depth", layers: int = 12) -> list[tuple[int, Fraction]]:
    rule = plan_of(text + "\nstage steps=rest\n", layers).stages[0].axes[axis]
    return [(border.offset, border.value) for border in rule.sizes]


@pytest.mark.parametrize(
    ("size", "axis", "units"),
    [
        ("depth=6", "depth", 6),
        ("depth=6/12", "depth", 6),
        ("depth=50%", "depth", 6),
        ("heads=4", "heads", 2),  # two query heads a key/value head
        ("heads=1/4", "heads", 1),
        ("width=128", "width", 2),  # groups of 64 hidden units
        ("width=25%", "width", 2),
        ("depth=round(7/24)", "depth", 4),
        ("depth=floor(7/24)", "depth", 3),
        ("depth=ceil(7/25)", "depth", 4),
    ],
)
def test_rules_4_to_6_sizes_in_units(size: str, axis: str, units: int) -> None:
    assert first_sizes(f"stage {size} steps=50%", axis) == [(0, units)]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("stage heads=3 steps=50%", "not-a-multiple"),
        ("stage width=100 steps=50%", "not-a-multiple"),
        ("stage depth=5/16 steps=50%", "not-whole"),
        ("stage depth=13 steps=50%", "size-too-large"),
        ("stage depth=1/24 sample=bernoulli steps=50%", "size-too-small"),
        ("keep depth=[0..5]\nstage depth=3 steps=50%", "size-below-keep"),
        ("keep depth=[12]\nstage depth=3 steps=50%", "keep-out-of-range"),
        ("stage depth=6 sample=stratified(groups=5) steps=50%", "cannot-draw"),
        ("stage depth=3 sample=stratified(groups=4) steps=50%", "cannot-draw"),
        ("stage depth=6 sample=ranked(order=[3, 1]) steps=50%", "cannot-draw"),
        ("stage depth=2 sample=bernoulli profile=linear steps=50%", "cannot-draw"),
        ("stage depth=draw(4, 8) sample=balanced steps=50%", "drawn-size-in-rounds"),
    ],
)
def test_rules_5_6_and_26_what_does_not_fit_is_an_error(text: str, code: str) -> None:
    assert [name for name in diagnosed(text + "\nstage steps=rest\n") if name != "denominator-does-not-divide"] == [
        code
    ]


def test_rule_2_a_denominator_that_does_not_divide_the_axis_is_a_warning() -> None:
    assert diagnosed("stage depth=6/12 steps=50%\nstage steps=rest\n", layers=16) == ["denominator-does-not-divide"]
    assert diagnosed("stage depth=6/12 steps=50%\nstage steps=rest\n", layers=24) == []


@given(st.sampled_from([1, 2, 4]), st.integers(1, 12))
def test_a_schedule_of_fractions_binds_to_any_depth_with_the_same_ratios(factor: int, blocks: int) -> None:
    text = f"stage depth={blocks}/12 steps=50%\nstage steps=rest\n"
    small, large = plan_of(text).flops(), plan_of(text, layers=12 * factor * 2).flops()
    assert small.ratio_blocks == large.ratio_blocks == (Fraction(blocks, 12) + 1) / 2


def test_rule_7_drawn_sizes_are_whole_units() -> None:
    rule = plan_of("stage width=draw(1/8, 1/4, 1/2, 100%) sample=prefix steps=50%\nstage steps=rest\n").stages[0].axes
    assert rule["width"].choices == (1, 2, 4, 8)
    ranged = plan_of("stage depth=draw(4..6) sample=prefix steps=50%\nstage steps=rest\n").stages[0].axes
    assert ranged["depth"].choices == (4, 5, 6)


def test_rule_14_the_last_step_is_full_unless_partial() -> None:
    assert diagnosed("stage depth=6/12 steps=rest\n") == ["not-full-at-end"]
    assert diagnosed("allow partial\nstage depth=6/12 steps=rest\n") == []
    assert diagnosed("stage depth=6/12..12/12 steps=rest\n") == []
    assert diagnosed("stage depth=12/12..6/12 steps=rest\n") == ["not-full-at-end"]


def test_rule_16_a_curve_is_a_staircase_of_whole_units() -> None:
    assert first_sizes("stage depth=6/12..8/12 steps=50%") == [(0, 6), (125, 7), (375, 8)]


def test_rule_16_under_bernoulli_a_curve_moves_in_1024ths_of_the_axis() -> None:
    sizes = first_sizes("stage depth=6/12..12/12 sample=bernoulli steps=50%")
    assert len(sizes) == 500  # 512 levels in 500 steps: a new one every step
    assert all((value * 1024 / 12).denominator == 1 for _, value in sizes)


def test_full_rules_are_no_part_of_a_stage() -> None:
    assert (
        plan_of("stage depth=12 heads=all width=100% steps=rest scale=sqrt\n".replace(" scale=sqrt", "")).stages[0].axes
        == {}
    )


def test_a_range_between_a_count_and_a_share_draws_a_warning() -> None:
    assert "count-and-share" in diagnosed("stage depth=1/3..1 steps=50%\nstage steps=rest\n")


def test_all_problems_are_reported_at_once() -> None:
    text = "stage depth=5/16 heads=3 steps=25%\nstage width=100 steps=25%\nstage steps=rest\n"
    assert sorted(set(diagnosed(text)) - {"denominator-does-not-divide"}) == ["not-a-multiple", "not-whole"]
    assert diagnosed(text).count("not-a-multiple") == 2
