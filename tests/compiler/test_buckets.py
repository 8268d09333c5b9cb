"""`buckets=N`: the buckets lose the least that so many can, and `shapes` counts them."""

from collections.abc import Mapping
from fractions import Fraction
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raptr_dsl.api import check_text, compile_text
from raptr_dsl.axes import AXES
from raptr_dsl.compiler.buckets import buckets, expected_counts
from raptr_dsl.ir.plan import Plan

FULL = 12
SCHEDULE = """
model layers=12 heads=4 hidden=16 ffn=32 vocab=12 seq=6 batch=4
steps 400
seed 3
stage {stage} steps=300
stage steps=rest
"""


def plan(stage: str, requirement: str = "") -> Plan:
    return compile_text(f"{requirement}\n{SCHEDULE.format(stage=stage)}")


def lost(steps: Mapping[int, Fraction], chosen: tuple[int, ...]) -> Fraction:
    return sum(
        ((min(b for b in chosen if b >= n) - n) * weight for n, weight in steps.items() if n < FULL), Fraction(0)
    )


@settings(max_examples=50)
@given(
    st.dictionaries(st.integers(0, FULL), st.fractions(Fraction(1, 9), 9), min_size=1, max_size=7), st.integers(1, 5)
)
def test_no_buckets_lose_less(steps: dict[int, Fraction], number: int) -> None:
    steps = dict(sorted(steps.items()))
    chosen = buckets(steps, number, FULL)
    below = [count for count in steps if count < FULL]
    if not below:
        assert chosen == ()
        return
    assert len(chosen) <= number and chosen == tuple(sorted(chosen)) and chosen[-1] == below[-1]
    others = [
        (*inner, below[-1]) for size in range(number) for inner in combinations(below[:-1], min(size, len(below) - 1))
    ]
    assert lost(steps, chosen) == min(lost(steps, other) for other in others)


@pytest.mark.parametrize(
    "stage",
    [
        "depth=6/12 depth.sample=bernoulli depth.buckets=2",
        "depth=7.5/12 depth.sample=systematic depth.buckets=1",
        "depth=prob(0.3..0.9) depth.sample=bernoulli depth.buckets=3",
        "depth=6/12 depth.sample=bernoulli depth.profile=linear depth.buckets=2",
        "depth=draw(3/12, 9/12) depth.buckets=1",
        "depth=linear(3/12, 12/12) depth.buckets=2",
    ],
)
def test_expected_counts_are_those_drawn(stage: str) -> None:
    drawn = plan(stage)
    rule = drawn.stages[0].axes["depth"]
    expected = expected_counts(rule, AXES["depth"].space(drawn.shape), 300)
    assert sum(expected.values()) == 300
    counts = drawn.masks("depth", 0, 300).sum(axis=1)
    mean = sum(count * weight for count, weight in expected.items()) / 300
    assert abs(counts.mean() - float(mean)) < 0.5
    assert set(counts.tolist()) <= expected.keys()
    assert all(count in expected for count in rule.buckets)


def test_shapes_are_buckets_and_the_full_network() -> None:
    free = plan("depth=6/12 depth.sample=bernoulli")
    assert free.shapes == 13
    bucketed = plan("depth=6/12 depth.sample=bernoulli depth.buckets=3", "require shapes <= 4")
    assert bucketed.shapes == 4
    assert (bucketed.masks("depth") == free.masks("depth")).all()
    assert bucketed.flops() == free.flops()
    assert bucketed.proven[0].value == "4"


def test_a_bucket_is_another_program_than_as_many_blocks_exactly() -> None:
    both = "depth=6/12 depth.sample=bernoulli depth.buckets=1 steps=10\nstage depth=11/12"
    assert plan(both).stages[0].axes["depth"].buckets == (11,)
    assert plan(both).shapes == 3


def test_systematic_needs_two_shapes_and_no_bucket() -> None:
    assert plan("depth=7.5/12 depth.sample=systematic", "require shapes <= 3").shapes == 3
    assert plan("depth=7.5/12 depth.sample=systematic depth.buckets=1").shapes == 2


def test_more_shapes_than_required_are_refuted() -> None:
    schedule = SCHEDULE.format(stage="depth=6/12 depth.sample=bernoulli depth.buckets=3")
    assert not check_text(f"require shapes <= 3\n{schedule}").ok
