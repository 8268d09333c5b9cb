"""`raptr explain`, and the page of errors that it makes."""

from pathlib import Path

import pytest

from raptr_dsl.codes import catalogue

ROOT = Path(__file__).resolve().parent.parent.parent


def test_one_code(raptr, golden) -> None:
    done = raptr("explain", "backend-unknown")
    assert done.code == 0
    golden(ROOT / "tests" / "golden" / "cli" / "explain.txt", done.out)


@pytest.mark.parametrize("spelling", ["error[backend-unknown]:", "[backend-unknown]", "Backend-Unknown"])
def test_a_code_copied_from_a_message_is_known(raptr, spelling: str) -> None:
    assert raptr("explain", spelling).out == raptr("explain", "backend-unknown").out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["backend-unknwon"], "did you mean backend-unknown?"),
        (["zzz"], "raptr explain --all lists them"),
        ([], "Name one code, or ask for --all"),
        (["backend-unknown", "--all"], "Name one code, or ask for --all"),
        (["--all", "--format", "html"], "'html'"),
    ],
)
def test_wrong_usage(raptr, arguments: list[str], said: str) -> None:
    done = raptr("explain", *arguments)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


def test_all_has_every_code(raptr) -> None:
    text = raptr("explain", "--all").out
    for name, code in catalogue().items():
        assert f"{name}: {code.title}" in text


def test_the_page_of_errors_is_up_to_date(raptr, golden) -> None:
    golden(ROOT / "docs" / "errors.md", raptr("explain", "--all", "--format", "markdown").out)
