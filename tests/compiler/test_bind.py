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
        ("stage heads=1/2 heads.full=[11, 12] steps=50%", "full-out-of-range"),
        ("stage depth=6 heads=1/2 heads.full=[first] steps=50%", "full-block-drawn"),
        ("keep depth=[first]\nstage depth=6 sample=bernoulli heads=1/2 full=[first, 1] steps=50%", "full-block-drawn"),
        ("stage depth.train=fixed(2) heads=1/2 full=first steps=50%", "full-block-drawn"),
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


@pytest.mark.parametrize(
    ("full", "blocks"),
    [
        ("[last, first, 0]", (0, 11)),
        ("[0, 3..5]", (0, 3, 4, 5)),
        ("last", (11,)),
        ("[]", ()),
    ],
)
def test_rule_4_full_names_blocks_as_keep_does(full: str, blocks: tuple[int, ...]) -> None:
    plan = plan_of(f"stage heads=1/2 width=1/2 full={full} steps=50%\nstage steps=rest\n")
    assert [rule.full for rule in plan.stages[0].axes.values()] == [blocks] * 2
    one = plan_of(f"default heads.full={full}\nstage heads=1/2 width=1/2 steps=50%\nstage steps=rest\n")
    assert [rule.full for rule in one.stages[0].axes.values()] == [blocks, ()]


def test_rule_4_full_leaves_the_draws_of_the_other_blocks_as_they_are() -> None:
    text = "stage heads=1/2 width=1/2 scale=inverse{} steps=50%\nstage steps=rest\n"
    with_, without = (plan_of(text.format(full)) for full in (" heads.full=[0, 3]", ""))
    one, other = (plan.step(7).axes for plan in (with_, without))
    assert one["heads"].on[[0, 3]].all() and (one["heads"].scale[[0, 3]] == 1).all()
    rest = [block for block in range(12) if block not in (0, 3)]
    for axis, blocks in (("heads", rest), ("width", range(12))):
        assert (one[axis].on[blocks] == other[axis].on[blocks]).all()
        assert (one[axis].scale[blocks] == other[axis].scale[blocks]).all()
    assert with_.digest != without.digest


def test_rule_4_where_all_blocks_are_full_nothing_is_thinned() -> None:
    assert plan_of("stage heads=1/2 heads.full=[0..11] steps=rest\n").stages[0].axes == {}


def test_rule_4_blocks_are_numbered_in_every_stack() -> None:
    model = MODEL.format(layers=3).replace("seq=8", "seq=8 source_seq=8")
    plan = compile_text(f"{model}stage heads=1/2 full=[first, last] steps=50%\nstage steps=rest\n")
    assert plan.masks("heads", 0, 1)[0].sum(1).tolist() == [4, 2, 4] * 2


def test_rules_4_and_38_sizes_are_means_over_all_blocks() -> None:
    stage = "stage heads=1/2 full=[first, last] sample=balanced steps=50%\nstage steps=rest\n"
    mean = (1 + (Fraction(2, 12) + Fraction(10, 12) / 2)) / 2
    required = f"require mean(heads) == {mean.numerator}/{mean.denominator}\nrequire coverage(heads) == 75%\n"
    assert [item.value for item in plan_of(stage + required).proven] == ["19/24 ≈ 79.17%", "75%, for every seed"]


def test_rule_38_blocks_that_are_larger_divide_those_around_them_in_shapes() -> None:
    ends = "keep depth=[first, last]\nstage depth=6 heads=1/2 heads.full=[first, last] steps=50%\nstage steps=rest\n"
    assert plan_of(ends).shapes == 2
    middle = ends.replace("keep depth=[first, last]", "keep depth=[5]").replace("[first, last]", "[5]")
    # Of the 5 drawn beside block 5, 0 to 5 are before it: so many programs, and the full one.
    assert plan_of(middle).shapes == 6 + 1
    assert plan_of(ends.replace("1/2", "1/2..100%")).shapes == 3 + 1


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
