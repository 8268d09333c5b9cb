"""A run that is stopped anywhere and goes on is the run that never stopped, or is refused by name."""

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raptr_dsl.diagnostics import RaptrError
from raptr_dsl.ir.plan import Plan, load_plan
from raptr_dsl.training import RunSettings, open_run, read_journal, train
from tests.training.toys import (
    Recorder,
    ToyBackend,
    ToyFeed,
    files_in,
    toy_plan,
    toy_settings,
    without_times,
)


class Killed(BaseException):
    """A kill that leaves the process, and with it the test, alive."""


def kill(trainer) -> None:
    raise Killed


def go(path: Path, *, plan: Plan | None = None, settings: RunSettings | None = None, resume: bool = True, **backend):
    toy, recorder = ToyBackend(**backend), Recorder()
    plan, settings = plan or toy_plan(), settings or toy_settings()
    summary = train(plan, toy.as_backend, ToyFeed(), settings, path, resume=resume, reporter=recorder)
    return summary, toy, recorder


def killed_at(path: Path, step: int, **more) -> None:
    with pytest.raises(Killed):
        go(path, faults={step: kill}, **more)


@pytest.fixture(scope="module")
def never_killed(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("run")
    go(path)
    return path


def assert_same_run(path: Path, other: Path) -> None:
    assert without_times(read_journal(path / "log.jsonl")) == without_times(read_journal(other / "log.jsonl"))
    weights = Path("checkpoints", "step-12", "trainer", "toy.json")
    assert (path / weights).read_bytes() == (other / weights).read_bytes()


@given(kills=st.lists(st.integers(0, 11), max_size=5), checkpoint_every=st.integers(0, 5))
@settings(max_examples=25)
def test_a_run_killed_anywhere_any_number_of_times_is_the_run_that_never_was(
    tmp_path_factory, never_killed: Path, kills: list[int], checkpoint_every: int
) -> None:
    path = tmp_path_factory.mktemp("killed")
    told = toy_settings(checkpoint_every=checkpoint_every)
    for step in kills:
        try:
            go(path, settings=told, faults={step: kill})
        except Killed:
            continue
    summary, _, _ = go(path, settings=told)
    assert summary.finished
    assert_same_run(path, never_killed)


def test_a_resume_repeats_no_step_before_its_checkpoint(tmp_path: Path) -> None:
    killed_at(tmp_path, 8)
    _, toy, recorder = go(tmp_path)
    assert toy.steps == list(range(6, 12))
    assert recorder.begun == [6]


def test_a_line_left_half_written_is_cut_off(tmp_path: Path, never_killed: Path) -> None:
    killed_at(tmp_path, 8)
    with (tmp_path / "log.jsonl").open("ab") as file:
        file.write(b'{"event": "tra')
    go(tmp_path)
    assert_same_run(tmp_path, never_killed)


def test_a_log_that_lost_lines_draws_a_warning_and_training_goes_on(tmp_path: Path) -> None:
    killed_at(tmp_path, 8)
    (tmp_path / "log.jsonl").write_bytes(b"")
    summary, _, recorder = go(tmp_path)
    assert summary.finished
    assert ["the log has lost lines" in warning for warning in recorder.warnings] == [True]


def test_resume_of_what_never_began_begins_it(tmp_path: Path, never_killed: Path) -> None:
    go(tmp_path / "new")
    assert_same_run(tmp_path / "new", never_killed)


def test_resume_of_what_was_killed_before_its_first_checkpoint_begins_again(tmp_path: Path, never_killed: Path) -> None:
    killed_at(tmp_path, 2)
    _, toy, _ = go(tmp_path)
    assert toy.steps[0] == 0
    assert_same_run(tmp_path, never_killed)


def test_resume_of_a_finished_run_audits_it_again_and_trains_nothing(tmp_path: Path, never_killed: Path) -> None:
    shutil.copytree(never_killed, tmp_path / "run")
    summary, toy, _ = go(tmp_path / "run")
    assert (summary.finished, toy.steps) == (True, [])
    assert_same_run(tmp_path / "run", never_killed)
    assert (tmp_path / "run" / "summary.json").read_bytes() == (never_killed / "summary.json").read_bytes()


@pytest.fixture
def signals_heard() -> Iterator[None]:
    """SIGINT ends the process, whatever the shell that runs the tests says of it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("signals_heard")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_the_step_at_hand_with_a_checkpoint(
    tmp_path: Path, never_killed: Path, number: signal.Signals
) -> None:
    before = signal.getsignal(number)
    summary, toy, _ = go(tmp_path, faults={7: lambda _: signal.raise_signal(number)})
    assert (summary.finished, summary.signal, summary.steps, toy.steps[-1]) == (False, number, 8, 7)
    assert (tmp_path / "checkpoints" / "step-8" / "manifest.json").exists()
    assert not (tmp_path / "summary.json").exists()
    assert signal.getsignal(number) is before
    _, toy, _ = go(tmp_path)
    assert toy.steps == [8, 9, 10, 11]
    assert_same_run(tmp_path, never_killed)


@pytest.mark.usefixtures("signals_heard")
def test_a_second_signal_is_not_waited_upon(tmp_path: Path) -> None:
    def twice(trainer) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        go(tmp_path, faults={7: twice})
    assert go(tmp_path)[0].finished


# --- refusals -----------------------------------------------------------------------------------------------


def refusal(path: Path, **more) -> RaptrError:
    before = files_in(path)
    with pytest.raises(RaptrError) as caught:
        go(path, **more)
    assert files_in(path) == before
    return caught.value


def test_rule_42_another_past_is_refused_naming_digests_and_first_stage_that_differs(tmp_path: Path) -> None:
    began = toy_plan((4, 2), (4, 3), (4, 4), names=["small", "middle", "full"])
    now = toy_plan((4, 2), (4, 4), (4, 4), names=["small", "middle", "full"])
    killed_at(tmp_path, 8, plan=began)
    (diagnostic,) = refusal(tmp_path, plan=now).diagnostics
    assert diagnostic.code == "train-resume-plan"
    said = "\n".join(diagnostic.notes)
    assert began.digest in said
    assert now.digest in said
    assert "stage 2 (middle), from step 4 on: depth is 3 units in one plan and all in the other" in said


def test_rule_42_another_seed_or_fewer_steps_than_were_done_are_another_past(tmp_path: Path) -> None:
    killed_at(tmp_path, 8)
    (diagnostic,) = refusal(tmp_path, plan=toy_plan(seed=18)).diagnostics
    assert "seed is 17 in one plan and 18 in the other" in "\n".join(diagnostic.notes)
    assert refusal(tmp_path, plan=toy_plan((4, 2), (1, 3))).diagnostics[0].code == "train-resume-plan"


def test_rule_42_another_future_of_the_same_length_is_allowed(tmp_path: Path) -> None:
    killed_at(tmp_path, 8)
    edited = toy_plan((4, 2), (2, 3), (3, 3), (3, 4), names=["a", "b", "c", "d"])
    summary, toy, _ = go(tmp_path, plan=edited)
    assert toy.steps[0] == 6
    assert summary.plan == edited.digest
    assert load_plan(tmp_path / "plan.json") == edited
    audit = read_journal(tmp_path / "log.jsonl")[-1]
    assert audit["units"]["depth"] == {"executed": 4 * 2 + 5 * 3 + 3 * 4, "planned": 35}


def test_another_horizon_is_refused_where_the_cosine_of_the_past_depends_on_it(tmp_path: Path) -> None:
    killed_at(tmp_path, 8)
    longer = toy_plan((4, 2), (4, 3), (8, 4))
    (diagnostic,) = refusal(tmp_path, plan=longer).diagnostics
    assert diagnostic.code == "train-resume-horizon"
    assert "12 steps, and now 16" in diagnostic.message
    assert "step 1 was done at" in diagnostic.notes[-1]


def test_another_horizon_is_allowed_where_no_rate_of_the_past_depends_on_it(tmp_path: Path) -> None:
    longer = toy_plan((4, 2), (4, 3), (8, 4))
    constant = toy_settings(lr_schedule="constant")
    killed_at(tmp_path / "constant", 8, settings=constant)
    assert go(tmp_path / "constant", plan=longer, settings=constant)[0].steps == 16
    warm = toy_settings(warmup=7)
    killed_at(tmp_path / "warm", 7, settings=warm)
    assert go(tmp_path / "warm", plan=longer, settings=warm)[0].steps == 16


def test_a_finished_run_can_be_made_longer_where_the_rate_allows_it(tmp_path: Path) -> None:
    constant = toy_settings(lr_schedule="constant")
    go(tmp_path, settings=constant)
    summary, toy, _ = go(tmp_path, plan=toy_plan((4, 2), (4, 3), (8, 4)), settings=constant)
    assert (summary.steps, toy.steps[0]) == (16, 12)


def test_every_other_setting_is_refused_by_name_with_both_values_all_at_once(tmp_path: Path) -> None:
    killed_at(tmp_path, 8)
    other = toy_settings(lr=0.2, sha256="0ther").model_copy(update={"data_seed": 5, "backend": "other"})
    diagnostics = refusal(tmp_path, settings=other).diagnostics
    assert {diagnostic.subject for diagnostic in diagnostics} == {"backend", "lr", "data sha256", "data seed"}
    assert {diagnostic.code for diagnostic in diagnostics} == {"train-resume-settings"}
    (rate,) = [diagnostic for diagnostic in diagnostics if diagnostic.subject == "lr"]
    assert "0.1" in rate.message
    assert "0.2" in rate.message


def test_how_often_is_free_to_change_and_so_is_where_the_data_lie(tmp_path: Path) -> None:
    killed_at(tmp_path, 8)
    told = toy_settings(log_every=1, eval_every=2, checkpoint_every=1)
    moved = told.model_copy(update={"data": told.data.model_copy(update={"paths": ("elsewhere",)}), "threads": 2})
    assert go(tmp_path, settings=moved)[0].finished
    assert RunSettings.model_validate_json((tmp_path / "settings.json").read_bytes()) == moved


def test_settings_that_cannot_be_read_are_a_clear_error(tmp_path: Path) -> None:
    killed_at(tmp_path, 8)
    for content in (b"", b"{}", b'{"format": "raptr-run-1", "backend": 3}', b"\xff"):
        (tmp_path / "settings.json").write_bytes(content)
        assert refusal(tmp_path).diagnostics[0].code == "train-run-damaged"
    (tmp_path / "settings.json").unlink()
    assert refusal(tmp_path).diagnostics[0].code == "train-run-damaged"


def test_a_tampered_plan_is_a_clear_error(tmp_path: Path) -> None:
    killed_at(tmp_path, 8)
    text = (tmp_path / "plan.json").read_text()
    (tmp_path / "plan.json").write_text(text.replace('"seed": 17', '"seed": 18'))
    assert refusal(tmp_path).diagnostics[0].code == "plan-checksum"


def test_a_backend_that_refuses_leaves_the_run_as_it_was(tmp_path: Path) -> None:
    class Unwilling(ToyBackend):
        def trainer(self, plan, settings):
            raise RaptrError([])

    killed_at(tmp_path, 8)
    before = files_in(tmp_path)
    with (
        pytest.raises(RaptrError),
        open_run(toy_plan(), Unwilling().as_backend, ToyFeed(), toy_settings(), tmp_path, resume=True),
    ):
        pass
    assert files_in(tmp_path) == before


def test_settings_are_written_whole_so_that_other_defaults_cannot_change_a_run(tmp_path: Path) -> None:
    import json

    from raptr_dsl.backend import TrainSettings

    go(tmp_path)
    written = json.loads((tmp_path / "settings.json").read_bytes())
    assert written.keys() == RunSettings.model_fields.keys()
    assert written["train"].keys() == TrainSettings.model_fields.keys()


def test_a_signal_that_the_process_ignores_stays_ignored(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        summary, _, _ = go(tmp_path, faults={7: lambda _: signal.raise_signal(signal.SIGINT)})
    finally:
        signal.signal(signal.SIGINT, before)
    assert summary.finished
