"""What is peculiar to the torch trainer: dtypes, decay, random states, and the order of its refusals."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from raptr_dsl import compile_text
from raptr_dsl.backend import TrainSettings
from raptr_torch import BACKEND
from raptr_torch.model import build
from raptr_torch.train import TorchTrainer, adamw
from tests.backends.drawn import SMALL, batch, drawn_plan, mask, refused


def trainer_of(*masks: dict, **settings) -> TorchTrainer:
    trainer = BACKEND.trainer(drawn_plan(SMALL, masks, {"width": "skip"}), TrainSettings(**settings))
    assert isinstance(trainer, TorchTrainer)
    return trainer


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_every_dtype_trains(dtype: str) -> None:
    masks = {"depth": mask(SMALL, "depth", [1, 0, 1], 1.5), "width": mask(SMALL, "width", [1, 0, 1, 1], [1, 1, 2, 3])}
    trainer = trainer_of(*[masks, {}] * 10, dtype=dtype, lr=1e-2, micro_batches=2)
    first, *_, last = [trainer.step(index, batch(SMALL)).loss for index in range(20)]
    assert last < first - 0.1
    expected = torch.float64 if dtype == "float64" else torch.float32
    assert {parameter.dtype for parameter in trainer.model.parameters()} == {expected}


def test_learned_factors_and_thinned_data_train_in_mixed_precision() -> None:
    plan = compile_text(
        "model layers=3 heads=4 hidden=8 ffn=12 width_group=3 vocab=11 seq=6 batch=4\nsteps 6\nallow partial\n"
        "stage depth=2/3 scale=learned positions=3 batch=3 steps=3\nstage seq=4 steps=rest\n"
    )
    trainer = BACKEND.trainer(plan, TrainSettings(dtype="bfloat16", micro_batches=2))
    assert isinstance(trainer, TorchTrainer)
    for index in range(plan.steps):
        assert np.isfinite(trainer.step(index, batch(plan.shape, index)).loss)
    assert trainer.executed().flops == plan.flops(case="seed").total
    assert any(block.factor.item() != 1 for block in trainer.model.blocks)


def test_decay_is_for_matrices_only() -> None:
    model = build(SMALL, 0)
    names = {parameter: name for name, parameter in model.named_parameters()}
    decayed, others = ({names[p] for p in group["params"]} for group in adamw(model, TrainSettings()).param_groups)
    assert all(name.endswith(".weight") and "norm" not in name for name in decayed)
    assert all(name.endswith(".bias") or "norm" in name for name in others)
    assert decayed | others == set(names.values())


def test_random_states_are_part_of_a_checkpoint(tmp_path: Path) -> None:
    def drawn() -> tuple:
        return random.random(), float(np.random.standard_normal()), float(torch.randn(()))

    trainer = trainer_of({})
    drawn()
    trainer.save(tmp_path)
    expected = [drawn() for _ in range(3)]
    trainer.load(tmp_path)
    assert [drawn() for _ in range(3)] == expected


def test_weights_and_counts_are_untouched_by_a_step_that_failed() -> None:
    trainer = trainer_of({}, {}, clip=1e-3)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.model.norm.bias.data.fill_(float("nan"))
    with refused("trainer-not-finite", "the loss of step 0 is nan"):
        trainer.step(0, batch(SMALL))
    assert trainer.executed().flops == 0
    trainer.model.norm.bias.data.zero_()
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())
    trainer.step(0, batch(SMALL))  # and its gradients are gone


def test_a_gradient_that_is_not_finite_stops_before_the_update() -> None:
    trainer = trainer_of({})
    trainer.model.blocks[0].ffn.up.weight.register_hook(lambda gradient: gradient * float("inf"))
    with refused("trainer-not-finite", "the gradient norm of step 0 is"):
        trainer.step(0, batch(SMALL))


@pytest.mark.parametrize("norm", [0.5, 2.0])
def test_the_gradient_is_clipped_above_the_limit_only(norm: float) -> None:
    trainer = trainer_of({})
    for parameter in trainer.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    trainer.model.norm.bias.grad = torch.full((SMALL.hidden,), norm / SMALL.hidden**0.5)
    assert trainer._clip() == pytest.approx(norm)
    assert float(trainer.model.norm.bias.grad.norm()) == pytest.approx(min(norm, 1.0), rel=1e-5)
