"""Tokens → statements, by line ends, `;`, brackets and the bodies of `repeat`.

Each statement is then parsed by itself, so that a mistake in one is reported once and harms no other.
"""

import re
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

from raptr_dsl.diagnostics import Diagnostics, Edit, Label
from raptr_dsl.source import Source, Span
from raptr_dsl.syntax.tokens import MISTAKES, NAME_AFTER, Scanner, Token

STATEMENTS = 20_000
WORDS = 2**20
NESTING = 64

CLOSES = {"LPAR": ("RPAR", ")"), "LSQB": ("RSQB", "]"), "LBRACE": ("RBRACE", "}")}
_BLOCKS = {"model", "keep", "default", "stage", "ramp", "run", "repeat"}  # statements with { }
CLOSERS = {closer for closer, _ in CLOSES.values()}
_STRUCTURE = {"_NL", "SEMICOLON", *CLOSES, *CLOSERS, *MISTAKES}


@dataclass(slots=True)
class Piece:
    """A statement, the head of a `repeat`, or the brace that ends its body.

    Attributes:
        mistakes: tokens among `tokens` that are no words of the language.
        unclosed: the innermost bracket that is still open where the statement ends.
        reported: a mistake in the brackets has been reported; the statement is to be given up silently.
    """

    kind: Literal["statement", "head", "end"]
    tokens: list[Token]
    mistakes: list[Token] = field(default_factory=list)
    unclosed: Token | None = None
    reported: bool = False


class Limit(Exception):
    """The file exceeds a limit, which has been reported; nothing of it is looked at."""


