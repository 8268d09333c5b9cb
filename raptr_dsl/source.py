"""Source texts and the spans that point into them."""

from bisect import bisect_right
from dataclasses import dataclass, field
from functools import cached_property


@dataclass(frozen=True, eq=False)
class Source:
    """A text with the name under which messages speak of it (a path, `<string>`, `--model`).

    Attributes:
        library: whose file it is, with its version; "" for what belongs to no library.
    """

    name: str
    text: str
    library: str = ""

    @cached_property
    def line_starts(self) -> list[int]:
        """The offset at which each line begins. A line ends at a line feed, as editors count."""
        starts, offset = [0], 0
        while end := self.text.find("\n", offset) + 1:
            starts.append(end)
            offset = end
        return starts

    def position(self, offset: int) -> tuple[int, int]:
        """The 1-based line and column of an offset."""
        line = bisect_right(self.line_starts, offset) - 1
        return line + 1, offset - self.line_starts[line] + 1

    def line(self, number: int) -> str:
        """The text of a 1-based line, without its line break."""
        start = self.line_starts[number - 1]
        end = self.text.find("\n", start)
        return self.text[start : end if end >= 0 else None].removesuffix("\r")


@dataclass(frozen=True, slots=True)
class Span:
    """The half-open range [start, end) of a source, in characters."""

    source: Source = field(repr=False)
    start: int
    end: int

    @property
    def text(self) -> str:
        return self.source.text[self.start : self.end]

    def to(self, other: "Span") -> "Span":
        """The span from the start of this one to the end of another of the same source."""
        return Span(self.source, self.start, max(self.end, other.end))

    def __str__(self) -> str:
        line, column = self.source.position(self.start)
        return f"{self.source.name}:{line}:{column}"
