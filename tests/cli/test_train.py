"""`raptr train` from the outside: what it says, what it refuses, how it goes on."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raptr_dsl.training import RunSummary, read_journal

SCHEDULE = "keep depth=[first]\nstage half depth=2/4 scale=sqrt steps=50%\nstage full steps=rest\n"
SHAPE = {"layers": 4, "heads": 2, "hidden": 8, "ffn": 16, "vocab": 258, "seq": 8, "batch": 2}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "half.raptr").write_text(SCHEDULE)
    write_model(tmp_path / "tiny.toml")
    (tmp_path / "text.txt").write_text("".join(f"{n} times {n} is {n * n}.\n" for n in range(400)))
    return tmp_path


def write_model(path: Path, **words: object) -> None:
    path.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in (SHAPE | words).items()))


NEW = ("train", "half.raptr", "--model", "tiny.toml", "--steps", "8", "--data", "text.txt", "--backend", "reference")


@pytest.fixture
def run(folder: Path, raptr: Callable[..., Any]) -> Callable[..., tuple[int, str, str]]:
    def call(*arguments: str) -> tuple[int, str, str]:
        done = raptr(*arguments)
        return done.code, done.out, done.err

    return call


def test_a_backend_trains_in_what_it_has_and_another_precision_is_refused_before_anything_is_printed(run) -> None:
    code, out, err = run(*NEW, "--out", "run")
    assert (code, "reference, float64" in out) == (0, True), err
    code, out, err = run(*NEW, "--dtype", "float32", "--out", "other")
    assert (code, out, "trainer-dtype" in err) == (1, "", True)


def test_it_says_what_is_on_trains_and_says_what_came_of_it(run, folder: Path) -> None:
    code, out, err = run(*NEW, "--out", "run", "--eval-every", "4")
    assert code == 0, err
    summary = RunSummary.model_validate_json((folder / "run" / "summary.json").read_bytes())
    for said in (summary.plan, "half", "2/4", "text.txt", "sha256", "75%", "reference", f"{summary.held_out_loss:.4f}"):
        assert said in out, said
    assert f"{summary.flops:,} executed, as planned" in out
    lines = err.splitlines()
    assert "half 4/8  held-out loss" in err
    assert any(line.startswith("half 4/8  stage full") for line in lines)


@pytest.mark.parametrize("backend", ["reference", "jax"])
def test_resume_needs_nothing_but_the_folder(run, folder: Path, backend: str) -> None:
    told = ("--lr", "0.01", "--data-seed", "3", "--warmup", "2", "--checkpoint-every", "2", "--log-every", "1")
    begun = [backend if word == "reference" else word for word in NEW]
    assert run(*begun, *told, "--out", "whole")[0] == 0
    shutil.copytree(folder / "whole", folder / "run")
    step_6, step_8 = (folder / "run" / "checkpoints" / f"step-{n}" for n in (6, 8))
    assert step_6.is_dir()
    for path in sorted(step_8.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    step_8.rmdir()
    os.chdir("/")
    code, _, err = run("train", "--resume", "--out", str(folder / "run"))
    assert code == 0, err
    assert "half 6/8  goes on from the checkpoint" in err
    losses = [
        [
            line["subnetwork_training_loss"]
            for line in read_journal(folder / name / "log.jsonl")
            if line["event"] == "train"
        ]
        for name in ("whole", "run")
    ]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 8


def test_a_plan_serves_as_well_as_its_schedule(run, folder: Path) -> None:
    assert run("compile", "half.raptr", "--model", "tiny.toml", "--steps", "8", "-o", "half.plan.json")[0] == 0
    code, _, err = run("train", "half.plan.json", *NEW[6:], "--out", "run")
    assert code == 0, err
    assert (folder / "run" / "plan.json").read_bytes() == (folder / "half.plan.json").read_bytes()


@pytest.mark.parametrize("option", [("--steps", "9"), ("--seed", "1"), ("--model", "demo"), ("--param", "a=1")])
def test_an_option_that_would_change_a_plan_is_refused(run, folder: Path, option: tuple[str, str]) -> None:
    assert run("compile", "half.raptr", "--model", "tiny.toml", "--steps", "8", "-o", "half.plan.json")[0] == 0
    code, _, err = run("train", "half.plan.json", *option, *NEW[6:], "--out", "run")
    assert code == 2
    assert option[0] in err
    assert not (folder / "run").exists()


def test_masked_language_models_train_too(run, folder: Path) -> None:
    write_model(folder / "tiny.toml", causal=False, head_share="25%")
    code, out, err = run(*NEW, "--out", "run")
    assert code == 0, err
    assert "as planned" in out


def test_a_causal_head_on_a_share_of_the_positions_trains_too(run, folder: Path) -> None:
    write_model(folder / "tiny.toml", head_share="50%")
    code, out, err = run(*NEW, "--out", "run")
    assert code == 0, err
    assert "as planned" in out


def test_bpe_is_remembered_by_a_resume(run, folder: Path) -> None:
    write_model(folder / "tiny.toml", vocab=300)
    code, _, err = run(*NEW, "--tokenizer", "bpe:300", "--out", "run")
    assert code == 0, err
    assert run("train", "--resume", "--out", "run")[0] == 0
    code, _, err = run("train", "--resume", "--out", "run", "--tokenizer", "bytes")
    assert code == 1
    assert "data tokenizer" in err


# --- refusals -----------------------------------------------------------------------------------------------


def refused(run, folder: Path, *arguments: str, exits: int = 1) -> str:
    """The code of the one diagnostic with which a command ends; it leaves no folder behind."""
    code, _, err = run(*arguments)
    assert code == exits, err
    assert "Traceback" not in err
    assert not (folder / "run").exists()
    (found,) = re.findall(r"^error\[(.+?)\]", err, re.MULTILINE)
    return found


def test_a_model_with_fewer_tokens_than_the_tokenizer_is_refused_with_the_edit(run, folder: Path) -> None:
    write_model(folder / "tiny.toml", vocab=256)
    code, _, err = run(*NEW, "--out", "run")
    assert code == 1
    assert "train-vocabulary" in err
    assert "vocab=258" in err


def test_a_head_that_sees_no_position_is_refused(run, folder: Path) -> None:
    write_model(folder / "tiny.toml", causal=False, head_share="1%")
    assert refused(run, folder, *NEW, "--out", "run") == "train-no-positions"


def test_what_is_missing_is_said(run, folder: Path) -> None:
    assert refused(run, folder, *NEW, "--data", "nowhere", "--out", "run") == "data-missing"
    (folder / "empty").mkdir()
    assert refused(run, folder, *NEW[:6], "--data", "empty", "--out", "run") == "data-empty"
    (folder / "short.txt").write_text("too short to hold anything out")
    assert refused(run, folder, *NEW[:6], "--data", "short.txt", *NEW[8:], "--out", "run") == "data-too-short"
    (folder / "short.txt").write_text("few windows of held-out text " * 9)
    told = ("--model", "long.toml", *NEW[4:6], "--data", "short.txt", *NEW[8:])
    write_model(folder / "long.toml", batch=64)
    assert refused(run, folder, *NEW[:2], *told, "--out", "run") == "data-too-short"
    assert refused(run, folder, *NEW[:8], "--backend", "tourch", "--out", "run", exits=2) == "backend-unknown"
    assert refused(run, folder, "train", "--data", "text.txt", "--out", "run") == "train-nothing-to-resume"
    assert refused(run, folder, "train", "--resume", "--out", "run") == "train-nothing-to-resume"
    assert refused(run, folder, *NEW, "--micro-batches", "3", "--out", "run") == "trainer-micro-batches"


def test_a_schedule_with_mistakes_trains_nothing(run, folder: Path) -> None:
    (folder / "half.raptr").write_text("stage half depht=2/4 steps=50%\nstage full steps=rest\n")
    code, _, err = run(*NEW, "--out", "run")
    assert code == 1
    assert "depht" in err
    assert not (folder / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--lr", "-1"), "--lr -1.0: input should be greater than 0"),
        (("--beta1", "1"), "--beta1"),
        (("--tokenizer", "bites"), "did you mean bytes?"),
        (("--tokenizer", "bpe:many"), "bpe:VOCABULARY"),
        (("--dtype", "float16"), "float16"),
        (("--log-every", "0"), "--log-every"),
        (("--steps", "8", "--steps", "9"), "--steps"),
    ],
)
def test_a_wrong_option_is_a_wrong_usage(run, folder: Path, arguments: tuple[str, ...], said: str) -> None:
    code, _, err = run("train", "half.raptr", "--model", "tiny.toml", "--data", "text.txt", "--out", "run", *arguments)
    assert code == 2, err
    assert said in err
    assert not (folder / "run").exists()


def test_data_have_to_be_named(run, folder: Path) -> None:
    code, _, err = run(*NEW[:6], "--out", "run")
    assert code == 2
    assert "--data" in err


def test_a_second_run_into_a_folder_is_refused_and_other_settings_too(run, folder: Path) -> None:
    assert run(*NEW, "--out", "run")[0] == 0
    code, _, err = run(*NEW, "--out", "run")
    assert (code, "train-out-occupied" in err) == (1, True)
    code, _, err = run(*NEW, "--resume", "--lr", "0.5", "--data-seed", "4", "--out", "run")
    assert code == 1
    assert "with lr " in err
    assert "data seed" in err
    (folder / "text.txt").write_text("other " * 2000)
    code, _, err = run("train", "--resume", "--out", "run")
    assert code == 1
    assert "data sha256" in err


def test_another_seed_is_another_past(run, folder: Path) -> None:
    assert run(*NEW, "--out", "run")[0] == 0
    code, _, err = run(*NEW, "--seed", "5", "--resume", "--out", "run")
    assert code == 1
    assert "train-resume-plan" in err
    assert "seed is 0 in one plan and 5 in the other" in err


# --- signals ------------------------------------------------------------------------------------------------


def test_sigterm_ends_with_a_checkpoint_and_says_how_to_go_on(folder: Path) -> None:
    long = [str(word) for word in NEW]
    long[long.index("8")] = "100k"
    command = [str(Path(sys.executable).parent / "raptr"), *long, "--out", "run"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "stage half" in line:
                break
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert "raptr train --resume --out run" in err
    assert "Traceback" not in err
    assert list((folder / "run" / "checkpoints").glob("step-*/manifest.json"))
