"""Text → the same text in the canonical layout: its words as they are written, its comments where they belong.

`format` writes what a tree means; here nothing that the author chose is lost: comments, the spelling of numbers,
parentheses, a blank line between two statements. Only blanks, line ends and the braces of long statements change.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from raptr_dsl.diagnostics import Diagnostics
from raptr_dsl.source import Source
from raptr_dsl.syntax.format import INDENT, WIDTH
from raptr_dsl.syntax.outline import Outline, Piece
from raptr_dsl.syntax.parser import parse
from raptr_dsl.syntax.tables import load_tables
from raptr_dsl.syntax.tokens import Scanner, Token

_TRIVIA = re.compile(r"#[^\n]*|\n")
_SEPARATORS = {"_NL", "SEMICOLON"}
_OPENERS = {"LPAR", "LSQB"}
_CLOSERS = {"RPAR", "RSQB"}
_TIGHT_AFTER = {*_OPENERS, "DOT", "PLUS", "MINUS", "STAR", "SLASH", "DOTS"}
_TIGHT_BEFORE = {*_CLOSERS, "DOT", "PLUS", "MINUS", "STAR", "SLASH", "DOTS", "COMMA", "COLON"}
_ENDS_A_VALUE = {"NAME", "NUMBER", "STRING", "HOLE", "RPAR", "RSQB"}
_ASSIGNMENTS = {"let", "param"}  # where `=` stands between blanks
_WITH_ATTRIBUTES = {"model", "keep", "default", "stage", "ramp", "run", "repeat"}
_NEVER_EMPTY = {"keep", "default"}  # without attributes they need their braces


def format_text(source: Source, diagnostics: Diagnostics) -> str | None:
    """The text in the canonical layout, None (and the mistakes recorded) where it has syntax errors.

    The tree is the same, every comment is kept, and formatting the result changes nothing.
    """
    mistakes = Diagnostics()
    parse(source, mistakes)
    diagnostics.extend(mistakes)
    if mistakes.has_errors:
        return None
    tables = load_tables()
    outline = Outline(source, Scanner(tables), tables.statement_words, Diagnostics())
    return _Writer(source.text).file(outline.pieces)


@dataclass(slots=True)
class _Word:
    """A token as it is written, with the comments before it and the number of line ends before each and before it."""

    token: Token
    text: str
    comments: list[tuple[int, str]]
    line_ends: int


class _Writer:
    def __init__(self, text: str) -> None:
        self.text = text
        self.lines: list[str] = []
        self.depth = 0
        self.may_be_blank = False  # not at the start of a file or body

    def file(self, pieces: Iterable[Piece]) -> str:
        position, line_ends = 0, 1
        for piece in pieces:
            first, last = piece.tokens[0], piece.tokens[-1]
            comments, line_ends = self.trivia(position, first.start, line_ends)
            self.comments(comments)
            if piece.kind == "end":
                self.depth -= 1
                self.put("}", blank=False)
            elif piece.kind == "head":
                self.statement(piece.tokens, line_ends)
                self.lines[-1] += " {"
                self.depth += 1
                self.may_be_blank = False
            else:
                self.statement(piece.tokens, line_ends)
            position, line_ends = last.end + (piece.kind == "head"), 0
            if piece.kind == "head":
                position = self.text.index("{", last.end) + 1
        comments, _ = self.trivia(position, len(self.text), line_ends)
        self.comments(comments)
        return "".join(f"{line}\n" for line in self.lines)

    # --- trivia ------------------------------------------------------------------------------------------

    def trivia(self, start: int, end: int, line_ends: int = 0) -> tuple[list[tuple[int, str]], int]:
        """The comments between two offsets, each with the number of line ends before it; and those before `end`."""
        comments: list[tuple[int, str]] = []
        for match in _TRIVIA.finditer(self.text, start, end):
            if match[0] == "\n":
                line_ends += 1
            else:
                comments.append((line_ends, match[0].rstrip()))
                line_ends = 0
        return comments, line_ends

    def comments(self, comments: Iterable[tuple[int, str]]) -> None:
        for line_ends, comment in comments:
            if line_ends == 0 and self.lines:
                self.lines[-1] += f"  {comment}"
            else:
                self.put(comment, blank=line_ends > 1)

    def put(self, line: str, *, blank: bool) -> None:
        if blank and self.may_be_blank:
            self.lines.append("")
        self.lines.append(INDENT * self.depth + line)
        self.may_be_blank = True

    # --- statements --------------------------------------------------------------------------------------

    def statement(self, tokens: list[Token], line_ends: int) -> None:
        words = self.words(tokens)
        kind = words[0].text
        head, attributes, comments = _divide(words, kind)
        written = [self.flat(part, kind) for part in (head, *attributes)]
        line = " ".join(written)
        if not any(word.comments for word in words[1:]) and (
            len(line) <= WIDTH or (kind == "repeat" and "\n" not in self.text[tokens[0].start : tokens[-1].end])
        ):
            empty = kind in _NEVER_EMPTY and not attributes
            self.put(f"{line} {{}}" if empty else line, blank=line_ends > 1)
            return
        self.put("", blank=line_ends > 1)
        self.broken(head, kind, written[0])
        if not (attributes or comments):
            return
        if kind == "repeat":
            for attribute, flat in zip(attributes, written[1:], strict=True):
                self.lines[-1] += " "
                self.broken(attribute, kind, flat)
            return
        self.lines[-1] += " {"
        self.depth += 1
        for attribute, flat in zip(attributes, written[1:], strict=True):
            self.comments(attribute[0].comments)
            self.put("", blank=False)
            self.broken(attribute, kind, flat)
        self.comments(comments)
        self.depth -= 1
        self.put("}", blank=False)

    def words(self, tokens: list[Token]) -> list[_Word]:
        words: list[_Word] = []
        position = tokens[0].start
        for token in tokens:
            if token.kind in _SEPARATORS:
                continue
            found, line_ends = self.trivia(position, token.start)
            words.append(_Word(token, self.text[token.start : token.end], found, line_ends))
            position = token.end
        return _without_last_commas(words)

    def flat(self, words: list[_Word], kind: str) -> str:
        """The words on one line."""
        return "".join(blank + word.text for blank, word in _spaced(words, kind))

    def broken(self, words: list[_Word], kind: str, flat: str) -> None:
        """Goes on with the current line: at once if it fits, else with the line ends that brackets hold."""
        hold = len(self.lines[-1]) + len(flat) > WIDTH + len(INDENT) * self.depth
        hold = hold or any(word.comments for word in words[1:])
        if not hold:
            self.lines[-1] += flat
            return
        depth = self.depth
        for index, (blank, word) in enumerate(_spaced(words, kind)):
            breaks = index and (word.comments or word.line_ends)
            if index:
                self.comments(word.comments)
            if word.token.kind in _CLOSERS:
                self.depth -= 1
            if breaks:
                self.put(word.text, blank=False)
            else:
                self.lines[-1] += blank + word.text
            if word.token.kind in _OPENERS:
                self.depth += 1
        self.depth = depth


def _divide(words: list[_Word], kind: str) -> tuple[list[_Word], list[list[_Word]], list[tuple[int, str]]]:
    """The head of a statement, its attributes, and the comments before the brace that closes its block."""
    if kind not in _WITH_ATTRIBUTES:
        return words, [], []
    parts: list[list[_Word]] = [words[:1]]
    carried: list[tuple[int, str]] = []
    depth = 0
    for index, word in enumerate(words[1:], 1):
        kind_of = word.token.kind
        if kind_of in ("LBRACE", "RBRACE"):
            carried += word.comments
            continue
        depth += (kind_of in _OPENERS) - (kind_of in _CLOSERS)
        if depth == 0 and _begins_attribute(words, index):
            parts.append([])
        if carried:
            word.comments[:0] = carried
            carried = []
        parts[-1].append(word)
    return parts[0], parts[1:], carried


def _begins_attribute(words: list[_Word], index: int) -> bool:
    kinds = [word.token.kind for word in words[index : index + 4]]
    if words[index - 1].token.kind == "DOT":
        return False  # the name in `depth.scale=`
    return kinds[:2] == ["NAME", "EQUAL"] or kinds == ["NAME", "DOT", "NAME", "EQUAL"]


def _without_last_commas(words: list[_Word]) -> list[_Word]:
    """`[a, b,]` is `[a, b]`, unless the bracket closes on a line of its own."""
    kept: list[_Word] = []
    for word in words:
        if word.token.kind in _CLOSERS and kept[-1].token.kind == "COMMA":
            word.comments[:0] = kept.pop().comments
        kept.append(word)
    return kept


def _spaced(words: list[_Word], kind: str) -> Iterator[tuple[str, _Word]]:
    """Each word with the blank before it."""
    depth = 0
    is_assigned = False  # the range after `in` stands between blanks, that of a default does not
    keyword = _in(words) if kind == "param" else None
    for index, word in enumerate(words):
        depth -= word.token.kind in _CLOSERS
        is_bounds = kind == "param" and not (depth or is_assigned)
        is_spaced = is_bounds and ("DOTS" in (words[index - 1].token.kind, word.token.kind) or index - 1 == keyword)
        yield (" " if is_spaced else _blank(words, index, kind, depth) if index else ""), word
        depth += word.token.kind in _OPENERS
        is_assigned = is_assigned or (depth == 0 and word.token.kind == "EQUAL")


def _in(words: list[_Word]) -> int | None:
    """Where a `param NAME: TYPE in` has its keyword; a type may have arguments, and anything may be called `in`."""
    depth = 0
    for index, word in enumerate(words[4:], 4):
        depth += (word.token.kind in _OPENERS) - (word.token.kind in _CLOSERS)
        if depth == 0 and word.token.kind not in _CLOSERS:
            return index if word.text == "in" else None
    return None


def _blank(words: list[_Word], index: int, kind: str, depth: int) -> str:
    before, word = words[index - 1], words[index]
    left, right = before.token.kind, word.token.kind
    if depth == 0:
        if "EQUAL" in (left, right):
            return " " if kind in _ASSIGNMENTS else ""
        is_head = words[0].text == kind and right not in ("EQUAL", "DOT")
        if index == 1 and is_head:
            return " "
    elif "EQUAL" in (left, right):
        return ""
    if left in _TIGHT_AFTER or right in _TIGHT_BEFORE:
        return "" if right != "MINUS" or left in _ENDS_A_VALUE or left in _TIGHT_AFTER else " "
    if right == "LPAR" and left == "NAME":
        return ""
    return " "
