"""The saved tables: found again, never trusted when damaged, never missed."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from raptr_dsl.resources import grammar_file
from raptr_dsl.syntax.tables import Tables, load_tables, make_tables

PARSE = """
import sys
from raptr_dsl.diagnostics import Diagnostics
from raptr_dsl.source import Source
from raptr_dsl.syntax import parse
diagnostics = Diagnostics()
file = parse(Source("t", "stage full steps=rest\\nseed"), diagnostics)
print(len(file.statements), *(problem.code for problem in diagnostics))
print(*sys.modules)
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, and no tables in memory."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    load_tables.cache_clear()
    yield tmp_path / "raptr_dsl"  # type: ignore[misc]
    load_tables.cache_clear()


def saved(cache: Path) -> Path:
    (path,) = cache.iterdir()
    return path


def again() -> Tables:
    load_tables.cache_clear()
    return load_tables()


def parsing(cache_home: Path) -> set[str]:
    """The modules loaded by a process that parses a text."""
    done = subprocess.run(
        [sys.executable, "-c", PARSE],
        env=os.environ | {"XDG_CACHE_HOME": str(cache_home)},
        capture_output=True,
        text=True,
    )
    assert not done.stderr
    result, modules = done.stdout.splitlines()
    assert result == "1 statement-incomplete"
    return set(modules.split())


def test_tables_are_saved_and_read_back(cache: Path) -> None:
    made = load_tables()
    assert again() == made
    before = saved(cache).stat().st_mtime_ns
    again()
    assert saved(cache).stat().st_mtime_ns == before


def test_saved_tables_are_what_is_read(cache: Path) -> None:
    """Guards the test above: were the file not read, what it holds would not matter."""
    made = load_tables()
    path = saved(cache)
    body = path.read_bytes().split(b"\n", 1)[1].replace(b'"SEMICOLON":";"', b'"SEMICOLON":"!"')
    path.write_bytes(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
    assert again() != made


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:-1],
        lambda whole: whole.replace(b"SEMICOLON", b"SEMICOLUMN", 1),
        lambda whole: b"\xff" * 100,
        lambda whole: b"\n" + whole,
        lambda whole: b"\0" * len(whole),
    ],
    ids=["empty", "half", "one byte short", "one word changed", "no text", "one line more", "zeros"],
)
def test_a_damaged_file_is_made_again(cache: Path, damage) -> None:
    made = load_tables()
    path = saved(cache)
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert again().statement_words == made.statement_words
    checksum, body = path.read_bytes().split(b"\n", 1)
    assert hashlib.sha256(body).hexdigest().encode() == checksum


def test_a_file_of_another_form_is_made_again(cache: Path) -> None:
    load_tables()
    body = b'{"rows":[]}'
    saved(cache).write_bytes(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
    assert again().rows


def test_a_folder_that_cannot_be_written_is_not_missed(tmp_path: Path) -> None:
    (tmp_path / "raptr_dsl").write_text("a file where the folder would be")
    assert "lark" in parsing(tmp_path)


def test_no_home_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("no home")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert again().rows


def test_parsing_with_saved_tables_loads_neither_lark_nor_numpy(tmp_path: Path) -> None:
    assert "lark" in parsing(tmp_path)
    modules = parsing(tmp_path)
    assert not {"lark", "numpy", "click", "rich", "pydantic"} & modules


def test_another_grammar_has_other_tables(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = load_tables()
    other = tmp_path / "other.lark"
    other.write_text(grammar_file().read_text("utf-8").replace("/stage(", "/phase("), "utf-8")
    monkeypatch.setattr("raptr_dsl.syntax.tables.grammar_file", lambda: other)
    assert again() != made
    assert "phase" in again().statement_words
    assert len(list(cache.iterdir())) == 2


def test_tables_say_what_lark_made() -> None:
    tables = make_tables(grammar_file().read_text("utf-8"))
    assert "stage" in tables.statement_words and "in" not in tables.statement_words
    assert tables.keywords["in"] == "IN"
    assert set(tables.ignored) == {"COMMENT", "_BLANK"}
    assert {"NAME", "NUMBER", "STRING", "_NL"} <= tables.terminals.keys()
