"""What makes plans the same (rules 41, 42)."""

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raptr_dsl.axes import AXES
from raptr_dsl.curves import Linear
from raptr_dsl.ir.bound import BoundStage
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.plan import Plan, Proven
from raptr_dsl.ir.schedule import Profile
from tests.ir.test_plan import FOUR, plan, rule, stage
from tests.laws import drawn

CURVED = Profile(kind="curve", curve=Linear(), start=Fraction(1))
WHOLE = plan(stage(0, 40, depth=rule(size=6, keep=(0,))))


def same_masks(one: Plan, other: Plan) -> bool:
    return all((one.masks(axis) == other.masks(axis)).all() for axis in AXES)


@given(drawn.plans())
def test_rule_41_names_docs_and_figures_do_not_enter(drawn_plan: Plan) -> None:
    stages = tuple(one.model_copy(update={"name": "other", "duration": one.duration + 1}) for one in drawn_plan.stages)
    other = drawn_plan.model_copy(
        update={
            "name": "other",
            "doc": "text",
            "proven": (Proven(text="flops <= 1", value="1"),),
            "stages": stages,
            "partial": not drawn_plan.partial,
        }
    )
    assert other.digest == drawn_plan.digest and other.checksum != drawn_plan.checksum and other != drawn_plan
    assert other.first_difference(drawn_plan) is None


SAME = {
    "split": plan(stage(0, 11, depth=rule(size=6, keep=(0,))), stage(11, 40, depth=rule(size=6, keep=(0,)))),
    "split in three": plan(*(stage(s, e, depth=rule(size=6, keep=(0,))) for s, e in ((0, 1), (1, 2), (2, 40)))),
    "a full rule": plan(stage(0, 40, depth=rule(size=6, keep=(0,)), width=rule(size=2, scale="sqrt"))),
    "one size drawn": plan(stage(0, 40, depth=rule(choices=(6, 6), keep=(0,)))),
    "surely on": plan(stage(0, 40, depth=rule(size=6, keep=(0,)), heads=rule("bernoulli", 1, measure="probability"))),
}


@pytest.mark.parametrize("other", SAME.values(), ids=SAME)
def test_rule_41_one_meaning_has_one_digest(other: Plan) -> None:
    assert other.digest == WHOLE.digest and other != WHOLE
    assert same_masks(other, WHOLE)


OTHERS = {
    "seed": {"seed": 18},
    "steps": {"steps": 41, "stages": (stage(0, 41, depth=rule(size=6, keep=(0,))),)},
    "shape": {"shape": ModelShape(layers=12, heads=12, kv_heads=4, hidden=24, ffn=128, vocab=12, seq=4)},
    **{
        name: {"stages": (stage(0, 40, depth=one),)}
        for name, one in {
            "size": rule(size=7, keep=(0,)),
            "keep": rule(size=6, keep=(1,)),
            "law": rule("window", 6, keep=(0,)),
            "parameter": rule("stratified", 6, keep=(0,), arguments={"groups": 2}),
            "other parameter": rule("stratified", 6, keep=(0,), arguments={"groups": 3}),
            "scale": rule(size=6, keep=(0,), scale="sqrt"),
            "idle": rule(size=6, keep=(0,), idle="skip"),
            "every": rule(size=6, keep=(0,), every=2),
            "one draw": rule(size=6, keep=(0,), every=None),
            "profile": rule("bernoulli", 7, keep=(0,), profile=Profile(kind="linear")),
            "other profile": rule("bernoulli", 7, keep=(0,), profile=CURVED),
            "choices": rule(choices=(6, 7), keep=(0,)),
            "order of choices": rule(choices=(7, 6), keep=(0,)),
            "border": rule(size=[(0, 6), (20, 7)], keep=(0,)),
            "later border": rule(size=[(0, 6), (21, 7)], keep=(0,)),
        }.items()
    },
    "axis": {"stages": (stage(0, 40, width=rule(size=1)),)},
    "where a stage ends": {"stages": (stage(0, 39, depth=rule(size=6, keep=(0,))), stage(39, 40))},
}  # fmt: skip


