"""JAX in two processes: agreement on each step before it begins, a named error for a dead one, `raptr train`."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raptr_dsl import compile_text
from raptr_dsl.backend import TrainSettings
from raptr_dsl.backend.claims import Claims
from raptr_dsl.diagnostics import fail
from raptr_dsl.training import read_journal
from raptr_jax import BACKEND, JaxBackend
from raptr_jax.processes import JaxProcesses
from raptr_jax.train import JaxTrainer
from tests.backends.drawn import batch
from tests.distributed.evaluating import evaluate_differently, require_told
from tests.distributed.jax_launch import on_processes, together
from tests.distributed.outcome import values

PLAN = """
model layers=4 heads=2 hidden=8 ffn=16 vocab=8 seq=4 batch=4
steps 6
seed 17
stage depth=2/4 steps=3
stage steps=rest
"""


def claims(**changes: Any) -> Claims:
    return Claims(compile_text(PLAN, seed=changes.get("seed", 17)), 5, changes.get("micro_batches", 1))


def launched(timeout: float) -> JaxProcesses:
    assert BACKEND.processes().size == 2
    return JaxProcesses(timeout)


def agree(folder: Path) -> dict[str, Any]:
    """Steps with all that a training loop says between them; then each way in which processes can differ."""
    together = launched(timeout=30)
    rank, mine = together.rank, claims()
    for index in range(3):
        together.settle(mine.of(mine.plan.step(index)))
        together.announce(mine.of(mine.plan.step(index + 1)))
        assert together.any(rank == index % 2)
        assert not together.any(False)
    together.withdraw()
    found: dict[str, Any] = {"first": together.first(lambda: rank), "gathered": together.gather(rank * 10)}
    try:
        together.first(_refuse)
    except Exception as error:
        found["refused"] = error.diagnostics[0].code  # pyright: ignore[reportAttributeAccessIssue]
    for _ in range(20):
        together.any(False)
    found["kept"] = together.first(lambda: len(together._store.key_value_dir_get_bytes("raptr/")))
    step = mine.plan.step(1)
    for name, other in {
        "seed": claims(seed=18).of(claims(seed=18).plan.step(1)),
        "step": mine.of(mine.plan.step(4)),
        "micro-batches": claims(micro_batches=2).of(step),
        "mask": replace(mine.of(step), mask=7),
    }.items():
        try:
            together.settle(other if rank else mine.of(step))
        except Exception as error:
            found[name] = [error.diagnostics[0].code, *error.diagnostics[0].notes]  # pyright: ignore
    return found


def _refuse() -> None:
    raise fail("train-locked", "no")


def test_processes_that_disagree_all_name_the_values_of_all(tmp_path: Path) -> None:
    found = values(on_processes(agree, tmp_path, processes=2))
    assert found[0] == found[1]
    told = found[0]
    assert (told["first"], told["gathered"], told["refused"]) == (0, [0, 10], "train-locked")
    assert told["kept"] < 10  # what all have read is forgotten
    for name in ("seed", "step", "micro-batches", "mask"):
        code, first, second = told[name]
        assert code == "ranks-disagree"
        assert first.startswith("rank 0: model 00000000, plan ")
        assert second.startswith("rank 1: model 00000000, plan ")
    assert ("step 1," in told["step"][1], "step 4," in told["step"][2]) == (True, True)
    assert told["micro-batches"][2].endswith("micro-batches 2")


def read_late(folder: Path) -> None:
    """Process 0 knows at once that they differ; the other looks when the first could have been gone for long."""
    together = launched(timeout=30)
    mine = claims(seed=17 + together.rank)
    claim = mine.of(mine.plan.step(0))
    if together.rank:
        together.announce(claim)
        time.sleep(3)
    together.settle(claim)


def test_process_0_ends_when_all_have_read_why(tmp_path: Path) -> None:
    first, second = on_processes(read_late, tmp_path, processes=2)
    assert (first.code, second.code) == ("ranks-disagree", "ranks-disagree")


def lose(folder: Path) -> None:
    together = launched(timeout=2)
    mine = claims()
    together.settle(mine.of(mine.plan.step(0)))
    if together.rank:
        os.kill(os.getpid(), signal.SIGKILL)
    together.settle(mine.of(mine.plan.step(1)))


def test_a_process_that_is_killed_is_missed_after_the_timeout(tmp_path: Path) -> None:
    first, second = on_processes(lose, tmp_path, processes=2)
    assert second.code == "died"
    assert (first.code, first.message) == ("ranks-lost", "rank 1 died, or did not answer within 2 seconds")
    assert first.seconds < 40


def lose_the_first(folder: Path) -> None:
    together = launched(timeout=30)
    together.any(False)
    if not together.rank:
        os.kill(os.getpid(), signal.SIGKILL)
    together.any(False)


def test_when_process_0_is_killed_the_others_leave_a_word(tmp_path: Path) -> None:
    first, second = on_processes(lose_the_first, tmp_path, processes=2)
    assert first.code == "died"
    if second.code == "died":  # JAX has ended it
        assert "error[ranks-lost]: rank 1 was ended from without" in second.message
    else:  # the connection broke before
        assert (second.code, second.message) == ("ranks-lost", "rank 0 died, or did not answer within 30 seconds")
    assert "ranks-lost" not in first.message


def evaluate(folder: Path) -> dict[str, str]:
    return evaluate_differently(BACKEND, PLAN, BACKEND.processes().rank)


def test_processes_that_evaluate_on_other_batches_are_told(tmp_path: Path) -> None:
    require_told(*values(on_processes(evaluate, tmp_path, processes=2)))


def split_over_processes(folder: Path) -> dict[str, Any]:
    """Steps whose parameters lie in parts on both processes, saved by both and read by both."""
    backend, plan = JaxBackend(), compile_text(PLAN)
    together, settings = backend.processes(), TrainSettings(dtype="float64", shard_parameters=True)
    first, again = (backend.trainer(plan, settings) for _ in range(2))
    assert isinstance(first, JaxTrainer) and isinstance(again, JaxTrainer)
    before = [first.step(index, batch(plan.shape, index)).loss for index in range(2)]
    first.save_part(folder / "unfinished")
    together.first(lambda: first.save(folder / "unfinished"))
    together.first(lambda: (folder / "unfinished").rename(folder / "saved"))
    again.load(folder / "saved")
    weights = again.export_state().parameters
    losses = [[trainer.step(2, batch(plan.shape, 2)).loss for trainer in (first, again)]]
    return {
        "losses": [*before, *losses],
        "whole": first.parameters.rest["embedding"]["weight"].is_fully_replicated,
        "weights": float(sum(np.abs(value).sum() for value in weights.values())),
    }


def read_by_one(folder: Path) -> float:
    plan = compile_text(PLAN)
    trainer = JaxBackend().trainer(plan, TrainSettings(dtype="float64", shard_parameters=True))
    trainer.load(folder / "saved")
    return trainer.step(2, batch(plan.shape, 2)).loss


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_parameters_in_parts_are_saved_by_both_processes_and_read_by_any_number_of_devices(tmp_path: Path) -> None:
    (tmp_path / "unfinished").mkdir()
    found = values(on_processes(split_over_processes, tmp_path, processes=2, limit=300))
    assert found[0] == found[1]
    assert not found[0]["whole"]
    one, other = found[0]["losses"][-1]
    assert one == other
    assert not (tmp_path / "saved" / "trainer.npz").exists()
    written = [list((tmp_path / "saved" / "arrays" / f"ocdbt.process_{rank}").rglob("*")) for rank in range(2)]
    assert all(written), "each process writes its own"
    for devices in (1, 4):
        (alone,) = values(on_processes(read_by_one, tmp_path, devices=devices, limit=300))
        assert alone == pytest.approx(one, rel=1e-12)


# --- raptr train ---------------------------------------------------------------------------------------------------

SCHEDULE = """\
keep depth=[first]
stage few depth=2/4 scale=sqrt steps=8
stage parts depth=3/4 heads=1/2 width=2/4 idle=skip steps=8
stage full steps=4
"""
MODEL = "layers = 4\nheads = 2\nhidden = 16\nffn = 32\nwidth_group = 8\nvocab = 258\nseq = 16\nbatch = {batch}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "three.raptr").write_text(SCHEDULE)
    (tmp_path / "tiny.toml").write_text(MODEL.format(batch=8))
    (tmp_path / "text.txt").write_text("".join(f"{n} times {n} is {n * n}.\n" for n in range(3000)))
    return tmp_path


def train(
    folder: Path,
    out: str,
    *options: str,
    processes: int = 2,
    devices: int = 2,
    checkpoint_every: int = 5,
    limit: float = 400,
    **variables: str,
) -> list[Any]:
    command = [
        sys.executable, "-m", "raptr_dsl", "train", str(folder / "three.raptr"), "--model", str(folder / "tiny.toml"),
        "--steps", "20", "--data", str(folder / "text.txt"), "--out", str(folder / out), "--backend", "jax",
        "--dtype", "float64", "--log-every", "1", "--eval-every", "10",
        "--checkpoint-every", str(checkpoint_every), *options,
    ]  # fmt: skip
    return together([command] * processes, devices, limit, XDG_CACHE_HOME=str(folder / "cache"), **variables)


def losses(folder: Path, out: str) -> list[float]:
    lines = read_journal(folder / out / "log.jsonl")
    return [value for line in lines for name, value in line.items() if name.endswith("_loss") or name == "grad_norm"]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_losses_are_those_of_one_process_and_one_writes(folder: Path) -> None:
    done = train(folder, "two")
    assert [process.returncode for process in done] == [0, 0], [process.stdout for process in done]
    assert "FLOPs:" in done[0].stdout
    assert "FLOPs:" not in done[1].stdout
    (alone,) = train(folder, "one", processes=1, devices=1)
    assert alone.returncode == 0, alone.stdout
    np.testing.assert_allclose(losses(folder, "two"), losses(folder, "one"), rtol=1e-9)
    assert read_journal(folder / "two" / "log.jsonl")[-1]["holds"]


KILL = """
import os
if os.environ.get("JAX_PROCESS_ID") == "1":
    import signal
    from raptr_dsl.training import loop
    train = loop.Run._next
    def killed(self):
        if self.step == 12:
            os.kill(os.getpid(), signal.SIGKILL)
        train(self)
    loop.Run._next = killed
