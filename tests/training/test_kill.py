"""Kill −9 at random moments of a real run, again and again: the log and the weights are those of a run never killed."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from raptr_dsl.training import read_journal
from tests.training.toys import without_times

SCHEDULE = """\
doc "every axis thinned, a random count, a drawn width"
keep depth=[first]
stage small depth=2/4 heads=1/2 scale=sqrt steps=40%
stage drawn depth=3/4 width=draw(1/4, 2/4) depth.sample=bernoulli idle=skip steps=40%
stage full steps=20%
"""
MODEL = "layers = 4\nheads = 2\nhidden = 16\nffn = 32\nwidth_group = 8\nvocab = 258\nseq = 16\nbatch = 2\n"
STEPS = 150


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kill")
    (path / "three.raptr").write_text(SCHEDULE)
    (path / "tiny.toml").write_text(MODEL)
    (path / "text.txt").write_text("".join(f"{n} times {n} is {n * n}.\n" for n in range(3000)))
    return path


def command(folder: Path, out: str) -> list[str]:
    return [
        str(Path(sys.executable).parent / "raptr"), "train", str(folder / "three.raptr"),
        "--model", str(folder / "tiny.toml"), "--steps", str(STEPS), "--data", str(folder / "text.txt"),
        "--out", str(folder / out), "--resume", "--lr", "1e-2", "--micro-batches", "2",
        "--log-every", "7", "--eval-every", "40", "--checkpoint-every", "9", "--threads", "1",
    ]  # fmt: skip


def environment(folder: Path) -> dict[str, str]:
    return os.environ | {"XDG_CACHE_HOME": str(folder / "cache")}


@pytest.fixture(scope="module")
def never_killed(folder: Path) -> Path:
    done = subprocess.run(command(folder, "whole"), env=environment(folder), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "whole"


def train_killing(folder: Path, out: str, kills: int, generator: random.Random) -> int:
    """Runs until done, killing the first `kills` processes at random moments once they train; how many were killed."""
    killed = 0
    while True:
        log = folder / out / "log.jsonl"
        with subprocess.Popen(command(folder, out), env=environment(folder), stderr=subprocess.PIPE) as process:
            if killed < kills:
                wait_for_training(process, log)
                time.sleep(generator.uniform(0, 0.4))
                process.kill()
            _, said = process.communicate()
        if process.returncode != -signal.SIGKILL:
            assert process.returncode == 0, said.decode()
            return killed
        killed += 1


def wait_for_training(process: subprocess.Popen, log: Path) -> None:
    """Returns when the log has been written to since, or the process has ended."""
    before = log.stat() if log.exists() else None
    while process.poll() is None:
        if log.exists() and (before is None or log.stat().st_mtime_ns != before.st_mtime_ns):
            return
        time.sleep(0.005)


def assert_same(killed: Path, whole: Path) -> None:
    assert without_times(read_journal(killed / "log.jsonl")) == without_times(read_journal(whole / "log.jsonl"))
    final = Path("checkpoints", f"step-{STEPS}", "trainer", "trainer.pt")
    ours, theirs = (torch.load(path / final, weights_only=True) for path in (killed, whole))
    for part in ("model", "optimizer"):
        torch.testing.assert_close(ours[part], theirs[part], rtol=0, atol=0)


@pytest.mark.timeout(400)
def test_two_kills_change_nothing(folder: Path, never_killed: Path) -> None:
    killed = train_killing(folder, "twice", 2, random.Random(1))
    assert killed >= 1
    assert_same(folder / "twice", never_killed)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_twenty_kills_change_nothing(folder: Path, never_killed: Path) -> None:
    killed, generator = 0, random.Random(20)
    for attempt in range(20):
        if killed >= 20:
            return
        killed += train_killing(folder, f"often-{attempt}", 20 - killed, generator)
        assert_same(folder / f"often-{attempt}", never_killed)
    assert killed >= 20
