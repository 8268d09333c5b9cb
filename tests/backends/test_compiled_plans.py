"""From the text of a schedule to executed FLOPs, on every backend."""

import pytest

import raptr_dsl as raptr
from raptr_dsl.backend import Backend, TrainSettings
from tests.backends.drawn import batch, planned

MODEL = "model layers=4 heads=4 hidden=16 ffn=24 width_group=4 vocab=11 seq=6 batch=4; steps 6; seed 3;"
SCHEDULES = {
    "depth": "stage depth=2/4 steps=50% scale=sqrt; stage steps=rest",
    "heads and width": "stage heads=1/2 width=1/3 steps=50% scale=sqrt_ratio idle=skip; stage steps=rest",
    "bernoulli": "stage depth=prob(1/2) width=prob(1/2) sample=bernoulli scale=inverse steps=50%; stage steps=rest",
    "everything": "stage depth=3/4 heads=3/4 width=1/2 steps=50% depth.idle=skip; stage steps=rest",
}


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_executed_equals_the_plans_own_account(backend: Backend, schedule: str) -> None:
    plan = raptr.compile_text(MODEL + schedule)
    trainer = backend.trainer(plan, TrainSettings(dtype="float64", micro_batches=2))
    units = dict.fromkeys(("depth", "heads", "width"), 0)
    for index in range(plan.steps):
        trainer.step(index, batch(plan.shape, index))
        units = {axis: units[axis] + count for axis, count in planned(plan.shape, plan.step(index).axes)[0].items()}
    report = plan.flops(case="seed")
    assert trainer.executed().flops == report.blocks + report.head
    assert trainer.executed().units == units