def test_rule_41_every_difference_of_meaning_changes_the_digest() -> None:
    made = {name: plan(*words.get("stages", WHOLE.stages), **{k: v for k, v in words.items() if k != "stages"})
            for name, words in OTHERS.items()}  # fmt: skip
    digests = {name: other.digest for name, other in made.items()} | {"whole": WHOLE.digest}
    assert len(set(digests.values())) == len(digests)
    assert all(other.first_difference(WHOLE) is not None for other in made.values())


ANCHORED: dict[str, dict[str, Any]] = {
    "balanced": {"law": "balanced"},
    "rotate": {"law": "rotate"},
    "every": {"every": 3},
    "one draw": {"every": None},
}


@pytest.mark.parametrize("words", ANCHORED.values(), ids=ANCHORED)
def test_rule_41_anchored_stages_stay_apart(words: dict[str, Any]) -> None:
    words = {"size": 5} | words
    one = plan(stage(0, 40, depth=rule(**words)))
    two = plan(stage(0, 16, depth=rule(**words)), stage(16, 40, depth=rule(**words)))
    assert one.digest != two.digest and not same_masks(one, two)


def test_rule_41_a_draw_of_the_whole_stage_has_one_form() -> None:
    digests = {plan(stage(0, 40, depth=rule(every=every))).digest for every in (None, 40, 41, 10**6)}
    assert len(digests) == 1
    single = {plan(stage(0, 1, depth=rule(every=every)), stage(1, 9, depth=rule())).digest for every in (None, 1, 5)}
    assert single == {plan(stage(0, 9, depth=rule())).digest}


@settings(max_examples=60)
@given(drawn.plans(), st.data())
def test_rule_41_equal_digests_mean_equal_masks(drawn_plan: Plan, data: st.DataObject) -> None:
    """Splitting a stage anywhere either keeps every mask and the digest, or is told apart."""
    place = data.draw(st.integers(0, len(drawn_plan.stages) - 1))
    old = drawn_plan.stages[place]
    if old.steps == 1:
        return
    cut = data.draw(st.integers(old.start + 1, old.stop - 1))
    try:
        split = drawn_plan.model_copy(
            update={
                "stages": (
                    *drawn_plan.stages[:place],
                    _cut(old, old.start, cut),
                    _cut(old, cut, old.stop),
                    *drawn_plan.stages[place + 1 :],
                )
            }
        )
        split = Plan.model_validate(split.model_dump())
    except ValueError:
        return  # a curve's borders do not fit the halves
    if split.digest == drawn_plan.digest:
        assert same_masks(split, drawn_plan) and split.first_difference(drawn_plan) is None
    else:
        assert split.first_difference(drawn_plan) is not None


def _cut(old: BoundStage, start: int, stop: int) -> BoundStage:
    return old.model_copy(update={"start": start, "stop": stop, "duration": Fraction(stop - start)})


@settings(max_examples=60)
@given(drawn.plans(), st.data())
def test_rule_42_plans_equal_before_t_draw_the_same_before_t(one: Plan, data: st.DataObject) -> None:
    """A plan with other stages from some place on agrees up to there; whether it does beyond is told by `clip`."""
    place = data.draw(st.integers(0, len(one.stages) - 1))
    start = one.stages[place].start
    stop = start + data.draw(st.integers(1, 30))
    late = stage(start, stop, depth=data.draw(drawn.rules(AXES["depth"].space(one.shape), stop - start)))
    other = plan(*one.stages[:place], late, seed=one.seed, shape=one.shape)
    t = data.draw(st.integers(1, min(one.steps, other.steps)))
    equal = one.clip(t) == other.clip(t)
    assert equal == (one.first_difference(other, before=t) is None)
    assert equal or t > start
    if equal:
        assert all((one.masks(axis, 0, t) == other.masks(axis, 0, t)).all() for axis in AXES)


