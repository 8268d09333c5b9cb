"""`--budget`: requirements from outside the file; and which values of options make a command a wrong one."""

import json

import pytest

HALVES = "model bert-base\nsteps 1000\nstage half depth=6/12 steps=50%\nstage full steps=rest\n"


@pytest.fixture
def halves(tmp_path) -> str:
    (tmp_path / "halves.raptr").write_text(HALVES)
    return "halves.raptr"


@pytest.mark.parametrize(
    ("budget", "holds"),
    [
        ("75%", True),
        ("3/4", True),
        ("flops(blocks)<=75%", True),
        ("require flops <= 75%", True),
        ("1.2e21", True),
        ("mean(depth) >= 75%", True),
        ("final(depth)==12", True),
        ("74.9%", False),
        ("1.2e15", False),
        ("flops(total) <= 75%", False),
        ("mean(depth) >= 10", False),
        ("shapes <= 1", False),
    ],
)
def test_a_budget_is_a_share_a_count_or_a_requirement(raptr, halves: str, budget: str, holds: bool) -> None:
    done = raptr("check", halves, "--budget", budget)
    assert done.code == (0 if holds else 1), done.err
    assert ("error[requirement-refuted]" in done.err) is not holds
    assert holds or "or give --budget '" in done.err


def test_budgets_add_up_and_are_proven(raptr, halves: str) -> None:
    done = raptr("compile", halves, "--budget", "75%", "--budget", "coverage(depth) >= 40%", "--format", "json")
    texts = [proven["text"] for proven in json.loads(done.out)["plan"]["proven"]]
    assert texts == ["flops(blocks) <= 75%", "coverage(depth) >= 40%"]
    both = raptr("check", halves, "--budget", "50%", "--budget", "mean(depth) >= 10")
    assert both.code == 1 and both.err.count("error[requirement-refuted]") == 2
    against = raptr("check", halves, "--budget", "mean(depth) >= 10", "--budget", "mean(depth) <= 5")
    assert "error[requirements-contradict]" in against.err


def test_a_budget_is_no_line_of_a_file_in_annotations(raptr, halves: str) -> None:
    done = raptr("check", halves, "--budget", "mean(depth) >= 10", "--format", "github")
    assert done.out.startswith("::error title=requirement-refuted::--budget: mean(depth) >= 10 does not hold")


@pytest.mark.parametrize(("budget", "meant"), [("75", "75%"), ("110%", "75%"), ("7.5", "75%"), ("100", "100%")])
def test_a_budget_above_full_training_is_refused(raptr, halves: str, budget: str, meant: str) -> None:
    done = raptr("check", halves, "--budget", budget)
    assert done.code == 2
    assert "error[bad-budget]" in done.err and f"help: write --budget {meant}\n" in done.err


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--budget", "x", "'x' is no share of full training"),
        ("--budget", "0%", "write --budget 75%"),
        ("--budget", "mean(dept) >= 4", "did you mean `depth`?"),
        ("--budget", "flops <= 75% more", "expected the end of the statement"),
        ("--budget", "flops <= 75%; require shapes <= 3", "is no single requirement"),
        ("--model", "bert-bsae", "did you mean bert-base?"),
        ("--seed", "99999999999999999999999", "is not between 0 and 2^64"),
        ("--param", "half=1/2", "has no parameter `half`"),
        ("--param", "half=1/", "nothing follows `/`"),
    ],
)
def test_a_wrong_value_of_an_option_is_wrong_usage(raptr, halves: str, option: str, value: str, said: str) -> None:
    for command in ("check", "compile", "solve", "cost", "show", "controls", "diff"):
        files = (halves, halves) if command == "diff" else (halves,)
        done = raptr(command, *files, option, value)
        assert done.code == 2 and said in done.err, (command, done)


def test_a_convention_or_backend_that_is_not_there_is_wrong_usage(raptr, halves: str) -> None:
    for words in (
        ("cost", halves, "--convention", "megaton"),
        ("controls", halves, "--convention", "megaton"),
        ("compile", halves, "--backend", "tourch"),
    ):
        assert raptr(*words).code == 2


def test_a_file_with_errors_is_told_from_a_wrong_command(raptr, tmp_path) -> None:
    (tmp_path / "bad.raptr").write_text("stage depth=6/12 steps=20%\n")
    assert raptr("check", "bad.raptr").code == raptr("cost", "bad.raptr", "--model", "demo").code == 1
    assert raptr("check", "nowhere.raptr").code == 1
    assert raptr("check", "bad.raptr", "--model", "nowhere.toml").code == 1
