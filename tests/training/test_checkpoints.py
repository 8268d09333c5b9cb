"""A checkpoint is complete or not there: damage is noticed, a full disk leaves the one before."""

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raptr_dsl.backend import TrainSettings
from raptr_dsl.backend.processes import Processes
from raptr_dsl.diagnostics import RaptrError
from raptr_dsl.training import checkpoints as module
from raptr_dsl.training import open_run, read_journal, train
from raptr_dsl.training.checkpoints import Checkpoints
from tests.training.toys import (
    Recorder,
    ToyBackend,
    ToyFeed,
    ToyTrainer,
    files_in,
    toy_plan,
    toy_settings,
    without_times,
)


def run_until(path: Path, step: int, backend: ToyBackend | None = None, **told) -> None:
    with open_run(
        toy_plan(), (backend or ToyBackend()).as_backend, ToyFeed(), toy_settings(**told), path, resume=True
    ) as opened:
        opened.advance(step)


def finish(path: Path) -> tuple[ToyBackend, Recorder]:
    toy, recorder = ToyBackend(), Recorder()
    train(toy_plan(), toy.as_backend, ToyFeed(), toy_settings(), path, resume=True, reporter=recorder)
    return toy, recorder


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in (path / "checkpoints").iterdir())


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("harm", [truncate, flip, Path.unlink])
@pytest.mark.parametrize("file", ["trainer/toy.json", "state.json", "manifest.json"])
def test_a_damaged_checkpoint_is_passed_over_with_a_warning_and_set_aside(
    tmp_path: Path, harm: Callable[[Path], None], file: str
) -> None:
    run_until(tmp_path / "whole", 12)
    run_until(tmp_path / "harmed", 8)
    assert names(tmp_path / "harmed") == ["step-3", "step-6"]
    harm(tmp_path / "harmed" / "checkpoints" / "step-6" / file)
    toy, recorder = finish(tmp_path / "harmed")
    assert toy.steps[0] == 3
    assert len(recorder.warnings) == 1
    assert recorder.warnings[0].startswith("step-6 is damaged and is passed over: ")
    assert names(tmp_path / "harmed") == ["damaged-step-6", "step-12", "step-9"]
    finish(tmp_path / "whole")
    logs = [without_times(read_journal(tmp_path / name / "log.jsonl")) for name in ("whole", "harmed")]
    assert logs[0] == logs[1]


def test_if_every_checkpoint_is_damaged_the_run_is_not_begun_again_in_silence(tmp_path: Path) -> None:
    run_until(tmp_path, 8)
    for step in (3, 6):
        truncate(tmp_path / "checkpoints" / f"step-{step}" / "trainer" / "toy.json")
    before = files_in(tmp_path)
    with pytest.raises(RaptrError) as caught:
        finish(tmp_path)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "train-checkpoint-damaged"
    assert len(diagnostic.notes) == 2
    assert files_in(tmp_path) == before


def test_what_a_kill_left_while_a_checkpoint_was_written_is_no_checkpoint_and_goes(tmp_path: Path) -> None:
    run_until(tmp_path, 8)
    unfinished = tmp_path / "checkpoints" / ".new-abc"
    unfinished.mkdir()
    (unfinished / "toy.json").write_bytes(b"half")
    toy, _ = finish(tmp_path)
    assert toy.steps[0] == 6
    assert names(tmp_path) == ["step-12", "step-9"]


def test_names_that_are_no_steps_are_left_alone(tmp_path: Path) -> None:
    run_until(tmp_path, 8)
    for name in ("step-x", "step-07", "best"):
        (tmp_path / "checkpoints" / name).mkdir()
    finish(tmp_path)
    assert {"step-x", "step-07", "best"} <= set(names(tmp_path))


@given(steps=st.lists(st.integers(1, 12), min_size=1, max_size=4, unique=True).map(sorted))
@settings(max_examples=10)
def test_the_last_two_are_kept(tmp_path_factory, steps: list[int]) -> None:
    path = tmp_path_factory.mktemp("run")
    with open_run(toy_plan(), ToyBackend().as_backend, ToyFeed(), toy_settings(checkpoint_every=0), path) as opened:
        for step in steps:
            opened.advance(step)
            opened.save()
            opened.save()
    assert {int(name.removeprefix("step-")) for name in names(path)} == set(steps[-2:])


# --- disks that are full ------------------------------------------------------------------------------------


def no_space(folder: Path) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def assert_only_the_last_is_left(path: Path, error: RaptrError) -> None:
    (diagnostic,) = error.diagnostics
    assert diagnostic.code == "train-disk-full"
    assert diagnostic.notes == ("step-3 is intact",)
    assert names(path) == ["step-3"]
    toy, _ = finish(path)
    assert toy.steps[0] == 3


def test_a_disk_that_is_full_while_the_trainer_saves_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    run_until(tmp_path, 5)
    with pytest.raises(RaptrError) as caught:
        run_until(tmp_path, 7, ToyBackend(save_fault=no_space))
    assert_only_the_last_is_left(tmp_path, caught.value)


def test_a_disk_that_is_full_when_all_is_written_through_leaves_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_until(tmp_path, 5)
    with monkeypatch.context() as patch:
        patch.setattr(module, "sync_file", no_space)
        with pytest.raises(RaptrError) as caught:
            run_until(tmp_path, 7)
    assert_only_the_last_is_left(tmp_path, caught.value)


