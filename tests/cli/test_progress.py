"""What is shown while a run goes on: lines that read well in a file, bars on a terminal."""

import io
import sys

import pytest

from raptr_dsl.cli import progress
from raptr_dsl.diagnostics import Diagnostic
from tests.training.toys import toy_plan

TRAIN = {
    "event": "train",
    "step": 2,
    "active": {"depth": 2.0, "heads": 2.0, "width": 8.0},
    "subnetwork_training_loss": 2.5,
    "tokens_per_second": 1234.5,
}
EVAL = {"event": "eval", "step": 4, "full_network_held_out_loss": 2.25}
STAGES = [
    {"event": "stage", "step": 0, "stage": 0, "name": "half"},
    {"event": "stage", "step": 4, "stage": 1, "name": None},
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_records_in_words_name_whose_loss_it_is_and_only_thinned_axes() -> None:
    plan = toy_plan()
    assert progress.describe(TRAIN, plan) == "depth 2  loss 2.500 (subnetwork)  1,234 tokens/s"
    assert progress.describe(TRAIN, toy_plan((4, 4))) == "loss 2.500 (training)  1,234 tokens/s"
    assert progress.describe(EVAL, plan) == "held-out loss 2.2500 (full network)"
    assert [progress.describe(record, plan) for record in STAGES] == ["stage half", "stage 2"]
    assert progress.describe({"event": "run", "step": 0}, plan) == ""


def test_lines_show_every_stage_and_evaluation_and_training_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([100.0, 101.0, 107.0, 107.0, 108.0])
    monkeypatch.setattr(progress, "monotonic", lambda: next(clock))
    with progress.watching() as watch:
        reporter = watch.reporter(toy_plan(), "toy")
        reporter.begin(0)
        for record in (STAGES[0], TRAIN, TRAIN | {"step": 3}, EVAL):
            reporter.record(record)
        reporter.warn(Diagnostic("train-log-short", "the log has lost lines", severity="warning"))
    lines = capsys.readouterr().err.splitlines()
    assert lines[:3] == [
        "toy 0/12  stage half",
        "toy 3/12  depth 2  loss 2.500 (subnetwork)  1,234 tokens/s",
        "toy 4/12  held-out loss 2.2500 (full network)",
    ]
    assert "the log has lost lines" in "\n".join(lines[3:])


def test_a_run_that_goes_on_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.watching() as watch:
        watch.reporter(toy_plan(), "toy").begin(6)
    assert capsys.readouterr().err == "toy 6/12  goes on from the checkpoint\n"


def test_a_terminal_gets_a_bar_for_each_run_with_the_latest_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    with progress.watching() as watch:
        first, second = (watch.reporter(toy_plan(), label) for label in ("[one]", "two"))
        first.begin(0)
        for record in (STAGES[0], TRAIN, EVAL):
            first.record(record)
        first.step(4, 2.5)
        first.warn(Diagnostic("train-log-short", "the [log] has lost lines", severity="warning"))
        second.begin(12)
    shown = terminal.getvalue()
    for said in ("[one]", "two", "4/12", "12/12", "depth 2  subnetwork 2.500", "held-out 2.250"):
        assert said in shown, said
    assert "warning: the [log] has lost lines" in shown
