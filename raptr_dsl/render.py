"""How diagnostics look: text with the source and carets, JSON, annotations of a pull request on GitHub."""

import json
import os
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any, Literal

from raptr_dsl.diagnostics import Diagnostic, Diagnostics
from raptr_dsl.source import Source, Span

Format = Literal["text", "json", "github"]

SHOWN = 20  # diagnostics in a text; the rest is counted
TAB = 4
_COLORS = {"error": "1;31", "warning": "1;33", "note": "1;36", "gutter": "1;34", "bold": "1"}


def render(diagnostics: Iterable[Diagnostic], format: Format = "text", *, color: bool = False) -> str:
    """The diagnostics in a format, "" if there are none (`[]` in JSON)."""
    match format:
        case "text":
            return render_text(diagnostics, color=color)
        case "json":
            return render_json(diagnostics)
        case "github":
            return render_github(diagnostics)


def render_text(diagnostics: Iterable[Diagnostic], *, color: bool = False, width: int = 100) -> str:
    """For people: each with its place in the source, at most 20 of them, errors before all others.

    Lines of source longer than `width` columns are cut around the caret.
    """
    items = _ordered(diagnostics)
    kept = sorted(range(len(items)), key=lambda i: items[i].severity != "error")[:SHOWN]
    blocks = [_Block(items[index], color, width).text() for index in sorted(kept)]
    if len(items) > SHOWN:
        blocks.append(f"… and {len(items) - SHOWN} more")
    return "\n\n".join(blocks)


def render_json(diagnostics: Iterable[Diagnostic]) -> str:
    """For programs: a list of `as_data` of each."""
    return json.dumps([as_data(item) for item in _ordered(diagnostics)], indent=2)


def render_github(diagnostics: Iterable[Diagnostic]) -> str:
    """For GitHub Actions: one workflow command a line, which becomes an annotation of the line it names."""
    return "\n".join(map(_command, _ordered(diagnostics)))


def as_data(diagnostic: Diagnostic) -> dict[str, Any]:
    """A diagnostic as plain data. Lines and columns count from 1, an end is the column after the last."""
    fix = diagnostic.fix
    return {
        "code": diagnostic.code,
        "severity": diagnostic.severity,
        "message": diagnostic.message,
        **_place(diagnostic.span, diagnostic.subject),
        "label": diagnostic.label,
        "related": [{**_place(label.span), "text": label.text} for label in diagnostic.related],
        "help": diagnostic.help,
        "notes": _notes(diagnostic),
        "fix": {**_place(fix.span), "text": fix.text} if fix else None,
    }


def _notes(diagnostic: Diagnostic) -> list[str]:
    """The notes, and the library of each file that is shown: its path may not tell."""
    spans = [diagnostic.span, *(label.span for label in diagnostic.related)]
    sources = dict.fromkeys(span.source for span in spans if span and span.source.library)
    return [*diagnostic.notes, *(f"{os.path.basename(one.name)} is of the library {one.library}" for one in sources)]


def _place(span: Span | None, subject: str = "") -> dict[str, Any]:
    if span is None:
        return dict.fromkeys(("line", "column", "end_line", "end_column")) | {"path": subject or None}
    (line, column), (end_line, end_column) = span.source.position(span.start), span.source.position(span.end)
    path = span.source.name
    return {"path": path, "line": line, "column": column, "end_line": end_line, "end_column": end_column}


