"""Decision records: a number means one of them, in its file's name and in its title."""

import re
from pathlib import Path

import pytest

RECORDS = sorted((Path(__file__).resolve().parents[2] / "docs" / "adr").glob("*.md"))


def test_no_two_records_have_one_number() -> None:
    numbers = [path.name[:4] for path in RECORDS]
    assert len(numbers) > 10
    assert sorted(set(numbers)) == numbers


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_title_has_the_number_of_its_file(path: Path) -> None:
    title = re.match(r"# (\d+)\. \S", path.read_text("utf-8"))
    assert title and int(title[1]) == int(path.name[:4])
