"""`raptr solve`: the patch that fills the holes in, and the file with nothing else of it changed."""

import json
import os
from pathlib import Path

import pytest

HOLES = """\
model bert-base          # why not?
steps 1k
stage half depth=6/12  steps=?   # a hole
stage full steps=rest;   require flops <= 80%
"""


@pytest.fixture
def holes(tmp_path: Path) -> Path:
    path = tmp_path / "holes.raptr"
    path.write_text(HOLES)
    return path


def test_the_solution_is_a_patch(raptr, holes) -> None:
    done = raptr("solve", holes.name)
    assert (done.code, done.err) == (0, "")
    changed = [line for line in done.out.splitlines() if line[:1] in "-+" and line[:3] not in ("---", "+++")]
    assert changed == ["-stage half depth=6/12  steps=?   # a hole", "+stage half depth=6/12  steps=40%   # a hole"]
    assert holes.read_text() == HOLES


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_write_changes_the_question_marks_and_nothing_else(raptr, holes, mark: str, line_end: str) -> None:
    before = (mark + HOLES.replace("\n", line_end)).encode()
    holes.write_bytes(before)
    holes.chmod(0o640)
    done = raptr("solve", holes.name, "--write")
    assert done.code == 0 and done.err == "written to holes.raptr\n"
    assert holes.read_bytes() == before.replace(b"steps=?", b"steps=40%")
    assert holes.stat().st_mode & 0o777 == 0o640
    again = raptr("solve", holes.name, "--write")
    assert (again.code, again.out, again.err) == (0, "", "holes.raptr has no holes\n")


def test_a_link_stays_a_link(raptr, holes, tmp_path) -> None:
    (tmp_path / "link.raptr").symlink_to(holes.name)
    assert raptr("solve", "link.raptr", "--write").code == 0
    assert os.readlink(tmp_path / "link.raptr") == "holes.raptr" and "steps=40%" in holes.read_text()


def test_what_cannot_be_solved_is_written_nowhere(raptr, holes) -> None:
    text = HOLES.replace("80%", "40%")
    holes.write_text(text)
    done = raptr("solve", holes.name, "--write")
    assert (done.code, done.out) == (1, "") and "error[hole-infeasible]" in done.err
    assert holes.read_text() == text


def test_json_and_github(raptr, holes) -> None:
    told = json.loads(raptr("solve", holes.name, "--format", "json").out)
    (edit,) = told["solution"]
    assert (edit["line"], edit["column"], edit["text"]) == (3, 30, "40%")
    line = raptr("solve", holes.name, "--format", "github").out
    assert line.startswith("::notice file=holes.raptr,line=3,col=24") and "steps=? is 40%25" in line
    holes.write_text(HOLES.replace("80%", "40%"))
    done = raptr("solve", holes.name, "--format", "json")
    assert done.code == 1
    assert json.loads(done.out)["solution"] == []


def test_what_the_file_leaves_open_comes_from_the_caller(raptr, tmp_path) -> None:
    (tmp_path / "open.raptr").write_text("stage depth=? steps=50%\nstage steps=rest\n")
    done = raptr("solve", "open.raptr", "--model", "bert-base", "--steps", "1k", "--budget", "75%")
    assert done.code == 0 and "+stage depth=6/12 steps=50%" in done.out
    assert "error[no-model]" in raptr("solve", "open.raptr").err


def test_a_file_that_changes_meanwhile_is_left_alone(raptr, holes, monkeypatch) -> None:
    import raptr_dsl.api as api

    original = api.check_file

    def slow(*arguments, **options):
        done = original(*arguments, **options)
        holes.write_text("stage steps=rest\n")
        return done

    monkeypatch.setattr(api, "check_file", slow)
    done = raptr("solve", holes.name, "--write")
    assert done.code == 1 and "error[file-changed]" in done.err
    assert holes.read_text() == "stage steps=rest\n"


def test_a_plan_and_a_missing_file(raptr, holes, tmp_path) -> None:
    assert raptr("compile", holes.name).code == 0
    assert "error[file-is-plan]" in raptr("solve", "holes.plan.json").err
    assert "error[file-missing]" in raptr("solve", "none.raptr").err


def test_holes_are_solved_wherever_a_file_is_compiled(raptr, holes) -> None:
    checked = raptr("check", holes.name)
    assert checked.code == 0 and "note[hole-solved]: steps=? is 40%" in checked.err
    compiled = raptr("compile", holes.name)
    assert compiled.code == 0 and "flops(blocks) <= 80%: 80%" in compiled.out


def test_a_refuted_budget_gates_a_merge(raptr, tmp_path) -> None:
    """What the pre-commit hook and a workflow see: exit code 1, and an annotation of the line."""
    (tmp_path / "dear.raptr").write_text("model bert-base\nsteps 1k\nstage depth=6/12 steps=10%\nstage steps=rest\n")
    done = raptr("check", "dear.raptr", "--budget", "75%", "--format", "github")
    assert done.code == 1
    assert done.out.startswith("::error file=dear.raptr,line=4,") and "write steps=50%25 instead" in done.out
    (tmp_path / "dear.raptr").write_text((tmp_path / "dear.raptr").read_text() + "require flops <= 75%\n")
    done = raptr("check", "dear.raptr", "--format", "github")
    assert done.code == 1 and done.out.startswith("::error file=dear.raptr,line=5,")


def test_a_name_that_is_no_utf_8_is_compiled_and_saved(raptr, holes, tmp_path) -> None:
    named = tmp_path / os.fsdecode(b"b\xff.raptr")
    holes.rename(named)
    assert raptr("compile", named.name, "-o", "plan.json").code == 0
    assert json.loads((tmp_path / "plan.json").read_text())["name"] == "b?"
