"""A plan as a value: time, masks, equality, copies, pickles, and what it refuses to be."""

import copy
import pickle
import subprocess
import sys
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from raptr_dsl.axes import AXES
from raptr_dsl.ir.bound import Border, BoundRule, BoundStage
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.plan import Plan
from raptr_dsl.ir.schedule import Profile
from raptr_dsl.laws import LAWS
from tests.laws import drawn

SHAPE = ModelShape(layers=12, heads=12, kv_heads=4, hidden=24, ffn=128, vocab=11, seq=4)


def rule(law: str = "fixed", size: object = 6, **words: Any) -> BoundRule:
    """`size` is one size, or (offset, size) for each border."""
    arguments = words.pop("arguments", {})
    borders = size if isinstance(size, list) else [(0, size)]
    sizes = tuple(Border(offset=offset, value=value) for offset, value in borders)
    if "choices" in words:
        sizes = ()
    return BoundRule(law=LAWS[law](**arguments), sizes=sizes, **words)  # pyright: ignore[reportCallIssue]


def stage(start: int, stop: int, name: str | None = None, **axes: BoundRule) -> BoundStage:
    return BoundStage(name=name, start=start, stop=stop, duration=Fraction(stop - start), axes=axes)


def plan(*stages: BoundStage, **words: Any) -> Plan:
    given = {"name": "test", "seed": 17, "shape": SHAPE, "steps": stages[-1].stop, "partial": True} | words
    return Plan(stages=stages, **given)


FOUR = plan(
    stage(0, 25, "s6", depth=rule(size=6)),
    stage(25, 50, "s8", depth=rule(size=8)),
    stage(50, 75, depth=rule(size=10), width=rule(size=1)),
    stage(75, 100),
    partial=False,
)


def test_stages_and_boundaries() -> None:
    assert FOUR.boundaries == (25, 50, 75)
    assert [FOUR.stage_index(step) for step in (0, 24, 25, 49, 50, 75, 99)] == [0, 0, 1, 1, 2, 3, 3]
    assert FOUR.stage_at(24).name == "s6" and FOUR.step(25).stage == 1
    assert (FOUR.progress(0), FOUR.progress(25), FOUR.progress(100)) == (0, Fraction(1, 4), 1)


def test_shapes_of_masks() -> None:
    assert FOUR.masks("depth").shape == (100, 12) and FOUR.masks("depth").dtype == np.bool_
    assert FOUR.masks("heads", 10, 30).shape == (20, 12, 4)
    assert FOUR.masks("width", stop=7).shape == (7, 12, 2)
    assert FOUR.masks("depth", 5, 5).shape == (0, 12)
    assert FOUR.masks("heads").all() and FOUR.masks("depth", 75).all()
    one = FOUR.step(60)
    assert set(one.axes) == {"depth", "width"} and (one.index, one.stage) == (60, 2)
    assert one.axes["depth"].on.shape == (1, 12) and one.axes["width"].scale.shape == (12, 2)
    assert FOUR.step(80).axes == {}


@pytest.mark.parametrize("step", [-1, 100, 10**9])
def test_a_step_outside_the_run_is_an_index_error(step: int) -> None:
    with pytest.raises(IndexError, match=r"0 to 99"):
        FOUR.step(step)
    with pytest.raises(IndexError):
        FOUR.stage_at(step)


def test_masks_outside_the_run_or_of_an_unknown_axis() -> None:
    for start, stop in ((-1, 5), (5, 101), (6, 5)):
        with pytest.raises(IndexError):
            FOUR.masks("depth", start, stop)
    with pytest.raises(ValueError, match="did you mean 'depth'"):
        FOUR.masks("dept")


def test_steps_may_be_numpy_integers() -> None:
    assert (FOUR.step(np.int64(7)).axes["depth"].on == FOUR.masks("depth", np.int64(7), 8)).all()  # pyright: ignore


@given(drawn.plans())
def test_rule_12_a_name_is_a_label(drawn_plan: Plan) -> None:
    """Renaming a plan and its stages, and other exact durations of the same borders, leave every mask as it was."""
    stages = tuple(
        one.model_copy(update={"name": f"n{place}", "duration": one.duration + Fraction(1, 3)})
        for place, one in enumerate(drawn_plan.stages)
    )
    renamed = drawn_plan.model_copy(update={"name": "other", "doc": "words", "stages": stages})
    for axis in AXES:
        assert (renamed.masks(axis) == drawn_plan.masks(axis)).all()


