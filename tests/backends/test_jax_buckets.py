"""Buckets: few programs for random counts; masks, losses and gradients as without them; FLOPs in vain stand apart."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import raptr_dsl as raptr
import raptr_jax
from raptr_dsl.backend import TrainSettings
from raptr_jax import BACKEND
from raptr_jax.apply import masks_of
from raptr_jax.train import JaxTrainer
from tests.backends.drawn import batch

SCHEDULE = """
model layers=5 heads=2 hidden=8 ffn=12 width_group=3 vocab=11 seq=6 batch=2
steps 14
seed 5
require shapes <= 8
stage depth=3/5 depth.sample={law} {buckets} scale=inverse idle={idle} steps=12
stage steps=rest
"""


def trained(schedule: str) -> tuple[JaxTrainer, list[tuple[float, float]]]:
    plan = raptr.compile_text(schedule)
    trainer = BACKEND.trainer(plan, TrainSettings(dtype="float64", lr=1e-2))
    assert isinstance(trainer, JaxTrainer)
    results = [trainer.step(index, batch(plan.shape, index)) for index in range(plan.steps)]
    trainer.programs.wait()
    return trainer, [(result.loss, result.grad_norm) for result in results]


@pytest.mark.parametrize("idle", ["skip", "zero"])
def test_losses_and_gradients_are_those_without_buckets(idle: str) -> None:
    words = {"law": "bernoulli", "idle": idle}
    plain, expected = trained(SCHEDULE.format(buckets="", **words))
    padded, found = trained(SCHEDULE.format(buckets="depth.buckets=2", **words))
    np.testing.assert_allclose(found, expected, rtol=1e-13)
    ours, theirs = (jax.tree.leaves((trainer.parameters, trainer.state)) for trainer in (padded, plain))
    for one, other in zip(ours, theirs, strict=True):  # gradients of key biases are rounding alone
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)
    assert len(padded.programs) <= padded.plan.shapes == 3 < len(plain.programs)
    ours, theirs = padded.executed(), plain.executed()
    assert (ours.units, ours.flops) == (theirs.units, theirs.flops)
    assert ours.flops == padded.plan.flops(case="seed").total
    assert ours.padded_flops > 0 == theirs.padded_flops


def test_idle_blocks_fill_a_bucket_in_order() -> None:
    plan = raptr.compile_text(SCHEDULE.format(law="bernoulli", buckets="depth.buckets=2", idle="skip"))
    (buckets,) = {rule.buckets for stage in plan.stages for rule in stage.axes.values()}
    for index in range(12):
        planned = plan.step(index).axes["depth"].on[0]
        masks = masks_of(plan.step(index), plan.stages[0], 5, np.float64)
        if planned.all():
            assert masks.index is None and masks.on is None
            continue
        assert isinstance(masks.index, np.ndarray) and isinstance(masks.on, np.ndarray)
        assert len(masks.index) in buckets
        assert (np.diff(masks.index) > 0).all()
        assert masks.index[masks.on].tolist() == planned.nonzero()[0].tolist()


def test_systematic_needs_two_programs_and_pads_nothing() -> None:
    trainer, _ = trained(SCHEDULE.format(law="systematic", buckets="", idle="skip").replace("3/5", "2.5/5"))
    assert len(trainer.programs) == trainer.plan.shapes == 3
    assert trainer.executed().padded_flops == 0


def test_a_block_that_fills_a_bucket_changes_nothing_and_has_no_gradient() -> None:
    stacked = {"w": np.random.default_rng(0).normal(size=(4, 3, 3)).astype(np.float32)}
    x = np.ones((2, 3), np.float32)

    def run(stacked: Any, mask: raptr_jax.BlockMask) -> Any:
        return raptr_jax.scan_blocks(lambda p, y: y + jnp.tanh(y @ p["w"]), stacked, x, mask).sum()

    alone = raptr_jax.block_mask([0, 3], 4)
    filled = raptr_jax.block_mask([0, 2, 3], 4)._replace(on=np.array([True, False, True]))
    expected, gradient = jax.value_and_grad(run)(stacked, alone)
    found, with_bucket = jax.value_and_grad(run)(stacked, filled)
    assert found == expected
    np.testing.assert_array_equal(with_bucket["w"], gradient["w"])
    assert not np.any(with_bucket["w"][2])
