"""Ranks of torchrun evaluate on the same batches, or are told that they do not; and begin only if told the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from raptr_dsl.backend.processes import Processes
from raptr_dsl.diagnostics import RaptrError
from raptr_dsl.training import opening
from raptr_torch import BACKEND
from raptr_torch.processes import launched
from tests.distributed.evaluating import evaluate_differently, require_told
from tests.distributed.launch import on_ranks, values
from tests.training.toys import ToyBackend, ToyFeed, toy_plan, toy_settings

PLAN = "model layers=2 heads=2 hidden=8 ffn=16 vocab=8 seq=4 batch=4;steps 3; stage depth=1/2 steps=1; stage steps=rest"


def evaluate(folder: Path) -> dict[str, str]:
    return evaluate_differently(BACKEND, PLAN, launched().rank)


def test_ranks_that_evaluate_on_other_batches_are_told(tmp_path: Path) -> None:
    require_told(*values(on_ranks(evaluate, tmp_path)))


class Two(Processes):
    """This one, and another that was told something else."""

    size = 2

    def __init__(self, **other: object) -> None:
        self.other = other

    def gather(self, value):
        return [value, {**value, **self.other}]


@pytest.mark.parametrize("other", [{"plan": "ab"}, {"train.lr": 0.2}, {"cadence.eval_every": 3}, {"data.sha256": "x"}])
def test_processes_that_are_told_differently_do_not_begin(
    other: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "processes_of", lambda _: Two(**other))
    (name,) = other
    with pytest.raises(RaptrError) as caught:
        opening.train(toy_plan(), ToyBackend().as_backend, ToyFeed(), toy_settings(), tmp_path / "run")
    (told,) = caught.value.diagnostics
    assert told.code == "ranks-disagree"
    assert told.notes[1] == f"rank 1: {name} {other[name]}" and told.notes[0].startswith(f"rank 0: {name} ")
    assert not (tmp_path / "run").exists()


def test_where_files_lie_may_differ_between_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = toy_settings()
    elsewhere = told.model_copy(update={"threads": 3, "data": told.data.model_copy(update={"paths": ("b",)})})
    assert opening.shared_settings(told) == opening.shared_settings(elsewhere)
