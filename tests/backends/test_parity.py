"""PyTorch and JAX train alike: the same plan, the same weights, the same batches, over all axes, scales and idle rules.

float64 shows that they mean the same; float32 how far rounding takes two programs apart (see docs/training.md).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import raptr_dsl as raptr
from raptr_dsl.backend import TrainSettings
from raptr_dsl.backend.network import initial_values
from raptr_dsl.backend.state import TrainerState
from raptr_dsl.ir.plan import Plan
from raptr_dsl.registry import load_to_run
from raptr_dsl.training.weights import read_weights, write_weights
from tests.backends.drawn import batch

MODEL = "model layers=4 heads=4 kv_heads=2 hidden=16 ffn=24 width_group=3 gated=true vocab=11 seq=8 batch=4;"
MIXED = "stage depth=3/4 heads=1/2 width=1/2 depth.scale=linear heads.scale=inverse idle=skip steps=25%;"
STAGES = (
    "stage depth=2/4 scale=sqrt steps=25%;"
    + MIXED
    + "stage depth=3/4 width=1/4 scale=sqrt_ratio depth.idle=skip steps=25%;"
    "stage steps=rest"
)


def trained(plan: Plan, dtype: str, folder: Path) -> tuple[dict[str, list[float]], dict[str, dict[str, np.ndarray]]]:
    """Losses and final weights by backend; those of torch are carried to jax, which would begin with others."""
    settings = TrainSettings(dtype=dtype, lr=1e-3, warmup=plan.steps // 10, clip=1.0)  # pyright: ignore
    trainers = {
        "torch": load_to_run("torch").trainer(plan, settings),
        "jax": load_to_run("jax").trainer(plan, settings.model_copy(update={"init_seed": 1})),
    }
    write_weights(folder / "w.safetensors", trainers["torch"].export_state().parameters)
    trainers["jax"].import_state(TrainerState(read_weights(folder / "w.safetensors")))
    losses: dict[str, list[float]] = {name: [] for name in trainers}
    for index in range(plan.steps):
        for name, trainer in trainers.items():
            losses[name].append(trainer.step(index, batch(plan.shape, index)).loss)
    assert trainers["torch"].executed() == trainers["jax"].executed()
    return losses, {name: dict(trainer.export_state().parameters) for name, trainer in trainers.items()}


def compare(steps: int, dtype: str, tolerance: float, folder: Path, stages: str = STAGES) -> None:
    plan = raptr.compile_text(f"{MODEL} steps {steps}; seed 3; {stages}")
    losses, weights = trained(plan, dtype, folder)
    np.testing.assert_allclose(losses["jax"], losses["torch"], rtol=tolerance)
    start = initial_values(plan.shape, 0)
    for name, value in weights["torch"].items():
        if name.endswith("key.bias"):  # its gradient is zero but for rounding, which Adam scales up
            continue
        moved = np.abs(value - start[name]).max()
        assert np.abs(weights["jax"][name] - value).max() <= 1e3 * tolerance * moved, name


def test_a_short_run_is_the_same_in_float64(tmp_path: Path) -> None:
    compare(20, "float64", 1e-12, tmp_path, MIXED + "stage steps=rest")


@pytest.mark.slow
def test_float64_agrees_over_200_steps(tmp_path: Path) -> None:
    compare(200, "float64", 1e-11, tmp_path)


@pytest.mark.slow
def test_float32_agrees_as_far_as_rounding_lets_it(tmp_path: Path) -> None:
    compare(200, "float32", 1e-4, tmp_path)