@given(drawn.plans(), st.data())
def test_rule_42_a_clip_draws_what_the_plan_draws(drawn_plan: Plan, data: st.DataObject) -> None:
    t = data.draw(st.integers(1, drawn_plan.steps))
    clipped = drawn_plan.clip(t)
    assert clipped.steps == t and clipped.clip(t) == clipped
    for axis in AXES:
        assert (clipped.masks(axis) == drawn_plan.masks(axis, 0, t)).all()
    assert drawn_plan.first_difference(clipped, before=t) is None
    longer = drawn_plan.clip(drawn_plan.steps)
    assert longer.digest == drawn_plan.digest


def test_rule_42_what_comes_after_t_may_change() -> None:
    longer = plan(*FOUR.stages[:2], stage(50, 300, depth=rule(size=11)), name="another")
    assert FOUR.clip(50) == longer.clip(50) and FOUR.first_difference(longer, before=50) is None
    assert FOUR.clip(51) != longer.clip(51)
    assert FOUR.first_difference(longer, before=0) is None


@pytest.mark.parametrize("t", [0, 101, -1])
def test_clips_lie_within_the_run(t: int) -> None:
    with pytest.raises(IndexError):
        FOUR.clip(t)


def difference(one: Plan, other: Plan, before: int | None = None) -> str:
    found = one.first_difference(other, before)
    assert found is not None
    return str(found)


def with_stage(place: int, new: BoundStage, **words: Any) -> Plan:
    return plan(*FOUR.stages[:place], new, *FOUR.stages[place + 1 :], **words)


DIFFERENCES = {
    "seed is 17 in one plan and 18 in the other": plan(*FOUR.stages, seed=18),
    "shape.vocab is 11 in one plan and 12 in the other": plan(
        *FOUR.stages, shape=FOUR.shape.model_copy(update={"vocab": 12})
    ),
    "steps is 100 in one plan and 90 in the other": plan(*FOUR.stages[:3], stage(75, 90)),
    "stage 2 (s8), from step 25 on: depth is 8 units in one plan and 7 units in the other": with_stage(
        1, stage(25, 50, depth=rule(size=7))
    ),
    "stage 2 (s8), from step 25 on: depth.law is fixed in one plan and balanced in the other": with_stage(
        1, stage(25, 50, depth=rule("balanced", 8))
    ),
    "stage 2 (s8), from step 25 on: depth.every is 1 in one plan and stage in the other": with_stage(
        1, stage(25, 50, depth=rule(size=8, every=None))
    ),
    "stage 2 (s8), from step 25 on: depth.scale is none in one plan and sqrt in the other": with_stage(
        1, stage(25, 50, depth=rule(size=8, scale="sqrt"))
    ),
    "stage 2 (s8), from step 25 on: heads is all in one plan and 2 units in the other": with_stage(
        1, stage(25, 50, depth=rule(size=8), heads=rule(size=2))
    ),
    "stage 3, from step 50 on: width is 1 unit in one plan and all in the other": with_stage(
        2, stage(50, 75, depth=rule(size=10))
    ),
    "stage 1 (s6), from step 24 on: its end is 25 in one plan and 24 in the other": plan(
        stage(0, 24, depth=rule(size=6)), stage(24, 50, depth=rule(size=8)), *FOUR.stages[2:]
    ),
    "stage 4, from step 75 on: depth is all in one plan and 6 to 8 units in 3 levels, the second from step 5 of the "
    "stage in the other": with_stage(3, stage(75, 100, depth=rule(size=[(0, 6), (5, 7), (9, 8)]))),
    "stage 4, from step 75 on: depth is all in one plan and one of 3, 12 in the other": with_stage(
        3, stage(75, 100, depth=rule(choices=(3, 12)))
    ),
}  # fmt: skip


@pytest.mark.parametrize(("words", "other"), DIFFERENCES.items())
def test_rule_42_the_first_difference_is_named(words: str, other: Plan) -> None:
    assert difference(FOUR, other) == words


def test_rule_42_a_resume_past_the_end_of_the_other_plan() -> None:
    short = plan(*FOUR.stages[:2])
    assert FOUR.first_difference(short, before=50) is None
    assert difference(FOUR, short, before=60) == "steps is 100 in one plan and 50 in the other"