"""


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_run_in_parts_of_which_a_process_was_killed_goes_on_whole_on_other_devices(folder: Path) -> None:
    (folder / "sitecustomize.py").write_text(KILL)
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    first, second = train(folder, "killed", "--shard-parameters", PYTHONPATH=path)
    assert second.returncode == -signal.SIGKILL
    assert first.returncode not in (0, -signal.SIGKILL), first.stdout
    assert "ranks-lost" in first.stdout
    assert "Traceback" not in first.stdout
    written = folder / "killed" / "checkpoints" / "step-10" / "trainer" / "arrays"
    assert all((written / f"ocdbt.process_{rank}").is_dir() for rank in range(2)), "each process saves its part"
    (again,) = train(folder, "killed", "--resume", "--whole-parameters", processes=1, devices=4)
    assert again.returncode == 0, again.stdout
    (alone,) = train(folder, "one", processes=1, devices=1)
    assert alone.returncode == 0, alone.stdout
    np.testing.assert_allclose(losses(folder, "killed"), losses(folder, "one"), rtol=1e-9)


def test_what_does_not_divide_the_batch_is_told_and_nothing_is_written(folder: Path) -> None:
    (folder / "tiny.toml").write_text(MODEL.format(batch=3))
    (done,) = train(folder, "odd", processes=1, limit=60)
    assert done.returncode == 1, done.stdout
    assert "a mesh of 2 devices along data does not divide a batch of 3 sequences" in done.stdout
    assert "Traceback" not in done.stdout
    assert not (folder / "odd" / "plan.json").exists()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_loss_that_is_not_a_number_ends_the_run_and_leaves_the_last_good_checkpoint(folder: Path) -> None:
    (done,) = train(folder, "nan", "--lr", "1e300", "--warmup", "1", checkpoint_every=1, processes=1, devices=1)
    assert done.returncode == 1, done.stdout
    assert "trainer-not-finite" in done.stdout
    assert "the last checkpoint is" in done.stdout
    assert "Traceback" not in done.stdout
    last = max((folder / "nan" / "checkpoints").glob("step-*"))
    with np.load(last / "trainer" / "trainer.npz") as arrays:
        assert all(np.isfinite(arrays[name]).all() for name in arrays.files)
