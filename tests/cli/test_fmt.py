"""`raptr fmt`: what it writes, and when it writes nothing."""

import os
import re
import stat
from pathlib import Path

ROOT = Path(__file__).parents[2]
UGLY = "# why\nstage  half depth = 6/12 steps=50% ;stage steps=rest # all\n"
NEAT = "# why\nstage half depth=6/12 steps=50%\nstage steps=rest  # all\n"


def test_a_file_is_formatted_in_its_place(raptr, tmp_path: Path) -> None:
    path = tmp_path / "a.raptr"
    path.write_text(UGLY)
    path.chmod(0o640)
    done = raptr("fmt", "a.raptr")
    assert (done.code, done.out) == (0, "")
    assert path.read_text() == NEAT
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert "formatted a.raptr" in done.err
    assert raptr("fmt", "a.raptr").err == "1 file, 0 formatted\n"


def test_a_file_that_is_neat_is_not_written(raptr, tmp_path: Path) -> None:
    path = tmp_path / "a.raptr"
    path.write_text(NEAT)
    os.utime(path, (1, 1))
    assert raptr("fmt", ".").code == 0
    assert path.stat().st_mtime == 1


def test_check_and_diff_write_nothing(raptr, tmp_path: Path) -> None:
    path = tmp_path / "a.raptr"
    path.write_text(UGLY)
    checked, compared = raptr("fmt", "--check", "a.raptr"), raptr("fmt", "--diff", "a.raptr")
    assert path.read_text() == UGLY
    assert (checked.code, compared.code) == (1, 0)
    assert "would format a.raptr" in checked.err
    assert "+stage half depth=6/12 steps=50%\n" in compared.out
    path.write_text(NEAT)
    assert raptr("fmt", "--check", "--diff", "a.raptr").code == 0


def test_a_file_with_mistakes_is_left_alone_and_the_others_are_not(raptr, tmp_path: Path) -> None:
    (tmp_path / "bad.raptr").write_text("stage  depth=\n")
    (tmp_path / "good.raptr").write_text(UGLY)
    done = raptr("fmt", ".")
    assert done.code == 1
    assert "error[" in done.err
    assert (tmp_path / "bad.raptr").read_text() == "stage  depth=\n"
    assert (tmp_path / "good.raptr").read_text() == NEAT


def test_standard_input_goes_to_standard_output(raptr) -> None:
    assert raptr("fmt", "-", stdin=UGLY).out == NEAT


def test_a_link_stays_a_link(raptr, tmp_path: Path) -> None:
    (tmp_path / "a.raptr").write_text(UGLY)
    (tmp_path / "b.raptr").symlink_to("a.raptr")
    raptr("fmt", "b.raptr")
    assert (tmp_path / "b.raptr").is_symlink()
    assert (tmp_path / "a.raptr").read_text() == NEAT


def test_the_hook_of_pre_commit_runs_a_command_that_there_is(raptr) -> None:
    hooks = (ROOT / ".pre-commit-hooks.yaml").read_text()
    entries = re.findall(r"^  entry: raptr (\w+)$", hooks, re.MULTILINE)
    assert entries == ["check", "fmt"]
    assert all(raptr(entry, "--help").code == 0 for entry in entries)
