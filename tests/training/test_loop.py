"""A whole run: what it logs, what it saves, what it audits."""

import json
from pathlib import Path

import pytest

from raptr_dsl.backend import Executed, StepResult
from raptr_dsl.diagnostics import RaptrError
from raptr_dsl.flops import full_blocks_cost, head_cost
from raptr_dsl.training import RunSummary, open_run, read_journal, train
from tests.training.toys import SHAPE, Recorder, ToyBackend, ToyFeed, ToyTrainer, toy_plan, toy_settings


def run(path: Path, backend: ToyBackend | None = None, **settings) -> RunSummary:
    backend = backend or ToyBackend()
    return train(toy_plan(), backend.as_backend, ToyFeed(), toy_settings(**settings), path)


def events(path: Path) -> list[tuple[str, int]]:
    return [(record["event"], record["step"]) for record in read_journal(path / "log.jsonl")]


def test_every_step_is_done_once_in_order_and_the_folder_holds_all_there_is_to_know(tmp_path: Path) -> None:
    backend = ToyBackend()
    summary = run(tmp_path / "run", backend)
    assert backend.steps == list(range(12))
    assert summary.finished
    assert summary.tokens == 12 * 8
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {".lock", "plan.json", "settings.json", "log.jsonl", "checkpoints", "summary.json"}
    assert RunSummary.model_validate_json((tmp_path / "run" / "summary.json").read_bytes()) == summary


def test_log_has_intervals_that_end_with_their_stage_switches_evaluations_and_the_audit(tmp_path: Path) -> None:
    run(tmp_path, log_every=3, eval_every=5)
    assert events(tmp_path) == [
        ("run", 0), ("stage", 0), ("train", 3), ("train", 4), ("stage", 4), ("eval", 5), ("train", 6),
        ("train", 8), ("stage", 8), ("train", 9), ("eval", 10), ("train", 12), ("eval", 12), ("audit", 12),
    ]  # fmt: skip


def test_a_line_of_training_says_what_ran_and_what_it_cost(tmp_path: Path) -> None:
    run(tmp_path, log_every=4, warmup=2)
    full = full_blocks_cost(SHAPE) // SHAPE.layers
    lines = [record for record in read_journal(tmp_path / "log.jsonl") if record["event"] == "train"]
    costs = [4 * (blocks * full + head_cost(SHAPE)) for blocks in (2, 3, 4)]
    totals = [sum(costs[: i + 1]) for i in range(3)]
    assert [line["flops"] for line in lines] == [{"executed": n, "planned": n} for n in totals]
    assert [line["active"] for line in lines] == [{"depth": n, "heads": 2, "width": 8} for n in (2, 3, 4)]
    assert [line["stage"] for line in lines] == [0, 1, 2]
    settings = toy_settings(warmup=2).train
    assert [line["learning_rate"] for line in lines] == [settings.learning_rate(n, 12) for n in (3, 7, 11)]
    assert {"subnetwork_training_loss", "grad_norm", "tokens_per_second"} <= lines[0].keys()


def test_rates_are_of_the_steps_since_the_line_before(tmp_path: Path) -> None:
    run(tmp_path, log_every=4, peak_tflops=2e-6)
    lines = [record for record in read_journal(tmp_path / "log.jsonl") if record["event"] == "train"]
    seconds, flops = 0.0, 0
    for line in lines:
        spent, done = line["seconds"] - seconds, line["flops"]["executed"] - flops
        assert line["tokens_per_second"] * spent == pytest.approx(4 * SHAPE.tokens)
        assert line["mfu"] * spent * 2e6 == pytest.approx(done)
        seconds, flops = line["seconds"], line["flops"]["executed"]


def test_the_logged_loss_is_the_mean_since_the_line_before(tmp_path: Path) -> None:
    losses = iter(range(12))
    backend = ToyBackend(faults={n: lambda _: StepResult(float(next(losses)), 1.0) for n in range(12)})
    run(tmp_path, backend, log_every=3)
    lines = [record for record in read_journal(tmp_path / "log.jsonl") if record["event"] == "train"]
    means = {line["step"]: line["subnetwork_training_loss"] for line in lines}
    assert means == {3: 1.0, 4: 3.0, 6: 4.5, 8: 6.5, 9: 8.0, 12: 10.0}


def test_evaluations_and_checkpoints_come_when_asked_for_and_at_the_end(tmp_path: Path) -> None:
    run(tmp_path / "never", eval_every=0, checkpoint_every=0)
    assert [step for event, step in events(tmp_path / "never") if event == "eval"] == [12]
    assert [path.name for path in (tmp_path / "never" / "checkpoints").iterdir()] == ["step-12"]
    run(tmp_path / "often", eval_every=6, checkpoint_every=5)
    assert [step for event, step in events(tmp_path / "often") if event == "eval"] == [6, 12]
    kept = sorted(path.name for path in (tmp_path / "often" / "checkpoints").iterdir())
    assert kept == ["step-10", "step-12"]


