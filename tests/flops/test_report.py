"""The account of a plan: what its stages, steps, blocks and parts cost adds up exactly, by every account."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raptr_dsl import check_text, compile_text
from raptr_dsl.axes import AXES
from raptr_dsl.flops import Accounting, block_cost, head_cost, run_report
from raptr_dsl.ir.bound import Border, BoundRule, BoundStage
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.plan import Plan
from raptr_dsl.laws import LAWS
from raptr_dsl.occupancy import segments
from raptr_dsl.report.layout import Column
from raptr_dsl.report.raster import mask_columns
from tests.axes import PARTS
from tests.flops.drawn import plans, shapes_with_accounts


def step_cost(plan: Plan, index: int, account: Accounting) -> Fraction:
    """One step, block by block, from its masks."""
    masks = plan.step(index).axes
    depth = masks["depth"].on.ravel() if "depth" in masks else [True] * plan.shape.blocks
    total = Fraction(head_cost(plan.shape, account))
    for block, on in enumerate(depth):
        if on:
            shares = {
                name: Fraction(int(mask.on[block].sum()), mask.on.shape[1])
                for name, mask in masks.items()
                if AXES[name].per_block
            }
            total += block_cost(plan.shape, shares, account, block // plan.shape.layers)
    return total


@settings(max_examples=60)
@given(shapes_with_accounts(), st.data())
def test_steps_and_blocks_add_up_to_the_seeds_figure(drawn: tuple[ModelShape, Accounting], data: st.DataObject) -> None:
    shape, account = drawn
    plan = data.draw(plans(shape))
    report = plan.flops(account.convention, "seed", account.causal, account.recompute)
    assert report.total == sum(step_cost(plan, index, account) for index in range(plan.steps))


@settings(max_examples=60)
@given(shapes_with_accounts(), st.data())
def test_stages_parts_and_axes_add_up(drawn: tuple[ModelShape, Accounting], data: st.DataObject) -> None:
    shape, account = drawn
    plan = data.draw(plans(shape))
    for case in ("mean", "worst", "seed"):
        report = plan.flops(account.convention, case, account.causal, account.recompute)
        for word in ("blocks", "head", "full_blocks", "total", "full_total"):
            assert getattr(report, word) == sum(getattr(stage, word) for stage in report.stages)
        for one in (report, *report.stages):
            assert one.blocks == sum(one.parts.values()) and one.full_blocks == sum(one.full_parts.values())
            assert one.of_axis("depth") == (one.blocks, one.full_blocks)
            planned, full = zip(*(one.of_axis(name) for name in ("heads", "width", "experts")), strict=True)
            assert (sum(planned), sum(full)) == (one.blocks, one.full_blocks)
            assert 0 <= one.blocks <= one.full_blocks


@settings(max_examples=60)
@given(shapes_with_accounts(), st.data())
def test_the_mean_is_between_the_least_and_the_worst_and_exact_laws_have_no_spread(
    drawn: tuple[ModelShape, Accounting], data: st.DataObject
) -> None:
    shape, account = drawn
    plan = data.draw(plans(shape))
    mean, worst, seed = (
        plan.flops(account.convention, case, account.causal, account.recompute) for case in ("mean", "worst", "seed")
    )
    assert mean.blocks <= worst.blocks and seed.blocks <= worst.blocks
    for stage, one, other, drawn_stage in zip(plan.stages, mean.stages, worst.stages, seed.stages, strict=True):
        if all(rule.law.exact and len(set(rule.choices)) <= 1 for rule in stage.axes.values()):
            assert one == other == drawn_stage


def rule(law: str, size: int | Fraction = 0, **words: object) -> BoundRule:
    sizes = () if "choices" in words else (Border(offset=0, value=Fraction(size)),)
    return BoundRule(law=LAWS[law](), sizes=sizes, **words)  # pyright: ignore[reportCallIssue, reportArgumentType]


SHAPE = ModelShape(layers=4, heads=4, hidden=8, ffn=8, width_group=2, vocab=5, seq=3)


def stage(steps: int, **axes: BoundRule) -> BoundStage:
    return BoundStage(start=0, stop=steps, duration=Fraction(steps), axes=axes)


def ratio(axes: Mapping[str, BoundRule], shape: ModelShape = SHAPE) -> Fraction:
    return run_report(shape, [stage(10, **axes)]).ratio_blocks


@pytest.mark.parametrize("stacks", [1, 2])
def test_axes_multiply(stacks: int) -> None:
    shape = SHAPE.model_copy(update={"source_seq": 5}) if stacks == 2 else SHAPE
    assert ratio({"depth": rule("fixed", 3)}, shape) == Fraction(3, 4)
    assert ratio({"heads": rule("fixed", 2), "width": rule("fixed", 2)}, shape) == Fraction(1, 2)
    every = {name: rule("fixed", 1) for name in PARTS}
    assert ratio(every, shape) == Fraction(1, 16)
    heads, width = (ratio({name: rule("fixed", 1)}, shape) for name in ("heads", "width"))
    assert heads + width == 1 + Fraction(1, 4)  # what the one leaves alone the other thins


def test_a_drawn_size_costs_its_mean_whatever_the_law() -> None:
    sizes = (1, 1, 4)
    assert ratio({"depth": rule("fixed", choices=sizes)}) == Fraction(2, 4)
    assert ratio({"depth": rule("bernoulli", choices=sizes)}) == Fraction(2, 4)


def test_a_drawn_mean_size_can_have_every_count_under_bernoulli() -> None:
    """The size is drawn, and then each unit by itself: any number of them can be on."""
    (segment,) = segments(stage(10, depth=rule("bernoulli", choices=(1, 2))), SHAPE)
    assert segment.axes["depth"].possible == (0, 1, 2, 3, 4)
    assert segment.axes["depth"].mean == Fraction(3, 2)
    (segment,) = segments(stage(10, depth=rule("fixed", choices=(3, 2, 3))), SHAPE)
    assert segment.axes["depth"].possible == (2, 3) and segment.axes["depth"].most == 3


def test_moments_are_those_of_the_drawn_sizes() -> None:
    (segment,) = segments(stage(10, depth=rule("fixed", choices=(1, 3))), SHAPE)
    assert segment.axes["depth"].moment(2) == 5 and segment.axes["depth"].moment(1) == 2
    (segment,) = segments(stage(10, depth=rule("bernoulli", 2)), SHAPE)
    with pytest.raises(ValueError, match="not known under bernoulli"):
        segment.axes["depth"].moment(2)


def test_a_plan_refuses_accounts_that_do_not_fit() -> None:
    plan = compile_text("model bert-base\nsteps 4\nstage steps=100%")
    with pytest.raises(ValueError, match="no FLOP convention 'mattmul'; did you mean matmul"):
        plan.flops("mattmul")
    with pytest.raises(ValueError, match="looks both ways"):
        plan.flops(causal="half")
    with pytest.raises(ValueError, match="no case 'best'"):
        plan.flops(case="best")  # pyright: ignore[reportArgumentType]


TEXT = "model gpt2-small\nsteps 400\nstage depth=6/12 steps=50%\nstage steps=rest\n"


@pytest.mark.parametrize(
    "options",
    ["", "convention=palm", 'convention="6nd"', "causal=half", "recompute=full", "causal=half, recompute=early_stop"],
)
@pytest.mark.parametrize("target", ["blocks", "total"])
def test_rule_37_a_requirement_is_of_the_account_that_it_names(options: str, target: str) -> None:
    words = dict(word.split("=") for word in options.replace('"', "").split(", ") if word)
    report = compile_text(TEXT).flops(**words)  # pyright: ignore[reportArgumentType]
    share = report.ratio_total if target == "total" else report.ratio_blocks
    absolute = report.total if target == "total" else report.blocks
    what = f"flops({', '.join(filter(None, [target, options]))})"
    for value in (str(share), str(absolute)):
        plan = compile_text(f"{TEXT}require {what} == {value}\n")
        assert [proven.text.split(" == ")[0] for proven in plan.proven] == [
            f"flops({', '.join([target, *sorted(filter(None, options.split(', ')))])})"
        ]
    found = check_text(f"{TEXT}require {what} == {absolute + 1}\n", complete=True).diagnostics
    assert [item.code for item in found] == ["requirement-refuted"]


def test_the_arithmetic_of_a_refuted_requirement_is_of_the_case_it_asks_for() -> None:
    text = "model gpt2-small\nsteps 400\nallow partial\nstage depth=6/12 sample=bernoulli steps=rest\n"
    (found,) = check_text(f"{text}require flops(blocks, case=worst) <= 60%\n", complete=True).diagnostics
    assert found.notes == ("stage 1: 400 steps at 100% of the blocks' FLOPs (costs most)",)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("blocks, convention=palm, causal=half", "looks both ways"),
        ('blocks, convention="6nd", causal=half', "counts no scores"),
    ],
)
def test_an_account_that_does_not_fit_the_model_is_no_requirement(options: str, words: str) -> None:
    text = TEXT.replace("gpt2-small", "bert-base") + f"require flops({options}) <= 80%\n"
    (found,) = check_text(text, complete=True).diagnostics
    assert found.code == "bad-requirement" and words in found.message


def test_rule_04_depth_has_a_site_in_each_stack() -> None:
    plan = compile_text(
        "model layers=4 heads=2 hidden=4 ffn=4 vocab=5 seq=3 source_seq=2\nsteps 40\nkeep depth=[first]\n"
        "stage depth=2/4 heads=1/2 steps=50%\nstage steps=rest\n"
    )
    masks = plan.masks("depth", 0, 20).reshape(20, 2, 4)
    assert (masks.sum(axis=2) == 2).all() and masks[:, :, 0].all()
    assert (masks[:, 0] != masks[:, 1]).any()
    assert plan.masks("heads").shape == (40, 8, 2)
    assert plan.step(0).axes["depth"].on.shape == (2, 4)


def test_pictures_of_both_stacks_show_what_runs_in_them() -> None:
    plan = compile_text(
        "model layers=4 heads=2 hidden=4 ffn=4 vocab=5 seq=3 source_seq=2\nsteps 40\nallow partial\n"
        "stage depth=2/4 heads=1/2 steps=100%\n"
    )
    columns = [Column(0, step) for step in range(40)]
    depth, heads = plan.masks("depth").reshape(40, 2, 4), plan.masks("heads")
    for site in range(8):
        assert mask_columns(plan, "depth", columns, site) == [tuple(row) for row in depth[:, site // 4].tolist()]
        running = depth.reshape(40, 8)[:, site]
        expected = [tuple(row) if on else None for row, on in zip(heads[:, site].tolist(), running, strict=True)]
        assert mask_columns(plan, "heads", columns, site) == expected
