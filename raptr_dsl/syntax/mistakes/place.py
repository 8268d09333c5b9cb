"""Where a statement stopped making sense, and what could stand there, in words."""

import re
from dataclasses import dataclass

from raptr_dsl.source import Source, Span
from raptr_dsl.syntax.characters import shortened
from raptr_dsl.syntax.tables import END
from raptr_dsl.syntax.tokens import Token

_SIGNS = {
    "EQUAL": "=", "COLON": ":", "COMMA": ",", "DOTS": "..", "DOT": ".", "PLUS": "+", "MINUS": "-", "STAR": "*",
    "SLASH": "/", "LPAR": "(", "RPAR": ")", "LSQB": "[", "RSQB": "]", "LBRACE": "{", "RBRACE": "}",
    "IN": "in", "AS": "as",
}  # fmt: skip
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
VALUE = {"NUMBER", "NAME", "LPAR"}  # where all of these may stand, a value may
VALUE_STARTS = {"NUMBER", "NAME", "STRING", "LPAR", "LSQB", "MINUS", "HOLE"}
ENDS = {"RPAR", "RSQB", "RBRACE", "_NL", "SEMICOLON"}
OPERATORS = {"PLUS", "MINUS", "STAR", "SLASH"}
_WORDS = {
    "NAME": "a name", "NUMBER": "a number", "STRING": 'a text in "double quotes"', "PATH": "the path of a library",
    "COMPARE": "<=, >= or ==", "HOLE": "`?`",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Place:
    """Where a statement stopped making sense."""

    source: Source
    tokens: list[Token]
    index: int
    expected: frozenset[str]

    @property
    def word(self) -> str:
        """The word that the statement begins with."""
        return self.text(0)

    @property
    def at_end(self) -> bool:
        return self.index == len(self.tokens)

    def kind(self, offset: int = 0) -> str:
        """The terminal at an offset from the word that fits nothing, END beyond the statement."""
        index = self.index + offset
        return self.tokens[index].kind if 0 <= index < len(self.tokens) else END

    def text(self, index: int) -> str:
        return self.tokens[index].span(self.source).text

    def span(self, offset: int = 0) -> Span:
        """The span of the token at an offset from the word that fits nothing; beyond the last, where it would begin."""
        index = self.index + offset
        if index < len(self.tokens):
            return self.tokens[index].span(self.source)
        return Span(self.source, self.tokens[-1].end, self.tokens[-1].end)

    def gap(self) -> Span:
        """What stands between the word that fits nothing and the one before it."""
        return Span(self.source, self.span(-1).end, self.span().start)

    def run(self, offset: int = 0) -> Span:
        """The token at an offset and all that follow it without a blank."""
        last = offset
        while self.touches(last):
            last += 1
        return self.span(offset).to(self.span(last))

    def wants_value(self) -> bool:
        return self.expected >= VALUE

    def touches(self, offset: int) -> bool:
        """Whether nothing stands between the token at an offset and the one after it."""
        return self.kind(offset + 1) != END and self.span(offset).end == self.span(offset + 1).start


def shown(span: Span) -> str:
    return shortened(span.text)


def listed(expected: frozenset[str]) -> str:
    """What may stand in a place, in words."""
    rest = set(expected)
    words: list[str] = []
    if rest >= VALUE:
        words.append("a value")
        rest -= VALUE_STARTS
    if rest >= OPERATORS:
        words.append("an operator")
        rest -= OPERATORS
    words += [text for kind, text in _WORDS.items() if kind in rest]
    words += [f"`{sign}`" for kind, sign in _SIGNS.items() if kind in rest]
    if END in rest:
        words.append("the end of the statement")
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
