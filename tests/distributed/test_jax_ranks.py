"""What a trainer on JAX says to other processes around a step, and in which order; the others are stood in for."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import pytest

from raptr_dsl import compile_text
from raptr_dsl.backend import TrainSettings
from raptr_dsl.backend.claims import Claim
from raptr_dsl.diagnostics import fail
from raptr_jax import JaxBackend
from raptr_jax.processes import JaxProcesses
from raptr_jax.train import JaxTrainer
from tests.backends.drawn import batch, refused

PLAN = compile_text("""
model layers=2 heads=2 hidden=8 ffn=16 vocab=8 seq=4 batch=2
steps 3
allow partial
stage depth=1/2 steps=rest
""")


class Others(JaxProcesses):
    """They agree to every step but one, and what they are told is written down."""

    def __init__(self, refused_step: int = -1) -> None:
        self.rank, self.size, self.refused_step = 0, 2, refused_step
        self.asked: list[str] = []

    def announce(self, claim: Claim) -> None:
        self.asked.append(f"announce {claim.step}")

    def settle(self, claim: Claim) -> None:
        self.asked.append(f"settle {claim.step}")
        if claim.step == self.refused_step:
            raise fail("ranks-disagree", "the ranks are not about to run the same")

    def withdraw(self) -> None:
        self.asked.append("withdraw")


def trainer_beside(others: Others, monkeypatch: pytest.MonkeyPatch) -> JaxTrainer:
    backend = JaxBackend()
    monkeypatch.setattr(backend, "processes", lambda: others)
    trainer = backend.trainer(PLAN, TrainSettings())
    assert isinstance(trainer, JaxTrainer)
    return trainer


def test_each_step_is_agreed_on_and_the_next_announced_ahead(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    others = Others()
    trainer = trainer_beside(others, monkeypatch)
    for index in range(3):
        trainer.step(index, batch(PLAN.shape, index))
    assert others.asked == ["settle 0", "announce 1", "settle 1", "announce 2", "settle 2"]
    trainer.save(tmp_path)
    others.asked.clear()
    trainer.load(tmp_path)
    assert others.asked == ["withdraw"]


def test_a_step_that_is_not_agreed_on_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = trainer_beside(Others(refused_step=0), monkeypatch)
    before = [np.array(leaf) for leaf in jax.tree.leaves((trainer.parameters, trainer.state))]
    with refused("ranks-disagree"):
        trainer.step(0, batch(PLAN.shape))
    for now, then in zip(jax.tree.leaves((trainer.parameters, trainer.state)), before, strict=True):
        np.testing.assert_array_equal(now, then)
    assert trainer.executed().flops == 0
