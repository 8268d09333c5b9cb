"""Ranks that are not about to run the same stop before a collective of the step, and every rank says what each ran."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

from raptr_dsl.backend.claims import Claims
from raptr_dsl.diagnostics import RaptrError
from raptr_torch.agreement import Agreement
from tests.distributed.launch import on_ranks, values
from tests.distributed.loops import SCHEDULE, attached, plan, train

DIFFERENCES = {
    "seed": "plan",
    "plan": "plan",
    "step": "step",
    "micro-batches": "micro-batches",
    "model": "model",
    "frozen": "model",
    "unknown micro-batches": "micro-batches",
    "late step": "step",
}
"""What rank 1 does differently, and the first of the words in which that is told."""


def told(error: RaptrError) -> dict[str, Any]:
    return {"code": error.diagnostics[0].code, "notes": error.diagnostics[0].notes}


def miscount() -> list[dict[str, Any]]:
    """Both ranks run another number of micro-batches than they declared: one less, one more."""
    endings = []
    for declared, ran in ((2, 1), (1, 2)):
        model, optimizer, runner = attached(plan())
        runner.distribute(micro_batches=declared)
        try:
            train(model, optimizer, runner, ran)
        except RaptrError as error:
            endings.append(told(error))
    return endings


def silence() -> list[dict[str, Any]]:
    """What is refused on one rank as on all."""
    endings = []
    for mistake in ("undecided", "twice"):
        model, optimizer, runner = attached(plan())
        try:
            if mistake == "twice":
                runner.distribute()
                runner.distribute()
            train(model, optimizer, runner, 1)
        except RaptrError as error:
            endings.append(told(error))
    return [*endings, *miscount()]


def forged() -> list[str]:
    """The parts of a claim in which rank 1 can differ alone without being noticed."""
    agreement, claim = Agreement(), Claims(plan(), 5, 1).of(plan().step(3))
    unnoticed = []
    for part, value in asdict(claim).items():
        for more in (1, -1):  # what differs is the greatest of all ranks, or the least
            try:
                agreement.exchange(replace(claim, **{part: value + more * dist.get_rank()}))
            except RaptrError:
                continue
            unnoticed.append(part)
    return unnoticed


def differ(folder: Path) -> dict[str, Any]:
    """Rank 1 does something else in each of several ways, one after the other; how each ended.

    The last leaves reductions of rank 0 behind that nobody answers.
    """
    odd = dist.get_rank() == 1
    endings: dict[str, Any] = {"silence": silence(), "forged": forged()}
    for what in DIFFERENCES:
        text = SCHEDULE.replace("depth=2/6", "depth=3/6") if odd and what == "plan" else SCHEDULE
        model, optimizer, runner = attached(plan(18 if odd and what == "seed" else 17, text))
        if odd and what == "model":
            model.register_buffer("extra", model.norm.weight.detach().clone())
        if odd and what == "frozen":
            model.norm.weight.requires_grad_(False)
        begun = time.monotonic()
        try:
            unknown = what == "unknown micro-batches"
            runner.distribute(micro_batches=None if unknown else 2 if odd and what == "micro-batches" else 1)
            if odd and what == "step":
                runner.next_step = 7
            if what == "late step":
                train(model, optimizer, runner, 1, until=3)
                runner.next_step = 9 if odd else 3
            train(model, optimizer, runner, 2 if odd and unknown else 1)
        except RaptrError as error:
            ending = told(error)
        else:
            ending = {"code": "none"}
        endings[what] = {**ending, "seconds": time.monotonic() - begun}
    return endings


def test_whatever_differs_is_named_on_every_rank_within_a_second_and_nothing_is_silent(tmp_path: Path) -> None:
    first, second = values(on_ranks(differ, tmp_path))
    for what, named in DIFFERENCES.items():
        for ending in (first[what], second[what]):
            assert ending["code"] == "ranks-disagree", (what, ending)
            assert [note.split(":")[0] for note in ending["notes"]] == ["rank 0", "rank 1"], (what, ending)
            first_said, second_said = (note.split(": ")[1].split(", ") for note in ending["notes"])
            differing = [a for a, b in zip(first_said, second_said, strict=True) if a != b]
            assert differing and differing[0].split()[0] == named, (what, ending)
            assert ending["seconds"] < 1, (what, ending)
    for endings in (first, second):
        assert endings["forged"] == []
        codes = [ending["code"] for ending in endings["silence"]]
        assert codes == ["ranks-undecided", "ranks-twice", "ranks-micro-batches", "ranks-micro-batches"]


def lose(folder: Path, how: str) -> None:
    """Rank 1 leaves before step 3, or hangs there."""
    model, optimizer, runner = attached(plan())
    runner.distribute(timeout=timedelta(seconds=3 if how == "hung" else 50))
    train(model, optimizer, runner, 1, until=3)
    time.sleep(0.5)  # what was sent before has arrived
    if dist.get_rank() == 1 and how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if dist.get_rank() == 1 and how == "hung":
        time.sleep(8)
    if dist.get_rank() == 1 and how == "failed":
        with runner.step(3):  # before its gradients are sent: rank 0 cannot end the step without them
            raise OSError("the data are gone")
    train(model, optimizer, runner, 1)


@pytest.mark.slow
def test_a_rank_that_is_killed_is_missed_at_once(tmp_path: Path) -> None:
    first, second = on_ranks(lose, tmp_path, how="killed")
    assert second.code == "died"
    assert first.code == "ranks-lost"
    assert "within 50 seconds" in first.message
    assert first.seconds < 20


@pytest.mark.slow
def test_the_reason_of_a_rank_that_fails_reaches_the_others(tmp_path: Path) -> None:
    first, second = on_ranks(lose, tmp_path, how="failed")
    assert (second.code, second.message) == ("OSError", "the data are gone")
    assert first.code == "ranks-failed"
    assert first.notes == ("rank 1: OSError: the data are gone",)
    assert first.seconds < 20


@pytest.mark.slow
def test_a_rank_that_hangs_is_waited_for_as_long_as_was_said(tmp_path: Path) -> None:
    first, _ = on_ranks(lose, tmp_path, how="hung")
    assert first.code == "ranks-lost"
    assert "within 3 seconds" in first.message
    assert 3 <= first.seconds < 8