def _ordered(diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
    return diagnostics.sorted() if isinstance(diagnostics, Diagnostics) else list(diagnostics)


# --- GitHub ---------------------------------------------------------------------------------------------


def _command(diagnostic: Diagnostic) -> str:
    place = _place(diagnostic.span, diagnostic.subject)
    kind = "notice" if diagnostic.severity == "note" else diagnostic.severity
    is_file = diagnostic.span is not None and not diagnostic.span.source.name.startswith(("-", "<"))
    names = {"file": "path", "line": "line", "col": "column", "endLine": "end_line", "endColumn": "end_column"}
    where = {name: place[key] for name, key in names.items() if is_file}
    properties = ",".join(f"{name}={_escaped(str(value), ',:')}" for name, value in where.items())
    subject = "" if is_file or not place["path"] else f"{place['path']}: "
    help = f"\nhelp: {diagnostic.help}" if diagnostic.help else ""
    text = _escaped(f"{subject}{diagnostic.message}{help}")
    return f"::{kind} {properties}{',' if properties else ''}title={_escaped(diagnostic.code, ',:')}::{text}"


def _escaped(text: str, special: str = "") -> str:
    for character in f"%\r\n{special}":
        text = text.replace(character, f"%{ord(character):02X}")
    return text.encode("utf-8", "replace").decode()


# --- text -----------------------------------------------------------------------------------------------


class _Block:
    """One diagnostic in text."""

    def __init__(self, diagnostic: Diagnostic, color: bool, width: int) -> None:
        self._diagnostic = diagnostic
        self._color = color
        self._marks: dict[Source, list[tuple[Span, str, bool]]] = {}  # by source: span, label, whether primary
        if diagnostic.span:
            self._marks[diagnostic.span.source] = [(diagnostic.span, diagnostic.label, True)]
            for label in diagnostic.related:
                self._marks.setdefault(label.span.source, []).append((label.span, label.text, False))
        last = max(
            (source.position(span.start)[0] for source, marks in self._marks.items() for span, _, _ in marks),
            default=1,
        )
        self._gutter = " " * len(str(last))
        self._room = max(width - len(self._gutter) - 3, 20)

    def text(self) -> str:
        diagnostic = self._diagnostic
        head = self._paint(f"{diagnostic.severity}[{diagnostic.code}]", diagnostic.severity)
        lines = [head + self._paint(f": {_clean(diagnostic.message)}", "bold"), *self._places()]
        advice = [f"help: {diagnostic.help}"] if diagnostic.help else []
        advice += [f"note: {note}" for note in _notes(diagnostic)]
        if advice and len(lines) > 1:
            lines.append(self._bar())
        for text in advice:
            first, *rest = text.split("\n")
            lines.append(f"{self._gutter} {self._paint('=', 'gutter')} {_clean(first)}")
            lines += [f"{self._gutter}   {' ' * 6}{_clean(line)}" for line in rest]
        return "\n".join(lines)

    def _places(self) -> Iterator[str]:
        """The lines of source that are spoken of, file by file."""
        if not self._marks and self._diagnostic.subject:
            yield self._bar(f"┌─ {_clean(self._diagnostic.subject)}")
        for source, marks in self._marks.items():
            line, column = source.position(marks[0][0].start)
            if source is not self._diagnostic.span.source:  # pyright: ignore[reportOptionalMemberAccess]
                yield self._bar()
            yield self._bar(f"┌─ {_clean(source.name)}:{line}:{column}")
            yield self._bar()
            yield from self._lines(source, marks)

    def _lines(self, source: Source, marks: list[tuple[Span, str, bool]]) -> Iterator[str]:
        by_line: dict[int, list[tuple[Span, str, bool]]] = {}
        for mark in sorted(marks, key=lambda mark: mark[0].start):
            by_line.setdefault(source.position(mark[0].start)[0], []).append(mark)
        previous = None
        for number, here in by_line.items():
            if previous is not None and number > previous + 1:
                yield self._bar("·")
            yield from self._line(source, number, here)
            previous = number

    def _line(self, source: Source, number: int, marks: list[tuple[Span, str, bool]]) -> Iterator[str]:
        """A line of source, and under it a line for each of its marks."""
        text, offset = source.line(number), source.line_starts[number - 1]
        anchor = next((span for span, _, primary in marks if primary), marks[0][0]).start - offset
        shown, columns, first = _cut(text, anchor, self._room)
        yield f"{self._paint(f'{number:>{len(self._gutter)}} │', 'gutter')} {shown}".rstrip()
        for span, label, primary in marks:
            start, end = (
                columns[min(max(index - offset - first, 0), len(columns) - 1)] for index in (span.start, span.end)
            )
            mark = ("^" if primary else "─") * max(end - start, 1)
            style = self._diagnostic.severity if primary else "gutter"
            yield f"{self._bar()} {' ' * start}{self._paint(f'{mark}  {_clean(label)}'.rstrip(), style)}"

    def _bar(self, sign: str = "│") -> str:
        return f"{self._gutter} {self._paint(sign, 'gutter')}"

    def _paint(self, text: str, style: str) -> str:
        return f"\x1b[{_COLORS[style]}m{text}\x1b[0m" if self._color else text


def _cut(text: str, anchor: int, room: int) -> tuple[str, list[int], int]:
    """A line as it is shown in `room` columns with the character `anchor` in view.

    Also: the columns at which the characters begin that are shown, and at which the last ends; the first of them.
    """
    first = 0
    if len(text) > room or sum(map(_cells, text)) > room:
        first = anchor
        space = max(room // 3, room - 2 - sum(map(_cells, text[anchor : anchor + room])))
        while first and space >= (width := _cells(text[first - 1])):
            first -= 1
            space -= width
    shown = "…" if first else ""
    columns = [len(shown)]
    for index in range(first, len(text)):
        column = columns[-1]
        character = text[index]
        drawn = " " * (TAB - column % TAB) if character == "\t" else _clean(character)
        width = len(drawn) if character == "\t" else _cells(character)
        if column + width > room - (index + 1 < len(text)):
            return shown + "…", columns, first
        shown += drawn
        columns.append(column + width)
    return shown, columns, first


def _cells(character: str) -> int:
    """The columns that a character takes on a terminal (a tab: at most)."""
    if character.isascii():
        return TAB if character == "\t" else 1
    if not character.isprintable():
        return 1
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def _clean(text: str) -> str:
    """A text without the characters that would move, hide or colour what is around them, or cannot be seen."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else "�" for character in text)
