"""`raptr check`: all mistakes of all files, on the right stream, with the right exit code."""

import json
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent.parent / "golden" / "cli"

TWO_MISTAKES = "stage a depth=6/12 steps=\nstge b steps=rest\n"
FINE = "stage depth=6/12 steps=50%\nstage steps=rest\n"


def write(directory: Path, **texts: str) -> None:
    for name, text in texts.items():
        (directory / f"{name}.raptr").write_text(text)


def test_a_file_without_mistakes(raptr, bert) -> None:
    done = raptr("check", bert.name)
    assert (done.code, done.out, done.err) == (0, "", "1 file, no errors\n")


def test_all_mistakes_of_all_files(raptr, tmp_path, golden) -> None:
    write(tmp_path, one=TWO_MISTAKES, two=FINE, three="stage depth=6/12 steps=150%\n")
    done = raptr("check", "one.raptr", "two.raptr", "three.raptr")
    assert (done.code, done.out) == (1, "")
    assert done.err.endswith("\n\n3 files, 3 errors\n")
    golden(GOLDEN / "check.txt", done.err)


def test_warnings_are_shown_and_exit_0(raptr, tmp_path) -> None:
    write(tmp_path, odd="model layers=16 heads=4 hidden=64 ffn=256 vocab=9 seq=8\nsteps 100\n" + FINE)
    done = raptr("check", "odd.raptr")
    assert done.code == 0
    assert "warning[denominator-does-not-divide]" in done.err
    assert done.err.endswith("1 file, 1 warning\n")


def test_a_directory_stands_for_the_schedules_in_it(raptr, tmp_path) -> None:
    inner = tmp_path / "deep" / "er"
    inner.mkdir(parents=True)
    write(tmp_path / "deep", one=FINE)
    write(inner, two=TWO_MISTAKES)
    (inner / "notes.txt").write_text("stge\n")
    done = raptr("check", "deep", "deep/one.raptr")
    assert done.code == 1
    assert "deep/er/two.raptr:1" in done.err
    assert "\n2 files, 2 errors\n" in done.err  # none twice


def test_a_directory_without_schedules_is_wrong_usage(raptr, tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    done = raptr("check", "empty")
    assert done.code == 2
    assert "no .raptr file in the directory empty" in done.err


def test_a_missing_file_is_a_diagnostic_and_the_others_are_checked(raptr, bert, tmp_path) -> None:
    write(tmp_path, one=TWO_MISTAKES)
    done = raptr("check", "no-such.raptr", "one.raptr")
    assert done.code == 1
    assert "no-such.raptr" in done.err
    assert "one.raptr:1" in done.err
    assert "2 files, 3 errors" in done.err


@pytest.mark.parametrize("text", [TWO_MISTAKES, "\ufeff" + TWO_MISTAKES], ids=["plain", "byte order mark"])
def test_standard_input(raptr, text: str) -> None:
    done = raptr("check", "-", stdin=text)
    assert done.code == 1
    assert "<stdin>:1:2" in done.err
    assert "1 file, 2 errors" in done.err


def test_plans_are_checked_too(raptr, bert, tmp_path) -> None:
    raptr("compile", bert.name)
    plan = tmp_path / "bert.plan.json"
    assert raptr("check", plan.name, bert.name).err == "2 files, no errors\n"
    plan.write_text(plan.read_text().replace('"seed": 17', '"seed": 18'))
    done = raptr("check", plan.name)
    assert done.code == 1
    assert "error[plan-checksum]" in done.err


def test_json_is_a_list_on_standard_output(raptr, tmp_path, bert) -> None:
    write(tmp_path, one=TWO_MISTAKES)
    done = raptr("check", "one.raptr", "--format", "json")
    assert done.code == 1
    first, second = json.loads(done.out)
    assert (first["path"], first["line"], first["severity"]) == ("one.raptr", 1, "error")
    assert second["line"] == 2
    assert done.err == "1 file, 2 errors\n"
    assert json.loads(raptr("check", bert.name, "--format", "json").out) == []


def test_github_annotations_go_to_standard_output(raptr, tmp_path) -> None:
    write(tmp_path, one=TWO_MISTAKES)
    done = raptr("check", "one.raptr", "--format", "github")
    assert done.code == 1
    assert [line.partition(" ")[0] for line in done.out.splitlines()] == ["::error", "::error"]
    assert "file=one.raptr,line=1" in done.out


def test_options_are_used(raptr, tmp_path) -> None:
    write(tmp_path, fine=FINE)
    assert raptr("check", "fine.raptr").code == 0
    refuted = raptr("check", "fine.raptr", "--model", "bert-base", "--steps", "1_000", "--budget", "50%")
    assert refuted.code == 1
    assert "50%" in refuted.err
    assert raptr("check", "fine.raptr", "--model", "bert-base", "--steps", "1k", "--budget", "75%").code == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--steps", "0"], "0 is less than 1"),
        (["--steps", "-3"], "'-3' is not a whole number such as 675k"),
        (["--steps", "1.5"], "'1.5' is not a whole number"),
        (["--steps", "20%"], "'20%' is not a whole number"),
        (["--steps", "٣"], "'٣' is not a whole number"),
        (["--steps", "1\nstage"], "is not a whole number"),
        (["--steps", ""], "'' is not a whole number"),
        (["--steps", "1e4000"], "'1e4000' is not a whole number"),
        (["--seed", "x"], "'x' is not a whole number"),
        (["--steps", "1k", "--steps", "2k"], "--steps is given 2 times"),
        (["--model", "a", "--model", "a"], "--model is given 2 times"),
        (["--format", "xml"], "'xml'"),
        (["--param", "half"], "write name=value"),
        (["--param", "=1/2"], "write name=value"),
        (["--param", "a=1", "--param", "a=2"], "gives a twice"),
    ],
)
def test_options_that_make_no_sense_are_wrong_usage(raptr, bert, options: list[str], said: str) -> None:
    done = raptr("check", bert.name, *options)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


@pytest.mark.parametrize(
    ("written", "steps"), [("675k", 675_000), ("1_000", 1000), ("2M", 2_000_000), ("1.5k", 1500), ("1e3", 1000)]
)
def test_counts_are_spelled_as_in_the_language(raptr, bert, written: str, steps: int) -> None:
    done = raptr("compile", bert.name, "--steps", written, "--format", "json")
    assert json.loads(done.out)["plan"]["steps"] == steps


def test_a_count_of_flops_that_looks_like_a_share_is_told_apart(raptr, tmp_path) -> None:
    text = "model bert-base\nsteps 10\nstage steps=rest\nrequire flops <= {}\n"
    (tmp_path / "a.raptr").write_text(text.format("75"))
    assert "note: 75 is a count of FLOPs; a share of full training is written 75%" in raptr("check", "a.raptr").err
    (tmp_path / "a.raptr").write_text(text.format("1T"))
    assert "is a count of FLOPs" not in raptr("check", "a.raptr").err


@pytest.mark.parametrize("command", ["check", "compile", "show", "cost", "fmt"])
def test_whether_a_file_can_be_read_is_for_the_diagnostic_to_say(raptr, bert, monkeypatch, command: str) -> None:
    monkeypatch.setattr(
        "os.access", lambda *_, **__: False
    )  # what the library of options would ask, as a wrong command
    assert raptr(command, bert.name).code == 0
