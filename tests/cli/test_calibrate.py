"""`raptr train --calibrate` and what `raptr cost --calibration` makes of it, from the outside."""

import json
import os
from pathlib import Path

import pytest

from raptr_dsl.training.calibration import load_calibration

MODEL = "layers = 4\nheads = 2\nhidden = 8\nffn = 16\nvocab = 64\nseq = 8\nbatch = 2\n"
SCHEDULE = "keep depth=[first]\nstage half depth=2/4 scale=sqrt steps=50%\nstage full steps=rest\n"
WORDS = ("half.raptr", "--model", "tiny.toml", "--steps", "8")
MEASURE = ("train", *WORDS, "--backend", "reference", "--dtype", "float64", "--calibrate", "--rounds", "2")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "half.raptr").write_text(SCHEDULE)
    (tmp_path / "tiny.toml").write_text(MODEL)
    return tmp_path


def test_measured_and_used(raptr, folder: Path) -> None:
    done = raptr(*MEASURE, "--out", "times.json")
    assert done.code == 0, done.err
    assert "2 sizes in 2 rounds: 12 steps" in done.err
    found = load_calibration(folder / "times.json")
    assert (found.backend, found.dtype, found.rounds) == ("reference", "float64", 2)
    assert [size.active for size in found.sizes] == [{"depth": 2}, {}]
    lines = [line.split() for line in done.out.splitlines()]
    assert [line[:2] for line in lines if line[0] in ("depth", "full")] == [
        ["depth", "2/4"],
        ["full", f"{found.sizes[1].flops:,}"],
    ]
    assert not list(folder.glob("times.json?*"))

    told = raptr("cost", *WORDS, "--calibration", "times.json", "--format", "json")
    time = json.loads(told.out)["costs"][0]["time"]
    half, full = (size.seconds for size in found.sizes)
    assert time["seconds"] == pytest.approx(4 * half + 4 * full)
    assert time["dense_seconds"] == pytest.approx(8 * full)
    shown = raptr("cost", *WORDS, "--calibration", "times.json")
    assert shown.code == 0 and "time by calibration" in shown.out and "measured" in shown.out


def test_an_older_calibration_is_replaced_and_nothing_else(raptr, folder: Path) -> None:
    assert raptr(*MEASURE, "--out", "times.json").code == 0
    assert raptr(*MEASURE, "--out", "times.json").code == 0
    done = raptr(*MEASURE, "--out", "half.raptr")
    assert (done.code, done.out) == (1, "")
    assert "error[output-exists]" in done.err and "--force" not in done.err
    assert (folder / "half.raptr").read_text() == SCHEDULE


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "half.raptr", "--out", "x", "--rounds", "3"),
        ("train", "--calibrate", "--out", "x"),
        ("train", "half.raptr", "--calibrate", "--resume", "--out", "x"),
        (*MEASURE[:-1], "0", "--out", "x"),
    ],
)
def test_options_that_do_not_go_together(raptr, folder: Path, arguments: tuple[str, ...]) -> None:
    assert raptr(*arguments).code == 2
    assert not (folder / "x").exists()


def test_what_the_backend_refuses_leaves_nothing(raptr, folder: Path) -> None:
    (folder / "tiny.toml").write_text(MODEL + "source_seq = 4\n")
    done = raptr(*MEASURE, "--out", "x")
    assert done.code == 1 and "error[network-shape]" in done.err
    assert sorted(os.listdir(folder)) == ["half.raptr", "tiny.toml"]


def test_a_calibration_of_another_model(raptr, folder: Path) -> None:
    assert raptr(*MEASURE, "--out", "times.json").code == 0
    (folder / "tiny.toml").write_text(MODEL.replace("batch = 2", "batch = 4"))
    done = raptr("cost", *WORDS, "--calibration", "times.json")
    assert (done.code, done.out) == (1, "")
    assert "error[calibration-shape]" in done.err and "batch is 2 there, and 4 in the plan" in done.err
    done = raptr("cost", *WORDS, "--calibration", "half.raptr")
    assert (done.code, done.out) == (1, "")
    assert "error[calibration-unreadable]" in done.err


def test_where_nothing_can_be_written_nothing_is_measured(raptr, folder: Path) -> None:
    done = raptr(*MEASURE, "--out", "no/such/times.json")
    assert done.code == 1
    assert "error[output-write]: this file cannot be written: its folder does not exist" in done.err
    assert "measuring" not in done.err
