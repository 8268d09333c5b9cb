"""Blocks in which an axis is full: how many programs and graphs a plan asks for, told without compiling any."""

from __future__ import annotations

import numpy as np
import pytest

import raptr_dsl as raptr
import raptr_jax
from raptr_jax.apply import masks_of
from raptr_jax.programs import _key
from raptr_torch.compiling import sizes
from tests.backends.drawn import refused

MODEL = "model layers=8 heads=4 hidden=8 ffn=12 experts=3 top_k=2 vocab=11 seq=8 batch=2\nsteps 400\nseed 5\n"
STAGES = {
    "the ends": "stage positions=2..8 positions.full=[first, last] steps=50%",
    "the ends, beside drawn blocks": "keep depth=[first, last]\nstage depth=5 heads=1/2 full=[first, last] steps=50%",
    "one among drawn blocks": "keep depth=[3]\nstage depth=5 heads=1/2 heads.full=[3] steps=50%",
    "two among drawn and kept blocks": "keep depth=[1, 3, 5]\nstage depth=5 heads=1/2 heads.full=[3, 5] steps=50%",
    "each axis in blocks of its own": "keep depth=[0, 1, 7]\n"
    "stage depth=5 heads=1/2 experts=2/3 heads.full=[0, 1] experts.full=[1, 7] steps=50%",
    "a prefix that reaches them": "stage depth=2..8 heads=1/2 sample=prefix full=[first, 4] steps=50%",
    "sizes that reach the whole axis": "keep depth=[2]\nstage depth=6 heads=1/4..4/4 heads.full=[2] steps=50%",
}


@pytest.mark.parametrize("name", STAGES)
def test_rule_38_shapes_are_the_programs_that_the_masks_ask_for(name: str) -> None:
    plan = raptr.compile_text(f"{MODEL}{STAGES[name]}\nstage steps=rest\n")
    asked = set()
    for index in range(plan.steps):
        step = plan.step(index)
        asked.add(_key((masks_of(step, plan.stages[step.stage], plan.shape.layers, np.float32),)))
    assert len(asked) == plan.shapes


@pytest.mark.parametrize(
    ("stage", "graphs"),
    [
        ("heads=1/2", 1),
        ("heads=1/2 heads.full=[first, last]", 2),
        ("heads=1/2 experts=2/3 heads.full=[first] experts.full=[first, last]", 3),
        ("keep depth=[0]; stage depth=5 heads=1/4..3/4 heads.full=[0]", 4),
    ],
)
def test_a_torch_graph_is_of_one_block_and_so_of_what_blocks_can_have(stage: str, graphs: int) -> None:
    text = stage if stage.startswith("keep") else f"stage {stage}"
    assert sizes(raptr.compile_text(f"{MODEL}allow partial; {text} steps=100%")) == graphs


def test_a_loop_of_one_s_own_scans_all_blocks_alike_and_is_refused() -> None:
    text = MODEL.replace("experts=3 top_k=2 ", "") + "stage heads=1/2 heads.full=[first] steps=50%\nstage steps=rest\n"
    with refused("attach-uneven", "block 0 runs all of its heads"):
        raptr_jax.BACKEND.attach({"weight": np.zeros((8, 2))}, raptr.compile_text(text))
