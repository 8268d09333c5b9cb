"""Diagnostics as data: what is wrong, where, what it clashes with, and an edit that mends it.

Passes append to a `Diagnostics` and return what they could make; only the edge of the API raises,
once, with all of them. How they look is `render`'s business; what a code means, `codes`'s.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from raptr_dsl.source import Span

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Label:
    """A secondary place in a source and what it has to do with the matter."""

    span: Span
    text: str


@dataclass(frozen=True, slots=True)
class Edit:
    """A replacement of a span's text that would mend the file."""

    span: Span
    text: str


def with_edits(text: str, edits: Iterable[Edit]) -> str:
    """A text with edits of it applied; they do not overlap."""
    for edit in sorted(edits, key=lambda edit: edit.span.start, reverse=True):
        text = text[: edit.span.start] + edit.text + text[edit.span.end :]
    return text


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One fact about the user's file.

    Attributes:
        code: a key of `codes.CODES`.
        message: the headline, a fact in the user's words.
        span: where it is wrong; None where no text is to blame (a missing file, an option).
        label: what stands at the caret.
        related: the places it clashes with.
        help: the edit that would mend it, in words.
        fix: the same edit, for machines.
        notes: further facts (the arithmetic, the chain of imports).
        subject: what the message speaks of when there is no span: a path or an option.
    """

    code: str
    message: str
    span: Span | None = None
    label: str = ""
    related: tuple[Label, ...] = ()
    help: str = ""
    fix: Edit | None = None
    notes: tuple[str, ...] = ()
    severity: Severity = "error"
    subject: str = ""


class Diagnostics:
    """The list that the passes of one compilation append to."""

    def __init__(self) -> None:
        # Ordered; one statement expanded many times is one cause, whatever pass of a repeat it is in.
        self._items: dict[tuple[str, str, Span | None], Diagnostic] = {}

    def add(
        self,
        code: str,
        message: str,
        span: Span | None = None,
        *,
        label: str = "",
        related: Iterable[Label] = (),
        help: str = "",
        fix: Edit | None = None,
        notes: Iterable[str] = (),
        severity: Severity = "error",
        subject: str = "",
    ) -> None:
        """Records one diagnostic."""
        self.extend(
            [Diagnostic(code, message, span, label, tuple(related), help, fix, tuple(notes), severity, subject)]
        )

    def extend(self, items: Iterable[Diagnostic]) -> None:
        for item in items:
            self._items.setdefault((item.code, item.message, item.span), item)

    @property
    def has_errors(self) -> bool:
        return any(item.severity == "error" for item in self._items.values())

    def sorted(self) -> list[Diagnostic]:
        """Source by source, as they were met, each in order; those without a span last."""
        items = list(self)
        sources = {item.span.source: None for item in items if item.span}
        rank = {source: number for number, source in enumerate(sources)}
        return sorted(
            items,
            key=lambda item: (rank[item.span.source], item.span.start) if item.span else (len(rank), 0),
        )

    def raise_errors(self) -> None:
        """Raises `RaptrError` with everything recorded if any of it is an error."""
        if self.has_errors:
            raise RaptrError(self.sorted())

    def __iter__(self) -> Iterator[Diagnostic]:
        return iter(self._items.values())

    def __len__(self) -> int:
        return len(self._items)


class RaptrError(Exception):
    """What the edge of the API raises: every diagnostic of a failed operation, in source order."""

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__(self.diagnostics)

    def __str__(self) -> str:
        from raptr_dsl.render import render_text  # only when somebody looks

        return render_text(self.diagnostics)


def fail(code: str, message: str, **details: object) -> RaptrError:
    """A `RaptrError` of one diagnostic without a span, for edges that stop at the first: `raise fail(…)`."""
    return RaptrError([Diagnostic(code, message, **details)])  # pyright: ignore[reportArgumentType]


def did_you_mean(word: str, legal: Iterable[str]) -> str:
    """The nearest of the names legal in this place, or ""."""
    matches = get_close_matches(word, list(legal), n=1, cutoff=0.6)
    return matches[0] if matches else ""