@settings(max_examples=40)
@given(drawn.plans(), st.data())
def test_rule_20_later_edits_leave_earlier_masks(drawn_plan: Plan, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(drawn_plan.stages) - 1))
    start = drawn_plan.stages[cut].start
    end = start + data.draw(st.integers(1, 30))
    new = data.draw(drawn.rules(AXES["depth"].space(drawn_plan.shape), end - start))
    edited = Plan(
        name="edited",
        seed=drawn_plan.seed,
        shape=drawn_plan.shape,
        steps=end,
        partial=True,
        stages=(*drawn_plan.stages[:cut], stage(start, end, depth=new)),
    )
    for axis in AXES:
        assert (edited.masks(axis, 0, start) == drawn_plan.masks(axis, 0, start)).all()


@given(st.sampled_from(sorted(set(LAWS) - {"balanced", "rotate", "ranked", "stratified"})), st.data())
def test_rule_20_a_split_stage_draws_the_same(law: str, data: st.DataObject) -> None:
    whole = data.draw(st.integers(2, 40))
    cut = data.draw(st.integers(1, whole - 1))
    rules = {"depth": rule(law, 5, keep=(0,)), "heads": rule(law, 3)}
    one, two = plan(stage(0, whole, **rules)), plan(stage(0, cut, **rules), stage(cut, whole, **rules))
    for axis in AXES:
        assert (one.masks(axis) == two.masks(axis)).all()
    assert one.digest == two.digest


@settings(max_examples=30)
@given(drawn.plans())
def test_plans_are_values(drawn_plan: Plan) -> None:
    drawn_plan.step(0)
    again = Plan.model_validate_json(drawn_plan.model_dump_json())
    assert again == drawn_plan and hash(again) == hash(drawn_plan) and {again: 1}[drawn_plan] == 1
    for other in (pickle.loads(pickle.dumps(drawn_plan)), copy.copy(drawn_plan), copy.deepcopy(drawn_plan)):
        assert other == drawn_plan and (other.masks("depth") == drawn_plan.masks("depth")).all()


def test_a_changed_copy_has_nothing_of_the_original() -> None:
    FOUR.step(3), FOUR.digest, FOUR.checksum, hash(FOUR), FOUR.stage_index(3)
    other = FOUR.model_copy(update={"seed": 18})
    assert other != FOUR and other.digest != FOUR.digest and other.checksum != FOUR.checksum
    assert (other.masks("depth") != FOUR.masks("depth")).any()
    assert (other.step(3).axes["depth"].on == other.masks("depth", 3, 4)).all()


def test_a_plan_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        FOUR.seed = 3


def test_json_leaves_out_defaults_and_keeps_the_names_of_kinds() -> None:
    text = plan(stage(0, 9, depth=rule(profile=Profile(kind="linear"), law="bernoulli"))).model_dump_json()
    assert '{"law":{"law":"bernoulli"},"profile":{"kind":"linear"},"sizes":[{"offset":0,"value":"6"}]}' in text
    assert "idle" not in text and "null" not in text and '"format":"raptr-plan-1"' in text


