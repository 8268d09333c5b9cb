"""Text → tokens, by the grammar's own patterns in one regular expression.

What the grammar has no word for becomes a token too, of a kind in `MISTAKES`, so that it is met where it stands,
with its statement around it.
"""

import re
from collections.abc import Iterator

from raptr_dsl.source import Source, Span
from raptr_dsl.syntax.tables import Tables

# Tried in this order where no pattern of the grammar fits.
MISTAKES = {
    # A text that goes on over line ends: the quote that closes it ends a line, and no statement begins between.
    "BROKEN_STRING": r'"[^"\\\n]*+(?:\\.[^"\\\n]*+)*+(?:\n(?![ \t]*(?:WORDS)[ \t])[^"\n]*){1,20}"'
    r"(?=[ \t\r]*(?:[\n;#]|\Z))",
    "UNCLOSED_STRING": r'"[^\r\n]*',
    "MALFORMED_NUMBER": r"[0-9](?:[eE][+-]|[A-Za-z0-9_]+|\.(?=[A-Za-z0-9_]))*+(?!\w)",
    "FOREIGN_WORD": r"\w+",
    "FOREIGN_SIGN": r"[<>!&|^@$~%\\`']+|[^\w\s]|\s",
}

# Hyphens and slashes belong to the name only there; elsewhere they are operators.
NAME_AFTER = {"MODEL": "DASHED", "USE": "PATH"}


class Token:
    """A word of the text: its terminal, and the half-open range [start, end) that it covers."""

    __slots__ = ("end", "kind", "start")

    def __init__(self, kind: str, start: int, end: int) -> None:
        self.kind = kind
        self.start = start
        self.end = end

    def span(self, source: Source) -> Span:
        return Span(source, self.start, self.end)


class Scanner:
    """The lexer: every word has its terminal but keywords, which are NAMEs until a statement is known."""

    def __init__(self, tables: Tables) -> None:
        terminals = dict(tables.terminals)
        blanks = "|".join(terminals.pop(name) for name in tables.ignored)
        self.names = {kind: re.compile(terminals.pop(name)) for kind, name in NAME_AFTER.items()}
        words = "|".join(tables.statement_words)
        line_end, semicolon = terminals["_NL"], terminals["SEMICOLON"]  # in a row they are one token
        terminals["_NL"] += f"(?:{blanks}|{line_end})*+"
        terminals["SEMICOLON"] += f"(?:{blanks}|{line_end}|{semicolon})*+"
        kinds = dict(sorted(terminals.items(), key=lambda item: -len(item[1])))  # ".." before "."
        kinds |= {name: pattern.replace("WORDS", words) for name, pattern in MISTAKES.items()}
        choice = "|".join(f"(?P<{name}>{pattern})" for name, pattern in kinds.items())
        self.word = re.compile(rf"(?:{blanks})*+(?:{choice}|\Z)")

    def scan(self, text: str) -> Iterator[Token]:
        """The tokens of a text, line breaks included, blanks and comments left out."""
        for match in self.word.finditer(text):
            kind = match.lastgroup
            if kind is None:
                return
            start, end = match.span(kind)
            yield Token(kind, start, end)
