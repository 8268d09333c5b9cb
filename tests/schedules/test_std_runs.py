"""Every schedule of `std` runs on every backend that declares what it needs, over its first switch of stage."""

import numpy as np
import pytest

from raptr_dsl import compile_file
from raptr_dsl.api import Options, check_file
from raptr_dsl.backend import Batch, TrainSettings
from raptr_dsl.backend.support import unsupported
from raptr_dsl.ir.bound import changes_state
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.plan import Plan
from raptr_dsl.registry import load_to_run
from raptr_dsl.resources import schedule_directory
from raptr_dsl.training.account import Account

FILES = sorted(schedule_directory().glob("*.raptr"))
STEPS = 100  # the shortest stage of all, the first of MIDAS, has one step
MODEL_AXES = ("depth", "heads", "width", "experts")
NEEDS = {"freezeout": {"tied": False}, "freezeout_cubed": {"tied": False}, "raptr_experts": {"experts": 12, "top_k": 2}}


def plan_of(name: str) -> Plan:
    """The plan for 12 blocks, or for 24 where those do not do."""
    path = schedule_directory() / f"{name}.raptr"
    for layers in (12, 24):
        sizes = {"heads": 12, "hidden": 24, "ffn": 48, "width_group": 2, "vocab": 11, "seq": 8, "batch": 2}
        shape = ModelShape.model_validate({"layers": layers, **sizes, **NEEDS.get(name, {})})
        if check_file(path, Options(model=shape, steps=STEPS), complete=True).plan:
            return compile_file(path, model=shape, steps=STEPS, seed=17)
    raise AssertionError(f"{name} fits neither 12 nor 24 blocks")


NAMES = [path.stem for path in FILES]
# JAX compiles a program for each size: one schedule stands for its kind.
KINDS = (
    "raptr",
    "raptr_experts",
    "raptr_heads",
    "raptr_width",
    "midas",
    "lisa",
    "freezeout",
    "random_ltd",
    "sequence_warmup",
)
RUNS = [
    *(pytest.param(name, "reference") for name in NAMES),
    *(pytest.param(name, "torch", marks=pytest.mark.slow) for name in NAMES),
    *(pytest.param(name, "jax", marks=pytest.mark.slow) for name in KINDS),
]


@pytest.mark.parametrize(("name", "backend"), RUNS)
def test_what_runs_is_what_was_planned(name: str, backend: str) -> None:
    plan, engine = plan_of(name), load_to_run(backend)
    if unsupported(plan, engine):
        rules = [(axis, rule) for stage in plan.stages for axis, rule in stage.axes.items()]
        is_newer = any(changes_state(rule) or axis not in MODEL_AXES for axis, rule in rules)
        assert is_newer and backend != "reference", "only growth, freezing and thinned data may be refused, by name"
        return
    # Over the first switch; not the hundred steps of a plan of one stage.
    steps = min(plan.stages[0].stop, 60) + 2 if len(plan.stages) > 1 else 4
    trainer = engine.trainer(plan, TrainSettings(dtype="float64", lr=1e-3, warmup=2))
    account, random = Account(plan), np.random.default_rng(0)
    for index in range(steps):
        shape = (plan.shape.batch, plan.shape.seq)
        tokens = random.integers(0, plan.shape.vocab, (2, *shape))
        loss = trainer.step(index, Batch(tokens[0], tokens[1])).loss
        assert np.isfinite(loss)
        account.add(plan.step(index))
    executed = trainer.executed()
    assert executed.flops == account.flops
    assert {axis: executed.units.get(axis, 0) for axis in account.units} == account.units
