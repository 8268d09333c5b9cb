"""The catalogue's entries of this topic: each example shows its code, and is mended by the other."""

import re
import tomllib
from importlib.resources import files
from pathlib import Path

import pytest

import raptr_dsl.compiler
from raptr_dsl.compiler.lower import lower
from raptr_dsl.diagnostics import Diagnostics
from raptr_dsl.source import Source
from raptr_dsl.syntax.parser import parse

CODES = tomllib.loads((files("raptr_dsl.codes") / "compiler.toml").read_text("utf-8"))
WITH_EXAMPLES = [code for code, entry in CODES.items() if "bad" in entry]
# These take a second file or a command line to show; the golden files do.
WITHOUT = {
    "unknown-param", "argument-without-name", "import-path", "import-without-name", "import-cycle", "limit-imports",
    "requirement-of-a-part",
}  # fmt: skip


def codes_of(text: str) -> dict[str, str]:
    """The code of each diagnostic, with its severity."""
    diagnostics = Diagnostics()
    lower(parse(Source("example.raptr", text), diagnostics), diagnostics)
    return {item.code: item.severity for item in diagnostics}


@pytest.mark.parametrize("code", WITH_EXAMPLES)
def test_example_shows_its_code_and_is_mended(code: str) -> None:
    assert code in codes_of(CODES[code]["bad"])
    assert not codes_of(CODES[code]["good"])


def test_only_codes_that_need_more_than_a_text_have_no_example() -> None:
    assert set(CODES) - set(WITH_EXAMPLES) == WITHOUT


@pytest.mark.parametrize("code", CODES)
def test_code_is_used(code: str) -> None:
    folder = Path(raptr_dsl.compiler.__file__).parent
    assert any(re.search(rf'"{code}"', path.read_text("utf-8")) for path in folder.glob("*.py"))
