"""The collector rests while a file is compiled, and works again after it, whatever the file was."""

import gc

import pytest

from raptr_dsl import check_text
from raptr_dsl.syntax import parser


@pytest.mark.parametrize("text", ["stage steps=rest\n", "stge\n"])
def test_collection_rests_while_compiling_and_not_after(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    original = parser._Parser.statements

    def watched(self: parser._Parser) -> list:
        seen.append(gc.isenabled())
        return original(self)

    monkeypatch.setattr(parser._Parser, "statements", watched)
    check_text(text)
    assert seen == [False]
    assert gc.isenabled()
