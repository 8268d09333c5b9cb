"""A word that fits nothing, or an end that comes too early → a diagnostic in the user's words.

Each function of the modules beside this one knows one mistake by its surroundings and says None to any other; the
first that knows it speaks.
"""

from collections.abc import Callable

from raptr_dsl.diagnostics import Diagnostic
from raptr_dsl.source import Source
from raptr_dsl.syntax.automaton import Unexpected
from raptr_dsl.syntax.mistakes import signs, statements, values
from raptr_dsl.syntax.mistakes.place import Place
from raptr_dsl.syntax.tokens import Token

Known = Callable[[Place], Diagnostic | None]

_AT_START: tuple[Known, ...] = (statements.comment, statements.adrift, statements.unknown_statement)
_ELSEWHERE: tuple[Known, ...] = (
    statements.comment,
    lambda place: statements.adrift(place) if place.index == 1 else None,
    statements.keyword_equals,
    statements.imported_by_run,
    statements.param_type_missing,
    values.value_skipped,
    values.unit_apart,
    values.brackets_missing,
    statements.joined,
    statements.after_block,
    values.value_missing,
    signs.double_equals,
    signs.single_equals,
    signs.colon,
    signs.hyphen,
    signs.equals_missing,
    values.equals_and_value_missing,
    signs.comma_extra,
    signs.comma_missing,
    values.name_quoted,
    values.text_unquoted,
    values.half_number,
    statements.incomplete,
)


def syntax_mistake(source: Source, tokens: list[Token], unexpected: Unexpected) -> Diagnostic:
    """What is wrong with a statement that does not parse."""
    place = Place(source, tokens, unexpected.index, unexpected.expected)
    for known in _AT_START if place.index == 0 else _ELSEWHERE:
        if diagnostic := known(place):
            return diagnostic
    return statements.anything(place)
