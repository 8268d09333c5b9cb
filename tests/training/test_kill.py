"""Kill −9 at random moments of a real run, again and again: the log and the weights are those of a run never killed."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
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
STEPS = 90
BACKENDS = ["torch", pytest.param("jax", marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kill")
    (path / "three.raptr").write_text(SCHEDULE)
    (path / "tiny.toml").write_text(MODEL)
    (path / "text.txt").write_text("".join(f"{n} times {n} is {n * n}.\n" for n in range(3000)))
    return path


def command(folder: Path, out: str, backend: str) -> list[str]:
    return [
        str(Path(sys.executable).parent / "raptr"), "train", str(folder / "three.raptr"),
        "--model", str(folder / "tiny.toml"), "--steps", str(STEPS), "--data", str(folder / "text.txt"),
        "--out", str(folder / out), "--backend", backend, "--resume", "--lr", "1e-2", "--micro-batches", "2",
        "--log-every", "7", "--eval-every", "40", "--checkpoint-every", "9", "--threads", "1",
    ]  # fmt: skip


def environment(folder: Path) -> dict[str, str]:
    compiled = {  # so that a JAX process killed while it compiles has less to do again
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    return os.environ | {"XDG_CACHE_HOME": str(folder / "cache")} | compiled


def never_killed(folder: Path, backend: str) -> Path:
    """The folder of a run, made once."""
    whole = folder / f"{backend}-whole"
    if not whole.exists():
        arguments = command(folder, whole.name, backend)
        done = subprocess.run(arguments, env=environment(folder), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return whole


def train_killing(folder: Path, out: str, backend: str, kills: int, generator: random.Random) -> int:
    """Runs until done, killing the first `kills` processes at random moments once they train; how many were killed."""
    killed = 0
    while True:
        log = folder / out / "log.jsonl"
        with subprocess.Popen(
            command(folder, out, backend), env=environment(folder), stderr=subprocess.PIPE
        ) as process:
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
    final = Path("checkpoints", f"step-{STEPS}", "trainer")
    if (whole / final / "trainer.npz").exists():
        with np.load(killed / final / "trainer.npz") as ours, np.load(whole / final / "trainer.npz") as theirs:
            assert ours.files == theirs.files
            for name in theirs.files:
                np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
        return
    ours, theirs = (torch.load(path / final / "trainer.pt", weights_only=True) for path in (killed, whole))
    for part in ("model", "optimizer"):
        torch.testing.assert_close(ours[part], theirs[part], rtol=0, atol=0)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_kill_changes_nothing(folder: Path, backend: str) -> None:
    killed = train_killing(folder, f"{backend}-once", backend, 1, random.Random(1))
    assert killed == 1
    assert_same(folder / f"{backend}-once", never_killed(folder, backend))


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("backend", BACKENDS)
def test_twenty_kills_change_nothing(folder: Path, backend: str) -> None:
    killed, generator = 0, random.Random(20)
    for attempt in range(20):
        if killed >= 20:
            return
        out = f"{backend}-often-{attempt}"
        killed += train_killing(folder, out, backend, 20 - killed, generator)
        assert_same(folder / out, never_killed(folder, backend))
    assert killed >= 20
