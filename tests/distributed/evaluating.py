"""Evaluations in which processes differ, whatever the backend."""

from __future__ import annotations

from collections.abc import Mapping

from raptr_dsl import compile_text
from raptr_dsl.backend import Backend, TrainSettings
from raptr_dsl.diagnostics import RaptrError
from tests.backends.drawn import batch


def evaluate_differently(backend: Backend, text: str, rank: int) -> dict[str, str]:
    """One process has another number of batches, then other data, then both the same: losses, or what was refused."""
    plan = compile_text(text)
    trainer = backend.trainer(plan, TrainSettings())
    found = {}
    for name, batches in {
        "count": [batch(plan.shape, 1)] * (1 + rank),
        "data": [batch(plan.shape, rank)],
        "same": [batch(plan.shape, 1)],
    }.items():
        try:
            found[name] = str(trainer.evaluate(batches))
        except RaptrError as error:
            first = error.diagnostics[0]
            found[name] = f"{first.code}: {' / '.join(first.notes)}"
    return found


def require_told(one: Mapping[str, str], other: Mapping[str, str]) -> None:
    """Both of two processes were told the values of both, and went on where they were the same."""
    assert one == other
    assert one["count"].startswith("ranks-disagree: rank 0: evaluation after 0 steps, 1 batches, data ")
    assert " / rank 1: evaluation after 0 steps, 2 batches, data " in one["count"]
    assert one["data"].startswith("ranks-disagree: ")
    assert float(one["same"]) > 0
