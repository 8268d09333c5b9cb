"""`raptr train` under torchrun: the losses of one process, one writer, and an exact resume after a kill."""

from __future__ import annotations

import io
import os
import signal
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raptr_dsl.backend import TrainSettings
from raptr_dsl.backend.checks import require_micro_batches
from raptr_dsl.cli import main
from raptr_dsl.training import read_journal
from tests.backends.drawn import refused
from tests.distributed.launch import on_ranks, torchrun, values
from tests.training.toys import SHAPE, without_times

SCHEDULE = """\
keep depth=[first]
stage few depth=2/4 scale=sqrt steps=15
stage parts depth=3/4 heads=1/2 width=2/4 idle=skip steps=15
stage drawn depth=3/4 depth.sample=bernoulli idle=skip steps=15
stage full steps=5
"""
MODEL = "layers = 4\nheads = 2\nhidden = 16\nffn = 32\nwidth_group = 8\nvocab = 258\nseq = 16\nbatch = {batch}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "four.raptr").write_text(SCHEDULE)
    (tmp_path / "tiny.toml").write_text(MODEL.format(batch=8))
    (tmp_path / "text.txt").write_text("".join(f"{n} times {n} is {n * n}.\n" for n in range(3000)))
    return tmp_path


def arguments(folder: Path, out: str, *options: str) -> list[str]:
    return [
        "train", str(folder / "four.raptr"), "--model", str(folder / "tiny.toml"), "--steps", "50",
        "--data", str(folder / "text.txt"), "--out", str(folder / out), "--lr", "1e-2", "--clip", "0.5",
        "--dtype", "float64", "--log-every", "1", "--eval-every", "20", *options,
    ]  # fmt: skip


def train(folder: Path, out: str, *options: str, ranks: int = 2, limit: float = 100, **environment: str) -> Any:
    """Exit code and words of the command under torchrun."""
    command = ["-m", "raptr_dsl", *arguments(folder, out, *options)]
    return torchrun(ranks, command, limit, XDG_CACHE_HOME=str(folder / "cache"), **environment)


def here(folder: Path, arguments: list[str]) -> tuple[int, str]:
    """Exit code and words of the command in this process, which is a rank or alone."""
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as environment, redirect_stdout(said), redirect_stderr(said):
        environment.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        return main(arguments), said.getvalue()


def alone(folder: Path, *options: str) -> None:
    code, said = here(folder, arguments(folder, "one", *options))
    assert code == 0, said


def on_two(folder: Path, *options: str) -> list[tuple[int, str]]:
    return values(on_ranks(here, folder, limit=100, arguments=arguments(folder, "two", *options)))


def losses(folder: Path, out: str) -> list[float]:
    lines = read_journal(folder / out / "log.jsonl")
    return [value for line in lines for name, value in line.items() if name.endswith("_loss") or name == "grad_norm"]


def test_losses_are_those_of_one_process_and_one_rank_writes(folder: Path) -> None:
    code, said = train(folder, "two", "--micro-batches", "2")
    assert code == 0, said
    assert said.count("held-out loss of the full network:") == 1
    assert said.count("FLOPs:") == 1
    alone(folder, "--micro-batches", "2")
    np.testing.assert_allclose(losses(folder, "two"), losses(folder, "one"), rtol=1e-7)
    audit = read_journal(folder / "two" / "log.jsonl")[-1]
    assert audit["event"] == "audit"
    assert audit["holds"]


GROWING = """default sample=prefix grow=copy(all) rewarm=3
stage depth=2/4 steps=10
stage depth.train=new moments=zero steps=10
stage freeze=[embed, head] depth.train=suffix(2) steps=10
stage batch=6 scale=learned depth=3/4 steps=10
stage steps=10
"""


def test_growth_training_sets_and_smaller_batches_are_those_of_one_process(folder: Path) -> None:
    (folder / "four.raptr").write_text(GROWING)
    for code, said in on_two(folder, "--micro-batches", "2"):
        assert code == 0, said
    alone(folder, "--micro-batches", "2")
    np.testing.assert_allclose(losses(folder, "two"), losses(folder, "one"), rtol=1e-7)


def test_batches_that_the_ranks_cannot_share_are_refused(folder: Path) -> None:
    (folder / "four.raptr").write_text("stage batch=5 steps=45\nstage steps=5\n")
    for code, said in on_two(folder):
        assert code == 1
        assert "2 ranks do not divide a batch of 5 sequences, which the plan asks for" in said


@pytest.mark.slow
def test_four_ranks(folder: Path) -> None:
    code, said = train(folder, "four", ranks=4)
    assert code == 0, said
    alone(folder)
    np.testing.assert_allclose(losses(folder, "four"), losses(folder, "one"), rtol=1e-7)


@pytest.mark.slow
def test_a_run_of_which_a_rank_was_killed_is_resumed_to_the_bit(folder: Path) -> None:
    code, said = train(folder, "whole", "--checkpoint-every", "9")
    assert code == 0, said
    (folder / "sitecustomize.py").write_text(KILL)
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    code, said = train(folder, "killed", "--checkpoint-every", "9", PYTHONPATH=path)
    assert code != 0
    assert "a rank died" in said
    code, said = train(folder, "killed", "--resume")
    assert code == 0, said
    final = Path("checkpoints", "step-50", "trainer")
    ours, theirs = (torch.load(folder / out / final / "trainer.pt") for out in ("killed", "whole"))
    for part in ("model", "optimizer"):
        torch.testing.assert_close(ours[part], theirs[part], rtol=0, atol=0)
    assert without_times(read_journal(folder / "killed" / "log.jsonl")) == without_times(
        read_journal(folder / "whole" / "log.jsonl")
    )


KILL = """
import os, signal
if os.environ.get("RANK") == "1":
    import sys
    from raptr_dsl.training import loop
    train = loop.Run._next
    def killed(self):
        if self.step == 31:
            os.kill(os.getpid(), signal.SIGKILL)
        train(self)
    loop.Run._next = killed
"""


def test_ranks_and_micro_batches_have_to_divide_the_batch() -> None:
    settings = TrainSettings(micro_batches=2)
    require_micro_batches(SHAPE.model_copy(update={"batch": 8}), settings, ranks=4)
    with refused("ranks-batch", "3 ranks do not divide a batch of 8 sequences"):
        require_micro_batches(SHAPE.model_copy(update={"batch": 8}), settings, ranks=3)
    with refused(
        "trainer-micro-batches", "2 micro-batches do not divide the 1 of 8 sequences that each of 8 ranks takes"
    ):
        require_micro_batches(SHAPE.model_copy(update={"batch": 8}), settings, ranks=8)


@pytest.mark.slow
def test_what_does_not_divide_the_batch_is_told_and_nothing_is_written(folder: Path) -> None:
    (folder / "tiny.toml").write_text(MODEL.format(batch=3))
    code, said = train(folder, "odd")
    assert code != 0
    assert "2 ranks do not divide a batch of 3 sequences" in said
    assert not (folder / "odd").exists()


@pytest.mark.slow
def test_a_signal_to_the_launcher_ends_all_ranks_with_a_checkpoint(folder: Path) -> None:
    (folder / "sitecustomize.py").write_text(
        KILL.replace('"1"', '"0"').replace("os.getpid(), signal.SIGKILL", "os.getppid(), signal.SIGTERM")
    )
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    code, said = train(folder, "stopped", PYTHONPATH=path)
    assert code != 0
    assert f"stopped by {signal.SIGTERM.name}, with a checkpoint" in said
    code, said = train(folder, "stopped", "--resume")
    assert code == 0, said
