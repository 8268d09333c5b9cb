"""`raptr convert` and `raptr train --init`: what one run has learned, another begins or goes on with."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from raptr_dsl.training import read_journal

SCHEDULE = "keep depth=[first]\nstage half depth=2/4 scale=sqrt steps=50%\nstage full steps=rest\n"
SHAPE = {"layers": 4, "heads": 2, "hidden": 8, "ffn": 16, "vocab": 258, "seq": 8, "batch": 2}
NEW = ("train", "half.raptr", "--model", "tiny.toml", "--steps", "8", "--data", "text.txt", "--eval-every", "4")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raptr: Callable) -> Callable[..., str]:
    """Runs a command; what it printed, or the diagnostics where it failed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "half.raptr").write_text(SCHEDULE)
    (tmp_path / "tiny.toml").write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in SHAPE.items()))
    (tmp_path / "text.txt").write_text("".join(f"{n} times {n} is {n * n}.\n" for n in range(400)))

    def call(*arguments: str) -> str:
        done = raptr(*arguments)
        assert done.code in (0, 1, 2), done.err
        return done.err if done.code else done.out

    return call


def train(run: Callable, backend: str, out: str, *options: str) -> str:
    said = run(*NEW, "--backend", backend, "--dtype", "float64", "--checkpoint-every", "5", "--out", out, *options)
    assert "as planned" in said, said
    return said


def losses(folder: Path) -> list[float]:
    return [r["full_network_held_out_loss"] for r in read_journal(folder / "log.jsonl") if r["event"] == "eval"]


@pytest.mark.parametrize("target", ["torch", pytest.param("jax", marks=pytest.mark.slow)])
def test_a_run_goes_on_on_another_backend(run, tmp_path: Path, target: str) -> None:
    train(run, "reference", "first")
    said = run("convert", "first/checkpoints/step-5", "--to", target, "--out", "second")
    assert said == f"run at step 5, to go on in float64 on {target}: raptr train --resume --out second\n"
    assert "as planned" in run("train", "--resume", "--out", "second")
    first, second = tmp_path / "first", tmp_path / "second"
    np.testing.assert_allclose(losses(second), losses(first), rtol=1e-11)
    assert {"event": "convert", "step": 5, "from": "reference", "to": target} in read_journal(second / "log.jsonl")
    told = json.loads((second / "settings.json").read_text())
    assert (told["backend"], told["train"]["dtype"]) == (target, "float64")


def test_weights_begin_a_run_on_another_backend(run, tmp_path: Path) -> None:
    train(run, "reference", "first")
    assert run("convert", "first", "--out", "w.safetensors") == "weights of step 8: w.safetensors\n"
    with safe_open(tmp_path / "w.safetensors", framework="numpy") as file:
        about = file.metadata()
    assert (about["format"], about["step"], about["backend"]) == ("raptr-weights-1", "8", "reference")
    said = train(run, "torch", "second", "--init", "w.safetensors", "--lr", "1e-30", "--weight-decay", "0")
    assert "weights   " in said
    assert losses(tmp_path / "second")[0] == pytest.approx(losses(tmp_path / "first")[-1], rel=1e-12)
    told = json.loads((tmp_path / "second" / "settings.json").read_text())["init"]
    assert told["path"] == str(tmp_path / "w.safetensors") and len(told["sha256"]) == 64


def test_a_run_that_stopped_before_its_first_checkpoint_begins_with_the_same_weights(run, tmp_path: Path) -> None:
    train(run, "reference", "first")
    run("convert", "first", "--out", "w.safetensors")
    train(run, "reference", "second", "--init", "w.safetensors")
    expected = losses(tmp_path / "second")
    shutil.rmtree(tmp_path / "second" / "checkpoints")
    assert "as planned" in run("train", "--resume", "--out", "second")
    assert losses(tmp_path / "second") == expected
    other = {name: value + 1 for name, value in load_file(tmp_path / "w.safetensors").items()}
    save_file(other, tmp_path / "w.safetensors")
    shutil.rmtree(tmp_path / "second" / "checkpoints")
    assert "weights-changed" in run("train", "--resume", "--out", "second")
    assert "train-resume-settings" in run("train", "--resume", "--out", "second", "--init", "w.safetensors")


def test_rounding_is_asked_for(run, tmp_path: Path) -> None:
    train(run, "reference", "first")
    run("convert", "first", "--out", "exact.safetensors")
    said = run(*NEW, "--backend", "torch", "--dtype", "float32", "--out", "second", "--init", "exact.safetensors")
    assert "weights-dtype" in said and "exact.safetensors" in said
    assert not (tmp_path / "second").exists()
    run("convert", "first", "--dtype", "float32", "--out", "rounded.safetensors")
    assert {value.dtype for value in load_file(tmp_path / "rounded.safetensors").values()} == {np.dtype("float32")}
    said = run("convert", "first/checkpoints/step-5", "--to", "torch", "--dtype", "float32", "--out", "third")
    assert "to go on in float32 on torch" in said
    assert "as planned" in run("train", "--resume", "--out", "third")
    assert losses(tmp_path / "third")[-1] == pytest.approx(losses(tmp_path / "first")[-1], rel=1e-4)
    assert "trainer-dtype" in run("convert", "third", "--to", "reference", "--out", "fourth")
    assert not (tmp_path / "fourth").exists()


def test_what_cannot_be_converted_is_told(run, tmp_path: Path) -> None:
    assert "convert-run" in run("convert", "nowhere", "--out", "w.safetensors")
    train(run, "reference", "first")
    assert "is to be a .safetensors file" in run("convert", "first", "--out", "folder")
    assert "backend-unknown" in run("convert", "first", "--to", "tourch", "--out", "folder")
    assert "train-out-occupied" in run("convert", "first", "--to", "torch", "--out", "first")
    assert "convert-checkpoint" in run("convert", "first/checkpoints/step-6", "--out", "w.safetensors")
    (tmp_path / "first/checkpoints/step-8/state.json").write_text("{}")
    assert "step-8" not in run("convert", "first", "--out", "w.safetensors")
    assert "state.json" in run("convert", "first/checkpoints/step-8", "--out", "w.safetensors")
    shutil.rmtree(tmp_path / "first/checkpoints")
    assert "the run has no checkpoint yet" in run("convert", "first", "--out", "w.safetensors")


@pytest.mark.parametrize("spoil", ["text", "cut", "bfloat16", "missing"])
def test_a_file_that_holds_no_weights_is_refused_and_nothing_is_written(run, tmp_path: Path, spoil: str) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"norm.bias": np.zeros(8)}, path)
    data = path.read_bytes()
    changed = {"text": b"no weights", "cut": data[:-9], "bfloat16": data.replace(b'"F64"', b'"I64"')}
    path.write_bytes(changed.get(spoil, data))
    if spoil == "missing":
        path.unlink()
    said = run(*NEW, "--backend", "reference", "--out", "run", "--init", "w.safetensors")
    assert ("weights-dtype" if spoil == "bfloat16" else "weights-file") in said, said
    assert not (tmp_path / "run").exists()


def test_options_that_a_backend_does_not_have_are_refused_before_anything_is_printed(run, raptr) -> None:
    done = raptr(*NEW, "--backend", "reference", "--shard-parameters", "--out", "run")
    assert (done.code, done.out) == (1, "")
    assert "trainer-option" in done.err
