"""Text → syntax tree: the statements that parse, and a diagnostic for each that does not."""

from dataclasses import replace
from typing import Any

from raptr_dsl.diagnostics import Diagnostic, Diagnostics, Edit
from raptr_dsl.source import Source, Span
from raptr_dsl.syntax import ast
from raptr_dsl.syntax.automaton import Automaton, Unexpected
from raptr_dsl.syntax.build import Builder, Mistake
from raptr_dsl.syntax.files import FILE_BYTES, report_too_large
from raptr_dsl.syntax.outline import CLOSERS, CLOSES, NESTING, Limit, Outline, Piece
from raptr_dsl.syntax.tables import load_tables
from raptr_dsl.syntax.tokens import Scanner, Token

_OPERATORS = {"PLUS", "MINUS", "STAR", "SLASH"}
_SEPARATORS = {"COMMA", "EQUAL", "DOTS", "COMPARE", "_NL", "SEMICOLON"}


def parse(source: Source, diagnostics: Diagnostics) -> ast.File:
    """The syntax tree of a text.

    Never raises on bad input: each mistake is appended to `diagnostics`, and the tree holds the statements that have
    none. A text beyond a limit (4 MiB, 20,000 statements, brackets 64 deep) gets one error and an empty tree.
    """
    whole = Span(source, 0, len(source.text))
    if len(source.text) > FILE_BYTES:
        report_too_large(source.name, diagnostics)
        return ast.File(whole, ())
    try:
        return ast.File(whole, tuple(_Parser(source, diagnostics).statements()))
    except Limit:
        return ast.File(whole, ())


class _Parser:
    def __init__(self, source: Source, diagnostics: Diagnostics) -> None:
        self._tables = load_tables()
        self._source = source
        self._diagnostics = diagnostics
        self._builder = Builder(source)
        self._automaton = Automaton(self._tables, self._builder)
        self._went_on = False  # lines of attributes after the one reported belong to the same mistake

    def statements(self) -> list[ast.Statement]:
        """The statements of the file, those in the body of a `repeat` within it."""
        words = self._tables.statement_words
        outline = Outline(self._source, Scanner(self._tables), words, self._diagnostics)
        body: list[ast.Statement] = []
        outer: list[tuple[ast.Repeat | None, list[ast.Statement]]] = []
        for piece in outline.pieces:
            if piece.kind == "head":
                outer.append((self._statement(piece, "repeat_head"), body))
                body = []
            elif piece.kind == "end":
                head, around = outer.pop()
                if head is not None:
                    around.append(_complete(head, body, piece.tokens[0].end))
                body = around
            elif statement := self._statement(piece, "statement"):
                body.append(statement)
        return body

    def _statement(self, piece: Piece, start: str) -> Any:
        """The node of a piece; None if it has a mistake, which is then reported."""
        if piece.reported:
            return None
        tokens = piece.tokens
        try:
            if piece.mistakes:
                from raptr_dsl.syntax.mistakes.lexical import lexical_mistake  # good files start without it

                raise Mistake(lexical_mistake(self._source, piece))
            self._builder.statement = Span(self._source, tokens[0].start, tokens[-1].end)
            if len(tokens) > NESTING:
                _check_depth(self._source, tokens)
            if piece.unclosed:
                raise Mistake(self._unclosed(piece, piece.unclosed, start))
            node = self._automaton.run(start, tokens)
            self._went_on = False
            return node
        except Unexpected as unexpected:
            from raptr_dsl.syntax.mistakes import syntax_mistake

            diagnostic = syntax_mistake(self._source, tokens, unexpected)
        except Mistake as mistake:
            diagnostic = mistake.diagnostic
        if not (self._went_on and len(tokens) > 1 and tokens[1].kind in ("EQUAL", "DOT")):
            self._diagnostics.extend([diagnostic])
            goes_on = self._source.text[tokens[-1].start] == "\\"
            self._went_on = diagnostic.code == "attribute-adrift" or goes_on
        return None

    def _unclosed(self, piece: Piece, bracket: Token, start: str) -> Diagnostic:
        """A bracket that its statement leaves open; it is best closed where the statement stops making sense."""
        tokens = piece.tokens
        last = len(tokens)
        try:
            self._automaton.run(start, tokens)
        except Unexpected as unexpected:
            last = max(unexpected.index, tokens.index(bracket) + 1)
        except Mistake:
            pass
        while tokens[last - 1].kind == "_NL":
            last -= 1
        closing = CLOSES[bracket.kind][1]
        first = last - 1
        while tokens[first - 1].kind not in (bracket.kind, "_NL") and tokens[first - 1].end == tokens[first].start:
            first -= 1
        before = tokens[first].span(self._source).to(tokens[last - 1].span(self._source))
        return Diagnostic(
            "bracket-unclosed",
            f"`{self._source.text[bracket.start]}` is never closed",
            bracket.span(self._source),
            help=f"write {closing} after {before.text}" if before.start > bracket.start else f"write {closing}",
            fix=Edit(Span(self._source, before.end, before.end), closing),
        )


def _complete(head: ast.Repeat, body: list[ast.Statement], end: int) -> ast.Repeat:
    return replace(head, span=Span(head.span.source, head.span.start, end), body=tuple(body))


def _check_depth(source: Source, tokens: list[Token]) -> None:
    """Raises `Mistake` if the tree of a statement would be deeper than the limit: of brackets or of operators.

    The tree is not there yet: a chain of n operators is as deep as n brackets, and a bracket adds to its chain.
    """
    levels = [[0, 0, 0]]  # of each open bracket: the operators of this value, its deepest bracket, its deepest value
    for token in tokens:
        level = levels[-1]
        kind = token.kind
        if kind in CLOSES:
            levels.append([0, 0, 0])
        elif kind in _OPERATORS:
            level[0] += 1
        elif kind in CLOSERS:
            levels.pop()
            levels[-1][1] = max(levels[-1][1], 1 + max(level[2], level[0] + level[1]))
        elif kind in _SEPARATORS:
            level[:] = 0, 0, max(level[2], level[0] + level[1])
        if len(levels) + levels[-1][0] + levels[-1][1] > NESTING:
            raise Mistake(
                Diagnostic(
                    "limit-nesting",
                    f"this expression is more than {NESTING} operations deep",
                    token.span(source),
                    help="give parts of it names with `let`",
                )
            )
