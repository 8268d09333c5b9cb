"""What the tests of `std` share: plans of its schedules, and what they do step by step."""

from collections.abc import Callable

import pytest

from raptr_dsl import compile_file
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.plan import Plan
from raptr_dsl.resources import schedule_directory

FILES = sorted(schedule_directory().glob("*.raptr"))
T = 1200


def shape(layers: int, name: str = "") -> ModelShape:
    """A model for the schedule of that name."""
    words = {"experts": 12, "top_k": 2} if name.endswith("experts") else {}
    return ModelShape(layers=layers, heads=12, hidden=96, ffn=1536, vocab=64, seq=8, batch=2, tied=False, **words)


LONG = shape(4).model_copy(update={"seq": 64})


def plan_of(name: str, layers: int = 12, steps: int = T, **params: str) -> Plan:
    return compile_file(
        schedule_directory() / f"{name}.raptr", model=shape(layers, name), steps=steps, seed=17, params=params
    )


def chances(plan: Plan, step: int) -> dict[int, float]:
    """The keep probability of each block that runs in a step, by the 1/p with which its output is multiplied."""
    mask = plan.step(step).axes.get("depth")
    if mask is None or mask.full:
        return dict.fromkeys(range(plan.shape.layers), 1.0)
    return {block: 1 / mask.scale[0, block] for block in mask.active()}


def require_rule(plan: Plan, keep: Callable[[int, float], float], tolerance: float = 1 / 1024) -> None:
    """Compares the probability of each block that runs, in steps all over the run, with a published rule."""
    for step in range(0, T, 7):
        for block, chance in chances(plan, step).items():
            assert chance == pytest.approx(keep(block, step), abs=tolerance), (block, step)


def sizes(plan: Plan) -> list[tuple[int, int]]:
    """(steps, active blocks) of each stage."""
    return [(stage.steps, int(plan.masks("depth", stage.start, stage.start + 1).sum())) for stage in plan.stages]


def layer_map(plan: Plan, stage: int) -> list[int]:
    growth = plan.growth(stage)
    assert growth is not None
    return list(growth.sources)