def test_a_plan_is_compiled_hashed_and_saved_without_numpy() -> None:
    code = (
        "import sys\nfrom tests.ir.plain import make\n"
        "plan = make(); plan.digest, plan.checksum, hash(plan), plan.clip(3)\n"
        "assert 'numpy' not in sys.modules, 'numpy was loaded'\nplan.step(0)\nassert 'numpy' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


REFUSED = {
    "gap": ((stage(0, 5), stage(6, 9)), "6 is not 5"),
    "overlap": ((stage(0, 5), stage(4, 9)), "4 is not 5"),
    "late start": ((stage(1, 9),), "1 is not 0"),
    "empty stage": ((stage(0, 5), stage(5, 5), stage(5, 9)), "not after its start"),
    "unknown axis": ((stage(0, 9, dept=rule()),), "there is no axis 'dept'"),
    "size above the units": ((stage(0, 9, depth=rule(size=13)),), "13 is not between 1 and 12"),
    "size of none": ((stage(0, 9, depth=rule(size=0)),), "0 is not between 1"),
    "size below keep": ((stage(0, 9, depth=rule(size=1, keep=(0, 11))),), "1 is not between 2"),
    "size that is not whole": ((stage(0, 9, depth=rule(size=Fraction(13, 2))),), "not a whole number"),
    "keep out of range": ((stage(0, 9, depth=rule(keep=(12,))),), "numbered 0 to 11"),
    "keep out of order": ((stage(0, 9, depth=rule(keep=(3, 2))),), "ascending"),
    "law that is not of its axis": (
        (stage(0, 9, positions=rule("bernoulli", 2)),),
        "stages[0].axes.positions.law: bernoulli is none of fixed, balanced",
    ),
    "another law of another axis": ((stage(0, 9, seq=rule(size=2)),), "fixed is none of prefix, the laws of seq"),
    "unknown scale": ((stage(0, 9, depth=rule(scale="big")),), "no scale 'big'"),
    "no time": ((stage(0, 9, depth=rule(every=0)),), "cannot last 0"),
    "no size": ((stage(0, 9, depth=rule(size=[])),), "either sizes or choices"),
    "late size": ((stage(0, 9, depth=rule(size=[(1, 6)])),), "does not begin with the stage"),
    "sizes out of order": ((stage(0, 9, depth=rule(size=[(0, 6), (5, 7), (3, 8)])),), "does not follow"),
    "the same size twice": ((stage(0, 9, depth=rule(size=[(0, 6), (5, 6)])),), "does not follow"),
    "size after the stage": ((stage(0, 9, depth=rule(size=[(0, 6), (9, 7)])),), "no draw begins at step 9"),
    "size within a draw": ((stage(0, 9, depth=rule(size=[(0, 6), (3, 7)], every=2)),), "no draw begins at step 3"),
    "size within the one draw": ((stage(0, 9, depth=rule(size=[(0, 6), (3, 7)], every=None)),), "no draw begins"),
    "probability of an exact law": ((stage(0, 9, depth=rule(size=1, measure="probability")),), "not a probability"),
    "no probability": ((stage(0, 9, depth=rule("bernoulli", 2, measure="probability")),), "2 is no probability"),
    "drawn in rounds": ((stage(0, 9, depth=rule("balanced", choices=(3, 4))),), "cannot be drawn under balanced"),
    "drawn beyond": ((stage(0, 9, depth=rule(choices=(3, 14))),), "14 is not between"),
    "what its law refuses": ((stage(0, 9, depth=rule("stratified", arguments={"groups": 5})),), "5 does not divide"),
    "profile of another model": (
        (stage(0, 9, depth=rule("bernoulli", profile=Profile(kind="list", weights=(Fraction(1),)))),),
        "1 weights for 12",
    ),
    "full blocks that are none": ((stage(0, 9, heads=rule(full=(3, 12))),), "blocks are numbered 0 to 11"),
    "full blocks out of order": (
        (stage(0, 9, heads=rule(full=(3, 1))),),
        "full: the blocks are not in ascending order",
    ),
    "full blocks of blocks": ((stage(0, 9, depth=rule(full=(1,))),), "no block has units of depth of its own"),
    "all blocks full": ((stage(0, 9, heads=rule(full=tuple(range(12)))),), "no block is left that is thinned"),
    "full blocks that are drawn": (
        (stage(0, 9, depth=rule(), heads=rule(size=2, full=(5,))),),
        "axes.heads.full: whether block 5 runs is drawn",
    ),
    "profile without its curve": ((stage(0, 9, depth=rule("bernoulli", profile=Profile(kind="curve"))),), "not what"),
}


@pytest.mark.parametrize(("stages", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_carried_out_is_refused(stages: tuple[BoundStage, ...], words: str) -> None:
    with pytest.raises(ValidationError) as error:
        plan(*stages, steps=9)
    assert words in str(error.value)


def test_more_refusals() -> None:
    with pytest.raises(ValidationError, match="end at step 9, not at step 10"):
        plan(stage(0, 9), steps=10)
    with pytest.raises(ValidationError, match="between 1 and 20,000"):
        Plan(name="x", seed=1, shape=SHAPE, steps=1, stages=())
    for seed in (-1, 2**64):
        with pytest.raises(ValidationError):
            plan(stage(0, 9), seed=seed)
    wide = SHAPE.model_copy(update={"ffn": 2**17, "width_group": 1})
    with pytest.raises(ValidationError, match="131,072 units a site are more than 65,536"):
        plan(stage(0, 9, width=rule()), shape=wide)
    assert plan(stage(0, 9), shape=wide).masks("depth").all()
    with pytest.raises(ValidationError, match="too many to number"):
        plan(
            stage(0, 2**40, width=rule()),
            shape=SHAPE.model_copy(update={"layers": 2**24, "ffn": 2**16, "width_group": 1}),
        )


def test_rule_14_the_last_step_is_full_unless_partial() -> None:
    thin = stage(0, 9, depth=rule())
    with pytest.raises(ValidationError, match=r"stages\[0\].axes.depth: the last step is not the full network"):
        plan(thin, partial=False)
    plan(stage(0, 9, depth=rule(size=[(0, 6), (8, 12)])), partial=False)
    plan(stage(0, 9, depth=rule("bernoulli", [(0, Fraction(1, 2)), (8, 1)], measure="probability")), partial=False)
    with pytest.raises(ValidationError, match="not the full network"):
        plan(stage(0, 9, depth=rule(choices=(12, 6))), partial=False)