def test_the_watcher_hears_every_line_of_the_log(tmp_path: Path) -> None:
    recorder = Recorder()
    train(toy_plan(), ToyBackend().as_backend, ToyFeed(), toy_settings(), tmp_path, reporter=recorder)
    assert recorder.begun == [0]
    assert recorder.records == read_journal(tmp_path / "log.jsonl")


def test_advance_stops_where_it_is_told_and_goes_on(tmp_path: Path) -> None:
    backend = ToyBackend()
    with open_run(toy_plan(), backend.as_backend, ToyFeed(), toy_settings(), tmp_path) as opened:
        opened.advance(5)
        assert (opened.step, opened.is_done, backend.steps) == (5, False, [0, 1, 2, 3, 4])
        opened.advance(12)
        assert opened.finish().finished
    assert read_journal(tmp_path / "log.jsonl")[-1]["holds"]


# --- the audit ----------------------------------------------------------------------------------------------


class Negligent(ToyTrainer):
    """Runs one block more than was planned, once."""

    def executed(self) -> Executed:
        extra = 1 if self.flops and len(self.backend.steps) >= 6 else 0
        return Executed({**self.units, "depth": self.units.get("depth", 0) + extra}, self.flops)


def test_a_unit_too_many_ends_the_run_naming_both_numbers(tmp_path: Path) -> None:
    backend = ToyBackend()
    backend.trainer = lambda plan, settings: Negligent(plan, settings, backend)  # type: ignore[method-assign]
    with pytest.raises(RaptrError) as caught:
        run(tmp_path, backend)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "train-audit"
    assert diagnostic.notes == ("depth: 15 executed, 14 planned",)
    assert backend.steps[-1] == 5  # at the next line of the log, not at the end of days of training


def test_a_flop_too_few_fails_the_audit_and_the_log_says_so(tmp_path: Path) -> None:
    class Idle(ToyTrainer):
        def executed(self) -> Executed:
            return Executed(self.units, self.flops - (len(self.backend.steps) == 12 and self.evaluated))

        evaluated = False

        def evaluate(self, batches) -> float:
            self.evaluated = len(self.backend.steps) == 12
            return super().evaluate(batches)

    backend = ToyBackend()
    backend.trainer = lambda plan, settings: Idle(plan, settings, backend)  # type: ignore[method-assign]
    with pytest.raises(RaptrError, match="not what was planned"):
        run(tmp_path, backend, checkpoint_every=0)
    audit = read_journal(tmp_path / "log.jsonl")[-1]
    assert (audit["event"], audit["holds"]) == ("audit", False)
    assert audit["flops"]["executed"] == audit["flops"]["planned"] - 1
    assert not (tmp_path / "summary.json").exists()


# --- what is no number --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (StepResult(float("nan"), 1.0), "the loss of step 7 is nan"),
        (StepResult(1.0, float("inf")), "the gradient norm of step 7 is inf"),
    ],
)
def test_what_is_no_number_ends_the_run_and_is_never_saved(tmp_path: Path, result: StepResult, said: str) -> None:
    with pytest.raises(RaptrError) as caught:
        run(tmp_path, ToyBackend(faults={7: lambda _: result}), checkpoint_every=1)
    (diagnostic,) = caught.value.diagnostics
    assert (diagnostic.code, diagnostic.message) == ("trainer-not-finite", said)
    assert any("step-7" in note for note in diagnostic.notes)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step-6", "step-7"]


def test_a_held_out_loss_that_is_no_number_ends_the_run(tmp_path: Path) -> None:
    class Broken(ToyTrainer):
        def evaluate(self, batches) -> float:
            return float("nan")

    backend = ToyBackend()
    backend.trainer = lambda plan, settings: Broken(plan, settings, backend)  # type: ignore[method-assign]
    with pytest.raises(RaptrError, match="held-out loss after 4 steps is nan"):
        run(tmp_path, backend)


def test_an_error_of_the_backend_is_told_with_its_circumstances(tmp_path: Path) -> None:
    from raptr_dsl.diagnostics import fail

    def refuse(trainer: ToyTrainer) -> None:
        raise fail("trainer-not-finite", "the loss of step 5 is nan")

    with pytest.raises(RaptrError) as caught:
        run(tmp_path, ToyBackend(faults={5: refuse}))
    notes = " ".join(caught.value.diagnostics[0].notes)
    assert "step 5 of 12" in notes
    assert "learning rate" in notes
    assert "step-3" in notes


def test_json_lines_are_plain_json(tmp_path: Path) -> None:
    run(tmp_path)
    for line in (tmp_path / "log.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda text: pytest.fail(f"{text} is not JSON"))
