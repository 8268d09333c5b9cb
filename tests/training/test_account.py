"""What must have run, added up step by step, is what the plan costs as a whole."""

from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from raptr_dsl.axes import AXES
from raptr_dsl.backend import Executed
from raptr_dsl.ir.bound import Border, BoundRule, BoundStage
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.plan import Plan
from raptr_dsl.laws import LAWS
from raptr_dsl.training.account import Account, mean_active, mismatches
from tests.axes import PARTS

SHAPE = ModelShape(
    layers=4, heads=6, kv_heads=3, hidden=12, ffn=20, width_group=4, vocab=16, seq=4, batch=2, gated=True
)
FULL = ModelShape(layers=2, heads=2, hidden=8, ffn=8, width_group=4, vocab=16, seq=4, batch=2)


@st.composite
def rules(draw, axis: str) -> BoundRule:
    units = AXES[axis].space(SHAPE).units
    law = draw(st.sampled_from([LAWS["fixed"](), LAWS["bernoulli"]()]))
    if draw(st.booleans()):
        choices = draw(st.lists(st.integers(1, units), min_size=2, max_size=3, unique=True))
        return BoundRule(law=LAWS["fixed"](), choices=tuple(choices))
    size = draw(st.integers(1, units))
    return BoundRule(law=law, sizes=(Border(offset=0, value=Fraction(size)),))


@st.composite
def plans(draw) -> Plan:
    stages, start = [], 0
    for _ in range(draw(st.integers(1, 3))):
        steps = draw(st.integers(1, 5))
        axes = {axis: draw(rules(axis)) for axis in draw(st.sets(st.sampled_from(sorted(PARTS))))}
        stages.append(BoundStage(start=start, stop=start + steps, duration=Fraction(steps), axes=axes))
        start += steps
    seed = draw(st.integers(0, 2**64 - 1))
    return Plan(name="any", seed=seed, shape=SHAPE, steps=start, partial=True, stages=tuple(stages))


@given(plans())
@settings(max_examples=50)
def test_flops_by_step_add_up_to_what_the_plan_counts_at_once(plan: Plan) -> None:
    account = Account(plan)
    for step in range(plan.steps):
        account.add(plan.step(step))
    assert account.flops == plan.flops(case="seed").total


@given(plans())
@settings(max_examples=50)
def test_units_run_only_in_blocks_that_run(plan: Plan) -> None:
    account = Account(plan)
    for step in range(plan.steps):
        account.add(plan.step(step))
    depth = plan.masks("depth")
    assert account.units["depth"] == depth.sum()
    for axis in ("heads", "width"):
        assert account.units[axis] == (plan.masks(axis) & depth[:, :, None]).sum()


def test_a_full_step_is_counted_without_any_mask() -> None:
    plan = Plan(name="full", seed=0, shape=FULL, steps=1, stages=(BoundStage(start=0, stop=1, duration=Fraction(1)),))
    account = Account(plan)
    account.add(plan.step(0))
    assert account.units == {"depth": 2, "heads": 4, "width": 4}
    tokens, block = 8, 4 * 2 * 8 * 8 * 8 + 2 * 2 * 8 * 4 * 8 + 2 * 2 * 8 * 8 * 8
    assert account.flops == 3 * (2 * block + 2 * tokens * 8 * 16)


def test_every_number_that_is_not_as_planned_is_named() -> None:
    account = Account(toy := Plan(
        name="full", seed=0, shape=FULL, steps=1, stages=(BoundStage(start=0, stop=1, duration=Fraction(1)),)
    ))  # fmt: skip
    account.add(toy.step(0))
    right = Executed(dict(account.units), account.flops)
    assert mismatches(account, right) == []
    assert mismatches(account, Executed({"depth": 2, "heads": 4}, account.flops + 1)) == [
        "width: 0 executed, 4 planned",
        f"FLOPs: {account.flops + 1:,} executed, {account.flops:,} planned",
    ]


def test_mean_active_is_in_elements_of_blocks_that_ran() -> None:
    assert mean_active(SHAPE, {"depth": 6, "heads": 9, "width": 12}, 3) == {"depth": 2.0, "heads": 3.0, "width": 8.0}
    assert mean_active(SHAPE, {"depth": 0, "heads": 0, "width": 0}, 3) == {"depth": 0.0, "heads": 0.0, "width": 0.0}
