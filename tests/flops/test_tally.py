"""What the masks of a seed add up to, against the plainest way of counting them."""

from __future__ import annotations

from itertools import groupby, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import raptr_dsl.tally as tally
from raptr_dsl import compile_text
from raptr_dsl.axes import AXES
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.plan import Plan
from raptr_dsl.tally import largest_imbalance, trained_steps
from tests.flops.drawn import parts_of, plans, shapes


def running(plan: Plan, axis: str) -> NDArray[np.bool_]:
    """bool[steps, sites, units], step by step: a unit of a block that is off does not run."""
    space = AXES[axis].space(plan.shape)
    rows = []
    for index in range(plan.steps):
        axes = plan.step(index).axes
        on = axes[axis].on if axis in axes else np.ones((space.sites, space.units), bool)
        if AXES[axis].per_block and "depth" in axes:
            on = on & axes["depth"].on.reshape(-1, 1)
        rows.append(on)
    return np.array(rows)


def longest_rest(column: list[bool]) -> int:
    return max([0, *(len(list(run)) for on, run in groupby(column) if not on)])


@pytest.mark.parametrize("chunk", [7, 200, 2**21])
@settings(max_examples=25)
@given(shape=shapes(), data=st.data())
def test_rule_39_trained_steps_are_those_of_every_step_alone(
    chunk: int, shape: ModelShape, data: st.DataObject
) -> None:
    plan, axis = data.draw(plans(shape)), data.draw(st.sampled_from(parts_of(shape)))
    runs = running(plan, axis).reshape(plan.steps, -1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tally, "CHUNK_ELEMENTS", chunk)
        found = trained_steps(plan, axis)
    assert found.least == runs.sum(axis=0).min()
    assert found.longest_gap == max(longest_rest(column) for column in runs.T.tolist())


@settings(max_examples=40)
@given(shapes(), st.data())
def test_balance_is_that_of_every_step_alone(shape: ModelShape, data: st.DataObject) -> None:
    plan, axis = data.draw(plans(shape)), data.draw(st.sampled_from(parts_of(shape)))
    units = AXES[axis].space(plan.shape).units
    groups = data.draw(st.sampled_from([g for g in range(1, units + 1) if units % g == 0]))
    active = running(plan, axis).reshape(plan.steps, -1, groups, units // groups).sum(axis=3)
    assert largest_imbalance(plan, axis, groups) == (active.max(axis=2) - active.min(axis=2)).max()


@settings(max_examples=100)
@given(
    st.lists(
        st.lists(st.booleans(), min_size=3, max_size=3) | st.just([False] * 3) | st.just([True] * 3),
        min_size=1,
        max_size=200,
    ),
    st.lists(st.integers(1, 150), max_size=8),
)
def test_runs_in_any_pieces(rows: list[list[bool]], cuts: list[int]) -> None:
    """Rests go on across the borders of pieces, and may be longer than any of them."""
    masks = np.array(rows)
    runs = tally._Runs(3)
    places = sorted({0, len(rows), *(cut for cut in cuts if cut < len(rows))})
    for start, stop in pairwise(places):
        runs.add(masks[start:stop])
    assert runs.count.tolist() == masks.sum(axis=0).tolist()
    assert runs.longest_gap == max(longest_rest(column) for column in masks.T.tolist())


@given(st.integers(1, 1200), st.integers(1, 3))
def test_column_sums_do_not_overflow(rows: int, columns: int) -> None:
    assert tally._column_sums(np.ones((rows, columns), bool)).tolist() == [rows] * columns


def test_groups_of_more_units_than_a_byte_counts() -> None:
    text = "model layers=1 heads=1 hidden=8 ffn=1024 width_group=1 vocab=5 seq=4\nsteps 4\nallow partial\n"
    plan = compile_text(text + "stage width=512/1024 sample=prefix steps=100%\n")
    assert largest_imbalance(plan, "width", 2) == 512
    assert plan.flops(case="seed") == plan.flops()


@pytest.mark.parametrize(
    ("stage", "proof"),
    [
        ("depth=2/4", "for seed 17"),
        ("depth=2/4 sample=balanced", "for seed 17"),
        ("depth=draw(1/4, 2/4) sample=prefix", "for seed 17"),
        ("depth=2/4 sample=prefix", "for every seed"),
        ("depth=2/4 sample=rotate", "for every seed"),
        ("heads=1/2", "for every seed"),
    ],
)
def test_of_what_the_count_is_a_proof(stage: str, proof: str) -> None:
    text = "model layers=4 heads=2 hidden=8 ffn=64 vocab=5 seq=4\nsteps 40\nseed 17\nallow partial\n"
    plan = compile_text(f"{text}stage {stage} steps=100%\n")
    assert trained_steps(plan, "depth").proof == proof
    assert trained_steps(plan, "heads").proof == ("for seed 17" if stage == "heads=1/2" else proof)
