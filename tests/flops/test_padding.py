"""The FLOPs that fill buckets: the expectation is the mean over all that can be drawn."""

from fractions import Fraction
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from raptr_dsl import compile_text
from raptr_dsl.flops import block_cost
from raptr_dsl.flops.padding import padded_cost

MODEL = "model layers=5 heads=2 hidden=8 ffn=12 width_group=3 vocab=11 seq=6 batch=2; steps 100; seed 5;"


@settings(max_examples=25)
@given(st.integers(1, 4), st.integers(1, 3), st.sampled_from(["", "width=1/2", "seq=3/6", "positions=2/6 width=1/4"]))
def test_it_is_the_mean_over_all_draws(blocks: int, buckets: int, other: str) -> None:
    plan = compile_text(
        f"{MODEL} stage depth={blocks}/5 depth.sample=bernoulli depth.buckets={buckets} {other} steps=40;"
        "stage steps=rest"
    )
    stage, full = plan.stages
    rule, share = stage.axes["depth"], Fraction(blocks, 5)
    expected = Fraction(0)
    for on in product((False, True), repeat=5):  # every mask, by how likely it is
        chance = Fraction(1)
        for unit in on:
            chance *= share if unit else 1 - share
        count = sum(on)
        if count < 5:
            expected += chance * (next(size for size in rule.buckets if size >= count) - count)
    step = plan.step(0)
    shares = {
        name: Fraction(int(mask.on[0].sum()), mask.on.shape[1]) for name, mask in step.axes.items() if name != "depth"
    }
    assert padded_cost(stage, plan.shape) == 40 * expected * block_cost(plan.shape, shares)
    assert padded_cost(full, plan.shape) == 0


def test_there_is_none_without_buckets() -> None:
    plan = compile_text(f"{MODEL} stage depth=3/5 depth.sample=bernoulli steps=40; stage steps=rest")
    assert padded_cost(plan.stages[0], plan.shape) == 0