def test_an_error_of_the_framework_is_seen_through_to_the_full_disk_behind_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def framework(folder: Path) -> None:
        (folder / "weights").write_bytes(b"half")
        raise RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0")

    run_until(tmp_path, 5)
    with pytest.raises(RuntimeError, match="inline_container"):  # the disk has room: a mistake of the framework
        run_until(tmp_path, 7, ToyBackend(save_fault=framework))
    assert names(tmp_path) == ["step-3"]
    with monkeypatch.context() as patch:
        patch.setattr(module.os, "fsync", no_space)
        with pytest.raises(OSError, match="No space"):
            module._probe(tmp_path, RuntimeError("what the framework said"))


# A limit on the size of files is the nearest thing to a full disk that needs no privilege: real writes fail.
LIMITED = """
import resource, sys
from pathlib import Path
from raptr_dsl.diagnostics import RaptrError
from tests.training.test_checkpoints import run_until
from tests.training.toys import ToyBackend

def large(folder):
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, resource.RLIM_INFINITY))
    try:
        (folder / "weights").write_bytes(bytes(1 << 20))
    except OSError as error:
        raise RuntimeError("the framework says something else") from None
try:
    run_until(Path(sys.argv[1]), 7, ToyBackend(save_fault=large))
except RaptrError as error:
    print(error.diagnostics[0].code, *error.diagnostics[0].notes, sep="|")
"""


def test_a_real_write_that_fails_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    run_until(tmp_path, 5)
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.strip() == "train-disk-full|step-3 is intact", done.stderr
    assert names(tmp_path) == ["step-3"]


def test_a_log_that_cannot_be_written_ends_the_run_clearly_and_a_resume_mends_it(tmp_path: Path) -> None:
    run_until(tmp_path, 5)
    size = (tmp_path / "log.jsonl").stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, before[1]))
    try:
        with pytest.raises(RaptrError) as caught:
            run_until(tmp_path, 12)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.diagnostics[0].code == "train-disk-full"
    toy, _ = finish(tmp_path)
    assert toy.steps[0] == 3
    assert read_journal(tmp_path / "log.jsonl")[-1]["holds"]


def test_the_warning_says_what_is_wrong(tmp_path: Path) -> None:
    run_until(tmp_path, 5)
    checkpoint = tmp_path / "checkpoints" / "step-3"
    weights = checkpoint / "trainer" / "toy.json"
    size = weights.stat().st_size
    truncate(weights)
    said = [warning.message for warning in Checkpoints(tmp_path / "checkpoints").latest()[1]]
    assert said == [f"step-3 is damaged and is passed over: trainer/toy.json has {size - 1} bytes instead of {size}"]


def test_a_step_is_saved_once(tmp_path: Path) -> None:
    saves: list[Path] = []
    with open_run(
        toy_plan(), ToyBackend(save_fault=saves.append).as_backend, ToyFeed(), toy_settings(), tmp_path
    ) as opened:
        opened.advance(3)
        opened.save()
    assert len(saves) == 1


def test_latest_of_nothing_is_nothing(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "none").latest() == (None, [])
    assert Checkpoints(tmp_path).latest() == (None, [])


class Two(Processes):
    """This process, and another that writes its part or fails to."""

    size = 2

    def __init__(self, other_fails: bool) -> None:
        self.other_fails, self.asked = other_fails, 0

    def any(self, flag: bool) -> bool:
        self.asked += 1
        return flag or self.other_fails


class PartsTrainer(ToyTrainer):
    fault: Exception | None = None

    def save_part(self, folder: Path) -> None:
        if self.fault:
            raise self.fault
        (folder / "part-0").write_text("mine")


def in_parts() -> PartsTrainer:
    return PartsTrainer(toy_plan(), TrainSettings(), ToyBackend())


STATE = module.State(step=3, log_bytes=0, seconds=0.0, held_out_loss=None, interval=module.Interval())


def test_what_each_process_wrote_is_part_of_the_checkpoint(tmp_path: Path) -> None:
    Checkpoints(tmp_path).save(in_parts(), STATE, "ab", Two(other_fails=False))
    assert sorted(files_in(tmp_path)) == [
        f"step-3/{name}" for name in ("manifest.json", "state.json", "trainer/part-0", "trainer/toy.json")
    ]
    (tmp_path / "step-3" / "trainer" / "part-0").write_text("hers")
    assert "part-0 is not what was written" in str(module.read_checkpoint(tmp_path / "step-3"))


@pytest.mark.parametrize("fault", [None, OSError(errno.ENOSPC, "No space left on device"), ValueError("of orbax")])
def test_if_any_process_cannot_write_its_part_there_is_no_checkpoint(tmp_path: Path, fault: Exception | None) -> None:
    """And the others are told, whatever it was, so that none of them waits."""
    trainer, processes = in_parts(), Two(other_fails=fault is None)
    trainer.fault = fault
    with pytest.raises((RaptrError, ValueError)) as caught:
        Checkpoints(tmp_path).save(trainer, STATE, "ab", processes)
    told = caught.value.diagnostics[0].code if isinstance(caught.value, RaptrError) else "its own"
    assert told == {None: "train-write", OSError: "train-disk-full", ValueError: "its own"}[fault and type(fault)]
    assert processes.asked == 1
    assert list(tmp_path.iterdir()) == []
