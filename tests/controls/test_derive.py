"""Controls: every one compiles, at the FLOPs of the schedule to within one step of the full network."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raptr_dsl import compile_file, compile_text
from raptr_dsl.axes import AXES
from raptr_dsl.controls import CONTROLS, Control, derive
from raptr_dsl.flops import Accounting, full_blocks_cost, head_cost
from raptr_dsl.ir.bound import BoundRule
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.plan import Plan
from raptr_dsl.resources import schedule_directory
from raptr_dsl.scales import SCALES
from tests.flops.drawn import plans, shapes_with_accounts


def by_name(plan: Plan, accounting: Accounting = Accounting()) -> dict[str, Control]:  # noqa: B008
    found = {control.name: control for control in derive(plan, accounting)}
    assert list(found) == list(CONTROLS)
    return found


@st.composite
def plans_with_accounts(draw: st.DrawFn) -> tuple[Plan, Accounting]:
    shape, accounting = draw(shapes_with_accounts())
    plan = draw(plans(shape))
    stages = tuple(
        stage.model_copy(update={"axes": {axis: spelled(axis, rule) for axis, rule in stage.axes.items()}})
        for stage in plan.stages
    )
    return plan.model_copy(update={"stages": stages}), accounting


def spelled(axis: str, rule: BoundRule) -> BoundRule:
    """What the language can say: only blocks have a trained factor (rule 31), and experts none."""
    is_odd = "scale" in AXES[axis].lacks or (SCALES[rule.scale].learned and not AXES[axis].units_are_blocks)
    return rule.model_copy(update={"scale": "none"}) if is_odd else rule


@settings(max_examples=50, deadline=None)
@given(plans_with_accounts())
def test_flops_match_to_within_a_step(drawn: tuple[Plan, Accounting]) -> None:
    plan, accounting = drawn
    words = (accounting.convention, "mean", accounting.causal, accounting.recompute)
    budget = plan.flops(*words).total
    dense = compile_text("stage steps=100%", model=plan.shape, steps=1)
    step = dense.flops(*words).total
    for name, control in by_name(plan, accounting).items():
        if control.text is None:
            assert control.reason and "compile" not in control.reason
            continue
        again = compile_text(control.text)
        assert again.shape == plan.shape and again.seed == plan.seed
        assert abs(again.flops(*words).total - budget) <= step
        assert again.flops(*words).total - budget == control.off_by
        if name != "dense":
            assert again.steps == plan.steps
        if name == "reversed":
            assert control.off_by == 0
    assert by_name(plan, accounting)["dense"].text is not None


def raptr(steps: int = 675_000) -> Plan:
    return compile_file(schedule_directory() / "raptr.raptr", model="bert-base", steps=steps)


def test_the_controls_of_raptr() -> None:
    found = by_name(raptr())
    dense, constant, backwards, decreasing = (found[name].plan for name in CONTROLS)
    assert dense and constant and backwards and decreasing
    shape = raptr().shape
    step = full_blocks_cost(shape) + head_cost(shape)
    assert dense.steps == round(Fraction(raptr().flops().total) / step)
    assert f"{dense.steps:,}" in found["dense"].notes[0]
    (stage,) = constant.stages
    assert stage.axes["depth"].sizes[0].value == 9
    assert (stage.axes["depth"].scale, stage.axes["depth"].keep) == ("sqrt", (0, 11))
    assert found["constant"].off_by == found["reversed"].off_by == 0
    sizes = [[border.value for border in stage.axes["depth"].sizes] for stage in backwards.stages[1:]]
    assert sizes == [[10], [8], [6]] and not backwards.stages[0].axes
    assert [stage.name for stage in backwards.stages] == ["full", "large", "medium", "small"]
    means = [stage.ratio_blocks for stage in decreasing.flops().stages]
    assert means[0] > means[1]
    levels = [border.value for border in decreasing.stages[0].axes["depth"].sizes]
    assert levels == sorted(levels, reverse=True) and levels[0] == 1


def test_no_one_size_meets_the_budget() -> None:
    found = by_name(compile_text("stage depth=7/12 steps=30%\nstage steps=rest", model="bert-base", steps=1000))
    plan = found["constant"].plan
    assert plan is not None and "No one size" in found["constant"].notes[0]
    assert [stage.axes["depth"].sizes[0].value for stage in plan.stages] == [10, 11]


CURVE = """\
model layers=8 heads=2 hidden=8 ffn=8 vocab=7 seq=4
steps 100
stage rise depth=2/8..8/8 heads=1/2 heads.sample=bernoulli depth.sample=balanced depth.every=3 steps=90
stage steps=rest
"""


def test_a_curve_is_reversed_level_by_level() -> None:
    plan = compile_text(CURVE)
    backwards = by_name(plan)["reversed"].plan
    assert backwards is not None

    def sizes(one: Plan) -> list[tuple[int, Fraction]]:
        found = []
        for stage in one.stages:
            rule = stage.axes.get("depth")
            borders = rule.sizes if rule else ()
            stops = [*(border.offset for border in borders[1:]), stage.steps]
            found += [
                (stop - border.offset, border.value) for border, stop in zip(borders, stops, strict=True)
            ] if borders else [(stage.steps, Fraction(8))]  # fmt: skip
        return found

    forwards = sizes(plan)
    # Neighbours of one size, such as the curve's last level and the full stage, are apart in the control.
    assert sizes(backwards) == forwards[::-1]


@pytest.mark.parametrize(
    ("text", "name", "reason"),
    [
        ("stage steps=100%", "constant", "thins nothing"),
        ("stage steps=100%", "reversed", "thins nothing"),
        ("allow partial\nstage depth=3/12 steps=100%", "reversed", "the same in either order"),
        ("allow partial\nkeep depth=[0,1,2,3,4,5]\nstage depth=6/12 width=1/48 steps=100%", "constant", "costs more"),
        ("allow partial\nstage depth=1/12 width=1/48 heads=1/12 steps=100%", "decreasing", "cannot fall"),
    ],
)
def test_what_cannot_be_derived_is_said(text: str, name: str, reason: str) -> None:
    control = by_name(compile_text(text, model="bert-base", steps=1000))[name]
    assert control.text is None and reason in control.reason


def test_a_doc_can_hold_whatever_a_name_does() -> None:
    plan = compile_text(
        "stage depth=6/12 steps=50%\nstage steps=rest", name='q"uo\\te.raptr', model="bert-base", steps=100
    )
    for control in by_name(plan).values():
        assert control.plan is not None and 'q"uo\\te' in (control.plan.doc or "")


def test_axes_that_thin_the_tokens_have_controls_too() -> None:
    text = "model llama-1b\nsteps 1k\nallow partial\n"
    plan = compile_text(text + "stage seq=1/4 seq.sample=prefix steps=70%\nstage steps=rest")
    found = by_name(plan)
    assert "no keep probability" in found["decreasing"].reason
    step = Fraction(plan.flops().full_total, plan.steps)
    for name in ("dense", "constant", "reversed"):
        control = found[name].plan
        assert control is not None
        assert abs(control.flops().total - plan.flops().total) <= step


# Of 24 everything, so that all the library's fractions are whole.
DIVISIBLE = ModelShape(layers=24, heads=24, hidden=48, ffn=1536, vocab=100, seq=24, batch=24, tied=False)
LIBRARY = sorted(schedule_directory().glob("*.raptr"))


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: path.stem)
def test_published_schedules_have_controls(path: Path) -> None:
    words = {"experts": 12, "top_k": 2} if path.stem.endswith("experts") else {}
    plan = compile_file(path, model=DIVISIBLE.model_copy(update=words), steps=2400)
    step = Fraction(plan.flops().full_total, plan.steps)
    found = by_name(plan)
    assert found["dense"].text is not None
    for control in found.values():
        assert "compile" not in control.reason
        if control.plan is not None:
            assert abs(control.plan.flops().total - plan.flops().total) <= step


def test_controls_of_experts_leave_each_token_its_experts() -> None:
    model = "model layers=2 heads=2 hidden=8 ffn=8 experts=8 top_k=3 vocab=7 seq=4; steps 100; "
    found = by_name(compile_text(model + "stage experts=3/8 steps=60%\nstage steps=rest"))
    constant = found["constant"].plan
    assert constant is not None and constant.shape.top_k == 3
    assert all(border.value >= 3 for stage in constant.stages for border in stage.axes["experts"].sizes)
    assert "every draw leaves 3 or more" in found["decreasing"].reason