class Outline:
    """Divides one source. Reports brackets that do not match; raises `Limit`."""

    def __init__(self, source: Source, scanner: Scanner, words: list[str], diagnostics: Diagnostics) -> None:
        self.pieces: list[Piece] = []
        self._source = source
        self._text = source.text
        self._scanner = scanner
        self._diagnostics = diagnostics
        # A line that begins a statement, though a bracket is open: no value goes on so.
        self._statement = re.compile(rf'\s*(?:{"|".join(words)})[ \t]+[\w"{{]')
        self._piece = Piece("statement", [])
        self._open: list[Token] = []  # the brackets of the current statement
        self._bodies: list[Token] = []  # the braces of the `repeat`s around it
        self._count = 0
        self._last_string = -1  # where an unclosed text began: it may have swallowed a bracket
        self._after_body = False  # the line began with the end of a body
        self._stray = False  # one closing bracket too many has been reported in this line
        self._divide()

    def _divide(self) -> None:
        tokens = self._scanner.scan(self._text)
        append = self._piece.tokens.append
        for token in islice(tokens, WORDS):
            if token.kind not in _STRUCTURE:
                append(token)
                continue
            self._take(token)
            append = self._piece.tokens.append
        if excess := next(tokens, None):
            self._report_words(excess)
        self._end_statement()
        if self._bodies and self._bodies[-1].start > self._last_string:
            self._report_unclosed_bodies()
        self.pieces += [Piece("end", [brace]) for brace in reversed(self._bodies)]

    # --- tokens that shape -------------------------------------------------------------------------------

    def _take(self, token: Token) -> None:
        if token.kind in MISTAKES:
            self._take_mistake(token)
        elif token.kind in CLOSES:
            self._take_opening(token)
        elif token.kind in CLOSERS:
            self._take_closing(token)
        else:
            self._take_separator(token)

    def _take_mistake(self, token: Token) -> None:
        self._piece.tokens.append(token)
        self._piece.mistakes.append(token)
        if token.kind == "UNCLOSED_STRING":
            self._last_string = token.start

    def _take_separator(self, token: Token) -> None:
        self._stray = False
        if not self._open:
            self._end_statement()
            self._after_body = False
        elif self._open[-1].kind == "LBRACE":
            if self._statement_begins(token):
                self._end_statement()
            else:
                self._piece.tokens.append(token)
        elif token.kind == "SEMICOLON" or self._statement_begins(token):
            self._end_statement()

    def _take_opening(self, token: Token) -> None:
        tokens = self._piece.tokens
        if token.kind == "LBRACE" and not self._open:
            if not tokens:
                self._rejoin(token)
            if self._first_word() == "repeat":
                self._end_statement("head")
                self._bodies.append(token)
                self._check_nesting(token)
                return
        self._piece.tokens.append(token)
        self._open.append(token)
        self._check_nesting(token)

    def _take_closing(self, token: Token) -> None:
        matching = [i for i, bracket in enumerate(self._open) if CLOSES[bracket.kind][0] == token.kind]
        if matching:
            if matching[-1] != len(self._open) - 1:
                self._report_mismatch(token, self._open[-1])
            del self._open[matching[-1] :]
            self._piece.tokens.append(token)
        elif token.kind == "RBRACE" and self._bodies:
            self._end_statement()
            self._bodies.pop()
            self.pieces.append(Piece("end", [token]))
            self._after_body = True
        elif self._open:
            self._report_mismatch(token, self._open.pop())
            self._piece.tokens.append(token)
        else:
            self._report_stray(token)

    # --- statements --------------------------------------------------------------------------------------

    def _end_statement(self, kind: Literal["statement", "head"] = "statement") -> None:
        piece, self._piece = self._piece, Piece("statement", [])
        if not piece.tokens:
            return
        if self._after_body:
            self._report_joined(piece.tokens[0])
        piece.kind = kind
        piece.unclosed = self._open[-1] if self._open else None
        self._open.clear()
        self._read_name(piece)
        self.pieces.append(piece)
        self._count += 1
        if self._count > STATEMENTS:
            self._diagnostics.add(
                "limit-statements",
                f"the file has more than {STATEMENTS:,} statements",
                piece.tokens[0].span(self._source),
                label=f"statement {self._count:,}",
                help="say the same with `repeat` or `ramp`, or in several files",
            )
            raise Limit

    def _read_name(self, piece: Piece) -> None:
        """Makes one token of the name after `model` or `use`, whose hyphens and slashes belong to it."""
        pattern = self._scanner.names.get(self._first_word(piece).upper())
        match = pattern.match(self._text, piece.tokens[1].start) if pattern and len(piece.tokens) > 1 else None
        if match is None:
            return
        kind = NAME_AFTER[self._first_word(piece).upper()]
        rest = [token for token in piece.tokens[1:] if token.start >= match.end()]
        piece.tokens[1:] = [Token(kind, match.start(), match.end()), *rest]
        piece.mistakes = [token for token in piece.mistakes if token.start >= match.end()]

    def _first_word(self, piece: Piece | None = None) -> str:
        tokens = (piece or self._piece).tokens
        return self._text[tokens[0].start : tokens[0].end] if tokens else ""

    def _statement_begins(self, separator: Token) -> bool:
        """Whether the line after a separator begins a statement, no deeper than the one that is open."""
        match = self._statement.match(self._text, separator.end)
        if match is None or separator.kind != "_NL":
            return False
        return self._indent(match.end()) <= self._indent(self._piece.tokens[0].start)

    def _indent(self, offset: int) -> int:
        """The width of the blanks at the start of the line of an offset."""
        line = self._text[self._text.rfind("\n", 0, offset) + 1 : offset]
        return len(line.expandtabs(8)) - len(line.expandtabs(8).lstrip())

    def _rejoin(self, brace: Token) -> None:
        """Takes a statement up again whose `{` stands on a line of its own."""
        last = self.pieces[-1] if self.pieces else None
        if last is None or last.kind != "statement" or self._first_word(last) not in _BLOCKS:
            return
        gap = Span(self._source, last.tokens[-1].end, brace.start)
        if last.tokens[-1].kind == "RBRACE" or ";" in gap.text:
            return
        self._piece = self.pieces.pop()
        self._count -= 1
        if not (self._piece.mistakes or self._piece.reported):
            self._diagnostics.add(
                "brace-on-next-line",
                f"the `{{` of this `{self._first_word()}` stands on another line",
                brace.span(self._source),
                related=[Label(last.tokens[0].span(self._source), "this statement ends with its line")],
                help="write { on the line of the statement",
                fix=Edit(gap, " ") if gap.text.isspace() else None,
            )

    # --- reports -----------------------------------------------------------------------------------------

    def _check_nesting(self, token: Token) -> None:
        if len(self._open) + len(self._bodies) > NESTING:
            self._diagnostics.add(
                "limit-nesting",
                f"brackets are nested more than {NESTING} deep",
                token.span(self._source),
                label=f"level {NESTING + 1}",
                help="give parts of it names with `let`, or close brackets that are open by mistake",
            )
            raise Limit

    def _report_words(self, token: Token) -> None:
        self._diagnostics.add(
            "limit-words",
            f"the file has more than {WORDS:,} words",
            token.span(self._source),
            label="this is one too many",
            help="say the same with `repeat` or `ramp`, or in several files",
        )
        raise Limit

    def _report_mismatch(self, closing: Token, opening: Token) -> None:
        piece = self._piece
        if not (piece.mistakes or piece.reported):
            right = CLOSES[opening.kind][1]
            opened, closed = opening.span(self._source), closing.span(self._source)
            if any(CLOSES[bracket.kind][0] == closing.kind for bracket in self._open):
                self._diagnostics.add(
                    "bracket-unclosed",
                    f"`{opened.text}` is not closed",
                    opened,
                    related=[Label(closed, "this closes another")],
                    help=f"write {right} before the {closed.text}",
                    fix=Edit(Span(self._source, closing.start, closing.start), right),
                )
            else:
                self._diagnostics.add(
                    "bracket-mismatch",
                    f"`{closed.text}` does not close `{opened.text}`",
                    closed,
                    related=[Label(opened, "opened here")],
                    help=f"write {right} instead",
                    fix=Edit(closed, right),
                )
            piece.reported = True

    def _report_stray(self, token: Token) -> None:
        piece = self._piece
        if piece.mistakes or piece.reported or self._stray:
            return
        self._stray = True
        span = token.span(self._source)
        self._diagnostics.add(
            "bracket-stray",
            f"`{span.text}` closes nothing",
            span,
            help="leave it out, or open a bracket before it",
            fix=Edit(span, ""),
        )

    def _report_unclosed_bodies(self) -> None:
        *outer, innermost = self._bodies
        self._diagnostics.add(
            "bracket-unclosed",
            "`{` is never closed",
            innermost.span(self._source),
            label="this body goes on to the end of the file",
            related=[Label(brace.span(self._source), "nor is this one") for brace in outer],
            help="write } where the repetition ends",
        )

    def _report_joined(self, token: Token) -> None:
        self._after_body = False
        self._diagnostics.add(
            "statement-joined",
            "a statement ends at `}`, and another begins on the same line",
            token.span(self._source),
            help="begin a new line, or write ; between them",
            fix=Edit(Span(self._source, token.start, token.start), "\n"),
        )
