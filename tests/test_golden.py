"""The golden fixture itself: it must be able to fail, or every test that uses it is worth nothing."""

from dataclasses import replace
from pathlib import Path

import pytest


def test_equal_text_passes(golden, tmp_path: Path) -> None:
    (tmp_path / "out.txt").write_bytes("a\r\nµ\n".encode())
    replace(golden, update=False)(tmp_path / "out.txt", "a\r\nµ\n")


@pytest.mark.parametrize(
    ("actual", "reported"),
    [("a\nc\n", "-b\n\\+c"), ("a\r\nb\n", "only line ends"), ("a\nb", "last newline")],
)
def test_different_text_fails_with_the_difference(golden, tmp_path: Path, actual: str, reported: str) -> None:
    (tmp_path / "out.txt").write_bytes(b"a\nb\n")
    with pytest.raises(pytest.fail.Exception, match=reported):
        replace(golden, update=False)(tmp_path / "out.txt", actual)


def test_missing_file_fails_and_shows_the_output(golden, tmp_path: Path) -> None:
    with pytest.raises(pytest.fail.Exception, match="the output"):
        replace(golden, update=False)(tmp_path / "out.txt", "the output")


def test_update_writes_the_file_and_its_folder(golden, tmp_path: Path) -> None:
    path = tmp_path / "new" / "out.txt"
    replace(golden, update=True)(path, "a\r\n")
    assert path.read_bytes() == b"a\r\n"
