"""The axes whose units are data: `positions` (random-LTD), `seq` and `batch`; what they cost and require."""

from fractions import Fraction

import pytest

from raptr_dsl import check_text, compile_text
from raptr_dsl.axes import AXES
from raptr_dsl.ir.plan import Plan
from raptr_dsl.training.account import Account

MODEL = "model layers=4 heads=2 hidden=32 ffn=128 vocab=64 seq=8 batch=4 tied=false\nsteps 40\n"


def planned(text: str) -> Plan:
    return compile_text(MODEL + text + "\n")


def codes(text: str) -> list[str]:
    return [item.code for item in check_text(f"{MODEL}{text}\n", complete=True).diagnostics]


def shares(stage: str) -> dict[str, Fraction]:
    """Of each part of a block, and of the head, what is left of it."""
    report = planned(f"allow partial\nstage {stage} steps=rest").flops()
    left = {part: Fraction(cost) / report.full_parts[part] for part, cost in report.parts.items()}
    return left | {"head": Fraction(report.head, report.head + report.head_saved)}


def test_rule_4_positions_have_a_site_in_every_block_and_sequences_one() -> None:
    shape = planned("stage steps=rest").shape
    spaces = {name: AXES[name].space(shape) for name in ("positions", "seq", "batch")}
    assert {name: (space.sites, space.units) for name, space in spaces.items()} == {
        "positions": (4, 8),
        "seq": (1, 8),
        "batch": (1, 4),
    }


def test_scores_fall_with_the_square_of_the_positions() -> None:
    """facts: random-LTD, scores scale with K²; the head sees all positions, of a shorter sequence fewer."""
    positions = shares("positions=4")
    assert positions.pop("attention.scores") == Fraction(1, 4) and positions.pop("head") == 1
    assert set(positions.values()) == {Fraction(1, 2)}
    sequences = shares("seq=4")
    assert sequences.pop("attention.scores") == Fraction(1, 4) and set(sequences.values()) == {Fraction(1, 2)}
    assert set(shares("batch=1").values()) == {Fraction(1, 4)}


def test_axes_of_the_data_multiply_with_those_of_the_model() -> None:
    assert set(shares("batch=1/2 depth=1/2").values()) == {Fraction(1, 4), Fraction(1, 2)}
    both = shares("positions=4 heads=1/2")
    assert both["attention.scores"] == Fraction(1, 8) and both["ffn.input"] == Fraction(1, 2)
    assert shares("seq=4 depth.train=fixed(2)")["attention.query"] == Fraction(5, 12)


@pytest.mark.parametrize(
    "stage",
    ["seq=2..8", "batch=draw(1..4)", "positions=root(2, 8, n=2) depth=2", "seq=draw(2, 4) depth.train=fixed(2)"],
)
def test_steps_add_up_to_what_the_plan_counts_at_once(stage: str) -> None:
    plan = planned(f"allow partial\nstage {stage} steps=rest")
    account = Account(plan)
    for step in range(plan.steps):
        account.add(plan.step(step))
    assert account.flops == plan.flops(case="seed").total
    assert account.flops <= plan.flops(case="worst").total


def test_rule_8_each_axis_has_its_own_laws_and_lacks_what_means_nothing_on_it() -> None:
    assert planned("stage positions=4 steps=50%\nstage steps=rest").stages[0].axes["positions"].law.law == "fixed"
    plan = planned("default sample=balanced scale=sqrt\nstage seq=4 depth=2 steps=50%\nstage steps=rest")
    assert plan.stages[0].axes["seq"].law.law == "prefix" and plan.stages[0].axes["seq"].scale == "none"
    assert plan.stages[0].axes["depth"].law.law == "balanced" and plan.stages[0].axes["depth"].scale == "sqrt"
    for stage, code in [
        ("seq=4 scale=sqrt", "no-effect"),
        ("seq=4 seq.idle=skip", "unknown-attribute"),
        ("positions=4 sample=bernoulli", "unknown-word"),
        ("batch=2 batch.sample=window", "unknown-word"),
        ("seq=4 positions=4", "axes-clash"),
    ]:
        assert codes(f"stage {stage} steps=50%\nstage steps=rest") == [code], stage


def test_rule_14_a_run_ends_with_whole_sequences() -> None:
    for axis in ("seq", "batch", "positions"):
        assert codes(f"stage {axis}=1/2 steps=rest") == ["not-full-at-end"]


def test_two_sequences_have_no_axis_of_positions() -> None:
    model = MODEL.replace("seq=8", "seq=8 source_seq=16")
    for axis, expected in [("seq", ["axis-not-in-model"]), ("positions", ["axis-not-in-model"]), ("batch", [])]:
        checked = check_text(f"{model}stage {axis}=1/2 steps=50%\nstage steps=rest\n", complete=True)
        assert [item.code for item in checked.diagnostics] == expected


def test_rule_37_relative_to_what_is_to_be_said_where_tokens_are_thinned() -> None:
    stages = "stage batch=1/4 steps=50%\nstage steps=rest\n"
    assert codes(f"{stages}require flops <= 75%") == ["bad-requirement"]
    assert codes(f"{stages}require flops(per=steps) == 5/8") == []
    assert codes(f"{stages}require flops(per=tokens) == 100%") == []
    assert codes(f"{stages}require flops <= 1e30") == []
    shorter = "stage seq=4 steps=50%\nstage steps=rest\nrequire flops(blocks, per=tokens) == 149/150"
    assert codes(shorter) == []  # scores fall with the square
    assert codes("stage positions=4 steps=50%\nstage steps=rest\nrequire flops <= 75%") == []
