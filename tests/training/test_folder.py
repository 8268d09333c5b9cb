"""Whose folder it is: nothing of anybody else's is touched, and no two processes share one."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from raptr_dsl.diagnostics import RaptrError
from raptr_dsl.training import open_run, train
from raptr_dsl.training.folder import open_folder
from tests.training.toys import ToyBackend, ToyFeed, files_in, toy_plan, toy_settings


def refusal(path: Path, resume: bool) -> str:
    before = files_in(path) if path.is_dir() else path.exists()
    with pytest.raises(RaptrError) as caught, open_folder(path, resume=resume):
        pass
    assert (files_in(path) if path.is_dir() else path.exists()) == before
    return caught.value.diagnostics[0].code


def go(path: Path, resume: bool = False) -> None:
    train(toy_plan(), ToyBackend().as_backend, ToyFeed(), toy_settings(), path, resume=resume)


def test_a_folder_with_a_run_is_refused_unless_it_is_resumed(tmp_path: Path) -> None:
    go(tmp_path)
    assert refusal(tmp_path, resume=False) == "train-out-occupied"
    go(tmp_path, resume=True)


def test_a_folder_with_anything_else_in_it_is_refused_either_way(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    assert refusal(tmp_path, resume=False) == "train-out-occupied"
    assert refusal(tmp_path, resume=True) == "train-out-foreign"


@pytest.mark.parametrize("resume", [False, True])
def test_what_a_kill_before_the_first_step_left_is_no_obstacle(tmp_path: Path, resume: bool) -> None:
    for name in (".lock", "settings.json", ".plan.json.new"):
        (tmp_path / name).write_bytes(b"")
    go(tmp_path, resume=resume)


def test_a_path_that_is_a_file_or_lies_under_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert refusal(tmp_path / "file", resume=False) == "train-write"
    assert refusal(tmp_path / "file" / "run", resume=False) == "train-write"


def test_a_folder_in_which_no_run_began_is_left_as_it_was(tmp_path: Path) -> None:
    with open_folder(tmp_path / "new", resume=False):
        assert (tmp_path / "new").exists()
    assert not (tmp_path / "new").exists()
    with open_folder(tmp_path, resume=False):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_second_run_in_the_same_folder_is_refused_naming_the_first(tmp_path: Path) -> None:
    opened = open_run(toy_plan(), ToyBackend().as_backend, ToyFeed(), toy_settings(), tmp_path)
    with opened, pytest.raises(RaptrError) as caught, open_folder(tmp_path, resume=True):
        pass
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "train-locked"
    assert str(os.getpid()) in diagnostic.message


HOLD = textwrap.dedent("""
    import sys, time
    from pathlib import Path
    from raptr_dsl.training.folder import open_folder
    with open_folder(Path(sys.argv[1]), resume=True):
        print("held", flush=True)
        time.sleep(60)
""")


def test_the_lock_of_another_process_holds_while_it_lives_and_no_longer(tmp_path: Path) -> None:
    go(tmp_path)
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        assert refusal(tmp_path, resume=True) == "train-locked"
        other.send_signal(signal.SIGKILL)
    with open_folder(tmp_path, resume=True):
        pass


@pytest.mark.parametrize("out", ["file", "file/run"])
def test_a_file_in_the_way_of_the_folder_is_told(tmp_path: Path, out: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RaptrError) as refused, open_folder(tmp_path / out, resume=False):
        pass
    assert refused.value.diagnostics[0].help == "there is a file of this name: name another folder"
